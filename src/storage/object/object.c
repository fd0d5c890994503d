/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Object store, the part every backend shares: names are checked here, once, and calls are
 * forwarded to the backend.
 *
 * Names are strict on purpose: the same name must be valid as a file path, an S3 key and an Azure
 * blob name, and no name may leave the store's folder. Any thread; no state of its own.
 */
#include "storage/object/object_private.h"

static bool
name_char_ok(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

rk_code
rk__object_name_check(const char *name, bool folder, rk_err *err)
{
    if (!name) {
        return rk_fail(err, RK_EINVAL, "object name is missing");
    }
    size_t len = strlen(name);
    if (len == 0 && folder) {
        return RK_OK;
    }
    if (len == 0 || len > RK_OBJECT_NAME_MAX) {
        return rk_fail(err, RK_EINVAL, "object name of %zu bytes: must have 1 to %u", len,
                       RK_OBJECT_NAME_MAX);
    }
    size_t start = 0;
    for (size_t i = 0; i <= len; i++) {
        if (i < len && name[i] != '/') {
            if (!name_char_ok(name[i])) {
                return rk_fail(err, RK_EINVAL,
                               "object name %s: byte %zu is not one of A-Z a-z 0-9 . _ - /", name,
                               i);
            }
            continue;
        }
        size_t part = i - start;
        bool dots = (part == 1 && name[start] == '.') ||
                    (part == 2 && name[start] == '.' && name[start + 1] == '.');
        if (part == 0 || part > RK_OBJECT_PART_MAX || dots) {
            return rk_fail(err, RK_EINVAL,
                           "object name %s: the part at byte %zu is empty, \".\", \"..\" or longer "
                           "than %u bytes",
                           name, start, RK_OBJECT_PART_MAX);
        }
        start = i + 1;
    }
    return RK_OK;
}

void
rk_object_close(rk_object_store *store)
{
    if (store) {
        store->backend->close(store);
    }
}

rk_code
rk_object_writer_open(rk_object_writer **out, rk_object_store *store, const char *name, rk_err *err)
{
    *out = NULL;
    RK_RET(rk__object_name_check(name, false, err));
    return store->backend->writer_open(out, store, name, err);
}

rk_code
rk_object_write(rk_object_writer *w, const void *data, size_t len, rk_err *err)
{
    return w->store->backend->write(w, data, len, err);
}

rk_code
rk_object_commit(rk_object_writer *w, rk_err *err)
{
    return w->store->backend->commit(w, err);
}

void
rk_object_abort(rk_object_writer *w)
{
    if (w) {
        w->store->backend->abort(w);
    }
}

rk_code
rk_object_put(rk_object_store *store, const char *name, rk_str bytes, rk_err *err)
{
    rk_object_writer *w = NULL;

    RK_RET(rk_object_writer_open(&w, store, name, err));
    rk_code code = rk_object_write(w, bytes.data, bytes.len, err);
    if (code != RK_OK) {
        rk_object_abort(w);
        return code;
    }
    return rk_object_commit(w, err);
}

rk_code
rk_object_read(rk_object_store *store, const char *name, uint64_t offset, void *buf, size_t len,
               rk_err *err)
{
    RK_RET(rk__object_name_check(name, false, err));
    return store->backend->read(store, name, offset, buf, len, err);
}

rk_code
rk_object_map(rk_object_store *store, const char *name, rk_object_view *out, rk_err *err)
{
    *out = (rk_object_view){0};
    RK_RET(rk__object_name_check(name, false, err));
    return store->backend->map(store, name, out, err);
}

rk_code
rk_object_open_pages(rk_object_store *store, const char *name, rk_pages **out, rk_err *err)
{
    *out = NULL;
    RK_RET(rk__object_name_check(name, false, err));
    return store->backend->open_pages(store, name, out, err);
}

void
rk_object_unmap(rk_object_store *store, rk_object_view *view)
{
    if (view && (view->data || view->priv)) {
        store->backend->unmap(store, view);
        *view = (rk_object_view){0};
    }
}

rk_code
rk_object_delete(rk_object_store *store, const char *name, rk_err *err)
{
    RK_RET(rk__object_name_check(name, false, err));
    return store->backend->remove(store, name, err);
}

rk_code
rk_object_list(rk_object_store *store, const char *prefix, rk_object_info **out, size_t *n,
               rk_arena *arena, rk_err *err)
{
    char folder[RK_OBJECT_NAME_MAX + 2];

    *out = NULL;
    *n = 0;
    size_t len = prefix ? strlen(prefix) : 0;
    while (len > 0 && prefix[len - 1] == '/') { /* "a/b/" names the same folder as "a/b" */
        len--;
    }
    if (len > RK_OBJECT_NAME_MAX) {
        return rk_fail(err, RK_EINVAL, "object folder name of %zu bytes: at most %u", len,
                       RK_OBJECT_NAME_MAX);
    }
    if (len > 0) {
        memcpy(folder, prefix, len);
    }
    folder[len] = '\0';
    RK_RET(rk__object_name_check(folder, true, err));
    return store->backend->list(store, folder, out, n, arena, err);
}

rk_code
rk_object_free_bytes(rk_object_store *store, uint64_t *out, rk_err *err)
{
    return store->backend->free_bytes(store, out, err);
}
