#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Exact sparse search against the plain term-at-a-time baseline (TAAT_NAIVE), both in process on one thread over the same made-up rows
# (sparse_data.c): build, memory, queries per second, their ratio, recall with scores compared bit for bit, and the same under filters.
#
#   bench/sparse/run.sh [--rows N]... [--queries N] [--rounds N] [--real FILE] [--record]     default: 100000 and 1000000 rows
#
# --real FILE (JSON lines with "tokens": {word: weight}, .xz or plain) prints how the made-up rows compare with real ones. --record
# appends the result to bench/RESULTS.md. RK_BUILD: a folder of a Release build, made when there is none. Times are CPU time. A million
# rows take 4 GiB of memory.
set -eu
cd "$(dirname "$0")/../.."
. bench/common.sh

rows=
queries=1000
rounds=3
real=
record=0
words="$*"
while [ $# -gt 0 ]; do
    case $1 in
    --rows) rows="$rows $2"; shift ;;
    --queries) queries=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --real) real=$2; shift ;;
    --record) record=1 ;;
    *) echo "unknown switch $1" >&2; exit 2 ;;
    esac
    shift
done

root=$PWD
build=${RK_BUILD:-$root/build/release}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    [ -e "$build/CMakeCache.txt" ] || cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release
    cmake --build "$build" --target rk_index
} >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
${CC:-cc} -std=c17 -D_GNU_SOURCE -O2 -Isrc -o "$work/sparse" bench/sparse/sparse.c bench/sparse/sparse_data.c \
    "$build/src/index/librk_index.a" "$build/src/base/librk_base.a" -luring -lxxhash -lyaml -lpthread -lm

: >"$work/result"
if [ -n "$real" ]; then
    case $real in
    *.xz) xz -dc "$real" >"$work/real" ;;
    *) cp "$real" "$work/real" ;;
    esac
    "$work/sparse" describe "$work/real" >>"$work/result"
    echo >>"$work/result"
fi
for n in ${rows:-100000 1000000}; do
    "$work/sparse" filter "$n" "$queries" "$rounds" >>"$work/result"
    echo >>"$work/result"
done
bench_record "bench/sparse/run.sh${words:+ $words}" "$work/result"
