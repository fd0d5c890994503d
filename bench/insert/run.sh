#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Durable inserts: batches of 1,000 rows of 768 floats, every batch acknowledged after it is on disk, against what the same disk
# takes of the same bytes with write and fdatasync in the same run; then the time from acknowledge to visible.
#
#   bench/insert/run.sh [--batches N] [--dim N] [--batch N] [--address HOST:PORT] [--record]
set -eu
cd "$(dirname "$0")/../.."
. bench/common.sh

given= record=0 batches=100 dim=768 batch=1000
command="bench/insert/run.sh $*"
while [ $# -gt 0 ]; do
    case $1 in
    --batches) batches=$2 ;;
    --dim) dim=$2 ;;
    --batch) batch=$2 ;;
    --address) given=$2 ;;
    --record) record=1; shift; continue ;;
    *) sed -n '3,8p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
bench_setup
python=$(scripts/venv pymilvus-3.0 tests/pymilvus-3.0/requirements.txt)
if [ -n "$given" ]; then
    address=$given
else
    rm -rf "$work/data"
    LOG_LEVEL=warn bench_start
fi
"$python" bench/insert/insert.py "$address" "$work" "$batches" "$batch" "$dim" >"$work/result"
bench_record "$command" "$work/result"
