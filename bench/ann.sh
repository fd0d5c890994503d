#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Short for the graph against hnswlib alone:
#
#   bench/ann.sh BUILD_DIR WORK_DIR FILE         FILE.i8bin or a data file of bench/ann
set -eu
RK_BUILD=$(realpath "$1")
RK_BENCH_WORK=$(mkdir -p "$2" && realpath "$2")
export RK_BUILD RK_BENCH_WORK
exec "$(dirname "$0")/ann/run.sh" --systems "redkite-hnsw hnswlib" --data "$3"
