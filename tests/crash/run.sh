#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Kills the server under load, again and again, and counts every acknowledged row after each restart; then failing
# disks, full disks, SIGTERM and a second server on the same folder. Long runs (RK_TEST_LONG=1) kill it 200 times.
set -u
cd "$(dirname "$0")/../.."
name=crash
log=$(mktemp)
if ! python=$(scripts/venv pymilvus-3.0 tests/pymilvus-3.0/requirements.txt 2>"$log"); then
    echo "SUITE $name: skipped: $(tail -1 "$log")"
    rm -f "$log"
    exit 0
fi
rm -f "$log"
exec "$python" "tests/$name/run.py"
