/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rows of a segment a read may return: scope, snapshot, predicate.
 *
 * A predicate that binds the primary key (`id in [...]` alone or as a conjunct) is answered by
 * look-ups: the rows found become the bitset, and only chunks that hold one are evaluated.
 * Otherwise the filter runs over 64 Ki rows at a time, so that its scratch stays small whatever the
 * size of the segment; slices without a visible row are skipped.
 *
 * Of a sealed segment, the bits of a filter that comes again are kept (filter_cache.c): then it is
 * evaluated for all rows, visible or not.
 */
#include "base/log.h"
#include "search/search_private.h"

#define SLICE_ROWS ((size_t)65536)
#define FOUND_MAX  64u
#define KEEP_TEXT  ((size_t)64 << 10) /* bytes of an expression with its values, at most */
#define KEEP_BITS  2u                 /* kept when it comes so often, */
#define KEEP_ORDERED                                                                               \
    16u /* and so often in the order of an index, which costs as much as hundreds of searches, */
#define KEEP_STATE 32u /* where rows are deleted: the next delete makes it useless */
#define KEEP_SHARE 0.9 /* where more of all rows pass, nothing is gained by the order */

/* ---- compile ---- */

/* Time functions see the time of the snapshot, so that all nodes that run a read agree; a wall
 * clock serves before it is known. */
static int64_t
now_ms(const pb_rk_ReadScope *scope)
{
    const rk_clock *clock = rk_clock_real();

    if (scope && scope->read_ts >> 18 > 1 && scope->read_ts != UINT64_MAX) {
        return (int64_t)(scope->read_ts >> 18);
    }
    return clock->wall_ms(clock->self);
}

static rk_code
copy_templates(rk_template **out, const pb_rk_Predicate *predicate, rk_arena *arena)
{
    *out = RK_ARENA_ARRAY(arena, rk_template, predicate->templates.n + 1);
    for (size_t i = 0; *out && i < predicate->templates.n; i++) {
        (*out)[i] =
            (rk_template){predicate->templates.data[i]->name, predicate->templates.data[i]->value};
    }
    return *out ? RK_OK : RK_ENOMEM;
}

/* What the condition is kept under: the same expression with the same values, for the same fields.
 */
static rk_code
name_condition(rk__predicate *p, const pb_rk_Predicate *predicate, rk_arena *arena, rk_err *err)
{
    int64_t version = p->schema->version;
    rk_str request;

    p->can_keep = false;
    if (p->bound || predicate->expr.len > KEEP_TEXT || !rk_filter_is_stable(p->filter)) {
        return RK_OK;
    }
    if (pb_encode_arena(&pb_rk_Predicate_desc, predicate, &request, arena) != RK_OK) {
        return rk__no_memory(err);
    }
    char *text = rk_arena_alloc(arena, sizeof(version) + request.len);
    if (!text) {
        return rk__no_memory(err);
    }
    memcpy(text, &version, sizeof(version));
    memcpy(text + sizeof(version), request.data, request.len);
    p->kept_text = (rk_str){text, sizeof(version) + request.len};
    p->can_keep = p->kept_text.len <= KEEP_TEXT;
    return RK_OK;
}

rk_code
rk__predicate_init(rk__predicate *out, const pb_rk_Predicate *predicate,
                   const pb_rk_ReadScope *scope, rk_schema *schema, rk_arena *arena, rk_err *err)
{
    const rk_clock *clock = rk_clock_real();
    rk_filter_options options = {.what = "query plan",
                                 .now_ms = now_ms(scope),
                                 .seed = (uint64_t)clock->monotonic_ns(clock->self)};
    rk_template *templates;
    bool value;

    *out = (rk__predicate){.schema = schema, .can_keep = true}; /* of no filter: what is deleted */
    if (scope) {
        out->partition_ids = scope->partition_ids;
    }
    if (!predicate || rk_str_trim(predicate->expr).len == 0) {
        return RK_OK;
    }
    if (copy_templates(&templates, predicate, arena) != RK_OK) {
        return rk__no_memory(err);
    }
    options.templates = templates;
    options.templates_len = predicate->templates.n;
    RK_RET(rk_filter_compile(&out->filter, predicate->expr, schema, &options, arena, err));
    if (rk_filter_is_constant(out->filter, &value)) {
        out->nothing = !value;
        out->filter = NULL;
        return RK_OK;
    }
    out->exact = rk_filter_primary_keys(out->filter, &out->keys, &out->keys_len);
    out->bound = out->exact || rk_filter_primary_key_bound(out->filter, &out->keys, &out->keys_len);
    return name_condition(out, predicate, arena, err);
}

/* ---- apply ---- */

rk_code
rk__field_position(const rk_segment *seg, const rk_field *field, size_t *out, rk_err *err)
{
    const rk_schema *schema = rk_segment_schema(seg);
    const rk_field *own = rk_schema_by_id(schema, field->id);
    rk_segment_stats stats;

    if (!own || own->type != field->type) {
        rk_segment_get_stats(seg, &stats);
        return rk_fail(err, RK_EINTERNAL, "segment %lld was made before field %.*s was",
                       (long long)stats.ids.id, RK_STR_ARG(field->name));
    }
    *out = (size_t)(own - schema->fields);
    return RK_OK;
}

/* Rows with one of the keys, in |out|. */
static rk_code
find_keys(rk_bitset *out, const rk__predicate *p, const rk_segment *seg, size_t rows,
          rk_arena *scratch)
{
    uint32_t found[FOUND_MAX];

    for (size_t i = 0; i < p->keys_len; i++) {
        size_t n = rk_segment_find(seg, p->keys[i], rows, found, FOUND_MAX);
        uint32_t *all = found;
        if (n > FOUND_MAX) {
            all = rk_arena_alloc(scratch, n * sizeof(*all));
            if (!all) {
                return RK_ENOMEM;
            }
            n = RK_MIN(n, rk_segment_find(seg, p->keys[i], rows, all, n));
        }
        for (size_t k = 0; k < n; k++) {
            rk_bitset_set(out, all[k]);
        }
    }
    return RK_OK;
}

static bool
any_set(const uint64_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (words[i]) {
            return true;
        }
    }
    return false;
}

/* |c| from row |from| on, |n| rows; |from| is a multiple of 64. */
static rk_column
slice(const rk_column *c, size_t from, size_t n)
{
    rk_column s = *c;

    s.rows = n;
    if (s.valid) {
        s.valid += from / 64;
    }
    if (s.offsets) {
        s.offsets += from;
    } else {
        s.data = (const uint8_t *)s.data + from * rk_field_row_bytes(c->field);
    }
    return s;
}

/* Evaluates one chunk and clears the bits of rows that do not pass; |words| are those of the chunk.
 */
static rk_code
eval_chunk(const rk__predicate *p, const rk_segment *seg, size_t chunk, size_t rows_end,
           size_t chunk_rows, uint64_t *words, rk_column *columns, rk_column *slices,
           rk_arena *scratch, rk_err *err)
{
    size_t fields_len;
    const uint32_t *fields = rk_filter_fields(p->filter, &fields_len);

    for (size_t i = 0; i < fields_len; i++) {
        size_t position;
        RK_RET(rk__field_position(seg, &p->schema->fields[fields[i]], &position, err));
        RK_RET(rk_segment_column(seg, chunk, position, rows_end, &columns[fields[i]], err));
    }
    for (size_t at = 0; at < chunk_rows; at += SLICE_ROWS) {
        size_t n = RK_MIN(chunk_rows - at, SLICE_ROWS);
        size_t len = rk_bitset_words(n);
        if (!any_set(words + at / 64, len)) {
            continue;
        }
        for (size_t i = 0; i < fields_len; i++) {
            slices[fields[i]] = slice(&columns[fields[i]], at, n);
        }
        rk_filter_chunk c = {n, slices};
        RK_RET(rk__still_wanted(p, err));
        rk_arena_reset(scratch);
        uint64_t *passing = RK_ARENA_ARRAY(scratch, uint64_t, len);
        if (!passing) {
            return rk__no_memory(err);
        }
        RK_RET(rk_filter_eval(p->filter, &c, passing, scratch, err));
        for (size_t i = 0; i < len; i++) {
            words[at / 64 + i] &= passing[i];
        }
    }
    return RK_OK;
}

static rk_code
eval_rows(const rk__predicate *p, const rk_segment *seg, rk_bitset *rows, rk_arena *arena,
          rk_arena *scratch, rk_err *err)
{
    rk_column *columns = RK_ARENA_ARRAY(arena, rk_column, p->schema->fields_len);
    rk_column *slices = RK_ARENA_ARRAY(arena, rk_column, p->schema->fields_len);
    size_t first, next;

    if (!columns || !slices) {
        return rk__no_memory(err);
    }
    for (size_t row = 0; row < rows->nbits; row = next) {
        size_t chunk = rk_segment_chunk_of(seg, row, &first);
        rk_column any;
        size_t chunk_rows;
        RK_RET(
            rk_segment_column(seg, chunk, rk_segment_schema(seg)->primary, rows->nbits, &any, err));
        chunk_rows = any.rows;
        next = first + chunk_rows;
        if (any_set(rows->words + first / 64, rk_bitset_words(chunk_rows))) {
            RK_RET(eval_chunk(p, seg, chunk, rows->nbits, chunk_rows, rows->words + first / 64,
                              columns, slices, scratch, err));
        }
    }
    return RK_OK;
}

static rk_code
drop_nulls(rk__target *t, const rk_field *vector, rk_err *err)
{
    size_t position, first;

    RK_RET(rk__field_position(t->seg, vector, &position, err));
    for (size_t row = 0; row < t->rows;) {
        rk_column c;
        size_t chunk = rk_segment_chunk_of(t->seg, row, &first);
        RK_RET(rk_segment_column(t->seg, chunk, position, t->rows, &c, err));
        for (size_t i = 0; c.valid && i < rk_bitset_words(c.rows); i++) {
            t->filter.words[first / 64 + i] &=
                c.valid[i]; /* bits past the chunk are zero in the filter already */
        }
        row = first + c.rows;
    }
    return RK_OK;
}

/* ---- kept filters ---- */

static int64_t
segment_id(const rk_segment *seg)
{
    rk_segment_stats stats;

    rk_segment_get_stats(seg, &stats);
    return stats.ids.id;
}

/* Evaluates the filter for all rows and keeps it; NULL: no room, or it is not defined for all. */
static const rk__kept *
keep(const rk__predicate *p, const rk__kept_key *key, rk_segment *seg, size_t rows, rk_arena *arena,
     rk_arena *scratch)
{
    uint64_t bytes = rk_bitset_words(rows) * sizeof(uint64_t);
    rk_bitset bits = {NULL, 0};

    if (!rk__filter_cache_room(p->cache, bytes)) {
        return NULL;
    }
    if (rk_bitset_init(&bits, rows) == RK_OK) {
        rk_bitset_fill(&bits, true);
        if (eval_rows(p, seg, &bits, arena, scratch, NULL) == RK_OK) {
            return rk__filter_cache_keep(p->cache, key, bits, rk_bitset_count(&bits), NULL, bytes,
                                         arena);
        }
        rk_bitset_deinit(&bits);
    }
    rk_mem_release(rk__filter_cache_mem(p->cache), bytes);
    return NULL;
}

/* The kept bits of the filter, until |arena| is reset; NULL: it has to be evaluated. */
static const rk__kept *
kept_bits(const rk__predicate *p, const rk__target *t, rk_arena *arena, rk_arena *scratch)
{
    rk__kept_key key = {.segment_id = segment_id(t->seg), .text = p->kept_text};
    const rk__kept *kept;
    bool is_worth;

    if (!p->cache || !p->filter || !p->can_keep || t->deletes == RK__UNSETTLED) {
        return NULL;
    }
    rk__kept_key_finish(&key);
    kept = rk__filter_cache_find(p->cache, &key, 1, KEEP_BITS, &is_worth, arena);
    return kept || !is_worth ? kept : keep(p, &key, t->seg, t->rows, arena, scratch);
}

/* For a filter in the order of an index, about; which reserves by itself, and makes do with less.
 */
static bool
make_room(rk_filter_cache *cache, const rk_index *index, const rk__target *t)
{
    rk_index_info info;

    rk_index_get_info(index, &info);
    uint64_t bits = t->rows / 4 + 4096;
    uint64_t codes = (uint64_t)t->passing * (info.dim / 8 + 16);
    uint64_t most = rk_mem_limit(rk__filter_cache_mem(cache)) / 4;
    uint64_t bytes = bits + codes <= most ? bits + codes : bits;
    if (!rk__filter_cache_room(cache, bytes)) {
        return false;
    }
    rk_mem_release(rk__filter_cache_mem(cache), bytes);
    return true;
}

const rk_index_filter *
rk__target_ordered(const rk__target *t, const rk__predicate *p, const rk_index *index,
                   uint64_t index_uid, size_t queries, rk_arena *arena)
{
    rk__kept_key key = {.segment_id = segment_id(t->seg),
                        .index_uid = index_uid,
                        .deletes = t->deletes,
                        .field_id = t->field_id,
                        .text = p->kept_text};
    rk_index_filter *ordered = NULL;
    const rk__kept *kept;
    bool is_worth;

    if (!p->cache || !p->can_keep || t->all || t->deletes == RK__UNSETTLED ||
        (double)t->passing > KEEP_SHARE * (double)t->rows) {
        return NULL;
    }
    rk__kept_key_finish(&key);
    kept = rk__filter_cache_find(p->cache, &key, (uint32_t)RK_MIN(queries, (size_t)UINT32_MAX),
                                 t->deletes == 0 ? KEEP_ORDERED : KEEP_STATE, &is_worth, arena);
    if (!kept && is_worth && make_room(p->cache, index, t) &&
        rk_index_filter_new(&ordered, index, &t->filter, t->passing, rk__filter_cache_mem(p->cache),
                            NULL) == RK_OK) {
        /* one that gains nothing is kept, too: as that */
        kept = rk__filter_cache_keep(p->cache, &key, (rk_bitset){NULL, 0}, t->passing, ordered, 0,
                                     arena);
    }
    return kept ? kept->ordered : NULL;
}

/* ---- the whole ---- */

/* Bits of all that are visible; where |from| is given, of those of |from|. */
static rk_code
own_bits(rk__target *t, const rk_bitset *from, rk_arena *arena, rk_err *err)
{
    if (t->all) {
        if (rk_bitset_init_arena(&t->filter, t->rows, arena) != RK_OK) {
            return rk__no_memory(err);
        }
        rk_bitset_fill(&t->filter, true);
        t->all = false;
    }
    if (from) {
        rk_bitset_and(&t->filter, from);
    }
    return RK_OK;
}

/* The rows that pass the predicate, of those visible; |*counted|: t->passing says how many. */
static rk_code
apply(rk__target *t, const rk__predicate *p, bool nulls, bool *counted, rk_arena *arena,
      rk_arena *scratch, rk_err *err)
{
    const rk__kept *kept = kept_bits(p, t, arena, scratch);

    *counted = kept && t->all && !nulls;
    if (*counted) {
        t->filter = kept->bits;
        t->passing = kept->count;
        t->all = false;
        return RK_OK;
    }
    RK_RET(own_bits(t, kept ? &kept->bits : NULL, arena, err));
    if (kept) {
        return RK_OK;
    }
    if (p->bound) {
        rk_bitset found;
        rk_arena_reset(scratch);
        if (rk_bitset_init_arena(&found, t->rows, arena) != RK_OK ||
            find_keys(&found, p, t->seg, t->rows, scratch) != RK_OK) {
            return rk__no_memory(err);
        }
        rk_bitset_and(&t->filter, &found);
    }
    if (p->filter && !p->exact) {
        RK_RET(eval_rows(p, t->seg, &t->filter, arena, scratch, err));
    }
    return RK_OK;
}

rk_code
rk__target_init(rk__target *out, const rk__predicate *predicate, rk_segment *seg, uint64_t read_ts,
                const rk_field *vector, rk_arena *arena, rk_arena *scratch, rk_err *err)
{
    bool nulls = vector && vector->nullable;
    bool narrowed = predicate->filter || predicate->bound || nulls;
    bool counted;

    *out = (rk__target){.seg = seg};
    if (predicate->nothing) {
        return RK_OK;
    }
    out->deletes = rk_segment_deletes_upto(seg, read_ts);
    RK_RET(rk_segment_visible(seg, read_ts, &out->filter, &out->rows, &out->all, arena, err));
    if (rk_segment_deletes_upto(seg, read_ts) != out->deletes) {
        out->deletes = RK__UNSETTLED;
    }
    if (out->all && !narrowed) {
        out->passing = out->rows;
        return RK_OK;
    }
    RK_RET(apply(out, predicate, nulls, &counted, arena, scratch, err));
    if (nulls) {
        out->field_id = vector->id;
        RK_RET(drop_nulls(out, vector, err));
    }
    if (!counted) {
        out->passing = rk_bitset_count(&out->filter);
    }
    return RK_OK;
}

static bool
in_scope(const rk__predicate *p, const rk_segment *seg)
{
    rk_segment_stats stats;

    if (p->partition_ids.n == 0) {
        return true;
    }
    rk_segment_get_stats(seg, &stats);
    for (size_t i = 0; i < p->partition_ids.n; i++) {
        if (p->partition_ids.data[i] == stats.ids.partition_id) {
            return true;
        }
    }
    return false;
}

rk_code
rk__targets(rk__target **out, size_t *n, const rk__predicate *predicate, rk_segment *const *segs,
            size_t segs_len, uint64_t read_ts, const rk_field *vector, rk_arena *arena, rk_err *err)
{
    rk__target *targets = RK_ARENA_ARRAY(arena, rk__target, segs_len + 1);
    rk_arena *scratch = rk_arena_new(0);
    rk_code code = RK_OK;

    *out = targets;
    *n = 0;
    if (!targets || !scratch) {
        RK_ERR(rk__no_memory(err));
    }
    for (size_t i = 0; i < segs_len; i++) {
        if (!in_scope(predicate, segs[i])) {
            continue;
        }
        RK_ERR(rk__still_wanted(predicate, err));
        RK_ERR(rk__target_init(&targets[*n], predicate, segs[i], read_ts, vector, arena, scratch,
                               err));
        *n += targets[*n].passing > 0;
    }
out:
    rk_arena_free(scratch);
    return code;
}
