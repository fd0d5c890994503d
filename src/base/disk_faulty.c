/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk for tests: counts calls and fails chosen ones, and can lose what was not synced.
 *
 * Everything is passed on to the inner disk at once; beside it a list of undo records remembers
 * what a power cut may take back: for a write, allocation or truncation the old bytes and the old
 * size of the file, until that file is synced; for a create, rename or remove the old state of the
 * name, until its folder is synced. rk_disk_faulty_crash() applies the records newest first. With a
 * seed it keeps a random half of the 512-byte sectors of each lost write, as a real disk may. Files
 * open at the crash answer RK_EIO from then on. Creating folders is not undone. One lock guards it
 * all and is held across the inner calls, which a test can afford. Old contents are kept in memory:
 * small files only.
 */
#include <stdio.h>

#include "base/mem.h"
#include "base/thread.h"

#define SECTOR       512u
#define PATH_LEN_MAX 1024

#define CALLS(X)                                                                                   \
    X(open)                                                                                        \
    X(size)                                                                                        \
    X(read)                                                                                        \
    X(write)                                                                                       \
    X(allocate)                                                                                    \
    X(truncate) X(sync) X(sync_dir) X(rename) X(remove) X(mkdirs) X(list) X(map) X(free_bytes)

#define CALL_ENUM(name) CALL_##name,
typedef enum call_kind { CALLS(CALL_ENUM) CALL_COUNT } call_kind;
#define CALL_NAME(name) #name,
static const char *const call_names[] = {CALLS(CALL_NAME)};

typedef struct rule {
    uint64_t calls; /* all calls of the kind so far */
    uint64_t first; /* the numbers of the calls to fail: [first, last] */
    uint64_t last;
    rk_code code; /* RK_OK: no rule */
} rule;

typedef enum undo_kind { UNDO_BYTES, UNDO_CREATE, UNDO_RENAME, UNDO_REMOVE } undo_kind;

typedef struct undo {
    struct undo *older;
    undo_kind kind;
    bool had_target;         /* RENAME: a file was replaced, its content is |old| */
    char path[PATH_LEN_MAX]; /* BYTES: the file's present name; RENAME: the new name */
    char from[PATH_LEN_MAX]; /* RENAME: the old name */
    uint64_t offset;         /* BYTES: where |old| belongs */
    uint64_t old_size;
    uint8_t *old;
    size_t old_len;
} undo;

struct rk_disk_faulty {
    rk_disk disk; /* first: the functions get a pointer to it */
    rk_disk *inner;
    rk_mutex lock;
    rule rules[CALL_COUNT];
    undo *undos;    /* newest first */
    uint64_t epoch; /* grows with each crash; older handles are dead */
};

typedef struct faulty_file {
    rk_file *inner;
    uint64_t epoch;
    char path[PATH_LEN_MAX];
} faulty_file;

static rk_disk_faulty *
self_of(rk_disk *d)
{
    return (rk_disk_faulty *)(void *)d;
}

static faulty_file *
file_of(rk_file *f)
{
    return (faulty_file *)(void *)f;
}

/* Counts the call; an error when a rule says so. Takes the lock and keeps it when it returns RK_OK.
 */
static rk_code
enter(rk_disk_faulty *f, call_kind kind, const char *path, rk_err *err)
{
    rk_mutex_lock(&f->lock);
    rule *r = &f->rules[kind];
    r->calls++;
    if (r->code != RK_OK && r->calls >= r->first && r->calls <= r->last) {
        rk_code code = r->code;
        rk_mutex_unlock(&f->lock);
        return rk_fail(err, code, "cannot %s %s: injected fault", call_names[kind], path);
    }
    return RK_OK;
}

static rk_code
enter_file(rk_disk_faulty *f, call_kind kind, const faulty_file *file, rk_err *err)
{
    RK_RET(enter(f, kind, file->path, err));
    if (file->epoch != f->epoch) {
        rk_mutex_unlock(&f->lock);
        return rk_fail(err, RK_EIO, "cannot %s %s: opened before the crash", call_names[kind],
                       file->path);
    }
    return RK_OK;
}

static rk_code
leave(rk_disk_faulty *f, rk_code code)
{
    rk_mutex_unlock(&f->lock);
    return code;
}

/* ---- undo records; the caller holds the lock ---- */

static undo *
undo_push_locked(rk_disk_faulty *f, undo_kind kind, const char *path)
{
    undo *u = rk_alloc_zero(1, sizeof(*u));

    if (u) {
        u->kind = kind;
        snprintf(u->path, sizeof(u->path), "%s", path);
        u->older = f->undos;
        f->undos = u;
    }
    return u;
}

static void
undo_free(undo *u)
{
    rk_free(u->old);
    rk_free(u);
}

static void
undo_drop_newest_locked(rk_disk_faulty *f)
{
    undo *u = f->undos;
    f->undos = u->older;
    undo_free(u);
}

/* Reads what |len| bytes at |offset| hold now, as far as the file reaches. */
static rk_code
save_bytes(rk_disk_faulty *f, undo *u, rk_file *inner, uint64_t offset, uint64_t len, rk_err *err)
{
    RK_RET(f->inner->size(f->inner, inner, &u->old_size, err));
    u->offset = offset;
    if (offset >= u->old_size || len == 0) {
        return RK_OK;
    }
    u->old_len = (size_t)RK_MIN(len, u->old_size - offset);
    u->old = rk_alloc(u->old_len);
    if (!u->old) {
        u->old_len = 0;
        return RK_ENOMEM;
    }
    return f->inner->read(f->inner, inner, offset, u->old, u->old_len, err);
}

/* Records the bytes that a change of |len| bytes at |offset| is about to replace. */
static rk_code
remember_locked(rk_disk_faulty *f, const faulty_file *file, uint64_t offset, uint64_t len,
                rk_err *err)
{
    undo *u = undo_push_locked(f, UNDO_BYTES, file->path);

    if (!u) {
        return rk_fail(err, RK_ENOMEM, "cannot track %s: out of memory", file->path);
    }
    rk_code code = save_bytes(f, u, file->inner, offset, len, err);
    if (code != RK_OK) {
        undo_drop_newest_locked(f);
    }
    return code;
}

/* Records the whole content of the file at |path|; |*present| is false when there is none. */
static rk_code
remember_file_locked(rk_disk_faulty *f, undo *u, const char *path, bool *present)
{
    rk_file *inner = NULL;
    rk_code code = f->inner->open(f->inner, &inner, path, RK_OPEN_READ, NULL);

    *present = code == RK_OK;
    if (code != RK_OK) {
        return code == RK_EKEY_NOT_FOUND ? RK_OK : code;
    }
    code = save_bytes(f, u, inner, 0, UINT64_MAX, NULL);
    f->inner->close(f->inner, inner);
    return code;
}

static bool
in_folder(const char *path, const char *folder)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    size_t folder_len = strlen(folder);

    while (folder_len > 1 && folder[folder_len - 1] == '/') {
        folder_len--;
    }
    return len == folder_len && memcmp(path, folder, len) == 0;
}

/* Forgets the records that a sync made durable: of one file's bytes, or of one folder's names. */
static void
settle_locked(rk_disk_faulty *f, const char *file, const char *folder)
{
    undo **at = &f->undos;

    while (*at) {
        undo *u = *at;
        bool settled = u->kind == UNDO_BYTES ? file && strcmp(u->path, file) == 0
                                             : folder && in_folder(u->path, folder);
        if (settled) {
            *at = u->older;
            undo_free(u);
        } else {
            at = &u->older;
        }
    }
}

/* ---- the disk's functions ---- */

static rk_code
faulty_open(rk_disk *d, rk_file **out, const char *path, unsigned flags, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);
    faulty_file *file = rk_alloc_zero(1, sizeof(*file));
    rk_file *probe = NULL;
    bool present;
    rk_code code = RK_OK;

    *out = NULL;
    if (!file || strlen(path) >= sizeof(file->path)) {
        rk_free(file);
        return rk_fail(err, RK_ENOMEM, "cannot open %s: out of memory or name too long", path);
    }
    code = enter(f, CALL_open, path, err);
    if (code != RK_OK) {
        rk_free(file);
        return code;
    }
    file->epoch = f->epoch;
    snprintf(file->path, sizeof(file->path), "%s", path);
    present = f->inner->open(f->inner, &probe, path, RK_OPEN_READ, NULL) == RK_OK;
    f->inner->close(f->inner, probe);
    RK_ERR(f->inner->open(f->inner, &file->inner, path, flags & ~RK_OPEN_TRUNCATE, err));
    if (!present && !undo_push_locked(f, UNDO_CREATE, path)) {
        code = RK_ENOMEM;
        goto out;
    }
    if (flags & RK_OPEN_TRUNCATE) {
        RK_ERR(remember_locked(f, file, 0, UINT64_MAX, err));
        RK_ERR(f->inner->truncate(f->inner, file->inner, 0, err));
    }
    *out = (rk_file *)(void *)file;
    file = NULL;
out:
    if (file) {
        f->inner->close(f->inner, file->inner);
        rk_free(file);
    }
    return leave(f, code);
}

static void
faulty_close(rk_disk *d, rk_file *raw)
{
    rk_disk_faulty *f = self_of(d);

    if (raw) {
        f->inner->close(f->inner, file_of(raw)->inner);
        rk_free(raw);
    }
}

static rk_code
faulty_size(rk_disk *d, rk_file *raw, uint64_t *out, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);

    RK_RET(enter_file(f, CALL_size, file_of(raw), err));
    return leave(f, f->inner->size(f->inner, file_of(raw)->inner, out, err));
}

static rk_code
faulty_read(rk_disk *d, rk_file *raw, uint64_t offset, void *buf, size_t len, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);

    RK_RET(enter_file(f, CALL_read, file_of(raw), err));
    return leave(f, f->inner->read(f->inner, file_of(raw)->inner, offset, buf, len, err));
}

static rk_code
faulty_write(rk_disk *d, rk_file *raw, uint64_t offset, const void *buf, size_t len, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);
    faulty_file *file = file_of(raw);
    rk_code code = RK_OK;

    RK_RET(enter_file(f, CALL_write, file, err));
    RK_ERR(remember_locked(f, file, offset, len, err));
    RK_ERR(f->inner->write(f->inner, file->inner, offset, buf, len, err));
out:
    return leave(f, code);
}

static rk_code
faulty_allocate(rk_disk *d, rk_file *raw, uint64_t len, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);
    faulty_file *file = file_of(raw);
    rk_code code = RK_OK;

    RK_RET(enter_file(f, CALL_allocate, file, err));
    RK_ERR(remember_locked(f, file, 0, 0, err));
    RK_ERR(f->inner->allocate(f->inner, file->inner, len, err));
out:
    return leave(f, code);
}

static rk_code
faulty_truncate(rk_disk *d, rk_file *raw, uint64_t len, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);
    faulty_file *file = file_of(raw);
    rk_code code = RK_OK;

    RK_RET(enter_file(f, CALL_truncate, file, err));
    RK_ERR(remember_locked(f, file, len, UINT64_MAX, err));
    RK_ERR(f->inner->truncate(f->inner, file->inner, len, err));
out:
    return leave(f, code);
}

static rk_code
faulty_sync(rk_disk *d, rk_file *raw, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);
    faulty_file *file = file_of(raw);
    rk_code code = RK_OK;

    RK_RET(enter_file(f, CALL_sync, file, err));
    RK_ERR(f->inner->sync(f->inner, file->inner, err));
    settle_locked(f, file->path, NULL);
out:
    return leave(f, code);
}

static rk_code
faulty_sync_dir(rk_disk *d, const char *path, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);
    rk_code code = RK_OK;

    RK_RET(enter(f, CALL_sync_dir, path, err));
    RK_ERR(f->inner->sync_dir(f->inner, path, err));
    settle_locked(f, NULL, path);
out:
    return leave(f, code);
}

/* Records of bytes follow their file to its new name. */
static void
follow_rename_locked(rk_disk_faulty *f, const char *from, const char *to)
{
    for (undo *u = f->undos; u; u = u->older) {
        if (u->kind == UNDO_BYTES && strcmp(u->path, from) == 0) {
            snprintf(u->path, sizeof(u->path), "%s", to);
        }
    }
}

static rk_code
rename_tracked(rk_disk_faulty *f, const char *from, const char *to, bool replace, rk_err *err)
{
    rk_code code = RK_OK;
    undo *u;

    RK_RET(enter(f, CALL_rename, from, err));
    u = undo_push_locked(f, UNDO_RENAME, to);
    if (!u) {
        code = rk_fail(err, RK_ENOMEM, "cannot track %s: out of memory", to);
        goto out;
    }
    snprintf(u->from, sizeof(u->from), "%s", from);
    code = remember_file_locked(f, u, to, &u->had_target);
    if (code == RK_EIO) {
        code = RK_OK; /* a folder: its files keep their records, the name comes back */
        u->had_target = false;
    }
    if (code == RK_OK) {
        code = replace ? f->inner->rename(f->inner, from, to, err)
                       : f->inner->rename_new(f->inner, from, to, err);
    }
    if (code != RK_OK) {
        undo_drop_newest_locked(f);
        goto out;
    }
    f->undos = u->older; /* its own record must not be renamed */
    follow_rename_locked(f, from, to);
    f->undos = u;
out:
    return leave(f, code);
}

static rk_code
faulty_rename(rk_disk *d, const char *from, const char *to, rk_err *err)
{
    return rename_tracked(self_of(d), from, to, true, err);
}

static rk_code
faulty_rename_new(rk_disk *d, const char *from, const char *to, rk_err *err)
{
    return rename_tracked(self_of(d), from, to, false, err);
}

static rk_code
faulty_remove(rk_disk *d, const char *path, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);
    rk_code code = RK_OK;
    bool is_file;
    undo *u;

    RK_RET(enter(f, CALL_remove, path, err));
    u = undo_push_locked(f, UNDO_REMOVE, path);
    if (!u) {
        code = rk_fail(err, RK_ENOMEM, "cannot track %s: out of memory", path);
        goto out;
    }
    is_file = remember_file_locked(f, u, path, &u->had_target) == RK_OK && u->had_target;
    code = f->inner->remove(f->inner, path, err);
    if (code != RK_OK || !is_file) {
        undo_drop_newest_locked(f);
    }
out:
    return leave(f, code);
}

static rk_code
faulty_mkdirs(rk_disk *d, const char *path, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);

    RK_RET(enter(f, CALL_mkdirs, path, err));
    return leave(f, f->inner->mkdirs(f->inner, path, err));
}

static rk_code
faulty_list(rk_disk *d, const char *path,
            rk_code (*each)(void *user, const char *name, bool is_dir), void *user, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);

    RK_RET(enter(f, CALL_list, path, err));
    rk_mutex_unlock(&f->lock); /* |each| may use the disk */
    return f->inner->list(f->inner, path, each, user, err);
}

static rk_code
faulty_map(rk_disk *d, rk_map *out, const char *path, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);

    RK_RET(enter(f, CALL_map, path, err));
    return leave(f, f->inner->map(f->inner, out, path, err));
}

static void
faulty_unmap(rk_disk *d, rk_map *map)
{
    rk_disk_faulty *f = self_of(d);
    f->inner->unmap(f->inner, map);
}

static rk_code
faulty_free_bytes(rk_disk *d, const char *path, uint64_t *out, rk_err *err)
{
    rk_disk_faulty *f = self_of(d);

    RK_RET(enter(f, CALL_free_bytes, path, err));
    return leave(f, f->inner->free_bytes(f->inner, path, out, err));
}

/* ---- crash ---- */

/* Puts old bytes back, all of them or (with |rng|) each sector by the toss of a coin. */
static rk_code
restore_bytes(rk_disk_faulty *f, const undo *u, rk_rng *rng)
{
    rk_disk *inner = f->inner;
    rk_file *file = NULL;
    uint64_t size;
    rk_code code = inner->open(inner, &file, u->path, RK_OPEN_WRITE, NULL);

    if (code == RK_EKEY_NOT_FOUND) {
        return RK_OK; /* the file itself is gone */
    }
    RK_RET(code);
    RK_ERR(inner->size(inner, file, &size, NULL));
    if (!rng || size < u->old_size || rk_rng_below(rng, 2) == 0) {
        RK_ERR(inner->truncate(inner, file, u->old_size, NULL));
    }
    for (size_t at = 0; at < u->old_len;) {
        uint64_t offset = u->offset + at;
        size_t len = (size_t)RK_MIN(SECTOR - offset % SECTOR, (uint64_t)(u->old_len - at));
        if (!rng || rk_rng_below(rng, 2) == 0) {
            RK_ERR(inner->write(inner, file, offset, u->old + at, len, NULL));
        }
        at += len;
    }
out:
    inner->close(inner, file);
    return code;
}

static rk_code
restore_file(rk_disk_faulty *f, const undo *u, const char *path)
{
    rk_disk *inner = f->inner;
    rk_file *file = NULL;
    rk_code code = RK_OK;

    RK_ERR(
        inner->open(inner, &file, path, RK_OPEN_WRITE | RK_OPEN_CREATE | RK_OPEN_TRUNCATE, NULL));
    RK_ERR(inner->write(inner, file, 0, u->old, u->old_len, NULL));
out:
    inner->close(inner, file);
    return code;
}

static rk_code
undo_one_locked(rk_disk_faulty *f, const undo *u, rk_rng *rng)
{
    rk_disk *inner = f->inner;

    switch (u->kind) {
    case UNDO_BYTES:
        return restore_bytes(f, u, rng);
    case UNDO_CREATE: {
        rk_code code = inner->remove(inner, u->path, NULL);
        return code == RK_EKEY_NOT_FOUND ? RK_OK : code;
    }
    case UNDO_RENAME:
        RK_RET(inner->rename(inner, u->path, u->from, NULL));
        follow_rename_locked(f, u->path, u->from);
        return u->had_target ? restore_file(f, u, u->path) : RK_OK;
    case UNDO_REMOVE:
        return restore_file(f, u, u->path);
    }
    return RK_EINTERNAL;
}

rk_code
rk_disk_faulty_crash(rk_disk_faulty *f, uint64_t seed)
{
    rk_rng rng;
    rk_code code = RK_OK;

    rk_rng_init(&rng, seed);
    rk_mutex_lock(&f->lock);
    f->epoch++;
    while (f->undos) {
        undo *u = f->undos;
        f->undos = u->older;
        RK_KEEP(undo_one_locked(f, u, seed ? &rng : NULL));
        undo_free(u);
    }
    rk_mutex_unlock(&f->lock);
    return code;
}

/* ---- making one ---- */

rk_disk_faulty *
rk_disk_faulty_new(rk_disk *inner)
{
    rk_disk_faulty *f = rk_alloc_zero(1, sizeof(*f));

    if (!f) {
        return NULL;
    }
    f->inner = inner;
    rk_mutex_init(&f->lock, "disk_faulty", RK_RANK_STORAGE + 9);
    f->disk = (rk_disk){
        .open = faulty_open,
        .close = faulty_close,
        .size = faulty_size,
        .read = faulty_read,
        .write = faulty_write,
        .allocate = faulty_allocate,
        .truncate = faulty_truncate,
        .sync = faulty_sync,
        .sync_dir = faulty_sync_dir,
        .rename = faulty_rename,
        .remove = faulty_remove,
        .mkdirs = faulty_mkdirs,
        .list = faulty_list,
        .map = faulty_map,
        .unmap = faulty_unmap,
        .free_bytes = faulty_free_bytes,
        .rename_new = faulty_rename_new,
    };
    return f;
}

rk_disk *
rk_disk_faulty_disk(rk_disk_faulty *f)
{
    return &f->disk;
}

static rule *
find_rule(rk_disk_faulty *f, const char *call)
{
    for (size_t i = 0; i < CALL_COUNT; i++) {
        if (strcmp(call_names[i], call) == 0) {
            return &f->rules[i];
        }
    }
    RK_ASSERT(false && "a call of this name");
    return NULL;
}

void
rk_disk_faulty_fail(rk_disk_faulty *f, const char *call, uint64_t nth, uint64_t times, rk_code code)
{
    rule *r = find_rule(f, call);

    rk_mutex_lock(&f->lock);
    r->first = r->calls + nth;
    if (__builtin_add_overflow(r->first, times - 1, &r->last)) {
        r->last = UINT64_MAX;
    }
    r->code = times > 0 ? code : RK_OK;
    rk_mutex_unlock(&f->lock);
}

uint64_t
rk_disk_faulty_calls(rk_disk_faulty *f, const char *call)
{
    const rule *r = find_rule(f, call);

    rk_mutex_lock(&f->lock);
    uint64_t calls = r->calls;
    rk_mutex_unlock(&f->lock);
    return calls;
}

void
rk_disk_faulty_free(rk_disk_faulty *f)
{
    if (f) {
        while (f->undos) {
            undo_drop_newest_locked(f);
        }
        rk_mutex_deinit(&f->lock);
        rk_free(f);
    }
}
