/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Indexes of sealed segments that turn out damaged after they were opened.
 *
 * A page of a disk index is checked when a search reads it; an image too large to be read at open
 * is read through later. Either way the index is marked, goes on serving (it cannot crash a search)
 * and is soon taken out by whoever holds the segment, who also sees to it that it is built again.
 */
#include "base/log.h"
#include "segment/segment_private.h"

void
rk_segment_mark_damaged(rk_segment *seg, rk_segment_index *held)
{
    atomic_store(&held->damaged, true);
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
        if (held && atomic_load(&held->damaged)) {
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
