#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The official Node client against the server, in both wirings.
set -u
cd "$(dirname "$0")/../.."
name=node

skip() {
    echo "SUITE $name: skipped: $1"
    exit 0
}

folder=$(scripts/node 2>/dev/null) || skip "node 20.19 or newer cannot be had"
PATH=$folder:$PATH
cd "tests/$name" || exit 1
if ! cmp -s package-lock.json node_modules/.installed-lock; then
    log=$(timeout -k 10 900 npm ci --ignore-scripts --no-audit --no-fund 2>&1) || skip "npm ci: $(echo "$log" | grep -m 1 -i error)"
    cp package-lock.json node_modules/.installed-lock
fi
exec node run.js
