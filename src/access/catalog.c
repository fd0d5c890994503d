/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue cache: collections by name, each valid as long as the coordinator's revision has
 * not moved.
 *
 * The revision is asked for on every request; in one process that is an atomic load. It is read
 * before a collection is fetched, so an entry can only be older than it claims when the catalogue
 * changed in between, and then the next revision check throws it out. A miss is never cached. When
 * the streaming node says that a collection, schema version or channel is unknown, the entry is
 * forgotten and the request runs once more.
 *
 * The table is open addressing over a fixed number of slots, cleared whole when half full. Lookups
 * take the read side of the lock and one reference; a writer holds it for a few stores. No call is
 * made under the lock.
 */
#include "access/access_private.h"
#include "base/util.h"

rk_code
rk__catalog_init(rk__catalog *catalog)
{
    rk_rwlock_init(&catalog->lock);
    catalog->used = 0;
    catalog->slots = (rk__entry **)rk_alloc_zero(RK__CATALOG_SLOTS, sizeof(*catalog->slots));
    return catalog->slots ? RK_OK : RK_ENOMEM;
}

void
rk__entry_unref(rk__entry *entry)
{
    if (!entry || atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    rk_schema_unref(entry->schema);
    rk_arena_free(entry->arena); /* holds the entry too */
}

static void
entry_unref_deferred(void *arg)
{
    rk__entry_unref((rk__entry *)arg);
}

void
rk__catalog_deinit(rk__catalog *catalog)
{
    if (!catalog->slots) {
        return;
    }
    for (size_t i = 0; i < RK__CATALOG_SLOTS; i++) {
        rk__entry_unref(catalog->slots[i]);
    }
    rk_free(catalog->slots);
    catalog->slots = NULL;
    rk_rwlock_deinit(&catalog->lock);
}

static uint64_t
key_hash(rk_str db, rk_str name)
{
    return rk_hash_u64(rk_hash64(db.data, db.len) + 1) ^ rk_hash64(name.data, name.len);
}

/* Slot of the key, or the empty slot where it would go. Caller holds the lock. */
static size_t
find_slot(const rk__catalog *catalog, uint64_t hash, rk_str db, rk_str name)
{
    size_t slot = (size_t)hash & (RK__CATALOG_SLOTS - 1);

    while (catalog->slots[slot]) {
        const rk__entry *e = catalog->slots[slot];
        if (e->hash == hash && rk_str_eq(e->name, name) && rk_str_eq(e->db, db)) {
            break;
        }
        slot = (slot + 1) & (RK__CATALOG_SLOTS - 1);
    }
    return slot;
}

/* A reference to the cached entry, or NULL. */
static rk__entry *
lookup(rk__catalog *catalog, uint64_t hash, rk_str db, rk_str name)
{
    rk__entry *entry;

    rk_rwlock_read(&catalog->lock);
    entry = catalog->slots[find_slot(catalog, hash, db, name)];
    if (entry) {
        atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
    }
    rk_rwlock_unlock(&catalog->lock);
    return entry;
}

/* Puts |entry| in the table, taking a reference of its own. */
static void
publish(rk__catalog *catalog, rk__entry *entry)
{
    rk__entry **dropped = NULL;
    rk__entry *old = NULL;
    size_t slot;

    RK_ASSERT(entry && catalog->slots);
    atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
    rk_rwlock_write(&catalog->lock);
    slot = find_slot(catalog, entry->hash, entry->db, entry->name);
    if (!catalog->slots[slot] && catalog->used >= RK__CATALOG_SLOTS / 2) {
        rk__entry **fresh = (rk__entry **)rk_alloc_zero(RK__CATALOG_SLOTS, sizeof(*fresh));
        if (!fresh) { /* no memory to make room: serve uncached */
            rk_rwlock_unlock(&catalog->lock);
            rk__entry_unref(entry);
            return;
        }
        dropped = catalog->slots;
        catalog->slots = fresh;
        catalog->used = 0;
        slot = find_slot(catalog, entry->hash, entry->db, entry->name);
    }
    old = catalog->slots[slot];
    catalog->used += old ? 0 : 1;
    catalog->slots[slot] = entry;
    rk_rwlock_unlock(&catalog->lock);
    rk__entry_unref(old);
    for (size_t i = 0; dropped && i < RK__CATALOG_SLOTS; i++) {
        rk__entry_unref(dropped[i]);
    }
    rk_free(dropped);
}

/* An entry of its own arena from the coordinator's answer; one reference. |like|: a stale entry
 * whose schema may serve. */
static rk_code
entry_new(rk__entry **out, const pb_rk_CollectionInfo *info, rk_str db, rk_str name,
          uint64_t revision, const rk__entry *like, rk_err *err)
{
    rk_arena *arena = rk_arena_new(0);
    rk__entry *entry = arena ? RK_ARENA_NEW(arena, rk__entry) : NULL;
    void *copy = NULL;
    rk_code code = RK_OK;

    *out = NULL;
    if (!entry || !info->schema) {
        code = entry ? rk_fail_tail(err, RK_EINTERNAL,
                                    "collection %" PRId64 " came without a schema", info->id)
                     : rk__fail_memory(err);
        goto out;
    }
    RK_ERR(pb_copy(&pb_rk_CollectionInfo_desc, &copy, info, arena));
    *entry = (rk__entry){.refs = 1,
                         .hash = key_hash(db, name),
                         .revision = revision,
                         .db = rk_arena_str(arena, db),
                         .name = rk_arena_str(arena, name),
                         .info = (pb_rk_CollectionInfo *)copy,
                         .arena = arena};
    if (!entry->db.data || !entry->name.data) {
        code = rk__fail_memory(err);
        goto out;
    }
    if (like && like->info->id == info->id && like->info->schema_version == info->schema_version &&
        like->info->updated_ts == info->updated_ts) {
        entry->schema = rk_schema_ref(like->schema);
    } else {
        RK_ERR(rk_schema_new(&entry->schema, entry->info->schema, info->schema_version, err));
    }
    *out = entry;
    arena = NULL;
out:
    rk_arena_free(arena);
    return code;
}

static rk_code
missing(rk__req *req, rk_str name, const char *text)
{
    rk_fail(req->ctx.err, RK_ECOLLECTION_NOT_FOUND, "%s[database=%.*s][collection=%.*s]", text,
            RK_STR_ARG(req->db), RK_STR_ARG(name));
    return rk_err_input(req->ctx.err);
}

/* The entry of a checked name, valid until the arena is reset. */
static rk_code
get(rk__req *req, rk_str name, const char *missing_text, const rk__entry **out)
{
    rk__catalog *catalog = &req->access->catalog;
    uint64_t hash = key_hash(req->db, name);
    rk__entry *entry = lookup(catalog, hash, req->db, name);
    rk__entry *fresh = NULL;
    pb_rk_Empty empty = {0};
    pb_rk_CatalogRevisionResponse *revision = NULL;
    pb_rk_CollectionKey key = {.db_name = req->db, .name = name};
    pb_rk_CollectionInfo *info = NULL;
    rk_code code;

    *out = NULL;
    RK_ERR(
        pb_rk_Coordinator_CatalogRevision(req->access->coordinator, &empty, &revision, &req->ctx));
    if (!entry ||
        atomic_load_explicit(&entry->revision, memory_order_relaxed) != revision->revision) {
        code =
            pb_rk_Coordinator_DescribeCollection(req->access->coordinator, &key, &info, &req->ctx);
        if (code == RK_ECOLLECTION_NOT_FOUND) {
            code = missing(req, name, missing_text);
        }
        if (code != RK_OK) {
            goto out;
        }
        RK_ERR(entry_new(&fresh, info, req->db, name, revision->revision, entry, req->ctx.err));
        publish(catalog, fresh);
        rk__entry_unref(entry);
        entry = fresh;
    }
    if (!rk_arena_defer(req->ctx.arena, entry_unref_deferred, entry)) {
        code = rk__fail_memory(req->ctx.err);
        goto out;
    }
    *out = entry;
    entry = NULL;
out:
    rk__entry_unref(entry);
    return code;
}

rk_code
rk__use_db(rk__req *req, rk_str db)
{
    rk_str chosen = db.len > 0 ? db : req->db.len > 0 ? req->db : RK_STR(RK__DEFAULT_DB);

    if (!rk_str_is(chosen, RK__DEFAULT_DB)) { /* databases of one's own come with a later version */
        rk_fail(req->ctx.err, RK_EDATABASE_NOT_FOUND, "database not found[database=%.*s]",
                RK_STR_ARG(chosen));
        return rk_err_input(req->ctx.err);
    }
    req->db = RK_STR(RK__DEFAULT_DB);
    return RK_OK;
}

rk_code
rk__collection(rk__req *req, rk_str db, rk_str name, const rk__entry **out)
{
    *out = NULL;
    RK_RET(rk__use_db(req, db));
    RK_RET(rk__check_collection_name(&req->access->limits, name, req->ctx.err));
    return get(req, name, "collection not found", out);
}

rk_code
rk__collection_described(rk__req *req, rk_str db, rk_str name, const rk__entry **out)
{
    *out = NULL;
    RK_RET(rk__use_db(req, db));
    RK_RET(rk__check_collection_name(&req->access->limits, name, req->ctx.err));
    return get(req, name, "can't find collection", out);
}

bool
rk__collection_stale(rk__req *req, const rk__entry *entry, rk_code code)
{
    rk__catalog *catalog = &req->access->catalog;
    rk__entry *again;

    if (!entry || (code != RK_ECOLLECTION_NOT_FOUND && code != RK_ESCHEMA_MISMATCH &&
                   code != RK_ECHANNEL_NOT_FOUND)) {
        return false;
    }
    again = lookup(catalog, entry->hash, entry->db, entry->name);
    if (again) {
        /* matches no revision: the next lookup asks the coordinator */
        atomic_store_explicit(&again->revision, UINT64_MAX, memory_order_relaxed);
        rk__entry_unref(again);
    }
    rk_err_clear(req->ctx.err);
    return true;
}
