# Short names for what people do here; the work is in CMake and in scripts/.
#
#   make setup       install what building and testing needs (Debian; asks sudo when not root)
#   make build       build/release/redkite
#   make run         start a server on port 19530
#   make test        every test; the last line is "N passed, N failed"
#   make test-long   the same with crash, soak and sanitizer runs
#   make bench       benchmarks
#   make check fmt   house rules and formatting
#   make coverage    line coverage of the unit tests
#   make docs        documents that are written from tables in the code
#   make clean       removes build/
.PHONY: all build run test test-long bench fmt check coverage docs clean setup

all: build

setup:
	@scripts/setup test

build:
	@scripts/build

run: build
	@build/release/redkite run standalone

test:
	@scripts/test

test-long:
	@RK_TEST_LONG=1 RK_TEST_SANITIZERS=1 scripts/test

bench:
	@scripts/bench

check:
	@scripts/check

fmt:
	@scripts/fmt

coverage:
	@scripts/coverage

docs:
	@scripts/docs

clean:
	rm -rf build
