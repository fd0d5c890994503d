/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load generator for searches over gRPC, cheap enough to keep a server's core busy from one other
 * core. It speaks the public API through our own client, so it works against any server of that
 * API.
 *
 *   search_load ADDRESS DATA fill M EFC
 *       makes the collection `bench` of a data file (bench/ann/ann_data.h)
 *   search_load ADDRESS DATA churn ROUNDS
 *       deletes every row and inserts it again, ROUNDS times, batch by batch in random order, and
 *       waits until all is built
 *   search_load ADDRESS DATA grow TYPE
 *       makes the same collection with an index of TYPE, HNSW or FLAT, loads it and inserts
 *       everything without a flush; then one line with the time of the first searches, one by one
 *   search_load ADDRESS DATA search THREADS SECONDS EF...
 *       one line per ef: server, ef, recall@k, queries per second
 *   search_load ADDRESS DATA fill-scalars TYPE
 *   search_load ADDRESS DATA filters THREADS SECONDS
 *       the same rows with scalar fields beside them, and a table of searches that filter by these
 *       (search_filter.c)
 *
 * Every thread has one request in flight; every eight threads share a connection. Requests are
 * encoded before the clock starts. Recall is computed once per ef over all queries, against the
 * exact answers in the data file.
 */
#include "bench/search/search_load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/util.h"
#include "proto/milvus.pb.h"
#include "proto/schema.pb.h"
#include "rpc/rpc.h"

#define NAME            RK_STR("bench")
#define BATCH_BYTES     (4u << 20)
#define PATH(m)         "/milvus.proto.milvus.MilvusService/" m
#define PER_CONNECTION  8u
#define THREADS_MAX     64u
#define CALL_TIMEOUT_NS (INT64_C(600) * 1000000000)

static rk_rpc_client *clients[THREADS_MAX];
ann_data data;
static bool scalars_too; /* rows have the fields of search_filter.c */

static int64_t
in_a_while(void)
{
    return (int64_t)(ann_now() * 1e9) + CALL_TIMEOUT_NS;
}

static rk_str
encode(const pb_message_desc *desc, const void *message, rk_arena *arena)
{
    rk_str out;

    if (pb_encode_arena(desc, message, &out, arena) != RK_OK) {
        ann_die("memory is out");
    }
    return out;
}

/* Every answer has its status in field 1, or is one. */
static void
check(const char *what, const pb_common_Status *status)
{
    if (status && (status->code != 0 || status->error_code != 0)) {
        fprintf(stderr, "search_load: %s: code %d: %.*s\n", what, status->code,
                (int)status->reason.len, status->reason.data);
        exit(1);
    }
}

static void *
call(const char *path, const pb_message_desc *in, const void *message, const pb_message_desc *out,
     rk_arena *arena)
{
    rk_str reply = {NULL, 0};
    rk_err err = {0};
    void *decoded = NULL;

    if (rk_rpc_client_call(clients[0], path, encode(in, message, arena), NULL, in_a_while(), &reply,
                           arena, &err) != RK_OK ||
        pb_decode(out, &decoded, reply, arena, &err) != RK_OK) {
        fprintf(stderr, "search_load: %s: %s\n", path, err.text);
        exit(1);
    }
    return decoded;
}

static void
call_status(const char *path, const pb_message_desc *in, const void *message, rk_arena *arena)
{
    check(path, call(path, in, message, &pb_common_Status_desc, arena));
}

/* ---- fill ---- */

/* |m|, |efc|: NULL for an index that has none. */
static void
create(const char *type, const char *m, const char *efc, rk_arena *arena)
{
    char dim[16];
    char params[96];
    pb_common_KeyValuePair dim_pair = {RK_STR("dim"), {dim, 0}};
    pb_common_KeyValuePair *dim_list[] = {&dim_pair};
    pb_schema_FieldSchema key = {.name = RK_STR("id"), .is_primary_key = true, .data_type = 5};
    pb_schema_FieldSchema vector = {
        .name = RK_STR("vector"), .data_type = 101, .type_params = {dim_list, 1}};
    pb_common_KeyValuePair length = {RK_STR("max_length"), RK_STR("16")};
    pb_common_KeyValuePair *length_list[] = {&length};
    pb_schema_FieldSchema random = {.name = RK_STR("random"), .data_type = 5};
    pb_schema_FieldSchema place = {.name = RK_STR("place"), .data_type = 5};
    pb_schema_FieldSchema tag = {
        .name = RK_STR("tag"), .data_type = 21, .type_params = {length_list, 1}};
    pb_schema_FieldSchema *fields[] = {&key, &vector, &random, &place, &tag};
    pb_schema_CollectionSchema schema = {.name = NAME, .fields = {fields, scalars_too ? 5 : 2}};
    pb_milvus_CreateCollectionRequest request = {.collection_name = NAME, .shards_num = 1};
    pb_milvus_DropCollectionRequest drop = {.collection_name = NAME};
    pb_common_KeyValuePair pairs[] = {
        {RK_STR("index_type"), rk_str_from(type)},
        {RK_STR("metric_type"), data.metric ? RK_STR("COSINE") : RK_STR("L2")},
        {RK_STR("params"), {params, 0}}};
    pb_common_KeyValuePair *list[] = {&pairs[0], &pairs[1], &pairs[2]};
    pb_milvus_CreateIndexRequest index = {.collection_name = NAME,
                                          .field_name = RK_STR("vector"),
                                          .index_name = RK_STR("vector"),
                                          .extra_params = {list, m ? 3 : 2}};

    dim_pair.value.len = (size_t)snprintf(dim, sizeof(dim), "%u", data.dim);
    if (m) {
        pairs[2].value.len =
            (size_t)snprintf(params, sizeof(params), "{\"M\":%s,\"efConstruction\":%s}", m, efc);
    }
    request.schema = encode(&pb_schema_CollectionSchema_desc, &schema, arena);
    (void)call(PATH("DropCollection"), &pb_milvus_DropCollectionRequest_desc, &drop,
               &pb_common_Status_desc, arena);
    call_status(PATH("CreateCollection"), &pb_milvus_CreateCollectionRequest_desc, &request, arena);
    call_status(PATH("CreateIndex"), &pb_milvus_CreateIndexRequest_desc, &index, arena);
}

static pb_schema_FieldData *
longs_field(rk_str name, const int64_t *values, uint32_t n, rk_arena *arena)
{
    pb_schema_LongArray *longs = RK_ARENA_ARRAY(arena, pb_schema_LongArray, 1);
    pb_schema_ScalarField *scalars = RK_ARENA_ARRAY(arena, pb_schema_ScalarField, 1);
    pb_schema_FieldData *field = RK_ARENA_ARRAY(arena, pb_schema_FieldData, 1);

    if (!longs || !scalars || !field) {
        ann_die("memory is out");
    }
    *longs = (pb_schema_LongArray){{(int64_t *)values, n}};
    *scalars =
        (pb_schema_ScalarField){.data_case = PB_SCHEMA_ScalarField_long_data, .long_data = longs};
    *field = (pb_schema_FieldData){.type = 5,
                                   .field_name = name,
                                   .field_case = PB_SCHEMA_FieldData_scalars,
                                   .scalars = scalars};
    return field;
}

/* The fields of search_filter.c at |columns|. */
static void
scalar_fields(pb_schema_FieldData **columns, const int64_t *numbers, uint32_t n, rk_arena *arena)
{
    int64_t *random = RK_ARENA_ARRAY(arena, int64_t, n);
    int64_t *place = RK_ARENA_ARRAY(arena, int64_t, n);
    rk_str *tags = RK_ARENA_ARRAY(arena, rk_str, n);
    pb_schema_StringArray *strings = RK_ARENA_ARRAY(arena, pb_schema_StringArray, 1);
    pb_schema_ScalarField *scalars = RK_ARENA_ARRAY(arena, pb_schema_ScalarField, 1);
    pb_schema_FieldData *tag = RK_ARENA_ARRAY(arena, pb_schema_FieldData, 1);

    if (!random || !place || !tags || !strings || !scalars || !tag) {
        ann_die("memory is out");
    }
    for (uint32_t i = 0; i < n; i++) {
        row_scalars row = row_scalars_of((uint32_t)numbers[i]);
        random[i] = row.random;
        place[i] = row.place;
        tags[i] = row.tag;
    }
    *strings = (pb_schema_StringArray){{tags, n}};
    *scalars = (pb_schema_ScalarField){.data_case = PB_SCHEMA_ScalarField_string_data,
                                       .string_data = strings};
    *tag = (pb_schema_FieldData){.type = 21,
                                 .field_name = RK_STR("tag"),
                                 .field_case = PB_SCHEMA_FieldData_scalars,
                                 .scalars = scalars};
    columns[0] = longs_field(RK_STR("random"), random, n, arena);
    columns[1] = longs_field(RK_STR("place"), place, n, arena);
    columns[2] = tag;
}

/* Rows |numbers| of the data file, which are their keys, too; |floats| has room for n vectors. */
static void
insert_rows(const int64_t *numbers, uint32_t n, float *floats, rk_arena *arena)
{
    size_t dim = data.dim;

    for (uint32_t i = 0; i < n; i++) {
        memcpy(floats + i * dim, data.base + (size_t)numbers[i] * dim, dim * sizeof(*floats));
    }
    pb_schema_FloatArray values = {{(const uint8_t *)floats, n * dim}};
    pb_schema_VectorField vectors = {
        .dim = data.dim, .data_case = PB_SCHEMA_VectorField_float_vector, .float_vector = &values};
    pb_schema_FieldData vector = {.type = 101,
                                  .field_name = RK_STR("vector"),
                                  .field_case = PB_SCHEMA_FieldData_vectors,
                                  .vectors = &vectors};
    pb_schema_FieldData *columns[5] = {longs_field(RK_STR("id"), numbers, n, arena), &vector};
    pb_milvus_InsertRequest request = {
        .collection_name = NAME, .fields_data = {columns, scalars_too ? 5 : 2}, .num_rows = n};
    if (scalars_too) {
        scalar_fields(columns + 2, numbers, n, arena);
    }
    pb_milvus_MutationResult *reply = call(PATH("Insert"), &pb_milvus_InsertRequest_desc, &request,
                                           &pb_milvus_MutationResult_desc, arena);
    check("Insert", reply->status);
    rk_arena_reset(arena);
}

static void
delete_rows(const int64_t *numbers, uint32_t n, rk_arena *arena)
{
    size_t size = (size_t)n * 12 + 16;
    char *text = rk_arena_alloc(arena, size);
    size_t len = 0;

    if (!text) {
        ann_die("memory is out");
    }
    for (uint32_t i = 0; i < n; i++) {
        len += (size_t)snprintf(text + len, size - len, "%s%lld", i ? "," : "id in [",
                                (long long)numbers[i]);
    }
    text[len++] = ']';
    pb_milvus_DeleteRequest request = {.collection_name = NAME, .expr = {text, len}};
    pb_milvus_MutationResult *reply = call(PATH("Delete"), &pb_milvus_DeleteRequest_desc, &request,
                                           &pb_milvus_MutationResult_desc, arena);
    check("Delete", reply->status);
    rk_arena_reset(arena);
}

/* Every row once, in the order of |order| (NULL: as they are); |again|: deleted just before. */
static void
insert_all(const uint32_t *order, bool again, rk_arena *arena)
{
    uint32_t batch = RK_MAX(BATCH_BYTES / (data.dim * 4), 1u);
    int64_t *numbers = malloc(batch * sizeof(*numbers));
    float *floats = malloc((size_t)batch * data.dim * sizeof(*floats));

    if (!numbers || !floats) {
        ann_die("memory is out");
    }
    for (uint32_t at = 0; at < data.rows; at += batch) {
        uint32_t n = RK_MIN(batch, data.rows - at);
        for (uint32_t i = 0; i < n; i++) {
            numbers[i] = order ? order[at + i] : at + i;
        }
        if (again) {
            delete_rows(numbers, n, arena);
        }
        insert_rows(numbers, n, floats, arena);
    }
    free(numbers);
    free(floats);
}

static void
wait_built(rk_arena *arena)
{
    pb_milvus_DescribeIndexRequest request = {.collection_name = NAME,
                                              .field_name = RK_STR("vector")};

    for (int quiet = 0;
         quiet < 3;) { /* compaction may replace what was built: it must stay built for a while */
        pb_milvus_DescribeIndexResponse *reply =
            call(PATH("DescribeIndex"), &pb_milvus_DescribeIndexRequest_desc, &request,
                 &pb_milvus_DescribeIndexResponse_desc, arena);
        check("DescribeIndex", reply->status);
        const pb_milvus_IndexDescription *d =
            reply->index_descriptions.n ? reply->index_descriptions.data[0] : NULL;
        bool built =
            d && d->state == 3 && d->indexed_rows >= data.rows && d->pending_index_rows == 0;
        quiet = built ? quiet + 1 : 0;
        rk_arena_reset(arena);
        usleep(500000);
    }
}

static void
flush(rk_arena *arena)
{
    rk_str name = NAME;
    pb_milvus_FlushRequest request = {.collection_names = {&name, 1}};
    pb_milvus_FlushResponse *reply = call(PATH("Flush"), &pb_milvus_FlushRequest_desc, &request,
                                          &pb_milvus_FlushResponse_desc, arena);

    check("Flush", reply->status);
}

static void
fill(const char *type, const char *m, const char *efc)
{
    rk_arena *arena = rk_arena_new(0);
    pb_milvus_LoadCollectionRequest load = {.collection_name = NAME, .replica_number = 1};
    double start = ann_now();

    create(type, m, efc, arena);
    insert_all(NULL, false, arena);
    double inserted = ann_now();
    flush(arena);
    wait_built(arena);
    call_status(PATH("LoadCollection"), &pb_milvus_LoadCollectionRequest_desc, &load, arena);
    usleep(2000000);
    printf("fill: %.1f s for %u rows (%.0f rows/s), index ready after %.1f s more\n",
           inserted - start, data.rows, data.rows / (inserted - start), ann_now() - inserted - 2);
    rk_arena_free(arena);
}

/* ---- churn ---- */

/* Deletes every row and inserts it again, batch by batch, in another order each round. */
static void
churn(char **argv)
{
    unsigned long rounds = strtoul(argv[0], NULL, 10);
    rk_arena *arena = rk_arena_new(0);
    uint32_t *order = malloc(data.rows * sizeof(*order));
    uint64_t state = 1;
    double spent = 0;
    double start = ann_now();

    if (!order) {
        ann_die("memory is out");
    }
    for (uint32_t i = 0; i < data.rows; i++) {
        order[i] = i;
    }
    for (unsigned long round = 0; round < rounds; round++) {
        for (uint32_t i = data.rows - 1; i > 0; i--) {
            state = rk_hash_u64(state + i);
            uint32_t j = (uint32_t)(state % (i + 1));
            uint32_t kept = order[i];
            order[i] = order[j];
            order[j] = kept;
        }
        double begun = ann_now();
        insert_all(order, true, arena);
        spent += ann_now() - begun;
        flush(arena);
        wait_built(arena);
    }
    printf("churn: %lu times %u rows, %.0f rows/s deleted and inserted, %.1f s in all\n", rounds,
           data.rows, spent > 0 ? (double)data.rows * (double)rounds / spent : 0,
           ann_now() - start);
    free(order);
    rk_arena_free(arena);
}

/* ---- search ---- */

static rk_str *requests;
static atomic_uint_fast64_t served;
static atomic_bool stop;
uint32_t (*found)[ANSWERS]; /* NULL while measuring */

void
encode_requests(const char *params_text, rk_str expr, rk_arena *arena)
{
    char topk[16];
    pb_common_KeyValuePair pairs[] = {
        {RK_STR("anns_field"), RK_STR("vector")},
        {RK_STR("topk"), {topk, 0}},
        {RK_STR("metric_type"), data.metric ? RK_STR("COSINE") : RK_STR("L2")},
        {RK_STR("params"), rk_str_from(params_text)}};
    pb_common_KeyValuePair *list[] = {&pairs[0], &pairs[1], &pairs[2], &pairs[3]};

    pairs[1].value.len = (size_t)snprintf(topk, sizeof(topk), "%u", data.k);
    requests = requests ? requests : calloc(data.queries, sizeof(*requests));
    for (uint32_t q = 0; q < data.queries; q++) {
        rk_str bytes = {(const char *)(data.query + (size_t)q * data.dim), (size_t)data.dim * 4};
        pb_common_PlaceholderValue value = {
            .tag = RK_STR("$0"), .type = 101, .values = {&bytes, 1}};
        pb_common_PlaceholderValue *values[] = {&value};
        pb_common_PlaceholderGroup group = {.placeholders = {values, 1}};
        pb_milvus_SearchRequest request = {.collection_name = NAME,
                                           .dsl = expr,
                                           .dsl_type = 1,
                                           .nq = 1,
                                           .search_params = {list, 4},
                                           .consistency_level =
                                               2}; /* bounded, as clients default to */
        request.search_input_case = PB_MILVUS_SearchRequest_placeholder_group;
        request.placeholder_group = encode(&pb_common_PlaceholderGroup_desc, &group, arena);
        requests[q] = encode(&pb_milvus_SearchRequest_desc, &request, arena);
    }
}

static void
keep_answer(uint32_t q, rk_str reply, rk_arena *arena)
{
    rk_err err = {0};
    void *decoded = NULL;

    if (pb_decode(&pb_milvus_SearchResults_desc, &decoded, reply, arena, &err) != RK_OK) {
        ann_die("an answer cannot be read");
    }
    pb_milvus_SearchResults *results = decoded;
    check("Search", results->status);
    for (uint32_t i = 0; i < data.k; i++) {
        const pb_i64s *ids = &results->results->ids->int_id->data;
        found[q][i] = i < ids->n ? (uint32_t)ids->data[i] : UINT32_MAX;
    }
}

static void *
searcher(void *arg)
{
    rk_rpc_client *client = clients[(size_t)arg / PER_CONNECTION];
    rk_arena *arena = rk_arena_new(0);

    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        uint64_t n = atomic_fetch_add_explicit(&served, 1, memory_order_relaxed);
        uint32_t q = (uint32_t)(n % data.queries);
        rk_str reply = {NULL, 0};
        rk_err err = {0};
        if (found && n >= data.queries) {
            break;
        }
        if (rk_rpc_client_call(client, PATH("Search"), requests[q], NULL, in_a_while(), &reply,
                               arena, &err) != RK_OK) {
            fprintf(stderr, "search_load: %s\n", err.text);
            exit(1);
        }
        if (found) {
            keep_answer(q, reply, arena);
        }
        rk_arena_reset(arena);
    }
    rk_arena_free(arena);
    return NULL;
}

double
run(size_t threads, double seconds)
{
    pthread_t ids[THREADS_MAX];
    double start = ann_now();

    atomic_store(&served, 0);
    atomic_store(&stop, false);
    for (size_t t = 0; t < threads; t++) {
        pthread_create(&ids[t], NULL, searcher, (void *)t);
    }
    if (seconds > 0) {
        usleep((useconds_t)(seconds * 1e6));
        atomic_store(&stop, true);
    }
    for (size_t t = 0; t < threads; t++) {
        pthread_join(ids[t], NULL);
    }
    return (double)atomic_load(&served) / (ann_now() - start);
}

double
once(void)
{
    rk_arena *arena = rk_arena_new(0);
    rk_str reply = {NULL, 0};
    rk_err err = {0};
    double start = ann_now();

    if (rk_rpc_client_call(clients[0], PATH("Search"), requests[0], NULL, in_a_while(), &reply,
                           arena, &err) != RK_OK) {
        ann_die(err.text);
    }
    rk_arena_free(arena);
    return (ann_now() - start) * 1e3;
}

static void
search(char **argv, int efs)
{
    size_t threads = RK_MIN((size_t)strtoul(argv[0], NULL, 10), THREADS_MAX);
    double seconds = strtod(argv[1], NULL);

    for (int e = 0; e < efs; e++) {
        rk_arena *arena = rk_arena_new(0);
        char params[64];
        double recall = 0;
        (void)snprintf(params, sizeof(params), "{\"ef\":%s}", argv[2 + e]);
        encode_requests(params, RK_STR(""), arena);
        found = malloc(data.queries * sizeof(*found));
        (void)run(threads, 0); /* every query once, which also warms up */
        for (uint32_t q = 0; q < data.queries; q++) {
            recall += ann_recall(&data, found[q], q);
        }
        free(found);
        found = NULL;
        printf("server %s %.4f %.0f\n", argv[2 + e], recall / data.queries, run(threads, seconds));
        fflush(stdout);
        rk_arena_free(arena);
    }
}

/* ---- growing ---- */

#define FIRST 200u

static void
grow(const char *type)
{
    rk_arena *arena = rk_arena_new(0);
    rk_arena *inner = rk_arena_new(0);
    pb_milvus_LoadCollectionRequest load = {.collection_name = NAME, .replica_number = 1};
    double took[FIRST];
    double worst = 0;
    double sum = 0;

    bool graph = strcmp(type, "HNSW") == 0;
    create(type, graph ? "16" : NULL, "200", arena);
    call_status(PATH("LoadCollection"), &pb_milvus_LoadCollectionRequest_desc, &load, arena);
    double start = ann_now();
    insert_all(NULL, false, inner);
    double inserted = ann_now() - start;
    encode_requests("{\"ef\":64}", RK_STR(""), arena);
    for (uint32_t i = 0; i < FIRST; i++) {
        rk_str reply = {NULL, 0};
        rk_err err = {0};
        start = ann_now();
        if (rk_rpc_client_call(clients[0], PATH("Search"), requests[i % data.queries], NULL,
                               in_a_while(), &reply, inner, &err) != RK_OK) {
            ann_die(err.text);
        }
        took[i] = (ann_now() - start) * 1e3;
        worst = RK_MAX(worst, took[i]);
        sum += took[i];
        rk_arena_reset(inner);
    }
    printf("%s: inserted %.0f rows/s; searches one by one: first %.2f ms, 2nd %.2f, 10th %.2f, "
           "30th %.2f, last of %u %.2f; worst %.2f, all %.0f ms\n",
           type, data.rows / inserted, took[0], took[1], took[9], took[29], FIRST, took[FIRST - 1],
           worst, sum);
    rk_arena_free(inner);
    rk_arena_free(arena);
}

int
main(int argc, char **argv)
{
    rk_rpc_client_options options;
    rk_err err = {0};

    if (argc < 5) {
        ann_die("see the head of search_load.c for usage");
    }
    rk_rpc_client_options_init(&options);
    options.address = argv[1];
    options.env = rk_env_real();
    for (size_t i = 0; i < THREADS_MAX / PER_CONNECTION; i++) {
        if (rk_rpc_client_new(&clients[i], &options, &err) != RK_OK) {
            ann_die(err.text);
        }
    }
    data = ann_load(argv[2]);
    if (strcmp(argv[3], "fill") == 0) {
        fill("HNSW", argv[4], argv[5]);
    } else if (strcmp(argv[3], "fill-scalars") == 0) {
        scalars_too = true;
        scalars_init();
        fill(argv[4], NULL, NULL);
    } else if (strcmp(argv[3], "filters") == 0) {
        scalars_init();
        filters(strtoul(argv[4], NULL, 10), strtod(argv[5], NULL));
    } else if (strcmp(argv[3], "churn") == 0) {
        churn(argv + 4);
    } else if (strcmp(argv[3], "grow") == 0) {
        grow(argv[4]);
    } else {
        search(argv + 4, argc - 6);
    }
    return 0;
}
