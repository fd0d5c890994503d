#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# REST v2 over HTTP/1.1 (Python's own client) and over HTTP/2 in clear text (curl), in both wirings.
set -u
cd "$(dirname "$0")/../.."
for tool in python3 curl; do
    if ! command -v $tool >/dev/null; then
        echo "SUITE rest: skipped: $tool is not installed"
        exit 0
    fi
done
exec python3 tests/rest/run.py
