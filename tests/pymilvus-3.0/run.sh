#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The scenarios of tests/lib through the official Python client, pymilvus 3.0, in both wirings.
set -eu
cd "$(dirname "$0")/../.."
name=pymilvus-3.0
status=0
python=$(scripts/venv "$name" "tests/$name/requirements.txt" 2>/tmp/$$.venv) || status=$?
if [ "$status" -ne 0 ]; then
    echo "SUITE $name: skipped: $(tail -1 /tmp/$$.venv)"
    rm -f /tmp/$$.venv
    exit 0
fi
rm -f /tmp/$$.venv
exec "$python" tests/lib/run_pymilvus.py "$name"
