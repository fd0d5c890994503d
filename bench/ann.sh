#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Graph search against hnswlib, both in process on one thread, on the same data: builds both programs, builds both indexes, runs the searches in
# turn and prints, for recall 0.90, 0.95 and 0.99, the median queries per second of each side (interpolated between the ef values
# around that recall) and their ratio.
#
#   bench/ann.sh BUILD_DIR WORK_DIR [FILE.i8bin | ROWS DIM LATENT]     default 1000000 128 24
#
# BUILD_DIR is a Release build; hnswlib's headers must be installed. M, EFC, EFS, REPEATS and THREADS can be set in the environment.
set -eu

build=$1
work=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
M=${M:-16}
EFC=${EFC:-200}
EFS=${EFS:-"10 14 20 28 40 56 80 112 160 224 320 448"}
REPEATS=${REPEATS:-5}
THREADS=${THREADS:-$(nproc)}

mkdir -p "$work"
${CC:-cc} -std=c17 -D_GNU_SOURCE -O2 -I"$here/../src" -o "$work/ann" "$here/ann.c" \
    "$build/src/index/librk_index.a" "$build/src/base/librk_base.a" -lxxhash -lyaml -lpthread -lm
${CXX:-c++} -O3 -march=native -pthread -o "$work/ann_hnswlib" "$here/ann_hnswlib.cpp"

if [ $# -eq 1 ]; then
    "$work/ann" load "$work/data" "$1"
else
    "$work/ann" make "$work/data" "${1:-1000000}" "${2:-128}" "${3:-24}" 1
fi
"$work/ann" build "$work/data" "$work/redkite" "$M" "$EFC" "$THREADS"
"$work/ann_hnswlib" build "$work/data" "$work/hnswlib" "$M" "$EFC" "$THREADS"

: >"$work/lines"
i=0
while [ $i -lt "$REPEATS" ]; do
    # shellcheck disable=SC2086
    "$work/ann" search "$work/data" "$work/redkite" $EFS >>"$work/lines"
    # shellcheck disable=SC2086
    "$work/ann_hnswlib" search "$work/data" "$work/hnswlib" $EFS >>"$work/lines"
    i=$((i + 1))
done

sort -k1,1 -k2,2n -k4,4n "$work/lines" | awk '
function flush() { if (n) { qps[side, ++count[side]] = v[int((n + 1) / 2)]; recall[side, count[side]] = r } n = 0 }
{ key = $1 " " $2; if (key != last) { flush(); last = key } side = $1; r = $3; v[++n] = $4 }
END {
    flush()
    printf "%-8s %12s %12s %8s\n", "recall", "redkite", "hnswlib", "ratio"
    split("0.90 0.95 0.99", want, " ")
    for (w = 1; w <= 3; w++) {
        for (s = 1; s <= 2; s++) {
            name = s == 1 ? "redkite" : "hnswlib"; at[s] = 0
            for (i = 2; i <= count[name]; i++) {
                a = recall[name, i - 1]; b = recall[name, i]
                if (a <= want[w] && b >= want[w] && b > a && !at[s])
                    at[s] = qps[name, i - 1] + (qps[name, i] - qps[name, i - 1]) * (want[w] - a) / (b - a)
            }
        }
        printf "%-8s %12s %12s %8s\n", want[w], at[1] ? int(at[1]) : "-", at[2] ? int(at[2]) : "-", at[1] && at[2] ? sprintf("%.2f", at[1] / at[2]) : "-"
    }
}'
