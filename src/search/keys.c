/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Primary keys of replies, and a small hash set to drop repeated ones. Open addressing, at most
 * half full; arena memory.
 */
#include "search/search_private.h"

rk_code
rk__keys_out_init(rk__keys_out *out, const rk_schema *schema, size_t cap, rk_arena *arena)
{
    size_t bytes;

    *out = (rk__keys_out){.ids = RK_ARENA_NEW(arena, pb_schema_IDs), .cap = cap};
    out->text = rk_schema_primary(schema)->type == RK_VARCHAR;
    if (!out->ids || !rk_mul_ok(&bytes, cap + 1, out->text ? sizeof(rk_str) : sizeof(int64_t))) {
        return RK_ENOMEM;
    }
    void *values = rk_arena_alloc(arena, bytes);
    if (out->text) {
        out->ids->id_field_case = PB_SCHEMA_IDs_str_id;
        out->ids->str_id = RK_ARENA_NEW(arena, pb_schema_StringArray);
        if (out->ids->str_id) {
            out->ids->str_id->data.data = values;
        }
    } else {
        out->ids->id_field_case = PB_SCHEMA_IDs_int_id;
        out->ids->int_id = RK_ARENA_NEW(arena, pb_schema_LongArray);
        if (out->ids->int_id) {
            out->ids->int_id->data.data = values;
        }
    }
    return values && out->ids->int_id ? RK_OK : RK_ENOMEM; /* the two members share their place */
}

rk_code
rk__keys_out_add(rk__keys_out *out, rk_pk pk, rk_arena *arena)
{
    RK_DCHECK(rk_ids_len(out->ids) < out->cap && pk.is_text == out->text);
    if (out->text) {
        rk_str copy = rk_arena_str(arena, pk.text);
        if (!copy.data) {
            return RK_ENOMEM;
        }
        out->ids->str_id->data.data[out->ids->str_id->data.n++] = copy;
    } else {
        out->ids->int_id->data.data[out->ids->int_id->data.n++] = pk.number;
    }
    return RK_OK;
}

rk_code
rk__key_set_init(rk__key_set *set, size_t max, rk_arena *arena)
{
    size_t slots = 16;

    while (slots < max * 2) {
        slots *= 2;
    }
    set->mask = slots - 1;
    set->keys = RK_ARENA_ARRAY(arena, rk_pk, slots);
    set->values = RK_ARENA_ARRAY(arena, uint32_t, slots);
    return set->keys && set->values ? RK_OK : RK_ENOMEM;
}

void
rk__key_set_clear(rk__key_set *set)
{
    memset(set->values, 0, (set->mask + 1) * sizeof(*set->values));
}

uint32_t *
rk__key_set_at(rk__key_set *set, rk_pk pk)
{
    size_t at = (size_t)rk_pk_hash(pk) & set->mask;

    while (set->values[at] != 0 && rk_pk_cmp(set->keys[at], pk) != 0) {
        at = (at + 1) & set->mask;
    }
    set->keys[at] = pk;
    return &set->values[at];
}
