#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The distance kernels for 64-bit ARM under emulation, see scripts/test-arm64: each test program on two CPUs.
set -u
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
scripts/test-arm64 "$out" 2>&1 | tee "$out/log"
status=${PIPESTATUS[0]}
runs=$(grep -c '^test-arm64: .* on ' "$out/log")
if grep -q '^test-arm64: skipped' "$out/log"; then
    echo "SUITE arm64: skipped: $(sed -n 's/^test-arm64: skipped: //p' "$out/log")"
elif [ "$status" -eq 0 ]; then
    echo "SUITE arm64: $runs passed, 0 failed"
else # the first failure ends it
    echo "SUITE arm64: $((runs > 0 ? runs - 1 : 0)) passed, 1 failed"
    exit 1
fi
