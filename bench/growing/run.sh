#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Searches of rows that were inserted and not flushed: by codes (a collection with an index that is not exact) against exact search
# (FLAT). First in process, one thread; then through gRPC, the server on one core and the load on another.
#
#   bench/growing/run.sh [--data "FILE..."] [--rows N] [--threads N] [--seconds N] [--no-server] [--record]
#
# FILE is a data file of bench/ann; without it made data: 40,000 rows of 768 and 100,000 rows of 128 dimensions. --rows cuts what is
# searched in process. RK_BENCH_WORK keeps the made data.
set -eu
cd "$(dirname "$0")/../.."
. bench/common.sh

given= rows=1000000000 threads=16 seconds=3 record=0 with_server=1
command="bench/growing/run.sh $*"
while [ $# -gt 0 ]; do
    case $1 in
    --data) given=$2 ;;
    --rows) rows=$2 ;;
    --threads) threads=$2 ;;
    --seconds) seconds=$2 ;;
    --record) record=1; shift; continue ;;
    --no-server) with_server=0; shift; continue ;;
    *) sed -n '3,11p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
bench_setup

libs="$build/src/base/librk_base.a -lxxhash -lyaml -lpthread -lm"
# shellcheck disable=SC2086
${CC:-cc} -std=gnu17 -O2 -I. -Isrc -o "$work/growing" bench/growing/growing.c "$build/src/index/librk_index.a" $libs
# shellcheck disable=SC2086
${CC:-cc} -std=gnu17 -O2 -I. -Isrc -o "$work/ann" bench/ann/ann.c bench/ann/ann_filter.c bench/ann/ann_make.c \
    "$build/src/index/librk_index.a" $libs
bench_search_load

if [ -z "$given" ]; then
    for made in 40000-768 100000-128; do
        [ -s "$work/data-$made" ] || "$work/ann" make "$work/data-$made" "${made%-*}" "${made#*-}" 24 1
        given="$given $work/data-$made"
    done
fi

server_core() { [ "$(nproc)" -lt 2 ] || echo taskset -c 0; }
load_core() { [ "$(nproc)" -lt 2 ] || echo taskset -c 1; }
: >"$work/result"
for data in $given; do
    printf '%s, in process, one thread:\n\n```\n' "$(basename "$data")" >>"$work/result"
    "$work/growing" "$data" "$rows" >>"$work/result"
    printf '```\n\n' >>"$work/result"
    [ $with_server = 1 ] || continue
    printf 'The same through gRPC, all rows, %s searches at once, k and recall as in the file:\n\n' "$threads" >>"$work/result"
    for type in FLAT HNSW; do
        rm -rf "$work/data"
        export REDKITE_SEGMENT_GROWINGMAX=${REDKITE_SEGMENT_GROWINGMAX:-2048MiB} LOG_LEVEL=warn
        # shellcheck disable=SC2046
        bench_start $(server_core)
        # shellcheck disable=SC2046
        $(load_core) "$work/search_load" "$address" "$data" grow $type | sed 's/^/- /' >>"$work/result"
        # shellcheck disable=SC2046
        $(load_core) "$work/search_load" "$address" "$data" search "$threads" "$seconds" 64 |
            awk -v type=$type '{printf "- %s: %s searches/s, recall %s\n", type, $4, $3}' >>"$work/result"
        bench_stop
    done
    echo >>"$work/result"
done
bench_record "$command" "$work/result"
