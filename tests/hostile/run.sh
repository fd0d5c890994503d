#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Clients that mean harm or know no better: after each of them the server lives, holds a bounded amount of memory and
# answers an honest request.
set -u
cd "$(dirname "$0")/../.."
name=hostile
log=$(mktemp)
if ! python=$(scripts/venv pymilvus-3.0 tests/pymilvus-3.0/requirements.txt 2>"$log"); then
    echo "SUITE $name: skipped: $(tail -1 "$log")"
    rm -f "$log"
    exit 0
fi
rm -f "$log"
exec "$python" "tests/$name/run.py"
