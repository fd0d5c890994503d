# The functions every folder uses to declare its library, tests and fuzz targets, and the flags of all code.

set(RK_GCC_WARNINGS -Wduplicated-cond -Wduplicated-branches -Wlogical-op -Wjump-misses-init -Wrestrict
    -Wformat-signedness -Wformat-overflow=2 -Wformat-truncation=2)
set(RK_CLANG_WARNINGS -Wunreachable-code -Wconditional-uninitialized -Wcomma -Wassign-enum -Wmissing-variable-declarations)
set(RK_WARNINGS -Wall -Wextra -Wshadow -Wvla -Walloca -Wundef -Wconversion -Wsign-conversion -Wdouble-promotion -Wformat=2
    -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wpointer-arith -Wcast-align -Wcast-qual -Wwrite-strings
    -Wredundant-decls -Wnested-externs -Wswitch-enum -Wunused-macros -Wimplicit-fallthrough -Wnull-dereference
    -Wframe-larger-than=16384)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  list(APPEND RK_WARNINGS ${RK_GCC_WARNINGS})
else()
  list(APPEND RK_WARNINGS ${RK_CLANG_WARNINGS})
endif()

add_library(rk_flags INTERFACE)
target_include_directories(rk_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_BINARY_DIR}/gen)
target_compile_definitions(rk_flags INTERFACE _GNU_SOURCE $<$<CONFIG:Debug>:RK_DEBUG>)
target_compile_options(rk_flags INTERFACE -fno-common -fvisibility=hidden -fno-omit-frame-pointer -fstack-protector-strong
    -ffunction-sections -fdata-sections $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
target_link_options(rk_flags INTERFACE -Wl,--gc-sections)
target_link_libraries(rk_flags INTERFACE pthread m)
if(RK_WERROR)
  target_compile_options(rk_flags INTERFACE -Werror)
endif()
if(RK_SANITIZE)
  target_compile_options(rk_flags INTERFACE -fsanitize=${RK_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(rk_flags INTERFACE -fsanitize=${RK_SANITIZE})
  if(RK_SANITIZE MATCHES "undefined")
    # function pointer types are checked by the compiler already; the rest of the group stays on
    target_compile_definitions(rk_flags INTERFACE RK_SANITIZED)
  endif()
endif()
if(RK_COVERAGE)
  target_compile_options(rk_flags INTERFACE --coverage)
  target_link_options(rk_flags INTERFACE --coverage)
endif()
if(RK_FUZZ)
  target_compile_options(rk_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  target_link_options(rk_flags INTERFACE -fsanitize=address,undefined)
endif()

# Of one test program: twenty times what it takes on an idle machine of two cores.
set(RK_TEST_TIMEOUT_S 900)
if(RK_SANITIZE) # instrumented ones are up to twenty times slower
  set(RK_TEST_TIMEOUT_S 1800)
endif()

# rk_library(NAME SOURCES a.c b.c DEPS rk_base ...): a static library of ours.
function(rk_library name)
  cmake_parse_arguments(arg "NOWARN" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC rk_flags ${arg_DEPS} ${arg_LIBS})
  if(arg_NOWARN) # generated code only
    target_compile_options(${name} PRIVATE -w)
  else()
    target_compile_options(${name} PRIVATE ${RK_WARNINGS})
  endif()
endfunction()

# rk_unit_test(NAME SOURCES a_test.c DEPS rk_base ...): a cmocka program run by ctest, label "unit".
function(rk_unit_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS;LIBS;ARGS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE rk_flags ${arg_DEPS} ${arg_LIBS} cmocka)
  target_compile_definitions(${name} PRIVATE RK_TESTDATA="${CMAKE_SOURCE_DIR}/tests/testdata")
  target_compile_options(${name} PRIVATE ${RK_WARNINGS})
  add_test(NAME ${name} COMMAND ${name} ${arg_ARGS})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT ${RK_TEST_TIMEOUT_S})
endfunction()

# rk_fuzz_target(NAME SOURCES a_fuzz.c DEPS ...): with RK_FUZZ a libFuzzer program; without it a program that replays the corpus
# folder tests/fuzz/corpus/NAME, run by ctest, label "fuzz".
function(rk_fuzz_target name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  if(RK_FUZZ)
    add_executable(${name} ${arg_SOURCES})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${arg_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.c)
    add_test(NAME ${name} COMMAND ${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
    set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT ${RK_TEST_TIMEOUT_S})
  endif()
  target_link_libraries(${name} PRIVATE rk_flags ${arg_DEPS} ${arg_LIBS})
endfunction()

# rk_program(NAME SOURCES main.c ... DEPS ...): a program of ours, at the root of the build folder. Release builds are
# stripped; their symbols lie beside them as NAME.debug, found by debuggers through a link in the binary.
function(rk_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE rk_flags ${arg_DEPS} ${arg_LIBS})
  target_compile_options(${name} PRIVATE ${RK_WARNINGS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT RK_SANITIZE AND CMAKE_OBJCOPY AND CMAKE_STRIP)
    add_custom_command(TARGET ${name} POST_BUILD
      COMMAND ${CMAKE_OBJCOPY} --only-keep-debug $<TARGET_FILE:${name}> $<TARGET_FILE:${name}>.debug
      COMMAND ${CMAKE_STRIP} $<TARGET_FILE:${name}>
      COMMAND ${CMAKE_OBJCOPY} --add-gnu-debuglink=${name}.debug $<TARGET_FILE:${name}>
      WORKING_DIRECTORY $<TARGET_FILE_DIR:${name}> VERBATIM)
  endif()
endfunction()
