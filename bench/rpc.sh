#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# CPU per small unary call: our rpc against nghttp2's own server (nghttpd), same payload, h2load as the client,
# server CPU time from /proc/PID/stat. Prints microseconds per call and the ratio; below 1 we are cheaper.
#
#     bench/rpc.sh [BUILD_FOLDER] [PAYLOAD_BYTES] [CALLS]
#
# Needs nghttpd and h2load (Debian: nghttp2-server, nghttp2-client). Builds rk_rpc_echo in BUILD_FOLDER (default:
# build, made as Release when it does not exist).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build}
payload=${2:-600}
calls=${3:-200000}
work=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2>/dev/null || :; done; rm -rf "$work"' EXIT

[ -f "$build/build.ninja" ] || cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >/dev/null
ninja -C "$build" rk_rpc_echo >/dev/null
echo_server=$(find "$build" -name rk_rpc_echo -type f | head -1)

head -c "$payload" /dev/zero | tr '\0' x > "$work/page"
# a gRPC message of the same size: flag 0, length big-endian, bytes
{
    printf '\0'
    printf "\\$(printf %o $((payload >> 24 & 255)))\\$(printf %o $((payload >> 16 & 255)))"
    printf "\\$(printf %o $((payload >> 8 & 255)))\\$(printf %o $((payload & 255)))"
    cat "$work/page"
} > "$work/message"

"$echo_server" 127.0.0.1:0 --page "$payload" > "$work/ours" 2>"$work/log" &
ours=$!
nghttpd --no-tls -d "$work" -a 127.0.0.1 19781 > /dev/null 2>&1 &
theirs=$!
pids="$ours $theirs"
i=0
while [ ! -s "$work/ours" ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i + 1)); done
sleep 0.5
ours_at=http://$(cat "$work/ours")
theirs_at=http://127.0.0.1:19781

ticks() { # user and system clock ticks of a process
    sed 's/.*) //' "/proc/$1/stat" | awk '{print $12 + $13}'
}
hz=$(getconf CLK_TCK)

measure() { # PID CONNECTIONS STREAMS URL [h2load options...] -> microseconds per call
    pid=$1 connections=$2 streams=$3 url=$4
    shift 4
    h2load -n $((calls / 10)) -c "$connections" -m "$streams" "$@" "$url" > /dev/null
    before=$(ticks "$pid")
    h2load -n "$calls" -c "$connections" -m "$streams" "$@" "$url" > "$work/h2load"
    after=$(ticks "$pid")
    grep -q "$calls succeeded" "$work/h2load" || { echo "calls failed:" >&2; grep requests: "$work/h2load" >&2; }
    awk "BEGIN { printf \"%.2f\", ($after - $before) / $hz * 1e6 / $calls }"
}

printf '%d bytes, %d calls\n' "$payload" "$calls"
printf '%-34s %10s %10s %10s %10s\n' 'connections x streams' 'nghttpd' 'GET' 'gRPC' 'gRPC ratio'
for shape in '1 1' '8 1' '8 16' '8 100'; do
    set -- $shape
    them=$(measure $theirs "$1" "$2" "$theirs_at/page")
    get=$(measure $ours "$1" "$2" "$ours_at/page")
    grpc=$(measure $ours "$1" "$2" "$ours_at/t.T/Echo" -d "$work/message" -H 'content-type: application/grpc' \
        -H 'te: trailers')
    ratio=$(awk "BEGIN { printf \"%.2f\", $grpc / $them }")
    printf '%-34s %8s us %8s us %8s us %10s\n' "$1 x $2" "$them" "$get" "$grpc" "$ratio"
done
