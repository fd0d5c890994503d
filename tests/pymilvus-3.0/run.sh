#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The scenarios of tests/lib through the official Python client, pymilvus 3.0, in both wirings.
set -eu
cd "$(dirname "$0")/../.."
reasons=$(mktemp)
trap 'rm -f "$reasons"' EXIT
if ! python=$(scripts/venv pymilvus-3.0 tests/pymilvus-3.0/requirements.txt 2>"$reasons"); then
    echo "SUITE pymilvus-3.0: skipped: $(tail -1 "$reasons")"
    exit 0
fi
"$python" tests/lib/run_pymilvus.py pymilvus-3.0
