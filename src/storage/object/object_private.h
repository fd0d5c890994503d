/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an object store backend provides. The public functions check names and arguments, then
 * forward here, so a backend sees only names that passed rk__object_name_check().
 */
#ifndef RK_STORAGE_OBJECT_PRIVATE_H
#define RK_STORAGE_OBJECT_PRIVATE_H

#include "base/thread.h"
#include "storage/object/object.h"

#define RK_OBJECT_NAME_MAX 1024u
#define RK_OBJECT_PART_MAX 255u
#define RK_OBJECT_PATH_MAX 2048u

/* Ranks of the locks of this folder; see docs/locking.md. */
#define RK_RANK_OBJECT_DIRS (RK_RANK_STORAGE + 6)

typedef struct rk_object_backend {
    void (*close)(rk_object_store *store);
    rk_code (*writer_open)(rk_object_writer **out, rk_object_store *store, const char *name,
                           rk_err *err);
    rk_code (*write)(rk_object_writer *w, const void *data, size_t len, rk_err *err);
    rk_code (*commit)(rk_object_writer *w, rk_err *err); /* frees |w| in any case */
    void (*abort)(rk_object_writer *w);                  /* never NULL */
    rk_code (*read)(rk_object_store *store, const char *name, uint64_t offset, void *buf,
                    size_t len, rk_err *err);
    rk_code (*map)(rk_object_store *store, const char *name, rk_object_view *out, rk_err *err);
    void (*unmap)(rk_object_store *store, rk_object_view *view);
    rk_code (*open_pages)(rk_object_store *store, const char *name, rk_pages **out, rk_err *err);
    rk_code (*remove)(rk_object_store *store, const char *name, rk_err *err);
    rk_code (*list)(rk_object_store *store, const char *prefix, rk_object_info **out, size_t *n,
                    rk_arena *arena, rk_err *err);
    rk_code (*free_bytes)(rk_object_store *store, uint64_t *out, rk_err *err);
} rk_object_backend;

/* A backend's own structs begin with these. */
struct rk_object_store {
    const rk_object_backend *backend;
};
struct rk_object_writer {
    rk_object_store *store;
};

/* RK_EINVAL with the rule that |name| breaks. |folder| also allows the empty name. */
RK_MUST_CHECK rk_code rk__object_name_check(const char *name, bool folder, rk_err *err);

#endif
