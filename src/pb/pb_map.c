/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps after decoding: on the wire a map is a repeated entry message, and of two entries with the
 * same key the later one counts. Up to SMALL entries are compared pairwise; more are sorted by key
 * and position, so that a hostile map of millions of equal keys costs n log n and no choice of keys
 * makes it worse.
 */
#include <stdlib.h>

#include "pb/pb_private.h"

#define SMALL 16

typedef struct ranked {
    const char *entry;
    size_t position;
} ranked;

/* Orders two keys of one map; entries are C structs whose key member sits at the key row's offset.
 */
static int
compare_keys(const char *a, const char *b, const pb_field_desc *key)
{
    rk_str text_a, text_b;

    if (!a || !b) {
        return (a != NULL) - (b != NULL);
    }
    if (key->kind != PB_KIND_STRING) {
        return memcmp(a + key->offset, b + key->offset, pb__scalar_size(key->kind));
    }
    memcpy(&text_a, a + key->offset, sizeof(text_a));
    memcpy(&text_b, b + key->offset, sizeof(text_b));
    size_t common = RK_MIN(text_a.len, text_b.len);
    int order = common ? memcmp(text_a.data, text_b.data, common) : 0;
    return order ? order : (text_a.len > text_b.len) - (text_a.len < text_b.len);
}

static int
compare_ranked(const void *left, const void *right, void *key)
{
    const ranked *a = left;
    const ranked *b = right;
    int order = compare_keys(a->entry, b->entry, key);
    return order ? order : (a->position > b->position) - (a->position < b->position);
}

static size_t
dedup_small(char *data, size_t n, const pb_field_desc *key)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        const char *entry = pb__ptr_get(data + i * sizeof(void *));
        bool again = false;
        for (size_t j = i + 1; j < n && !again; j++) {
            again = compare_keys(entry, pb__ptr_get(data + j * sizeof(void *)), key) == 0;
        }
        if (!again) {
            pb__ptr_set(data + kept++ * sizeof(void *), entry);
        }
    }
    return kept;
}

static rk_code
dedup_large(char *data, size_t *n, const pb_field_desc *key)
{
    pb_field_desc sort_key = *key;
    size_t size, kept = 0;
    ranked *order = rk_mul_ok(&size, *n, sizeof(*order)) ? rk_alloc(size) : NULL;

    if (!order) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < *n; i++) {
        order[i] = (ranked){pb__ptr_get(data + i * sizeof(void *)), i};
    }
    qsort_r(order, *n, sizeof(*order), compare_ranked, &sort_key);
    for (size_t i = 0; i + 1 < *n; i++) {
        if (compare_keys(order[i].entry, order[i + 1].entry, key) == 0) {
            pb__ptr_set(data + order[i].position * sizeof(void *), NULL);
        }
    }
    for (size_t i = 0; i < *n; i++) {
        void *entry = pb__ptr_get(data + i * sizeof(void *));
        if (entry) {
            pb__ptr_set(data + kept++ * sizeof(void *), entry);
        }
    }
    *n = kept;
    rk_free(order);
    return RK_OK;
}

static rk_code
finish_one(const pb_message_desc *entry_desc, char *slot, rk_arena *arena)
{
    const pb_field_desc *key = &entry_desc->fields[0];
    const pb_field_desc *value = &entry_desc->fields[1];
    pb_array map = pb__array_get(slot);
    char *data = (char *)map.data;

    if (map.n > SMALL) {
        RK_RET(dedup_large(data, &map.n, key));
    } else if (map.n > 1) {
        map.n = dedup_small(data, map.n, key);
    }
    pb__array_set(slot, data, map.n);
    if (value->kind != PB_KIND_MESSAGE) {
        return RK_OK;
    }
    const pb_message_desc *sub = pb__sub(entry_desc, value);
    for (size_t i = 0; i < map.n; i++) {
        char *entry = pb__ptr_get(data + i * sizeof(void *));
        if (!pb__ptr_get(entry + value->offset)) {
            void *empty = rk_arena_zero(arena, 1, sub->size_bytes);
            if (!empty) {
                return RK_ENOMEM;
            }
            pb__ptr_set(entry + value->offset, empty);
        }
    }
    return RK_OK;
}

rk_code
pb__maps_finish(const pb_message_desc *desc, void *message, rk_arena *arena)
{
    for (uint32_t i = 0; i < desc->fields_len; i++) {
        const pb_field_desc *field = &desc->fields[i];
        if (field->mode == PB_MODE_MAP) {
            RK_RET(finish_one(pb__sub(desc, field), (char *)message + field->offset, arena));
        }
    }
    return RK_OK;
}
