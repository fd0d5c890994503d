#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What is left of a collection's speed and recall after every row was deleted and inserted again, three times, in random order: a server that was
# churned against a server that was filled once, same data, searches in turn, over gRPC.
#
#   bench/churn/run.sh [--data FILE] [--rows N] [--rounds N] [--efs "EF..."] [--seconds N] [--repeats N] [--threads N] [--record]
#
# Without FILE (a data file of bench/ann): 20,000 rows of 784 dimensions (RK_BENCH_ROWS). Both servers are pinned to core 0, the load to core 1; the
# one that is not searched is idle. Floors: recall one point, speed a tenth below the fresh one; exit status 1 when one is missed.
set -eu
cd "$(dirname "$0")/../.."
. bench/common.sh

data= rows=${RK_BENCH_ROWS:-20000} rounds=3 efs="20 40 80 160" seconds=2 repeats=5 threads=16 m=16 efc=200 record=0
command="bench/churn/run.sh $*"
bench_options 3,12 "data rows rounds efs seconds repeats threads" "$@"
bench_setup
libs=("$build/src/base/librk_base.a" -lxxhash -lyaml -lpthread -lm)
bench_search_load
if [ -z "$data" ]; then
    data=$work/affine-$rows
    ${CC:-cc} -std=gnu17 -O3 -Isrc -o "$work/make_images" bench/ann/make_images.c bench/ann/ann_make.c "$build/src/index/librk_index.a" "${libs[@]}"
    [ -s "$data" ] || { "$work/make_images" affine "$data.new" "$rows" 1 && mv "$data.new" "$data"; }
fi

export REDKITE_SEGMENT_GROWINGMAX=${REDKITE_SEGMENT_GROWINGMAX:-2048MiB} LOG_LEVEL=warn
top=$work server_a= server_b=
stop_both() {
    for server in $server_a $server_b; do bench_stop; done
    work=$top
    [ -n "${RK_BENCH_WORK:-}" ] || rm -rf "$top"
}
trap stop_both EXIT
for side in a b; do
    work=$top/churn-$side
    rm -rf "$work"
    mkdir -p "$work"
    bench_start
    "$top/search_load" "$address" "$data" fill "$m" "$efc"
    [ $side = a ] || "$top/search_load" "$address" "$data" churn "$rounds" | tee "$top/churn"
    bench_stop
    bench_start taskset -c 0
    eval "server_$side=\$server address_$side=\$address"
    server=
done
: >"$top/lines"
for _ in $(seq "$repeats"); do
    # shellcheck disable=SC2086,SC2154
    taskset -c 1 "$top/search_load" "$address_a" "$data" search "$threads" "$seconds" $efs | sed 's/^server/fresh/' >>"$top/lines"
    # shellcheck disable=SC2086,SC2154
    taskset -c 1 "$top/search_load" "$address_b" "$data" search "$threads" "$seconds" $efs | sed 's/^server/churned/' >>"$top/lines"
done
status=0
{ cat "$top/churn"; python3 bench/churn/table.py "$top/lines"; } >"$top/result" || status=$?
work=$top
bench_record "$command" "$top/result"
exit $status
