/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Query vectors: from the placeholder group of a request, or from the rows whose keys were given.
 *
 * Each vector is checked (type, length, finite values, order of sparse indexes) and copied once to
 * 16-byte aligned memory, as the kernels read floats in place and a protobuf buffer aligns nothing.
 * Plain floats against a half-precision field are converted.
 */
#include <math.h>
#include <stdlib.h>

#include "access/search.h"
#include "base/util.h"

#define F16_MAX 65504.0f
#define F16_MIN 6.1e-5f
#define ALIGN   16u

static const char *
placeholder_name(int32_t type)
{
    switch (type) {
    case PB_COMMON_PlaceholderType_None:
        return "None";
    case PB_COMMON_PlaceholderType_VarChar:
        return "VarChar";
    case PB_COMMON_PlaceholderType_Int64:
        return "Int64";
    default:
        if (type >= PB_COMMON_PlaceholderType_EmbListBinaryVector &&
            type <= PB_COMMON_PlaceholderType_EmbListInt8Vector) {
            return "EmbeddingList";
        }
        return rk_type_name((rk_type)type);
    }
}

static rk_code
fail_length(size_t expected, size_t actual, rk_err *err)
{
    rk_fail(err, RK_ESEGCORE,
            "vector dimension mismatch, expected vector size(byte) %zu, actual %zu.: segcore "
            "error[segcoreCode=2032]",
            expected, actual);
    return rk_err_input(err);
}

static rk_code
check_finite(const float *values, size_t n, rk_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) {
            return rk_fail_tail(err, RK_EINVAL, "value '%s' is not a number or infinity",
                                isnan(values[i]) ? "NaN"
                                : values[i] > 0  ? "+Inf"
                                                 : "-Inf");
        }
    }
    return RK_OK;
}

static rk_code
check_sparse(rk_str row, rk_err *err)
{
    uint32_t last = 0;

    if (row.len % 8 != 0) {
        return rk_fail_tail(err, RK_EINVAL, "Invalid size for sparse row data: %zu", row.len);
    }
    for (size_t i = 0; i < row.len; i += 8) {
        uint32_t index = rk_get_u32le(row.data + i);
        float value;
        memcpy(&value, row.data + i + 4, sizeof(value));
        if (index == UINT32_MAX) {
            return rk_fail_tail(err, RK_EINVAL,
                                "Invalid sparse row: id should be smaller than uint32 max");
        }
        if (i > 0 && index <= last) {
            return rk_fail_tail(err, RK_EINVAL,
                                "Invalid sparse row: id should be strict ascending");
        }
        if (!isfinite(value)) {
            return rk_fail_tail(err, RK_EINVAL, "Invalid sparse row: NaN or Inf value");
        }
        if (value < 0) {
            return rk_fail_tail(err, RK_EINVAL, "Invalid sparse row: negative value");
        }
        last = index;
    }
    return RK_OK;
}

static rk_code
check_half(rk_str row, bool bf16, rk_err *err)
{
    for (size_t i = 0; i + 1 < row.len; i += 2) {
        uint16_t h = rk_get_u16le(row.data + i);
        float f = bf16 ? rk_bf16_to_f32(h) : rk_f16_to_f32(h);
        RK_RET(check_finite(&f, 1, err));
    }
    return RK_OK;
}

/* |from| floats become halves at |to|. */
static rk_code
convert_half(const float *from, size_t n, uint16_t *to, bool bf16, rk_err *err)
{
    RK_RET(check_finite(from, n, err));
    for (size_t i = 0; i < n; i++) {
        float size = fabsf(from[i]);
        if (!bf16 && size > F16_MAX) {
            return rk_fail_tail(err, RK_EINVAL, "value %g exceeds float16 range [-65504, 65504]",
                                (double)from[i]);
        }
        if (!bf16 && size > 0 && size < F16_MIN) {
            return rk_fail_tail(err, RK_EINVAL, "value %g underflows float16 precision",
                                (double)from[i]);
        }
        to[i] = bf16 ? rk_f32_to_bf16(from[i]) : rk_f32_to_f16(from[i]);
    }
    return RK_OK;
}

static rk_code
unpack(const rk_field *field, int32_t type, rk_str value, rk_str *out, rk_arena *arena, rk_err *err)
{
    size_t width = rk_field_row_bytes(field);
    bool half = field->type == RK_FLOAT16_VECTOR || field->type == RK_BFLOAT16_VECTOR;
    bool convert = half && type == PB_COMMON_PlaceholderType_FloatVector;
    char *copy;

    if (field->type == RK_SPARSE_VECTOR) {
        RK_RET(check_sparse(value, err));
    } else if (value.len != (convert ? width * 2 : width)) {
        return fail_length(convert ? width * 2 : width, value.len, err);
    }
    copy = (char *)rk_arena_alloc(arena, value.len + ALIGN);
    if (!copy) {
        return rk__fail_memory(err);
    }
    memcpy(copy, value.data ? value.data : "", value.len);
    *out = (rk_str){copy, value.len};
    if (field->type == RK_FLOAT_VECTOR) {
        return check_finite((const float *)(const void *)copy, field->dim, err);
    }
    if (convert) {
        uint16_t *halves = (uint16_t *)rk_arena_alloc(arena, width + ALIGN);
        if (!halves) {
            return rk__fail_memory(err);
        }
        *out = (rk_str){(const char *)halves, width};
        return convert_half((const float *)(const void *)copy, field->dim, halves,
                            field->type == RK_BFLOAT16_VECTOR, err);
    }
    return half ? check_half(*out, field->type == RK_BFLOAT16_VECTOR, err) : RK_OK;
}

rk_code
rk__search_vectors(rk_str placeholder_group, const rk_field *field, pb_strs *out, rk_arena *arena,
                   rk_err *err)
{
    void *decoded = NULL;

    if (pb_decode(&pb_common_PlaceholderGroup_desc, &decoded, placeholder_group, arena, err) !=
        RK_OK) {
        return rk_err_wrap(err,
                           "failed to create query plan: the placeholder group cannot be decoded");
    }
    const pb_common_PlaceholderGroup *group = (const pb_common_PlaceholderGroup *)decoded;
    if (group->placeholders.n != 1) {
        return rk_fail_tail(err, RK_EINVAL, "a search needs exactly one placeholder, got %zu",
                            group->placeholders.n);
    }
    const pb_common_PlaceholderValue *value = group->placeholders.data[0];
    bool half = field->type == RK_FLOAT16_VECTOR || field->type == RK_BFLOAT16_VECTOR;
    if (value->type != (int32_t)field->type &&
        !(half && value->type == PB_COMMON_PlaceholderType_FloatVector)) {
        rk_fail(err, RK_ESEGCORE,
                "vector type must be the same, field %.*s - type %s, search ph type %s: segcore "
                "error[segcoreCode=2031]",
                RK_STR_ARG(field->name), rk_type_name(field->type), placeholder_name(value->type));
        return rk_err_input(err);
    }
    out->n = 0;
    out->data = RK_ARENA_ARRAY(arena, rk_str, value->values.n + 1);
    if (!out->data) {
        return rk__fail_memory(err);
    }
    for (size_t i = 0; i < value->values.n; i++) {
        RK_RET(unpack(field, value->type, value->values.data[i], &out->data[out->n], arena, err));
        out->n++;
    }
    return RK_OK;
}

/* ---- search by keys ---- */

rk_str
rk__vector_row(const pb_schema_FieldData *data, const rk_field *field, size_t row)
{
    size_t width = rk_field_row_bytes(field);
    const pb_schema_VectorField *v =
        data->field_case == PB_SCHEMA_FieldData_vectors ? data->vectors : NULL;
    rk_str all = {NULL, 0};

    if (!v) {
        return all;
    }
    switch (v->data_case) {
    case PB_SCHEMA_VectorField_float_vector:
        all = (rk_str){(const char *)v->float_vector->data.bytes,
                       v->float_vector->data.n * sizeof(float)};
        break;
    case PB_SCHEMA_VectorField_binary_vector:
        all = v->binary_vector;
        break;
    case PB_SCHEMA_VectorField_float16_vector:
        all = v->float16_vector;
        break;
    case PB_SCHEMA_VectorField_bfloat16_vector:
        all = v->bfloat16_vector;
        break;
    case PB_SCHEMA_VectorField_int8_vector:
        all = v->int8_vector;
        break;
    case PB_SCHEMA_VectorField_sparse_float_vector:
        if (row < v->sparse_float_vector->contents.n) {
            rk_str pairs = v->sparse_float_vector->contents.data[row];
            return (rk_str){pairs.data ? pairs.data : "", pairs.len};
        }
        return all;
    default:
        break;
    }
    if (width == 0 || (row + 1) > all.len / width) {
        return (rk_str){NULL, 0};
    }
    return (rk_str){all.data + row * width, width};
}

static rk_code
check_ids(const rk_field *primary, const pb_schema_IDs *ids, rk_err *err)
{
    bool text = primary->type == RK_VARCHAR;
    uint32_t want = text ? PB_SCHEMA_IDs_str_id : PB_SCHEMA_IDs_int_id;

    if (ids->id_field_case != want) {
        return rk__fail_expected(err, text ? "string IDs" : "int64 IDs", "got other type",
                                 "primary key is %s, but IDs type mismatch",
                                 text ? "varchar" : "int64");
    }
    return RK_OK;
}

typedef struct key_row {
    rk_pk key;
    uint32_t row;
} key_row;

static int
compare_keys(const void *a, const void *b)
{
    return rk_pk_cmp(((const key_row *)a)->key, ((const key_row *)b)->key);
}

/* Keys with their row numbers, sorted. */
static key_row *
sorted_keys(const pb_schema_IDs *ids, rk_arena *arena)
{
    size_t n = rk_ids_len(ids);
    key_row *keys = RK_ARENA_ARRAY(arena, key_row, n + 1);

    for (size_t i = 0; keys && i < n; i++) {
        keys[i] = (key_row){rk_ids_at(ids, i), (uint32_t)i};
    }
    if (keys) {
        qsort(keys, n, sizeof(*keys), compare_keys);
    }
    return keys;
}

/* Tells which of |ids| were not found, up to a few dozen. */
static rk_code
fail_missing(const pb_schema_IDs *ids, const key_row *found, size_t found_len, rk_err *err)
{
    rk_buf text = {0};
    size_t told = 0;

    for (size_t i = 0; i < rk_ids_len(ids) && told < 32; i++) {
        key_row want = {rk_ids_at(ids, i), 0};
        if (!bsearch(&want, found, found_len, sizeof(want), compare_keys)) {
            rk_buf_str(&text, told++ > 0 ? RK_STR(" ") : RK_STR(""));
            if (want.key.is_text) {
                rk_buf_str(&text, want.key.text);
            } else {
                rk_buf_printf(&text, "%" PRId64, want.key.number);
            }
        }
    }
    rk_fail_tail(err, RK_EINVAL,
                 "some of the provided primary key IDs do not exist: missing IDs = [%.*s]",
                 RK_STR_ARG(rk_buf_view(&text)));
    rk_buf_deinit(&text);
    return RK_EINVAL;
}

rk_code
rk__search_vectors_of(rk__req *req, const rk__entry *entry, const rk_field *field,
                      const pb_schema_IDs *ids, pb_strs *out)
{
    rk_arena *arena = req->ctx.arena;
    rk_err *err = req->ctx.err;
    size_t n = rk_ids_len(ids);
    pb_rk_ReadScope scope = {0};
    pb_rk_QueryRequest request = {.scope = &scope, .output_field_ids = {&(int64_t){field->id}, 1}};
    pb_rk_QueryResponse *reply = NULL;
    pb_schema_IDs wanted = *ids;
    key_row *asked;
    key_row *found;

    RK_RET(check_ids(rk_schema_primary(entry->schema), ids, err));
    if (n == 0 || n > (size_t)req->access->limits.nq) {
        return rk_fail_tail(err, RK_EINVAL,
                            "nq [%zu] is invalid, nq (number of search vector per search request) "
                            "should be in range "
                            "[1, %" PRId64 "], but got %zu",
                            n, req->access->limits.nq, n);
    }
    asked = sorted_keys(ids, arena);
    for (size_t i = 1; asked && i < n; i++) {
        if (rk_pk_cmp(asked[i - 1].key, asked[i].key) == 0) {
            return rk_fail_tail(err, RK_EINVAL, "duplicate IDs found in search request");
        }
    }
    request.keys = &wanted;
    request.output_bytes_max = (uint64_t)req->access->limits.output_bytes;
    RK_RET(rk__read_scope(req, entry,
                          &(rk__consistency){.level = PB_COMMON_ConsistencyLevel_Strong}, &scope));
    RK_RET(pb_rk_StreamingNode_Query(req->access->streaming, &request, &reply, &req->ctx));
    const pb_schema_FieldData *column = NULL;
    for (size_t i = 0; i < reply->fields.n; i++) {
        if (reply->fields.data[i]->field_id == field->id) {
            column = reply->fields.data[i];
        }
    }
    size_t found_len = reply->keys ? rk_ids_len(reply->keys) : 0;
    found = reply->keys ? sorted_keys(reply->keys, arena) : asked;
    out->n = 0;
    out->data = RK_ARENA_ARRAY(arena, rk_str, n);
    if (!asked || !found || !out->data) {
        return rk__fail_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        key_row want = {rk_ids_at(ids, i), 0};
        const key_row *hit =
            (const key_row *)bsearch(&want, found, found_len, sizeof(want), compare_keys);
        if (!hit || !column) {
            return fail_missing(ids, found, found_len, err);
        }
        rk_str row = rk__vector_row(column, field, hit->row);
        if (!row.data) {
            return rk_fail_tail(err, RK_EINTERNAL,
                                "the read returned no vector of field %.*s for row %u",
                                RK_STR_ARG(field->name), hit->row);
        }
        char *copy = (char *)rk_arena_alloc(arena, row.len + ALIGN); /* aligned, as above */
        if (!copy) {
            return rk__fail_memory(err);
        }
        memcpy(copy, row.data, row.len);
        out->data[out->n++] = (rk_str){copy, row.len};
    }
    return RK_OK;
}
