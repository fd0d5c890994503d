#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# DISKANN and AISAQ from a file, past the page cache: queries per second, median and 99th percentile, pages a query and memory held, beside
# what the disk itself gives through the same reader in the same run (pages per second, and so the most queries it could feed).
#
#   bench/disk/run.sh [OPTION]...
#     --data FILE      FILE.i8bin (real embeddings) or a data file of bench/ann; default: made data, 128 dimensions, L2
#     --rows N         rows of made data; default 100000 (RK_BENCH_ROWS); the numbers to quote are those of 1000000
#     --kinds NAMES    default "DISKANN AISAQ"
#     --threads LIST   threads that ask, one query after the other each; default "1 2 8"
#     --lists LIST     values of search_list, 0 for the default; default "0 32"
#     --seconds S      of each line; default 5
#     --record         appends the table to bench/RESULTS.md
#
# Data and images are kept in RK_BENCH_WORK (build/bench-disk).
set -eu
cd "$(dirname "$0")/../.."
export RK_BENCH_WORK=${RK_BENCH_WORK:-$PWD/build/bench-disk}
. bench/common.sh
command="bench/disk/run.sh $*"

data= rows=${RK_BENCH_ROWS:-100000} kinds="DISKANN AISAQ" threads="1 2 8" lists="0 32" seconds=5 record=0
while [ $# -gt 0 ]; do
    case $1 in
    --data) data=$(realpath "$2"); shift ;;
    --rows) rows=$2; shift ;;
    --kinds) kinds=$2; shift ;;
    --threads) threads=$2; shift ;;
    --lists) lists=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --record) record=1 ;;
    *) sed -n '3,18p' "$0" >&2; exit 2 ;;
    esac
    shift
done

bench_setup
libs="$build/src/index/librk_index.a $build/src/base/librk_base.a -lxxhash -lyaml -lpthread -lm"
cc="${CC:-cc} -std=c17 -D_GNU_SOURCE -O2 -Isrc"
# shellcheck disable=SC2086
$cc -o "$work/ann" bench/ann/ann.c bench/ann/ann_filter.c bench/ann/ann_make.c $libs
# shellcheck disable=SC2086,SC2046
$cc -o "$work/disk" bench/disk/disk.c $libs $(pkg-config --libs liburing 2>/dev/null)

case $data in
'')
    set_name=made-$rows-128
    [ -e "$work/$set_name" ] || "$work/ann" make "$work/$set_name" "$rows" 128 24 1
    ;;
*.i8bin)
    set_name=$(basename "$data" .i8bin)
    [ -e "$work/$set_name" ] || "$work/ann" load "$work/$set_name" "$data"
    ;;
*)
    set_name=$(basename "$data")
    [ "$data" -ef "$work/$set_name" ] || ln -sf "$data" "$work/$set_name"
    ;;
esac

{
    echo "$set_name, recall@10:"
    for kind in $kinds; do
        image=$work/$set_name.$kind
        "$work/disk" build "$work/$set_name" "$image" "$kind" "$(nproc)"
        for t in $threads; do
            "$work/disk" ceiling "$image" "$t" 2
            for list in $lists; do
                printf '%-8s' "$kind"
                "$work/disk" search "$work/$set_name" "$image" "$t" "$seconds" "$list"
            done
        done
    done
} | tee "$work/table"
[ "$record" = 0 ] || bench_record "$command" "$work/table" >/dev/null
