/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deep copies: a message and all it points at, moved into another arena. Used when part of a
 * request outlives the request (a queued insert, a cached schema). Depth-bounded like the rest of
 * the codec; a NULL element of a repeated message becomes an empty one, as it does on the wire.
 */
#include "pb/pb_private.h"

static rk_code copy_message(const pb_message_desc *desc, char **out, const char *from,
                            rk_arena *arena, uint32_t depth);

static rk_code
copy_text(char *slot, rk_arena *arena)
{
    rk_str text;

    memcpy(&text, slot, sizeof(text));
    rk_str copy = {NULL, text.len};
    if (text.len > 0) {
        char *data = rk_arena_alloc(arena, text.len);
        if (!data) {
            return RK_ENOMEM;
        }
        memcpy(data, text.data, text.len);
        copy.data = data;
    }
    memcpy(slot, &copy, sizeof(copy));
    return RK_OK;
}

/* Texts end to end in one block. |data| already holds our own copy of the views. */
static rk_code
copy_texts(char *data, size_t n, rk_arena *arena)
{
    size_t total = 0;
    rk_str text;

    for (size_t i = 0; i < n; i++) {
        memcpy(&text, data + i * sizeof(text), sizeof(text));
        if (!rk_add_ok(&total, total, text.len)) {
            return RK_ENOMEM;
        }
    }
    char *block = total > 0 ? rk_arena_alloc(arena, total) : NULL;
    if (total > 0 && !block) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(&text, data + i * sizeof(text), sizeof(text));
        rk_str copy = {NULL, text.len};
        if (text.len > 0) {
            memcpy(block, text.data, text.len);
            copy.data = block;
            block += text.len;
        }
        memcpy(data + i * sizeof(copy), &copy, sizeof(copy));
    }
    return RK_OK;
}

static rk_code
copy_sub(const pb_message_desc *desc, char *slot, bool required, rk_arena *arena, uint32_t depth)
{
    const char *from = pb__ptr_get(slot);
    char *copy;

    if (!from && !required) {
        return RK_OK;
    }
    if (depth >= PB_DEPTH_MAX) {
        return RK_EINVAL;
    }
    RK_RET(copy_message(desc, &copy, from, arena, depth + 1));
    pb__ptr_set(slot, copy);
    return RK_OK;
}

static rk_code
copy_repeated(const pb_message_desc *desc, const pb_field_desc *field, char *slot, rk_arena *arena,
              uint32_t depth)
{
    pb_array array = pb__array_get(slot);
    size_t element = pb__scalar_size(field->kind);
    size_t size;

    if (array.n == 0) {
        pb__array_set(slot, NULL, 0);
        return RK_OK;
    }
    char *data = rk_mul_ok(&size, array.n, element) ? rk_arena_alloc(arena, size) : NULL;
    if (!data) {
        return RK_ENOMEM;
    }
    memcpy(data, array.data, size);
    pb__array_set(slot, data, array.n);
    if (field->kind == PB_KIND_STRING) {
        return copy_texts(data, array.n, arena);
    }
    for (size_t i = 0; i < array.n && field->kind == PB_KIND_MESSAGE; i++) {
        RK_RET(copy_sub(pb__sub(desc, field), data + i * element, true, arena, depth));
    }
    return RK_OK;
}

static rk_code
copy_message(const pb_message_desc *desc, char **out, const char *from, rk_arena *arena,
             uint32_t depth)
{
    char *copy = rk_arena_zero(arena, 1, desc->size_bytes);

    *out = NULL;
    if (!copy) {
        return RK_ENOMEM;
    }
    if (from) {
        memcpy(copy, from, desc->size_bytes);
    }
    for (uint32_t i = 0; i < desc->fields_len && from; i++) {
        const pb_field_desc *field = &desc->fields[i];
        char *slot = copy + field->offset;
        if (field->mode >= PB_MODE_REPEATED) {
            RK_RET(copy_repeated(desc, field, slot, arena, depth));
        } else if (field->mode == PB_MODE_ONEOF && pb__case_get(copy, field) != field->number) {
            continue;
        } else if (field->kind == PB_KIND_STRING) {
            RK_RET(copy_text(slot, arena));
        } else if (field->kind == PB_KIND_MESSAGE) {
            RK_RET(copy_sub(pb__sub(desc, field), slot, false, arena, depth));
        }
    }
    *out = copy;
    return RK_OK;
}

rk_code
pb_copy(const pb_message_desc *desc, void **out, const void *message, rk_arena *arena)
{
    char *copy = NULL;
    rk_code code = copy_message(desc, &copy, message, arena, 1);

    *out = code == RK_OK ? copy : NULL;
    return code;
}
