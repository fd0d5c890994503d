/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Meta store, the part every backend shares: limits and forwarding.
 *
 * One list of a transaction may touch a key once: etcd refuses it otherwise, and a store that
 * allowed it here would let code be written that fails there. Any thread; no state of its own.
 */
#include <stdlib.h>

#include "storage/meta/meta_private.h"

static rk_code
check_key(rk_str key, bool empty_ok, rk_err *err)
{
    if (key.len > RK_META_KEY_MAX || (key.len == 0 && !empty_ok)) {
        return rk_fail(err, RK_EINVAL, "meta key of %zu bytes: must have 1 to %u", key.len,
                       RK_META_KEY_MAX);
    }
    if (key.len > 0 && memchr(key.data, 0, key.len)) {
        return rk_fail(err, RK_EINVAL, "meta key %.*s: contains a zero byte", RK_STR_ARG(key));
    }
    return RK_OK;
}

static rk_code
check_value(rk_str key, rk_str value, rk_err *err)
{
    if (value.len > RK_META_VALUE_MAX) {
        return rk_fail(err, RK_ETOO_LARGE, "meta key %.*s: a value of %zu bytes, at most %u",
                       RK_STR_ARG(key), value.len, RK_META_VALUE_MAX);
    }
    return RK_OK;
}

static int
compare_ops(const void *a, const void *b)
{
    const rk_meta_op *x = *(const rk_meta_op *const *)a;
    const rk_meta_op *y = *(const rk_meta_op *const *)b;
    return rk_str_cmp(x->key, y->key);
}

/* Puts and single deletes in |sorted| must differ; none may lie under a deleted prefix. */
static rk_code
check_overlap(const rk_meta_op **sorted, size_t n, const rk_meta_op *ops, size_t ops_len,
              rk_err *err)
{
    for (size_t i = 1; i < n; i++) {
        if (rk_str_eq(sorted[i - 1]->key, sorted[i]->key)) {
            return rk_fail(err, RK_EINVAL, "meta key %.*s: touched twice in one transaction",
                           RK_STR_ARG(sorted[i]->key));
        }
    }
    for (size_t i = 0; i < ops_len; i++) {
        if (ops[i].kind != RK_META_DELETE_PREFIX) {
            continue;
        }
        size_t low = 0;
        size_t high = n;
        while (low < high) { /* the first key not below the prefix */
            size_t mid = low + (high - low) / 2;
            if (rk_str_cmp(sorted[mid]->key, ops[i].key) < 0) {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        if (low < n && sorted[low]->key.len >= ops[i].key.len &&
            rk_str_eq((rk_str){sorted[low]->key.data, ops[i].key.len}, ops[i].key)) {
            return rk_fail(err, RK_EINVAL, "meta key %.*s: touched twice in one transaction",
                           RK_STR_ARG(sorted[low]->key));
        }
    }
    return RK_OK;
}

static rk_code
check_ops(const rk_meta_op *ops, size_t n, rk_err *err)
{
    size_t single = 0;

    for (size_t i = 0; i < n; i++) {
        bool prefix = ops[i].kind == RK_META_DELETE_PREFIX;
        RK_RET(check_key(ops[i].key, prefix, err));
        if (ops[i].kind == RK_META_PUT) {
            RK_RET(check_value(ops[i].key, ops[i].value, err));
        }
        single += prefix ? 0 : 1;
    }
    if (n < 2) {
        return RK_OK;
    }
    const rk_meta_op **sorted = rk_alloc((single + 1) * sizeof(*sorted));
    if (!sorted) {
        return rk_fail(err, RK_ENOMEM, "meta transaction: no memory to check %zu operations", n);
    }
    single = 0;
    for (size_t i = 0; i < n; i++) {
        if (ops[i].kind != RK_META_DELETE_PREFIX) {
            sorted[single++] = &ops[i];
        }
    }
    if (single > 1) {
        qsort(sorted, single, sizeof(*sorted), compare_ops);
    }
    rk_code code = check_overlap(sorted, single, ops, n, err);
    rk_free(sorted);
    return code;
}

rk_code
rk_meta_do(rk_meta *meta, const rk_meta_txn *txn, rk_meta_result *out, rk_err *err)
{
    rk_meta_result ignored;

    if (txn->compares_len > RK_META_OPS_MAX || txn->then_len > RK_META_OPS_MAX ||
        txn->else_len > RK_META_OPS_MAX) {
        return rk_fail(err, RK_ETOO_LARGE,
                       "meta transaction: %zu compares, %zu and %zu operations; at most %u each",
                       txn->compares_len, txn->then_len, txn->else_len, RK_META_OPS_MAX);
    }
    for (size_t i = 0; i < txn->compares_len; i++) {
        RK_RET(check_key(txn->compares[i].key, false, err));
    }
    RK_RET(check_ops(txn->then_ops, txn->then_len, err));
    RK_RET(check_ops(txn->else_ops, txn->else_len, err));
    return meta->backend->txn(meta, txn, out ? out : &ignored, err);
}

void
rk_meta_close(rk_meta *meta)
{
    if (meta) {
        meta->backend->close(meta);
    }
}

rk_code
rk_meta_get(rk_meta *meta, rk_str key, rk_meta_kv *out, bool *found, rk_arena *arena, rk_err *err)
{
    *found = false;
    *out = (rk_meta_kv){0};
    RK_RET(check_key(key, false, err));
    return meta->backend->get(meta, key, out, found, arena, err);
}

rk_code
rk_meta_list(rk_meta *meta, rk_str prefix, size_t limit, rk_meta_range *out, rk_arena *arena,
             rk_err *err)
{
    *out = (rk_meta_range){0};
    RK_RET(check_key(prefix, true, err));
    return meta->backend->list(meta, prefix, limit, out, arena, err);
}

rk_code
rk_meta_put(rk_meta *meta, rk_str key, rk_str value, rk_err *err)
{
    rk_meta_op op = {.kind = RK_META_PUT, .key = key, .value = value};
    rk_meta_txn txn = {.then_ops = &op, .then_len = 1};
    return rk_meta_do(meta, &txn, NULL, err);
}

rk_code
rk_meta_delete(rk_meta *meta, rk_str key, rk_err *err)
{
    rk_meta_op op = {.kind = RK_META_DELETE, .key = key};
    rk_meta_txn txn = {.then_ops = &op, .then_len = 1};
    return rk_meta_do(meta, &txn, NULL, err);
}

rk_code
rk_meta_watch_start(rk_meta_watch **out, rk_meta *meta, rk_str prefix, int64_t from,
                    void (*on_event)(void *user, const rk_meta_event *event, int64_t revision),
                    void *user, rk_err *err)
{
    *out = NULL;
    RK_RET(check_key(prefix, true, err));
    if (from < 0) {
        return rk_fail(err, RK_EINVAL, "meta watch: from revision %lld is negative",
                       (long long)from);
    }
    return meta->backend->watch_start(out, meta, prefix, from, on_event, user, err);
}

void
rk_meta_watch_stop(rk_meta_watch *watch)
{
    if (watch) {
        watch->meta->backend->watch_stop(watch);
    }
}

rk_code
rk_meta_lease_grant(rk_meta *meta, int64_t ttl_ms, int64_t *lease, rk_err *err)
{
    *lease = 0;
    if (ttl_ms < 1 || ttl_ms > RK_META_TTL_MS_MAX) {
        return rk_fail(err, RK_EINVAL, "meta lease: a time to live of %lld ms, must be 1 to %lld",
                       (long long)ttl_ms, (long long)RK_META_TTL_MS_MAX);
    }
    return meta->backend->lease_grant(meta, ttl_ms, lease, err);
}

rk_code
rk_meta_lease_keep_alive(rk_meta *meta, int64_t lease, rk_err *err)
{
    return meta->backend->lease_keep_alive(meta, lease, err);
}

rk_code
rk_meta_lease_revoke(rk_meta *meta, int64_t lease, rk_err *err)
{
    return meta->backend->lease_revoke(meta, lease, err);
}

void
rk__meta_clock_changed(rk_meta *meta)
{
    meta->backend->clock_changed(meta);
}
