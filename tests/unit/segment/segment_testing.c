/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers of the segment and search tests, see the header. */
#include "segment_testing.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"

static uint64_t
mix(st_row row)
{
    return rk_hash_u64((uint64_t)row.key * 1000003u + row.version * 7919u + 1) >> 1;
}

rk_schema *
st_schema_of(const st_field *fields, size_t n)
{
    rk_arena *arena = rk_arena_new(0);
    pb_schema_CollectionSchema pb = {.name = RK_STR("things")};
    rk_schema *schema;
    rk_err err = {0};

    pb.fields.data = RK_ARENA_ARRAY(arena, pb_schema_FieldSchema *, n);
    pb.fields.n = n;
    for (size_t i = 0; i < n; i++) {
        pb_schema_FieldSchema *f = RK_ARENA_NEW(arena, pb_schema_FieldSchema);
        pb_common_KeyValuePair *pair = RK_ARENA_NEW(arena, pb_common_KeyValuePair);
        pb.fields.data[i] = f;
        f->fieldID = 100 + (int64_t)i;
        f->name = rk_str_from(fields[i].name);
        f->data_type = (int32_t)fields[i].type;
        f->element_type = (int32_t)fields[i].element;
        f->nullable = fields[i].nullable;
        f->is_primary_key = i == 0;
        *pair = (pb_common_KeyValuePair){rk_str_from(fields[i].key), rk_str_from(fields[i].value)};
        f->type_params.data = RK_ARENA_ARRAY(arena, pb_common_KeyValuePair *, 1);
        f->type_params.data[0] = pair;
        f->type_params.n = pair->key.len > 0;
    }
    rk_code code = rk_schema_new(&schema, &pb, 1, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    rk_arena_free(arena);
    return schema;
}

rk_schema *
st_schema(bool text_keys)
{
    st_field fields[ST_FIELDS] = {
        {"id", RK_INT64, RK_NONE, false, NULL, NULL},
        {"number", RK_INT32, RK_NONE, true, NULL, NULL},
        {"text", RK_VARCHAR, RK_NONE, false, "max_length", "100"},
        {"json", RK_JSON, RK_NONE, true, NULL, NULL},
        {"tags", RK_ARRAY, RK_INT64, false, "max_capacity", "10"},
        {"vector", RK_FLOAT_VECTOR, RK_NONE, false, "dim", "6"},
        {"sparse", RK_SPARSE_VECTOR, RK_NONE, false, NULL, NULL},
        {"optional", RK_FLOAT_VECTOR, RK_NONE, true, "dim", "6"},
        {"flag", RK_BOOL, RK_NONE, false, NULL, NULL},
    };

    if (text_keys) {
        fields[ST_ID] = (st_field){"id", RK_VARCHAR, RK_NONE, false, "max_length", "64"};
    }
    return st_schema_of(fields, ST_FIELDS);
}

rk_pk
st_pk(const rk_schema *schema, int64_t key, rk_arena *arena)
{
    if (rk_schema_primary(schema)->type == RK_INT64) {
        return (rk_pk){.number = key};
    }
    return (rk_pk){.is_text = true, .text = rk_arena_printf(arena, "key-%08lld", (long long)key)};
}

pb_schema_IDs *
st_ids(const rk_schema *schema, const int64_t *keys, size_t n, rk_arena *arena)
{
    pb_schema_IDs *ids = RK_ARENA_NEW(arena, pb_schema_IDs);

    if (rk_schema_primary(schema)->type == RK_INT64) {
        ids->id_field_case = PB_SCHEMA_IDs_int_id;
        ids->int_id = RK_ARENA_NEW(arena, pb_schema_LongArray);
        ids->int_id->data = (pb_i64s){RK_ARENA_ARRAY(arena, int64_t, n + 1), n};
        memcpy(ids->int_id->data.data, keys, n * sizeof(*keys));
    } else {
        ids->id_field_case = PB_SCHEMA_IDs_str_id;
        ids->str_id = RK_ARENA_NEW(arena, pb_schema_StringArray);
        ids->str_id->data = (pb_strs){RK_ARENA_ARRAY(arena, rk_str, n + 1), n};
        for (size_t i = 0; i < n; i++) {
            ids->str_id->data.data[i] = st_pk(schema, keys[i], arena).text;
        }
    }
    return ids;
}

/* ---- values ---- */

static bool
number_null(st_row row)
{
    return mix(row) % 5 == 0;
}

static bool
json_null(st_row row)
{
    return mix(row) % 7 == 0;
}

bool
st_vector_null(st_row row)
{
    return mix(row) % 3 == 0;
}

static int32_t
number_of(st_row row)
{
    return (int32_t)(mix(row) % 1000);
}

static rk_str
text_of(st_row row, rk_arena *arena)
{
    uint64_t x = mix(row);
    return x % 11 == 0
               ? RK_STR("")
               : rk_arena_printf(arena, "%.*s %llu", (int)(x % 30),
                                 "abcdefghijklmnopqrstuvwxyzabcdefgh", (unsigned long long)x);
}

static rk_str
json_of(st_row row, rk_arena *arena)
{
    return rk_arena_printf(arena, "{\"key\": %lld, \"version\": %u}", (long long)row.key,
                           row.version);
}

static void
vector_of(st_row row, uint32_t seed, float *out)
{
    for (uint32_t i = 0; i < ST_DIM; i++) {
        out[i] = (float)(rk_hash_u64(mix(row) + i + seed) % 2001) / 1000.0f - 1.0f;
    }
}

static rk_str
sparse_of(st_row row, rk_arena *arena)
{
    size_t n = mix(row) % 4;
    char *bytes = rk_arena_alloc(arena, n * 8 + 1);

    for (size_t i = 0; i < n; i++) {
        float v = (float)(mix(row) % 100) + 1.0f;
        rk_put_u32le(bytes + i * 8, (uint32_t)(mix(row) % 50 + i * 7));
        memcpy(bytes + i * 8 + 4, &v, 4);
    }
    return (rk_str){bytes, n * 8};
}

static pb_schema_FieldData *
scalars(rk_arena *arena, const rk_schema *schema, size_t position)
{
    pb_schema_FieldData *data = RK_ARENA_NEW(arena, pb_schema_FieldData);

    data->type = (int32_t)schema->fields[position].type;
    data->field_id = schema->fields[position].id;
    data->field_name = schema->fields[position].name;
    data->field_case = PB_SCHEMA_FieldData_scalars;
    data->scalars = RK_ARENA_NEW(arena, pb_schema_ScalarField);
    return data;
}

static pb_schema_FieldData *
strings(rk_arena *arena, const rk_schema *schema, size_t position, rk_str *values, size_t n)
{
    pb_schema_FieldData *data = scalars(arena, schema, position);

    if (schema->fields[position].type == RK_JSON) {
        data->scalars->data_case = PB_SCHEMA_ScalarField_json_data;
        data->scalars->json_data = RK_ARENA_NEW(arena, pb_schema_JSONArray);
        data->scalars->json_data->data = (pb_strs){values, n};
    } else {
        data->scalars->data_case = PB_SCHEMA_ScalarField_string_data;
        data->scalars->string_data = RK_ARENA_NEW(arena, pb_schema_StringArray);
        data->scalars->string_data->data = (pb_strs){values, n};
    }
    return data;
}

static pb_schema_FieldData *
vectors(rk_arena *arena, const rk_schema *schema, size_t position, const float *values, size_t n)
{
    pb_schema_FieldData *data = scalars(arena, schema, position);

    data->field_case = PB_SCHEMA_FieldData_vectors;
    data->vectors = RK_ARENA_NEW(arena, pb_schema_VectorField);
    data->vectors->dim = ST_DIM;
    data->vectors->data_case = PB_SCHEMA_VectorField_float_vector;
    data->vectors->float_vector = RK_ARENA_NEW(arena, pb_schema_FloatArray);
    data->vectors->float_vector->data = (pb_fixed){(const uint8_t *)values, n * ST_DIM};
    return data;
}

static pb_schema_ScalarField *
tags_of(st_row row, rk_arena *arena)
{
    pb_schema_ScalarField *s = RK_ARENA_NEW(arena, pb_schema_ScalarField);
    size_t n = mix(row) % 3;

    s->data_case = PB_SCHEMA_ScalarField_long_data;
    s->long_data = RK_ARENA_NEW(arena, pb_schema_LongArray);
    s->long_data->data = (pb_i64s){RK_ARENA_ARRAY(arena, int64_t, n + 1), n};
    for (size_t i = 0; i < n; i++) {
        s->long_data->data.data[i] = row.key + (int64_t)i;
    }
    return s;
}

static pb_schema_FieldData *
key_data(const rk_schema *schema, const st_row *rows, size_t n, rk_arena *arena)
{
    if (rk_schema_primary(schema)->type == RK_VARCHAR) {
        rk_str *texts = RK_ARENA_ARRAY(arena, rk_str, n + 1);
        for (size_t i = 0; i < n; i++) {
            texts[i] = st_pk(schema, rows[i].key, arena).text;
        }
        return strings(arena, schema, ST_ID, texts, n);
    }
    pb_schema_FieldData *data = scalars(arena, schema, ST_ID);
    data->scalars->data_case = PB_SCHEMA_ScalarField_long_data;
    data->scalars->long_data = RK_ARENA_NEW(arena, pb_schema_LongArray);
    data->scalars->long_data->data = (pb_i64s){RK_ARENA_ARRAY(arena, int64_t, n + 1), n};
    for (size_t i = 0; i < n; i++) {
        data->scalars->long_data->data.data[i] = rows[i].key;
    }
    return data;
}

static pb_schema_FieldData *
number_data(const rk_schema *schema, const st_row *rows, size_t n, rk_arena *arena)
{
    pb_schema_FieldData *data = scalars(arena, schema, ST_NUMBER);
    pb_schema_IntArray *ints = RK_ARENA_NEW(arena, pb_schema_IntArray);

    data->scalars->data_case = PB_SCHEMA_ScalarField_int_data;
    data->scalars->int_data = ints;
    ints->data.data = RK_ARENA_ARRAY(arena, int32_t, n + 1);
    data->valid_data = (pb_bools){RK_ARENA_ARRAY(arena, bool, n + 1), n};
    for (size_t i = 0; i < n; i++) { /* compact, as clients send it */
        data->valid_data.data[i] = !number_null(rows[i]);
        if (!number_null(rows[i])) {
            ints->data.data[ints->data.n++] = number_of(rows[i]);
        }
    }
    return data;
}

pb_schema_FieldData **
st_rows(const rk_schema *schema, const st_row *rows, size_t n, rk_arena *arena)
{
    pb_schema_FieldData **fields = RK_ARENA_ARRAY(arena, pb_schema_FieldData *, ST_FIELDS);
    rk_str *texts = RK_ARENA_ARRAY(arena, rk_str, n + 1);
    rk_str *jsons = RK_ARENA_ARRAY(arena, rk_str, n + 1);
    rk_str *sparse = RK_ARENA_ARRAY(arena, rk_str, n + 1);
    bool *json_valid = RK_ARENA_ARRAY(arena, bool, n + 1);
    bool *vector_valid = RK_ARENA_ARRAY(arena, bool, n + 1);
    bool *flags = RK_ARENA_ARRAY(arena, bool, n + 1);
    float *dense = RK_ARENA_ARRAY(arena, float, n *ST_DIM + 1);
    float *optional = RK_ARENA_ARRAY(arena, float, n *ST_DIM + 1);
    pb_schema_ScalarField **tags = RK_ARENA_ARRAY(arena, pb_schema_ScalarField *, n + 1);
    size_t optional_n = 0;

    for (size_t i = 0; i < n; i++) {
        texts[i] = text_of(rows[i], arena);
        json_valid[i] = !json_null(rows[i]);
        jsons[i] = json_valid[i] ? json_of(rows[i], arena) : RK_STR("");
        sparse[i] = sparse_of(rows[i], arena);
        tags[i] = tags_of(rows[i], arena);
        flags[i] = mix(rows[i]) & 1;
        vector_of(rows[i], 0, dense + i * ST_DIM);
        vector_valid[i] = !st_vector_null(rows[i]);
        if (vector_valid[i]) {
            vector_of(rows[i], 99, optional + optional_n++ * ST_DIM);
        }
    }
    fields[ST_ID] = key_data(schema, rows, n, arena);
    fields[ST_NUMBER] = number_data(schema, rows, n, arena);
    fields[ST_TEXT] = strings(arena, schema, ST_TEXT, texts, n);
    fields[ST_JSON] = strings(arena, schema, ST_JSON, jsons, n);
    fields[ST_JSON]->valid_data = (pb_bools){json_valid, n};
    fields[ST_TAGS] = scalars(arena, schema, ST_TAGS);
    fields[ST_TAGS]->scalars->data_case = PB_SCHEMA_ScalarField_array_data;
    fields[ST_TAGS]->scalars->array_data = RK_ARENA_NEW(arena, pb_schema_ArrayArray);
    fields[ST_TAGS]->scalars->array_data->data = (pb_schema_ScalarField_list){tags, n};
    fields[ST_VECTOR] = vectors(arena, schema, ST_VECTOR, dense, n);
    fields[ST_SPARSE] = vectors(arena, schema, ST_SPARSE, NULL, 0);
    fields[ST_SPARSE]->vectors->data_case = PB_SCHEMA_VectorField_sparse_float_vector;
    fields[ST_SPARSE]->vectors->sparse_float_vector =
        RK_ARENA_NEW(arena, pb_schema_SparseFloatArray);
    fields[ST_SPARSE]->vectors->sparse_float_vector->contents = (pb_strs){sparse, n};
    fields[ST_OPTIONAL_VECTOR] = vectors(arena, schema, ST_OPTIONAL_VECTOR, optional, optional_n);
    fields[ST_OPTIONAL_VECTOR]->valid_data = (pb_bools){vector_valid, n};
    fields[ST_FLAG] = scalars(arena, schema, ST_FLAG);
    fields[ST_FLAG]->scalars->data_case = PB_SCHEMA_ScalarField_bool_data;
    fields[ST_FLAG]->scalars->bool_data = RK_ARENA_NEW(arena, pb_schema_BoolArray);
    fields[ST_FLAG]->scalars->bool_data->data = (pb_bools){flags, n};
    return fields;
}

static rk_column
column_at(const rk_segment *seg, size_t row, size_t field, size_t *at)
{
    rk_segment_stats stats;
    rk_column c;
    size_t first;
    rk_err err = {0};

    rk_segment_get_stats(seg, &stats);
    size_t chunk = rk_segment_chunk_of(seg, row, &first);
    assert_int_equal(rk_segment_column(seg, chunk, field, stats.rows, &c, &err), RK_OK);
    *at = row - first;
    assert_true(*at < c.rows);
    return c;
}

void
st_assert_row(const rk_segment *seg, size_t row, st_row expected, rk_arena *arena)
{
    float v[ST_DIM];
    size_t at;
    rk_column c;

    assert_int_equal(
        rk_pk_cmp(rk_segment_pk(seg, row), st_pk(rk_segment_schema(seg), expected.key, arena)), 0);
    c = column_at(seg, row, ST_NUMBER, &at);
    assert_int_equal(rk_column_is_null(&c, at), number_null(expected));
    assert_int_equal(((const int32_t *)c.data)[at],
                     number_null(expected) ? 0 : number_of(expected));
    c = column_at(seg, row, ST_TEXT, &at);
    assert_true(rk_str_eq(rk_column_bytes(&c, at), text_of(expected, arena)));
    c = column_at(seg, row, ST_JSON, &at);
    assert_int_equal(rk_column_is_null(&c, at), json_null(expected));
    assert_true(rk_str_eq(rk_column_bytes(&c, at),
                          json_null(expected) ? RK_STR("") : json_of(expected, arena)));
    c = column_at(seg, row, ST_TAGS, &at);
    assert_int_equal(rk_array_count(rk_column_bytes(&c, at)), mix(expected) % 3);
    if (mix(expected) % 3 > 1) {
        assert_int_equal(rk_array_i64(rk_column_bytes(&c, at), RK_INT64, 1), expected.key + 1);
    }
    c = column_at(seg, row, ST_VECTOR, &at);
    vector_of(expected, 0, v);
    assert_memory_equal((const float *)c.data + at * ST_DIM, v, sizeof(v));
    c = column_at(seg, row, ST_SPARSE, &at);
    assert_true(rk_str_eq(rk_column_bytes(&c, at), sparse_of(expected, arena)));
    c = column_at(seg, row, ST_OPTIONAL_VECTOR, &at);
    assert_int_equal(rk_column_is_null(&c, at), st_vector_null(expected));
    if (!st_vector_null(expected)) {
        vector_of(expected, 99, v);
        assert_memory_equal((const float *)c.data + at * ST_DIM, v, sizeof(v));
    }
    c = column_at(seg, row, ST_FLAG, &at);
    assert_int_equal(((const uint8_t *)c.data)[at], mix(expected) & 1);
}

void
st_vector(st_row row, bool optional, float *out)
{
    vector_of(row, optional ? 99 : 0, out);
}

bool
st_number(st_row row, int32_t *out)
{
    *out = number_of(row);
    return !number_null(row);
}

bool
st_flag(st_row row)
{
    return mix(row) & 1;
}

rk_str
st_sparse(st_row row, rk_arena *arena)
{
    return sparse_of(row, arena);
}

/* ---- model ---- */

void
st_model_insert(st_model *m, const st_row *rows, size_t n, uint64_t ts)
{
    while (m->n + n > m->cap) {
        m->cap = m->cap ? m->cap * 2 : 64;
        m->rows = realloc(m->rows, m->cap * sizeof(*m->rows));
        assert_non_null(m->rows);
    }
    for (size_t i = 0; i < n; i++) {
        m->rows[m->n++] = (st_written){rows[i], ts, UINT64_MAX};
    }
}

void
st_model_delete(st_model *m, const int64_t *keys, size_t n, uint64_t ts)
{
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < m->n; i++) {
            if (m->rows[i].row.key == keys[k] && m->rows[i].ts < ts &&
                m->rows[i].deleted_ts == UINT64_MAX) {
                m->rows[i].deleted_ts = ts;
            }
        }
    }
}

bool
st_model_sees(const st_written *row, uint64_t read_ts)
{
    return row->ts <= read_ts && row->deleted_ts > read_ts;
}

uint64_t
st_random_ops(rk_segment *seg, st_model *m, size_t ops, size_t keys, uint64_t first_ts, rk_rng *rng)
{
    enum { MOST = 40 };
    uint64_t ts = first_ts;
    st_row rows[MOST];
    int64_t ids[MOST];
    uint64_t times[MOST];
    rk_err err = {0};

    for (size_t op = 0; op < ops; op++, ts += 10) {
        rk_arena *arena = rk_arena_new(0);
        size_t n = (size_t)rk_rng_below(rng, MOST) + 1;
        uint64_t kind = rk_rng_below(rng, 4); /* insert, insert, delete, upsert */
        size_t hits;
        for (size_t i = 0; i < n; i++) {
            ids[i] = (int64_t)rk_rng_below(rng, keys) - 7;
            rows[i] = (st_row){ids[i], (uint32_t)ts};
            times[i] = ts;
        }
        if (kind >= 2) {
            assert_int_equal(rk_segment_delete(seg, st_ids(rk_segment_schema(seg), ids, n, arena),
                                               times, n, &hits, &err),
                             RK_OK);
            st_model_delete(m, ids, n, ts);
        }
        if (kind != 2) {
            rk_code code = rk_segment_append(seg, st_rows(rk_segment_schema(seg), rows, n, arena),
                                             ST_FIELDS, (uint32_t)n, ts, &err);
            assert_string_equal(err.text, "");
            assert_int_equal(code, RK_OK);
            st_model_insert(m, rows, n, ts);
        }
        rk_arena_free(arena);
    }
    return ts - 10;
}

/* ---- store ---- */

void
st_store_open(st_store *s)
{
    rk_err err = {0};

    memset(s, 0, sizeof(*s));
    snprintf(s->path, sizeof(s->path), "/tmp/rk_segment_test_XXXXXX");
    assert_non_null(mkdtemp(s->path));
    rk_code code = rk_object_open_dir(&s->objects, s->path, rk_env_real(), &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, RK_OK);
    s->mem = rk_mem_new(NULL, "test", 0);
    assert_non_null(s->mem);
    s->env = (rk_segment_env){s->objects, s->mem, NULL};
}

void
st_store_close(st_store *s)
{
    char command[128];

    rk_object_close(s->objects);
    assert_int_equal(rk_mem_used(s->mem), 0);
    rk_mem_free(s->mem);
    snprintf(command, sizeof(command), "rm -rf '%s'", s->path);
    assert_int_equal(system(command), 0);
}

size_t
st_store_count(st_store *s)
{
    rk_arena *arena = rk_arena_new(0);
    rk_object_info *list;
    size_t n;
    rk_err err = {0};

    assert_int_equal(rk_object_list(s->objects, "", &list, &n, arena, &err), RK_OK);
    rk_arena_free(arena);
    return n;
}
