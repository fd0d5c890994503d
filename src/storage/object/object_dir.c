/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Object store in a local directory: one object, one file.
 *
 * put: write root/~tmp/N, sync it, rename it to its name without replacing, sync the folder. A
 * crash at any point leaves either no object or the whole one, plus at most a stale temporary file.
 * '~' is not allowed in names, so the temporary folder can never be an object's folder.
 *
 * Stale temporary files are removed at open, but only when no other process uses the store: each
 * holds a shared lock on ~tmp/lock, and the cleaner needs the exclusive one.
 *
 * Folders: those known to be durable are remembered, so that a put syncs its own folder only. A
 * delete removes folders it emptied. The lock |dirs| keeps the two apart: commit holds it for
 * reading while it makes folders and renames, delete holds it for writing while it removes folders.
 * It is held across this I/O on purpose: that is what it guards.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/thread.h"
#include "base/util.h"
#include "storage/object/object_private.h"

#define TMP_FOLDER     "~tmp"
#define WRITE_BUF_LEN  (256u << 10)
#define KNOWN_DIRS_MAX 4096u

typedef struct dir_store {
    rk_object_store base;
    rk_env env;
    char *root;  /* owned */
    int lock_fd; /* shared flock on ~tmp/lock, -1 when not open */

    rk_rwlock dirs;         /* see above */
    rk_mutex known_lock;    /* guards the next three */
    uint64_t *known;        /* hashes of folders that are durable, open addressing, 0 = empty */
    uint32_t known_len;     /* entries in use */
    uint64_t temp_next;     /* number of the next temporary file */
    uint64_t temp_instance; /* random: keeps the names of two stores on one folder apart */
} dir_store;

typedef struct dir_writer {
    rk_object_writer base;
    rk_file *file; /* owned */
    char *name;    /* owned */
    char *temp;    /* owned: path of the temporary file */
    uint8_t *buf;  /* owned: WRITE_BUF_LEN bytes, made on first small write */
    size_t buf_len;
    uint64_t offset; /* bytes already in the file */
    rk_code failed;  /* the first failed write: commit refuses */
} dir_writer;

static dir_store *
store_of(rk_object_store *store)
{
    return RK_CONTAINER(store, dir_store, base);
}

static rk_code
path_join(char *out, const dir_store *s, const char *name, rk_err *err)
{
    int len = *name ? snprintf(out, RK_OBJECT_PATH_MAX, "%s/%s", s->root, name)
                    : snprintf(out, RK_OBJECT_PATH_MAX, "%s", s->root);
    if (len < 0 || (size_t)len >= RK_OBJECT_PATH_MAX) {
        return rk_fail(err, RK_EINVAL, "object path %s/%.64s... is longer than %u bytes", s->root,
                       name, RK_OBJECT_PATH_MAX - 1);
    }
    return RK_OK;
}

/* ---- folders known to be durable ---- */

static uint64_t
dir_key(const char *dir)
{
    uint64_t h = rk_hash64(dir, strlen(dir));
    return h ? h : 1;
}

/* Looks |key| up; adds it when |add|. True when it was there. */
static bool
known_dir(dir_store *s, uint64_t key, bool add)
{
    bool found = false;

    rk_mutex_lock(&s->known_lock);
    uint32_t i = (uint32_t)key & (2 * KNOWN_DIRS_MAX - 1);
    while (s->known[i] != 0 && s->known[i] != key) {
        i = (i + 1) & (2 * KNOWN_DIRS_MAX - 1);
    }
    found = s->known[i] == key;
    if (!found && add) {
        if (s->known_len >= KNOWN_DIRS_MAX) { /* forgetting only costs syncs */
            memset(s->known, 0, 2 * KNOWN_DIRS_MAX * sizeof(s->known[0]));
            s->known_len = 0;
            i = (uint32_t)key & (2 * KNOWN_DIRS_MAX - 1);
        }
        s->known[i] = key;
        s->known_len++;
    }
    rk_mutex_unlock(&s->known_lock);
    return found;
}

static void
known_dirs_forget(dir_store *s)
{
    rk_mutex_lock(&s->known_lock);
    memset(s->known, 0, 2 * KNOWN_DIRS_MAX * sizeof(s->known[0]));
    s->known_len = 0;
    rk_mutex_unlock(&s->known_lock);
}

/* Cuts the last part off |path| in place; false when only the root is left. */
static bool
path_up(const dir_store *s, char *path)
{
    size_t root_len = strlen(s->root);
    char *slash = strrchr(path, '/');
    if (strlen(path) <= root_len || !slash || (size_t)(slash - path) < root_len) {
        return false;
    }
    *slash = '\0';
    return true;
}

/* Makes the folder |dir| and makes every entry on the way to the root durable. Caller holds |dirs|.
 */
static rk_code
dirs_make(dir_store *s, const char *dir, rk_err *err)
{
    char path[RK_OBJECT_PATH_MAX];
    uint64_t key = dir_key(dir);

    if (known_dir(s, key, false)) {
        return RK_OK;
    }
    RK_RET(s->env.disk->mkdirs(s->env.disk, dir, err));
    snprintf(path, sizeof(path), "%s", dir);
    while (path_up(s, path)) {
        RK_RET(s->env.disk->sync_dir(s->env.disk, path, err));
    }
    known_dir(s, key, true);
    return RK_OK;
}

/* ---- writer ---- */

static void
writer_free(dir_writer *w, bool remove_temp)
{
    dir_store *s = store_of(w->base.store);

    if (w->file) {
        s->env.disk->close(s->env.disk, w->file);
    }
    if (remove_temp && w->temp) {
        rk_err ignored = {0}; /* a stale temporary file is removed at the next open */
        rk_code code = s->env.disk->remove(s->env.disk, w->temp, &ignored);
        RK_UNUSED(code);
    }
    rk_free(w->name);
    rk_free(w->temp);
    rk_free(w->buf);
    rk_free(w);
}

static rk_code
check_absent(dir_store *s, const char *path, const char *name, rk_err *err)
{
    rk_file *file = NULL;
    rk_err ignored = {0};

    rk_code code = s->env.disk->open(s->env.disk, &file, path, RK_OPEN_READ, &ignored);
    if (code == RK_OK) {
        s->env.disk->close(s->env.disk, file);
        return rk_fail(err, RK_EEXISTS, "object %s already exists", name);
    }
    return RK_OK; /* commit decides; this is only to fail before the bytes are written */
}

static rk_code
dir_writer_open(rk_object_writer **out, rk_object_store *store, const char *name, rk_err *err)
{
    dir_store *s = store_of(store);
    char path[RK_OBJECT_PATH_MAX];
    char temp_name[64];
    rk_code code = RK_OK;

    RK_RET(path_join(path, s, name, err));
    RK_RET(check_absent(s, path, name, err));
    dir_writer *w = rk_alloc_zero(1, sizeof(*w));
    if (!w) {
        return rk_fail(err, RK_ENOMEM, "object %s: no memory for a writer", name);
    }
    w->base.store = store;
    rk_mutex_lock(&s->known_lock);
    snprintf(temp_name, sizeof(temp_name), TMP_FOLDER "/%016llx-%llu",
             (unsigned long long)s->temp_instance, (unsigned long long)s->temp_next++);
    rk_mutex_unlock(&s->known_lock);
    RK_ERR(path_join(path, s, temp_name, err));
    w->name = rk_strdup(rk_str_from(name));
    w->temp = rk_strdup(rk_str_from(path));
    if (!w->name || !w->temp) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "object %s: no memory for a writer", name));
    }
    RK_ERR(s->env.disk->open(s->env.disk, &w->file, w->temp,
                             RK_OPEN_WRITE | RK_OPEN_CREATE | RK_OPEN_EXCLUSIVE, err));
    *out = &w->base;
    w = NULL;
out:
    if (w) {
        writer_free(w, false);
    }
    return code;
}

static rk_code
writer_direct(dir_writer *w, const void *data, size_t len, rk_err *err)
{
    dir_store *s = store_of(w->base.store);

    if (len == 0) {
        return RK_OK;
    }
    rk_code code = s->env.disk->write(s->env.disk, w->file, w->offset, data, len, err);
    if (code != RK_OK) {
        w->failed = code;
        return code;
    }
    w->offset += len;
    return RK_OK;
}

static rk_code
writer_flush(dir_writer *w, rk_err *err)
{
    RK_RET(writer_direct(w, w->buf, w->buf_len, err));
    w->buf_len = 0;
    return RK_OK;
}

/* Small pieces are gathered; large ones go to the file from where they lie. */
static rk_code
dir_write(rk_object_writer *writer, const void *data, size_t len, rk_err *err)
{
    dir_writer *w = RK_CONTAINER(writer, dir_writer, base);

    if (w->failed != RK_OK) {
        return rk_fail(err, w->failed, "object %s: an earlier write failed", w->name);
    }
    if (len == 0) {
        return RK_OK;
    }
    if (len >= WRITE_BUF_LEN / 2) {
        RK_RET(writer_flush(w, err));
        return writer_direct(w, data, len, err);
    }
    if (!w->buf) {
        w->buf = rk_alloc(WRITE_BUF_LEN);
        if (!w->buf) {
            return rk_fail(err, RK_ENOMEM, "object %s: no memory for a buffer of %u bytes", w->name,
                           WRITE_BUF_LEN);
        }
    }
    if (w->buf_len + len > WRITE_BUF_LEN) {
        RK_RET(writer_flush(w, err));
    }
    memcpy(w->buf + w->buf_len, data, len);
    w->buf_len += len;
    return RK_OK;
}

/* The step that makes the object visible, and then durable. Sets |*renamed| once it may be visible.
 */
static rk_code
publish(dir_store *s, dir_writer *w, bool *renamed, rk_err *err)
{
    rk_disk *disk = s->env.disk;
    char path[RK_OBJECT_PATH_MAX];
    char dir[RK_OBJECT_PATH_MAX];
    rk_code code = RK_OK;

    RK_RET(path_join(path, s, w->name, err));
    snprintf(dir, sizeof(dir), "%s", path);
    if (!path_up(s, dir)) {
        return rk_fail(err, RK_EINTERNAL, "object path %s lies outside of %s", path, s->root);
    }
    rk_rwlock_read(&s->dirs);
    RK_ERR(dirs_make(s, dir, err));
    code = disk->rename_new(disk, w->temp, path, err);
    if (code == RK_EEXISTS) {
        RK_ERR(rk_fail(err, RK_EEXISTS, "object %s already exists", w->name));
    }
    RK_ERR(code);
    *renamed = true;
    RK_ERR(RK_FAULT("object.put.after_rename"));
    RK_ERR(disk->sync_dir(disk, dir, err));
out:
    rk_rwlock_unlock(&s->dirs);
    return code;
}

static rk_code
dir_commit(rk_object_writer *writer, rk_err *err)
{
    dir_writer *w = RK_CONTAINER(writer, dir_writer, base);
    dir_store *s = store_of(writer->store);
    bool renamed = false;
    rk_code code = w->failed;

    if (code != RK_OK) {
        RK_ERR(rk_fail(err, code, "object %s: an earlier write failed", w->name));
    }
    RK_ERR(writer_flush(w, err));
    RK_ERR(s->env.disk->sync(s->env.disk, w->file, err));
    code = RK_FAULT("object.put.before_rename");
    if (code != RK_OK) {
        RK_ERR(rk_fail(err, code, "object %s: fault point object.put.before_rename", w->name));
    }
    code = publish(s, w, &renamed, err);
    if (code != RK_OK && renamed) {
        /* Visible but perhaps not durable: take the name back, so that a failed put leaves nothing.
         */
        char path[RK_OBJECT_PATH_MAX];
        rk_err ignored = {0};
        if (path_join(path, s, w->name, &ignored) == RK_OK) {
            RK_KEEP(s->env.disk->remove(s->env.disk, path, &ignored));
        }
        rk_fail(err, code, "object %s: its folder could not be synced after the rename", w->name);
    }
out:
    writer_free(w, !renamed);
    return code;
}

static void
dir_abort(rk_object_writer *writer)
{
    writer_free(RK_CONTAINER(writer, dir_writer, base), true);
}

/* ---- reading ---- */

static rk_code
dir_read(rk_object_store *store, const char *name, uint64_t offset, void *buf, size_t len,
         rk_err *err)
{
    dir_store *s = store_of(store);
    char path[RK_OBJECT_PATH_MAX];
    rk_file *file = NULL;

    RK_RET(path_join(path, s, name, err));
    RK_RET(s->env.disk->open(s->env.disk, &file, path, RK_OPEN_READ, err));
    rk_code code = s->env.disk->read(s->env.disk, file, offset, buf, len, err);
    s->env.disk->close(s->env.disk, file);
    return code;
}

static rk_code
dir_map(rk_object_store *store, const char *name, rk_object_view *out, rk_err *err)
{
    dir_store *s = store_of(store);
    char path[RK_OBJECT_PATH_MAX];

    RK_RET(path_join(path, s, name, err));
    rk_map *map = rk_alloc_zero(1, sizeof(*map));
    if (!map) {
        return rk_fail(err, RK_ENOMEM, "object %s: no memory to map it", name);
    }
    rk_code code = s->env.disk->map(s->env.disk, map, path, err);
    if (code != RK_OK) {
        rk_free(map);
        return code;
    }
    *out = (rk_object_view){map->data, map->len, map};
    return RK_OK;
}

static rk_code
dir_open_pages(rk_object_store *store, const char *name, rk_pages **out, rk_err *err)
{
    char path[RK_OBJECT_PATH_MAX];

    RK_RET(path_join(path, store_of(store), name, err));
    return rk_pages_open_file(out, path, err);
}

static void
dir_unmap(rk_object_store *store, rk_object_view *view)
{
    dir_store *s = store_of(store);

    s->env.disk->unmap(s->env.disk, view->priv);
    rk_free(view->priv);
}

/* ---- delete ---- */

static rk_code
dir_remove(rk_object_store *store, const char *name, rk_err *err)
{
    dir_store *s = store_of(store);
    char path[RK_OBJECT_PATH_MAX];
    rk_err ignored = {0};
    rk_code code = RK_OK;

    RK_RET(path_join(path, s, name, err));
    rk_rwlock_write(&s->dirs);
    code = s->env.disk->remove(s->env.disk, path, err);
    if (code == RK_EKEY_NOT_FOUND) {
        rk_err_clear(err);
        code = RK_OK;
        goto out;
    }
    RK_ERR(code);
    /* Folders emptied by this go too; the first that is not empty refuses and ends the walk. */
    while (path_up(s, path) && strlen(path) > strlen(s->root) &&
           s->env.disk->remove(s->env.disk, path, &ignored) == RK_OK) {
        known_dirs_forget(s);
    }
out:
    rk_rwlock_unlock(&s->dirs);
    return code;
}

/* ---- list ---- */

typedef struct list_entry {
    struct list_entry *next;
    rk_str name;
} list_entry;

typedef struct list_state {
    rk_arena *arena;
    rk_str folder;       /* being read, relative to the root */
    list_entry *folders; /* still to read: a stack, so no recursion */
    list_entry *files;
    size_t files_len;
} list_state;

static rk_code
list_each(void *user, const char *name, bool is_dir)
{
    list_state *ls = user;
    rk_err ignored = {0};

    if (rk__object_name_check(name, false, &ignored) != RK_OK) {
        return RK_OK; /* ~tmp, and what is not ours */
    }
    list_entry *entry = RK_ARENA_NEW(ls->arena, list_entry);
    if (!entry) {
        return RK_ENOMEM;
    }
    entry->name = ls->folder.len == 0
                      ? rk_arena_str(ls->arena, rk_str_from(name))
                      : rk_arena_printf(ls->arena, "%.*s/%s", RK_STR_ARG(ls->folder), name);
    if (!entry->name.data) {
        return RK_ENOMEM;
    }
    list_entry **list = is_dir ? &ls->folders : &ls->files;
    entry->next = *list;
    *list = entry;
    ls->files_len += is_dir ? 0 : 1;
    return RK_OK;
}

static rk_code
list_folders(dir_store *s, list_state *ls, rk_err *err)
{
    char path[RK_OBJECT_PATH_MAX];

    while (ls->folders) {
        list_entry *entry = ls->folders;
        ls->folders = entry->next;
        ls->folder = entry->name;
        RK_RET(path_join(path, s, entry->name.data, err));
        rk_code code = s->env.disk->list(s->env.disk, path, list_each, ls, err);
        if (code == RK_ENOMEM) {
            return rk_fail(err, RK_ENOMEM, "listing %s: no memory", path);
        }
        if (code == RK_EKEY_NOT_FOUND) { /* never there, or emptied meanwhile */
            rk_err_clear(err);
            code = RK_OK;
        }
        RK_RET(code);
    }
    return RK_OK;
}

static rk_code
file_size(dir_store *s, const char *name, uint64_t *out, rk_err *err)
{
    char path[RK_OBJECT_PATH_MAX];
    rk_file *file = NULL;

    RK_RET(path_join(path, s, name, err));
    RK_RET(s->env.disk->open(s->env.disk, &file, path, RK_OPEN_READ, err));
    rk_code code = s->env.disk->size(s->env.disk, file, out, err);
    s->env.disk->close(s->env.disk, file);
    return code;
}

static rk_code
dir_list(rk_object_store *store, const char *prefix, rk_object_info **out, size_t *n,
         rk_arena *arena, rk_err *err)
{
    dir_store *s = store_of(store);
    list_state ls = {.arena = arena};

    list_entry *first = RK_ARENA_NEW(arena, list_entry);
    if (!first) {
        return rk_fail(err, RK_ENOMEM, "listing objects below \"%s\": no memory", prefix);
    }
    first->name = rk_arena_str(arena, rk_str_from(prefix));
    if (!first->name.data) {
        return rk_fail(err, RK_ENOMEM, "listing objects below \"%s\": no memory", prefix);
    }
    ls.folders = first;
    RK_RET(list_folders(s, &ls, err));
    if (ls.files_len == 0) {
        return RK_OK;
    }
    rk_object_info *infos = RK_ARENA_ARRAY(arena, rk_object_info, ls.files_len);
    if (!infos) {
        return rk_fail(err, RK_ENOMEM, "listing %zu objects: no memory", ls.files_len);
    }
    size_t len = 0;
    for (list_entry *entry = ls.files; entry; entry = entry->next) {
        rk_code code = file_size(s, entry->name.data, &infos[len].size_bytes, err);
        if (code == RK_EKEY_NOT_FOUND) { /* deleted meanwhile */
            rk_err_clear(err);
            continue;
        }
        RK_RET(code);
        infos[len++].name = entry->name;
    }
    *out = infos;
    *n = len;
    return RK_OK;
}

static rk_code
dir_free_bytes(rk_object_store *store, uint64_t *out, rk_err *err)
{
    dir_store *s = store_of(store);
    return s->env.disk->free_bytes(s->env.disk, s->root, out, err);
}

/* ---- open and close ---- */

static void
dir_close(rk_object_store *store)
{
    dir_store *s = store_of(store);

    if (s->lock_fd >= 0) {
        close(s->lock_fd);
    }
    rk_rwlock_deinit(&s->dirs);
    rk_mutex_deinit(&s->known_lock);
    rk_free(s->known);
    rk_free(s->root);
    rk_free(s);
}

static const rk_object_backend dir_backend = {
    .close = dir_close,
    .writer_open = dir_writer_open,
    .write = dir_write,
    .commit = dir_commit,
    .abort = dir_abort,
    .read = dir_read,
    .map = dir_map,
    .unmap = dir_unmap,
    .open_pages = dir_open_pages,
    .remove = dir_remove,
    .list = dir_list,
    .free_bytes = dir_free_bytes,
};

typedef struct clean_state {
    dir_store *store;
    rk_err *err;
} clean_state;

static rk_code
clean_each(void *user, const char *name, bool is_dir)
{
    clean_state *cs = user;
    char path[RK_OBJECT_PATH_MAX];
    char part[RK_OBJECT_PART_MAX + 16];

    int len = snprintf(part, sizeof(part), TMP_FOLDER "/%s", name);
    if (is_dir || strcmp(name, "lock") == 0 || len < 0 || (size_t)len >= sizeof(part)) {
        return RK_OK;
    }
    RK_RET(path_join(path, cs->store, part, cs->err));
    rk_code code = cs->store->env.disk->remove(cs->store->env.disk, path, cs->err);
    return code == RK_EKEY_NOT_FOUND ? RK_OK : code;
}

/* Takes the shared lock; when nobody else holds it, removes what a crash left in ~tmp first. */
static rk_code
temp_folder_open(dir_store *s, rk_err *err)
{
    char path[RK_OBJECT_PATH_MAX];

    RK_RET(path_join(path, s, TMP_FOLDER, err));
    RK_RET(s->env.disk->mkdirs(s->env.disk, path, err));
    RK_RET(path_join(path, s, TMP_FOLDER "/lock", err));
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0) {
        return rk_fail(err, errno == ENOSPC || errno == EDQUOT ? RK_EDISK_FULL : RK_EIO,
                       "opening %s: %s", path, strerror(errno));
    }
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        clean_state cs = {s, err};
        RK_RET(path_join(path, s, TMP_FOLDER, err));
        RK_RET(s->env.disk->list(s->env.disk, path, clean_each, &cs, err));
    }
    if (flock(s->lock_fd, LOCK_SH) != 0) {
        return rk_fail(err, RK_EIO, "locking %s/" TMP_FOLDER "/lock: %s", s->root, strerror(errno));
    }
    return RK_OK;
}

rk_code
rk_object_open_dir(rk_object_store **out, const char *root, const rk_env *env, rk_err *err)
{
    rk_code code = RK_OK;

    *out = NULL;
    size_t len = root ? strlen(root) : 0;
    while (len > 1 && root[len - 1] == '/') {
        len--;
    }
    if (len == 0 || len > RK_OBJECT_PATH_MAX - RK_OBJECT_NAME_MAX - 2) {
        return rk_fail(err, RK_EINVAL, "object store folder: the path must have 1 to %u bytes",
                       RK_OBJECT_PATH_MAX - RK_OBJECT_NAME_MAX - 2);
    }
    dir_store *s = rk_alloc_zero(1, sizeof(*s));
    if (!s) {
        return rk_fail(err, RK_ENOMEM, "object store %s: no memory", root);
    }
    s->base.backend = &dir_backend;
    s->env = *env;
    s->lock_fd = -1;
    rk_rwlock_init(&s->dirs);
    rk_mutex_init(&s->known_lock, "object.dirs", RK_RANK_OBJECT_DIRS);
    s->root = rk_strdup((rk_str){root, len});
    s->known = rk_alloc_zero(2 * KNOWN_DIRS_MAX, sizeof(s->known[0]));
    if (!s->root || !s->known) {
        RK_ERR(rk_fail(err, RK_ENOMEM, "object store %s: no memory", root));
    }
    env->random->bytes(env->random->self, &s->temp_instance, sizeof(s->temp_instance));
    RK_ERR(env->disk->mkdirs(env->disk, s->root, err));
    RK_ERR(temp_folder_open(s, err));
    *out = &s->base;
    s = NULL;
out:
    if (s) {
        dir_close(&s->base);
    }
    return code;
}
