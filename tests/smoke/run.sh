#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The shortest proof that a build serves: curl against the server, in both wirings, with nothing but a shell and curl.
#
#   tests/smoke/run.sh              REDKITE_BIN names the binary (default: build/release/redkite)
#
# Per wiring: start; health and metrics; create a collection in the quick way, insert, search, query, delete, flush;
# kill -9, start again: every acknowledged row is there and no deleted one; SIGTERM ends with status 0; start again
# after a clean stop; a second server on the same folder is refused. Once: TLS with and without client certificates.
set -u
cd "$(dirname "$0")/../.." || exit 1

bin=${REDKITE_BIN:-$PWD/build/release/redkite}
work=$(mktemp -d "${RK_WORK:-/tmp}/smoke.XXXXXX")
ready_max_s=${RK_SMOKE_READY_MAX_S:-120}
passed=0
failed=0
server=""

finish() {
    [ -n "$server" ] && kill -9 "$server" 2>/dev/null
    rm -rf "$work"
}
trap finish EXIT

if ! command -v curl >/dev/null; then
    echo "SUITE smoke: skipped: curl is not installed"
    exit 0
fi

ok() { # NAME
    passed=$((passed + 1))
    echo "ok      $wiring: $1"
}

bad() { # NAME DETAIL
    failed=$((failed + 1))
    echo "FAILED  $wiring: $1: $2"
}

start() { # [OPTION...]: starts the server on $data and waits for its line "ready"; sets server, grpc, metrics
    local line=""
    rm -f "$work/out"
    "$bin" run standalone --data "$data" --listen 127.0.0.1:0 --metrics 127.0.0.1:0 --wiring "$wiring" \
        --set redkite.memory.limit=2GiB "$@" >"$work/out" 2>>"$work/log.$wiring" &
    server=$!
    for _ in $(seq $((ready_max_s * 20))); do
        line=$(grep -m 1 '^ready ' "$work/out" 2>/dev/null) && break
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    grpc=$(sed -n 's/^ready grpc=\([^ ]*\).*/\1/p' "$work/out")
    metrics=$(sed -n 's/^ready .*metrics=\([^ ]*\).*/\1/p' "$work/out")
    [ -n "$line" ]
}

stop() { # SIGTERM; the exit status of the server
    local status
    kill -TERM "$server"
    wait "$server" 2>/dev/null
    status=$?
    server=""
    return $status
}

post() { # PATH BODY: the reply
    curl -sS --max-time 60 "http://$grpc/v2/vectordb/$1" -H 'Content-Type: application/json' -d "$2" 2>&1
}

# NAME PATH BODY PATTERN: the reply has code 0 and matches the extended regular expression
expect() {
    local reply
    reply=$(post "$2" "$3")
    if echo "$reply" | grep -q '"code":0' && echo "$reply" | grep -qE "$4"; then
        ok "$1"
    else
        bad "$1" "$2 $3 answered $reply, expected $4"
    fi
}

rows_json() { # FROM TO: rows with id and vector; the vector of id i points in a direction of its own
    local i sep=""
    for ((i = $1; i <= $2; i++)); do
        printf '%s{"id":%d,"vector":[%d.5,%d,1,0.25],"color":"c%d"}' "$sep" "$i" "$i" $((100 - i)) $((i % 3))
        sep=","
    done
}

count_is() { # NAME COUNT
    expect "$1" entities/query \
        '{"collectionName":"smoke","filter":"","outputFields":["count(*)"],"consistencyLevel":"Strong"}' \
        "\"count\(\*\)\":$2\b"
}

nearest_is() { # NAME ID: the row itself is the best hit of its own vector
    expect "$1" entities/search \
        "{\"collectionName\":\"smoke\",\"data\":[[$2.5,$((100 - $2)),1,0.25]],\"annsField\":\"vector\",\"limit\":3,\"outputFields\":[\"color\"],\"consistencyLevel\":\"Strong\"}" \
        "\"data\":\[\{[^}]*\"id\":$2\b"
}

one_wiring() {
    local reply

    data=$work/data.$wiring
    if start; then
        ok "starts"
    else
        bad "starts" "not ready: $(tail -3 "$work/log.$wiring")"
        return
    fi
    reply=$(curl -sS --max-time 60 "http://$metrics/healthz")
    if [ "$reply" = OK ]; then ok "healthz"; else bad "healthz" "$reply"; fi
    reply=$(curl -sS --max-time 60 "http://$metrics/metrics")
    if echo "$reply" | grep -c '^# TYPE ' >/dev/null; then ok "metrics"; else bad "metrics" "${reply:0:200}"; fi
    reply=$("$bin" run standalone --data "$data" --listen 127.0.0.1:0 --metrics none 2>&1 >/dev/null </dev/null)
    if [ $? -eq 1 ] && echo "$reply" | grep -q "in use"; then
        ok "second server on the folder is refused"
    else
        bad "second server on the folder is refused" "$reply"
    fi

    expect "quick create" collections/create '{"collectionName":"smoke","dimension":4}' '"data":'
    expect "insert" entities/insert "{\"collectionName\":\"smoke\",\"data\":[$(rows_json 1 50)]}" '"insertCount":50'
    count_is "count" 50
    nearest_is "search" 7
    expect "search with a filter" entities/search \
        '{"collectionName":"smoke","data":[[7.5,93,1,0.25]],"annsField":"vector","limit":3,"filter":"id > 20","outputFields":["id"],"consistencyLevel":"Strong"}' \
        '"data":\[\{[^}]*"id":21\b'
    expect "delete" entities/delete '{"collectionName":"smoke","filter":"id in [3, 4]"}' '"code":0'
    count_is "count after delete" 48
    reply=$(post entities/insert '{"collectionName":"smoke","data":[{"id":99,"vector":[1,2]}]}')
    if echo "$reply" | grep -q '"code":0'; then bad "wrong dimension is refused" "$reply"; else ok "wrong dimension is refused"; fi

    kill -9 "$server"
    wait "$server" 2>/dev/null
    if start; then ok "starts after kill -9"; else
        bad "starts after kill -9" "$(tail -3 "$work/log.$wiring")"
        return
    fi
    count_is "rows after kill -9" 48
    nearest_is "search after kill -9" 11
    expect "upsert" entities/upsert "{\"collectionName\":\"smoke\",\"data\":[$(rows_json 50 60)]}" '"upsertCount":11'
    expect "flush" collections/flush '{"collectionName":"smoke"}' '"code":0'
    count_is "rows after flush" 58
    expect "insert after flush" entities/insert "{\"collectionName\":\"smoke\",\"data\":[$(rows_json 61 62)]}" '"insertCount":2'

    kill -9 "$server"
    wait "$server" 2>/dev/null
    if start; then ok "starts after the second kill -9"; else
        bad "starts after the second kill -9" "$(tail -3 "$work/log.$wiring")"
        return
    fi
    count_is "rows after the second kill -9" 60
    nearest_is "search of a flushed row" 60
    nearest_is "search of a row in the log" 62
    if stop; then ok "SIGTERM ends with status 0"; else bad "SIGTERM ends with status 0" "$(tail -5 "$work/log.$wiring")"; fi

    if start; then ok "starts after a clean stop"; else
        bad "starts after a clean stop" "$(tail -3 "$work/log.$wiring")"
        return
    fi
    count_is "rows after a clean stop" 60
    expect "drop" collections/drop '{"collectionName":"smoke"}' '"code":0'
    expect "list" collections/list '{}' '"data":\[\]'
    if stop; then ok "SIGTERM ends with status 0 again"; else bad "SIGTERM ends with status 0 again" "$(tail -5 "$work/log.$wiring")"; fi
}

certificate() { # NAME: $work/NAME.pem and NAME.key, signed by $work/ca.pem, for 127.0.0.1 and localhost
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$work/$1.key" -out "$work/$1.csr" 2>/dev/null &&
        printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' >"$work/ext" &&
        openssl x509 -req -days 2 -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial \
            -extfile "$work/ext" -out "$work/$1.pem" 2>/dev/null
}

# The public port with TLS: a client that checks the server gets through, plain text and (mode 2) a client without a
# certificate do not, and neither of these stops the server.
tls() {
    local list=v2/vectordb/collections/list reply
    local identity=(--set "tls.serverPemPath=$work/server.pem" --set "tls.serverKeyPath=$work/server.key")

    data=$work/data.tls
    if ! openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout "$work/ca.key" -out "$work/ca.pem" \
        2>/dev/null || ! certificate server || ! certificate client; then
        bad "certificates" "openssl could not make them"
        return
    fi
    if ! start --set common.security.tlsMode=1 "${identity[@]}"; then
        bad "starts with TLS" "$(tail -3 "$work/log.$wiring")"
        return
    fi
    for version in --http1.1 --http2; do
        reply=$(curl -sS --max-time 60 $version --cacert "$work/ca.pem" "https://$grpc/$list" -d '{}' 2>&1)
        case $reply in *'"code":0'*) ok "TLS, $version" ;; *) bad "TLS, $version" "$reply" ;; esac
    done
    if curl -sS --max-time 60 "http://$grpc/$list" -d '{}' >"$work/plain" 2>&1; then
        bad "plain text on a TLS port is refused" "$(cat "$work/plain")"
    else
        ok "plain text on a TLS port is refused"
    fi
    if stop; then ok "TLS server stops"; else bad "TLS server stops" "$(tail -3 "$work/log.$wiring")"; fi

    if ! start --set common.security.tlsMode=2 --set "tls.caPemPath=$work/ca.pem" "${identity[@]}"; then
        bad "starts with mutual TLS" "$(tail -3 "$work/log.$wiring")"
        return
    fi
    if curl -sS --max-time 60 --cacert "$work/ca.pem" "https://$grpc/$list" -d '{}' >"$work/plain" 2>&1; then
        bad "no client certificate is refused" "$(cat "$work/plain")"
    else
        ok "no client certificate is refused"
    fi
    reply=$(curl -sS --max-time 60 --cacert "$work/ca.pem" --cert "$work/client.pem" --key "$work/client.key" \
        "https://$grpc/$list" -d '{}' 2>&1)
    case $reply in *'"code":0'*) ok "client certificate" ;; *) bad "client certificate" "$reply" ;; esac
    if stop; then ok "mutual TLS server stops"; else bad "mutual TLS server stops" "$(tail -3 "$work/log.$wiring")"; fi

    if start --set common.security.tlsMode=1 --set tls.serverPemPath=/nowhere/server.pem; then
        bad "a missing certificate stops the start" "it started"
        stop
    elif grep -q '/nowhere/server.pem' "$work/log.$wiring"; then
        ok "a missing certificate stops the start"
    else
        bad "a missing certificate stops the start" "no message names the file"
    fi
    server=""
}

for wiring in near far; do
    one_wiring
    if [ $wiring = near ]; then
        if command -v openssl >/dev/null; then tls; else echo "skipped near: TLS: openssl is not installed"; fi
    fi
    if [ -n "$server" ]; then
        kill -9 "$server" 2>/dev/null
        wait "$server" 2>/dev/null
        server=""
    fi
done
if [ "$failed" -ne 0 ]; then
    for log in "$work"/log.*; do
        echo "--- $(basename "$log"), last lines"
        grep -v '^ *$' "$log" | tail -40
    done
fi
echo "SUITE smoke: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
