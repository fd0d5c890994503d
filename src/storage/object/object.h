/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Object store: immutable named bytes. Backends: a local directory now; S3, Azure and SQLite later,
 * same interface.
 *
 * An object appears whole or not at all, and once put returned RK_OK it survives a power cut.
 * Objects are never changed; a name is used once (put refuses an existing name with RK_EEXISTS:
 * fencing rests on this). Names are relative paths of parts [A-Za-z0-9._-]{1,255}, no empty, "." or
 * ".." part, at most 1,024 bytes.
 *
 * Threads: any; calls block on I/O, so never on a loop thread.
 * Errors: RK_EKEY_NOT_FOUND is "not there"; RK_EIO is "could not tell".
 */
#ifndef RK_STORAGE_OBJECT_H
#define RK_STORAGE_OBJECT_H

#include "base/mem.h"
#include "base/pages.h"
#include "base/seam.h"

typedef struct rk_object_store rk_object_store;

/* Writes an object piece by piece: nothing is visible until commit. */
typedef struct rk_object_writer rk_object_writer;

/* A whole object, mapped (local) or fetched: immutable, page-aligned. Reference counted by its
 * holder. */
typedef struct rk_object_view {
    const uint8_t *data;
    size_t len;
    void *priv;
} rk_object_view;

typedef struct rk_object_info {
    rk_str name;
    uint64_t size_bytes;
} rk_object_info;

/* The directory backend under |root|: temporary file, fsync, rename, fsync of the folder. Removes
 * stale temporary files. */
RK_MUST_CHECK rk_code rk_object_open_dir(rk_object_store **out, const char *root, const rk_env *env,
                                         rk_err *err);
void rk_object_close(rk_object_store *store);

RK_MUST_CHECK rk_code rk_object_writer_open(rk_object_writer **out, rk_object_store *store,
                                            const char *name, rk_err *err);
RK_MUST_CHECK rk_code rk_object_write(rk_object_writer *w, const void *data, size_t len,
                                      rk_err *err);
RK_MUST_CHECK rk_code rk_object_commit(rk_object_writer *w,
                                       rk_err *err); /* frees |w| in any case */
void rk_object_abort(rk_object_writer *w);           /* accepts NULL */
RK_MUST_CHECK rk_code rk_object_put(rk_object_store *store, const char *name, rk_str bytes,
                                    rk_err *err);

RK_MUST_CHECK rk_code rk_object_read(rk_object_store *store, const char *name, uint64_t offset,
                                     void *buf, size_t len, rk_err *err);
RK_MUST_CHECK rk_code rk_object_map(rk_object_store *store, const char *name, rk_object_view *out,
                                    rk_err *err);
void rk_object_unmap(rk_object_store *store, rk_object_view *view);
/* For many small reads that leave nothing in memory. Closed with rk_pages_close(), before the
 * store. */
RK_MUST_CHECK rk_code rk_object_open_pages(rk_object_store *store, const char *name, rk_pages **out,
                                           rk_err *err);
RK_MUST_CHECK rk_code rk_object_delete(rk_object_store *store, const char *name,
                                       rk_err *err); /* absent: RK_OK */
/* Every object below the folder |prefix| ("" = all), any order. */
RK_MUST_CHECK rk_code rk_object_list(rk_object_store *store, const char *prefix,
                                     rk_object_info **out, size_t *n, rk_arena *arena, rk_err *err);
/* Bytes free for new objects; UINT64_MAX when the store has no bound. */
RK_MUST_CHECK rk_code rk_object_free_bytes(rk_object_store *store, uint64_t *out, rk_err *err);

#endif
