/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON from a client: walk it unchecked (must stay inside), check it, and if it is accepted write
 * it anew from what the look-ups say; the copy must be accepted and, written once more, stay the
 * same.
 */
#include <stdlib.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void
write_scalar(rk_json_writer *w, rk_json_value v, rk_arena *arena)
{
    rk_str text;
    int64_t integer;
    double number;
    bool truth;

    if (v.type == RK_JSON_STRING) {
        check(rk_json_get_str(v, &text, arena) == RK_OK);
        check(rk_json_str_is(v, text));
        rk_json_str(w, text);
    } else if (rk_json_get_i64(v, &integer)) {
        rk_json_i64(w, integer);
    } else if (rk_json_get_f64(v, &number)) {
        rk_json_f64(w, number + 0.0 == 0.0 ? 0.0 : number); /* "-0" would read as an integer */
    } else if (rk_json_get_bool(v, &truth)) {
        rk_json_bool(w, truth);
    } else {
        check(v.type == RK_JSON_NULL);
        rk_json_null(w);
    }
}

/* Checked text, so at most RK_JSON_DEPTH_MAX deep. */
static void
write_value(rk_json_writer *w, rk_json_value v, rk_arena *arena)
{
    rk_json_iter iter;
    rk_json_value key, value, again;
    size_t index = 0;

    if (v.type != RK_JSON_OBJECT && v.type != RK_JSON_ARRAY) {
        write_scalar(w, v, arena);
        return;
    }
    bool object = v.type == RK_JSON_OBJECT;
    if (object) {
        rk_json_object(w);
    } else {
        rk_json_array(w);
    }
    rk_json_iter_init(&iter, v);
    while (rk_json_iter_next(&iter, &key, &value)) {
        rk_str name;
        if (object) {
            check(rk_json_get_str(key, &name, arena) == RK_OK);
            check(index > 8 || rk_json_find_key(v, name, &again));
            rk_json_key(w, name);
        } else {
            check(index > 8 ||
                  (rk_json_find_index(v, index, &again) && again.raw.data == value.raw.data));
        }
        index++;
        write_value(w, value, arena);
    }
    check(index == rk_json_len(v));
    if (object) {
        rk_json_object_end(w);
    } else {
        rk_json_array_end(w);
    }
}

static void
walk_unchecked(rk_str text)
{
    static const rk_str path[] = {{"a", 1}, {"1", 1}, {"b", 1}};
    rk_json_value value;

    for (size_t n = 0; n <= RK_COUNT(path); n++) {
        if (rk_json_find(rk_json_root(text), path, n, &value)) {
            check(value.raw.data >= text.data &&
                  value.raw.data + value.raw.len <= text.data + text.len);
            (void)rk_json_len(value);
            (void)rk_json_str_is(value, RK_STR("a\n"));
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rk_str text = {(const char *)data, size};
    rk_buf first = {0}, second = {0};
    rk_arena *arena = rk_arena_new(0);
    rk_err err = {0};

    walk_unchecked(text);
    if (arena && rk_json_check(text, 0, &err) == RK_OK) {
        rk_json_writer w = {.out = &first};
        write_value(&w, rk_json_root(text), arena);
        check(!first.failed && rk_json_check(rk_buf_view(&first), RK_JSON_UTF8, NULL) == RK_OK);
        w = (rk_json_writer){.out = &second};
        write_value(&w, rk_json_root(rk_buf_view(&first)), arena);
        check(rk_str_eq(rk_buf_view(&first), rk_buf_view(&second)));
    } else {
        check(!arena || err.text[0] != '\0');
    }
    rk_buf_deinit(&first);
    rk_buf_deinit(&second);
    rk_arena_free(arena);
    return 0;
}
