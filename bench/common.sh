# SPDX-License-Identifier: Apache-2.0
# Helpers of the benchmark scripts; sourced by bench/*/run.sh from the repository's root.

bench_setup() { # sets root, build, redkite, work
    root=$PWD
    build=${RK_BUILD:-$root/build/release}
    redkite=${REDKITE_BIN:-$build/redkite}
    work=${RK_BENCH_WORK:-$(mktemp -d)}
    mkdir -p "$work"
    server=
    trap bench_cleanup EXIT
    if [ ! -x "$redkite" ]; then
        echo "there is no $redkite: run scripts/build first" >&2
        exit 1
    fi
}

bench_cleanup() {
    bench_stop
    [ -n "${RK_BENCH_WORK:-}" ] || rm -rf "$work"
}

bench_options() { # USAGE NAMES ARGUMENTS...: --NAME VALUE sets $NAME, --record sets record=1; USAGE are lines of the script ("3,10")
    local usage=$1 names=" $2 "
    shift 2
    while [ $# -gt 0 ]; do
        local name=${1#--}
        if [ "$1" = --record ]; then
            record=1
            shift
            continue
        fi
        if [ "$1" = "$name" ] || [ "${names/ $name /}" = "$names" ] || [ $# -lt 2 ]; then
            sed -n "${usage}p" "$0" >&2
            exit 2
        fi
        printf -v "$name" %s "$2"
        shift 2
    done
    [ -z "${data:-}" ] || data=$(realpath "$data")
}

bench_start() { # [PREFIX...]: a server on $work/data; sets server, address
    : >"$work/out"
    "$@" "$redkite" run standalone --data "$work/data" --listen 127.0.0.1:0 --metrics none >"$work/out" 2>"$work/log" &
    server=$!
    for _ in $(seq 200); do
        address=$(sed -n 's/^ready grpc=\([^ ]*\).*/\1/p' "$work/out")
        [ -n "$address" ] && return
        kill -0 $server 2>/dev/null || break
        sleep 0.05
    done
    cat "$work/log" >&2
    echo "the server is not ready" >&2
    exit 1
}

bench_stop() {
    [ -n "${server:-}" ] || return 0
    kill $server 2>/dev/null
    wait $server 2>/dev/null
    server=
}

bench_head() { # COMMAND: what a result needs to be understood later
    echo
    echo "### $(date -u +%F) $(git rev-parse --short HEAD)$(git diff --quiet HEAD -- src || echo ' and changes')"
    echo
    echo "\`$1\` on $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores," \
        "$(awk '/MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo)"
    echo
}

bench_record() { # COMMAND FILE: prints FILE; --record in $record appends it to RESULTS.md
    cat "$2"
    if [ "${record:-0}" = 1 ]; then
        { bench_head "$1"; cat "$2"; } >>"$root/bench/RESULTS.md"
    fi
}

bench_search_load() { # compiles the load generator for searches to $work/search_load
    ${CC:-cc} -std=gnu17 -O2 -I. -Isrc -I"$build/gen" -o "$work/search_load" bench/search/search_load.c bench/search/search_filter.c \
        "$build/src/rpc/librk_rpc.a" "$build/src/pb/librk_proto.a" "$build/src/pb/librk_pb.a" "$build/src/base/librk_base.a" \
        -luv -lnghttp2 -lssl -lcrypto -lz -lxxhash -lyaml -lpthread -lm
}
