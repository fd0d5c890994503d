/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a sealed segment turns out damaged: columns, and indexes after they were opened.
 *
 * A column is the data itself: nothing can put it right but a backup. It is refused with a sentence
 * that says so, for as long as the segment is open; its other columns serve, and so does an index
 * that holds the vectors itself. Nobody removes its file.
 *
 * An index can be built again, as long as its column is sound.
 * A page of a disk index is checked when a search reads it; an image too large to be read at open
 * is read through later. Either way the index is marked, goes on serving (it cannot crash a search)
 * and is soon taken out by whoever holds the segment, who also sees to it that it is built again.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/metrics.h"
#include "segment/segment_private.h"

#define HELP                                                                                       \
    "restore the file from a backup and load the collection again, or drop the collection and "    \
    "insert its rows again"

rk_code
rk__damage_say(const rk_segment *seg, const char *what, rk_err *err)
{
    const char *base = rk_code_get_info(RK_ECORRUPT)->text;
    rk_err found = {0};
    size_t len;

    if (!err) {
        return RK_ECORRUPT;
    }
    found = *err;
    len = strlen(found.text);
    if (len > strlen(base) + 2 && strcmp(found.text + len - strlen(base), base) == 0) {
        len -= strlen(base) + 2; /* it comes at the end again */
    }
    return rk_fail_tail(err, RK_ECORRUPT, "collection %.*s (%lld), segment %lld, %s: %.*s; " HELP,
                        RK_STR_ARG(seg->schema->name), (long long)seg->ids.collection_id,
                        (long long)seg->ids.id, what, (int)len, found.text);
}

rk_code
rk__damage_note(const rk_segment *seg, size_t field, const rk_err *found, rk_err *err)
{
    rk__sealed_column *c = &seg->sealed->columns[field];
    rk_err said = *found;
    char what[320]; /* names have at most 255 bytes */
    char *none = NULL;
    char *copy;

    (void)snprintf(what, sizeof(what), "field %.*s", RK_STR_ARG(seg->schema->fields[field].name));
    rk_code code = rk__damage_say(seg, what, &said);
    copy = rk_strdup(rk_str_from(said.text));
    if (copy && atomic_compare_exchange_strong_explicit(
                    &c->damaged, &none, copy, memory_order_release, memory_order_relaxed)) {
        RK_LOG_E("segment", "event=column_damaged segment=%lld error=\"%s\"",
                 (long long)seg->ids.id, said.text);
        rk_metric_add(RK_METRIC_DAMAGED_FILES, 1, "column");
    } else {
        rk_free(copy);
    }
    return rk_fail(err, code, "%s", said.text);
}

bool
rk_segment_has_damaged_column(const rk_segment *seg)
{
    for (size_t f = 0; seg->sealed && f < seg->schema->fields_len; f++) {
        if (atomic_load_explicit(&seg->sealed->columns[f].damaged, memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

/* ---- indexes ---- */

void
rk_segment_mark_damaged(rk_segment *seg, rk_segment_index *held)
{
    if (!atomic_exchange(&held->damaged, true)) {
        rk_metric_add(RK_METRIC_DAMAGED_FILES, 1, "index");
    }
    atomic_store(&seg->sealed->damaged, true);
}

bool
rk_segment_has_damage(const rk_segment *seg)
{
    return seg->sealed && atomic_load_explicit(&seg->sealed->damaged, memory_order_relaxed);
}

static rk_segment_index *
ref_at(const rk_segment *seg, size_t position)
{
    const rk_index *index;

    return rk_segment_index_ref(seg, seg->schema->fields[position].id, &index);
}

bool
rk_segment_is_verified(const rk_segment *seg)
{
    bool verified = true;

    for (size_t i = 0; seg->sealed && i < seg->schema->fields_len; i++) {
        rk_segment_index *held = ref_at(seg, i);
        verified = verified && (!held || atomic_load(&held->verified));
        rk_segment_index_unref(held);
    }
    return verified;
}

void
rk_segment_verify_indexes(rk_segment *seg, const _Atomic(bool) *cancel)
{
    for (size_t i = 0; seg->sealed && i < seg->schema->fields_len; i++) {
        rk_segment_index *held = ref_at(seg, i);
        rk_err err = {0};
        if (held && !atomic_load(&held->verified)) {
            rk_code code = rk_index_verify(held->index, cancel, &err);
            if (code == RK_ECORRUPT) {
                RK_LOG_E("segment", "event=index_damaged segment=%lld object=%s error=\"%s\"",
                         (long long)seg->ids.id, held->object, err.text);
                rk_segment_mark_damaged(seg, held);
            }
            if (code == RK_OK || code == RK_ECORRUPT) {
                atomic_store(&held->verified, true);
            }
        }
        rk_segment_index_unref(held);
    }
}

rk_code
rk_segment_drop_damaged(rk_segment *seg, pb_strs *objects, rk_arena *arena)
{
    *objects = (pb_strs){NULL, 0};
    if (!rk_segment_has_damage(seg)) {
        return RK_OK;
    }
    objects->data = RK_ARENA_ARRAY(arena, rk_str, seg->schema->fields_len);
    if (!objects->data) {
        return RK_ENOMEM;
    }
    atomic_store(&seg->sealed->damaged, false);
    for (size_t i = 0; i < seg->schema->fields_len; i++) {
        rk_segment_index *held = ref_at(seg, i);
        rk_segment_index *dropped = NULL;
        rk_column column;
        /* the column is read through: it must do for a build, or the index is all there is */
        if (held && atomic_load(&held->damaged) &&
            rk__sealed_column_get(seg, i, &column, NULL) == RK_OK) {
            rk_str name = rk_arena_str(arena, rk_str_from(held->object));
            rk_mutex_lock(&seg->sealed->index_lock);
            if (name.data && seg->sealed->indexes[i] == held) {
                dropped = held;
                seg->sealed->indexes[i] = NULL;
                objects->data[objects->n++] = name;
            }
            rk_mutex_unlock(&seg->sealed->index_lock);
        }
        rk_segment_index_unref(dropped);
        rk_segment_index_unref(held);
    }
    return RK_OK;
}
