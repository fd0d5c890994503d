#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Random operations against a model, through the Python client, in both wirings; see run_property.py for its settings.
set -eu
cd "$(dirname "$0")/../.."
reasons=$(mktemp)
trap 'rm -f "$reasons"' EXIT
if ! python=$(scripts/venv pymilvus-3.0 tests/pymilvus-3.0/requirements.txt 2>"$reasons"); then
    echo "SUITE property: skipped: $(tail -1 "$reasons")"
    exit 0
fi
"$python" tests/property/run_property.py
