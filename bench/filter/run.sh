#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What evaluating a filter costs, in process on one thread: nanoseconds a row for a table of expressions over a million made rows, beside a
# plain loop that sums an INT64 column.
#
#   bench/filter/run.sh [--rows N] [--only TEXT] [--check] [--record]
#
# --only: expressions that contain TEXT. --check: which rows pass, as a number to be compared between builds. --record appends the result to
# bench/RESULTS.md. RK_BUILD: a folder of a Release build, made when there is none. REDKITE_CPU=scalar|avx2|avx512|neon lowers the
# instruction set. Times are CPU time, the best of nine passes. A million rows take 1 GiB of memory.
set -eu
cd "$(dirname "$0")/../.."
. bench/common.sh

record=0
words="$*"
rows=1000000 only= check=
while [ $# -gt 0 ]; do
    case $1 in
    --rows) rows=$2; shift ;;
    --only) only=$2; shift ;;
    --check) check=$1 ;;
    --record) record=1 ;;
    *) sed -n '3,13p' "$0" >&2; exit 2 ;;
    esac
    shift
done

root=$PWD
build=${RK_BUILD:-$root/build/release}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    [ -e "$build/CMakeCache.txt" ] || cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release
    cmake --build "$build" --target rk_filter
} >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
${CC:-cc} -std=gnu17 -O2 -Isrc -I"$build/gen" -o "$work/filter" bench/filter/filter.c "$build/src/filter/librk_filter.a" \
    "$build/src/model/librk_model.a" "$build/src/pb/librk_proto.a" "$build/src/pb/librk_pb.a" "$build/src/base/librk_base.a" \
    -luring -lxxhash -lyaml -lpthread -lm
"$work/filter" --rows "$rows" --only "$only" ${check:+"$check"} >"$work/result"
bench_record "bench/filter/run.sh${words:+ $words}" "$work/result"
