#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A graph out of another one against a graph built afresh, in process, on one core: CPU seconds of both when a part of the rows was deleted and as many
# came, and what the merged graph is worth after some rounds of that: recall and queries per second beside the fresh one, searched in turn.
#
#   bench/merge/run.sh [--data FILE] [--rows N] [--percent N] [--rounds N] [--efs "EF..."] [--threads N] [--record]
#
# FILE is a data file of bench/ann or FILE.i8bin; without it 50,000 made rows of 128 dimensions (RK_BENCH_ROWS). Exit status 1 when more than a point
# of recall or a tenth of the speed is lost at an ef.
set -eu
cd "$(dirname "$0")/../.."
. bench/common.sh

data= rows=${RK_BENCH_ROWS:-50000} percent=10 rounds=3 efs="20 50 125" threads=1 m=16 efc=200 record=0
command="bench/merge/run.sh $*"
bench_options 3,10 "data rows percent rounds efs threads" "$@"
bench_setup
libs=("$build/src/index/librk_index.a" "$build/src/base/librk_base.a" -lxxhash -lyaml -lpthread -lm)
cc="${CC:-cc} -std=c17 -D_GNU_SOURCE -O2 -Isrc"
$cc -o "$work/merge" bench/merge/merge.c bench/ann/ann_make.c "${libs[@]}"
$cc -o "$work/ann" bench/ann/ann.c bench/ann/ann_filter.c bench/ann/ann_make.c "${libs[@]}"
case $data in
'')
    data=$work/made-$rows
    [ -s "$data" ] || { "$work/ann" make "$data.new" "$rows" 128 24 1 && mv "$data.new" "$data"; }
    ;;
*.i8bin)
    file=$work/$(basename "$data" .i8bin)
    [ -s "$file" ] || { "$work/ann" load "$file.new" "$data" && mv "$file.new" "$file"; }
    data=$file
    ;;
esac
# shellcheck disable=SC2086
taskset -c $(($(nproc) - threads))-$(($(nproc) - 1)) "$work/merge" "$data" "$m" "$efc" "$threads" "$percent" "$rounds" $efs >"$work/lines"
status=0
awk '
    $1 == "merge" { merge = $2; printf "%s\n\n", $0 }
    $1 == "build" { printf "CPU seconds: merge %.2f, build %.2f, ratio %.1f\n\n", merge, $2, $2 / merge
                    print "| ef | fresh recall | merged recall | points | fresh queries/s | merged queries/s | ratio |\n| --- | --- | --- | --- | --- | --- | --- |" }
    $1 + 0 > 0 { printf "| %d | %.4f | %.4f | %+.1f | %d | %d | %.2f |\n", $1, $4, $2, 100 * ($2 - $4), $5, $3, $6
                 if ($2 < $4 - 0.01 || $6 < 0.9) missed = 1 }
    END { printf "\nA point of recall and a tenth of the speed: %s.\n", missed ? "missed" : "met"; exit missed }' "$work/lines" >"$work/result" || status=$?
bench_record "$command" "$work/result"
exit $status
