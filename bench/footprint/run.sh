#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What an idle server costs: time from exec to ready on an empty folder, resident memory, CPU over ten seconds, size of the binary;
# each against its floor. Exit status 1 when one is missed.
#
#   bench/footprint/run.sh [--record]
set -eu
cd "$(dirname "$0")/../.."
. bench/common.sh

record=0
command="bench/footprint/run.sh $*"
[ "${1:-}" = --record ] && record=1
bench_setup
status=0
python3 bench/footprint/footprint.py "$redkite" "$work" >"$work/result" || status=$?
bench_record "$command" "$work/result"
exit "$status"
