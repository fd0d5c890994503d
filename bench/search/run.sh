#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Searches over gRPC against hnswlib called in its own process, same data, one core each, at equal recall.
#
#   bench/search/run.sh [--data FILE | --rows N --dim N] [--m N] [--efc N] [--threads N] [--seconds N] [--rounds N] [--efs "EF..."]
#                       [--address HOST:PORT] [--record]
#   bench/search/run.sh --filters [--data FILE | --rows N --dim N] [--threads N] [--seconds N] [--record]
#
# The server is pinned to core 0 and the load generator to core 1; hnswlib then has core 0 to itself. With --address
# the server is somebody else's (any server of the public API) and is not pinned or stopped here. RK_BENCH_WORK keeps
# data and the index of hnswlib for the next run. Default: 100,000 rows of 128 dimensions (RK_BENCH_ROWS). FILE is a data file of bench/ann.
# --filters: AUTOINDEX under filter expressions instead, as a share of the speed without (search_filter.c).
set -eu
cd "$(dirname "$0")/../.."
. bench/common.sh

rows=${RK_BENCH_ROWS:-100000} dim=128 m=16 efc=200 threads=16 seconds=3 given= given_data= record=0 filters=0 rounds=3
efs="10 14 20 28 40 56 80 112 160 224 320 448"
command="bench/search/run.sh $*"
while [ $# -gt 0 ]; do
    case $1 in
    --data) given_data=$(realpath "$2") ;;
    --rows) rows=$2 ;;
    --dim) dim=$2 ;;
    --m) m=$2 ;;
    --efc) efc=$2 ;;
    --threads) threads=$2 ;;
    --seconds) seconds=$2 ;;
    --rounds) rounds=$2 ;;
    --efs) efs=$2 ;;
    --address) given=$2 ;;
    --record) record=1; shift; continue ;;
    --filters) filters=1; shift; continue ;;
    *) sed -n '3,14p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
bench_setup
if [ "$(nproc)" -lt 2 ]; then
    echo "two cores are needed: one for the server, one for the load" >&2
    exit 1
fi

bench_search_load
${CC:-cc} -std=gnu17 -O2 -Isrc -o "$work/ann" bench/ann/ann.c bench/ann/ann_filter.c bench/ann/ann_make.c \
    "$build/src/index/librk_index.a" "$build/src/base/librk_base.a" -lxxhash -lyaml -lpthread -lm
peer=0
if [ $filters = 1 ]; then
    : # nobody to compare with
elif ${CXX:-c++} -O3 -march=native -pthread -o "$work/ann_hnswlib" bench/ann/ann_hnswlib.cpp 2>"$work/cxx.log"; then
    peer=1
else
    echo "hnswlib's headers are not installed (libhnswlib-dev): the server alone is measured" >&2
fi

data=${given_data:-$work/data-$rows-$dim}
peer_index=$work/$(basename "$data").hnswlib-$m-$efc
[ -s "$data" ] || "$work/ann" make "$data" "$rows" "$dim" 24 1
if [ $peer = 1 ] && [ ! -s "$peer_index" ]; then
    "$work/ann_hnswlib" build "$data" "$peer_index" "$m" "$efc" "$(nproc)"
fi

fill="fill $m $efc"
[ $filters = 0 ] || fill="fill-scalars AUTOINDEX"
if [ -n "$given" ]; then
    address=$given
    # shellcheck disable=SC2086
    "$work/search_load" "$address" "$data" $fill | tee "$work/fill"
else
    rm -rf "$work/data"
    # one segment, as the peer has one graph; built with both cores, served with one
    export REDKITE_SEGMENT_GROWINGMAX=${REDKITE_SEGMENT_GROWINGMAX:-2048MiB} LOG_LEVEL=warn
    bench_start
    # shellcheck disable=SC2086
    "$work/search_load" "$address" "$data" $fill | tee "$work/fill"
    bench_stop
    bench_start taskset -c 0
    resident=$(awk '/VmRSS/ {printf "%.0f MiB", $2 / 1024}' /proc/$server/status)
    echo "server with the collection loaded: $resident resident"
fi

if [ $filters = 1 ]; then
    taskset -c 1 "$work/search_load" "$address" "$data" filters "$threads" "$seconds" | tee "$work/table"
    { cat "$work/fill"; echo; cat "$work/table"; } >"$work/result"
    bench_record "$command" "$work/result" >/dev/null
    exit
fi

: >"$work/lines"
for _ in $(seq "$rounds"); do
    # shellcheck disable=SC2086
    taskset -c 1 "$work/search_load" "$address" "$data" search "$threads" "$seconds" $efs | tee -a "$work/lines"
    if [ $peer = 1 ]; then
        # shellcheck disable=SC2086
        taskset -c 0 "$work/ann_hnswlib" search "$data" "$peer_index" $efs | tee -a "$work/lines"
    fi
done

python3 bench/search/table.py "$work/lines" >"$work/table"
{ cat "$work/fill"; echo; cat "$work/table"; } >"$work/result"
echo
bench_record "$command" "$work/result"
