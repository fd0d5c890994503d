/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image of a cluster index: section 30 is rk__cluster_head as it lies, sections 31 to 43 the
 * parts in the order of rk__cluster_part, each a flat array, 44 the reaches. What opening checks is
 * all that a search relies on without looking: sizes, and that both arrays of firsts rise. Row
 * numbers and places are compared where they are used.
 */
#include "index/cluster/cluster.h"

#define SECTION_HEAD  30u
#define SECTION_PARTS 31u
#define SECTION_REACH 44u /* an image without it is of an earlier build: built again */
#define NLIST_MAX     65536u

static size_t
up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Bytes of every part; 0: absent. */
static void
part_sizes(const rk__cluster *cluster, uint64_t bytes[RK__CLUSTER_PARTS])
{
    const rk__cluster_head *info = &cluster->info;
    const rk__cluster_space *space = &cluster->space;
    bool axes = info->flags & RK__CLUSTER_AXES;
    uint64_t nlist = info->nlist;
    uint64_t placed = cluster->rows - info->loose;

    bytes[RK__CLUSTER_MEAN] = (uint64_t)space->dim * 4;
    bytes[RK__CLUSTER_AXES_DATA] = axes ? (uint64_t)info->reduced * space->n : 0;
    bytes[RK__CLUSTER_SCALES] = axes ? (uint64_t)info->reduced * 4 : 0;
    bytes[RK__CLUSTER_CENTRE_BLOCKS] =
        (nlist + RK__BITS_ROWS - 1) / RK__BITS_ROWS * cluster->block_bytes;
    bytes[RK__CLUSTER_CENTRE_RECORDS] = nlist * space->record;
    bytes[RK__CLUSTER_FIRST_ROW] = (nlist + 1) * 4;
    bytes[RK__CLUSTER_FIRST_BLOCK] = (nlist + 1) * 4;
    bytes[RK__CLUSTER_SPREAD] = nlist * 4;
    bytes[RK__CLUSTER_BLOCKS] = (uint64_t)info->blocks * cluster->block_bytes;
    bytes[RK__CLUSTER_ROW_RECORDS] = info->flags & RK__CLUSTER_RECORDS ? placed * space->record : 0;
    bytes[RK__CLUSTER_ROWS] = cluster->rows * 4;
    bytes[RK__CLUSTER_PLACE] = cluster->rows * 4;
    bytes[RK__CLUSTER_LIST_OF] = cluster->rows * 2;
}

void
rk__cluster_link(rk_index *index, rk__cluster *cluster, const void *const parts[])
{
    RK_UNUSED(index);
    part_sizes(cluster, cluster->bytes);
    cluster->space.mean = parts[RK__CLUSTER_MEAN];
    cluster->space.axes = parts[RK__CLUSTER_AXES_DATA];
    cluster->space.scales = parts[RK__CLUSTER_SCALES];
    cluster->centre_blocks = parts[RK__CLUSTER_CENTRE_BLOCKS];
    cluster->centre_records = parts[RK__CLUSTER_CENTRE_RECORDS];
    cluster->first_row = parts[RK__CLUSTER_FIRST_ROW];
    cluster->first_block = parts[RK__CLUSTER_FIRST_BLOCK];
    cluster->spread = parts[RK__CLUSTER_SPREAD];
    cluster->blocks = parts[RK__CLUSTER_BLOCKS];
    cluster->records = parts[RK__CLUSTER_ROW_RECORDS];
    cluster->row_of = parts[RK__CLUSTER_ROWS];
    cluster->place = parts[RK__CLUSTER_PLACE];
    cluster->list_of = parts[RK__CLUSTER_LIST_OF];
}

static const void *
part_at(const rk__cluster *cluster, size_t part)
{
    const void *const at[RK__CLUSTER_PARTS] = {
        cluster->space.mean,     cluster->space.axes, cluster->space.scales, cluster->centre_blocks,
        cluster->centre_records, cluster->first_row,  cluster->first_block,  cluster->spread,
        cluster->blocks,         cluster->records,    cluster->row_of,       cluster->place,
        cluster->list_of,
    };

    return at[part];
}

void
rk__cluster_add_sections(const rk__cluster *cluster, rk__sections *out)
{
    rk__sections_add(out, SECTION_HEAD, &cluster->info, sizeof(cluster->info));
    for (uint32_t i = 0; i < RK__CLUSTER_PARTS; i++) {
        if (cluster->bytes[i] > 0) {
            rk__sections_add(out, SECTION_PARTS + i, part_at(cluster, i), cluster->bytes[i]);
        }
    }
    rk__sections_add(out, SECTION_REACH, &cluster->reaches, sizeof(cluster->reaches));
}

static void
sections_of(const rk_index *index, rk__sections *out)
{
    rk__norms_section(index, out);
    rk__cluster_add_sections(index->impl, out);
}

static bool
head_is_sound(const rk__cluster_head *info, const rk__space *space)
{
    bool axes = info->flags & RK__CLUSTER_AXES;

    return info->nlist >= 1 && info->nlist <= NLIST_MAX && info->loose <= space->rows &&
           info->blocks <= space->rows / RK__BITS_ROWS + info->nlist && info->reduced >= 1 &&
           info->reduced <= space->dim && info->head >= 1 && info->head <= info->reduced &&
           (axes ? info->reduced % 4 == 0 : info->reduced == space->dim) &&
           info->padded % 64 == 0 && info->padded >= info->head && info->padded <= 32768 &&
           isfinite(info->enough) && isfinite(info->radius) && isfinite(info->slack) &&
           info->radius >= 0 && info->slack >= 0;
}

static rk_code
check_firsts(const rk__cluster *cluster, rk_err *err)
{
    const rk__cluster_head *info = &cluster->info;
    bool good = cluster->first_row[0] == 0 && cluster->first_block[0] == 0 &&
                cluster->first_row[info->nlist] == cluster->rows - info->loose &&
                cluster->first_block[info->nlist] == info->blocks;

    for (uint32_t l = 0; good && l < info->nlist; l++) {
        uint32_t rows = cluster->first_row[l + 1] - cluster->first_row[l];
        good = cluster->first_row[l + 1] >= cluster->first_row[l] &&
               cluster->first_block[l + 1] >= cluster->first_block[l] &&
               cluster->first_block[l + 1] - cluster->first_block[l] ==
                   rows / RK__BITS_ROWS + (rows % RK__BITS_ROWS > 0);
    }
    return good ? RK_OK
                : rk_fail(err, RK_ECORRUPT, "cluster image: its lists do not hold the %zu rows",
                          cluster->rows);
}

rk_code
rk__cluster_read(rk_index *index, rk__cluster **out, const rk__sections *sections, rk_err *err)
{
    rk__cluster *cluster = rk_alloc_zero(1, sizeof(*cluster));
    const rk__space *space = &index->space;
    const void *parts[RK__CLUSTER_PARTS] = {NULL};
    uint64_t bytes[RK__CLUSTER_PARTS];
    const void *head = NULL;

    if (!cluster) {
        return rk_fail(err, RK_ENOMEM, "cluster image: no memory for its header");
    }
    *out = cluster;
    RK_RET(rk__sections_get(sections, SECTION_HEAD, sizeof(cluster->info), &head, NULL, err));
    memcpy(&cluster->info, head, sizeof(cluster->info));
    if (!head_is_sound(&cluster->info, space)) {
        return rk_fail(
            err, RK_ECORRUPT, "cluster image: %u lists, %u of %u components, codes of %u bits",
            cluster->info.nlist, cluster->info.reduced, space->dim, cluster->info.padded);
    }
    RK_RET(rk__sections_get(sections, SECTION_REACH, sizeof(cluster->reaches), &head, NULL, err));
    memcpy(&cluster->reaches, head, sizeof(cluster->reaches));
    cluster->rows = space->rows;
    cluster->space = (rk__cluster_space){.dim = space->dim,
                                         .n = (uint32_t)up(space->dim, 32),
                                         .reduced = cluster->info.reduced,
                                         .head = cluster->info.head,
                                         .padded = cluster->info.padded,
                                         .record = (uint32_t)up(cluster->info.reduced + 8, 64),
                                         .ip = space->metric == RK_METRIC_IP,
                                         .seed = cluster->info.seed};
    cluster->block_bytes = rk__cluster_codes_bytes(&cluster->space) + 64 * sizeof(float);
    part_sizes(cluster, bytes);
    for (uint32_t i = 0; i < RK__CLUSTER_PARTS; i++) {
        if (bytes[i] > 0) {
            RK_RET(rk__sections_get(sections, SECTION_PARTS + i, bytes[i], &parts[i], NULL, err));
        }
    }
    rk__cluster_link(index, cluster, parts);
    return check_firsts(cluster, err);
}

static rk_code
open_index(rk_index *index, const rk__sections *sections, rk_err *err)
{
    rk__cluster *cluster = NULL;
    rk_code code = rk__norms_open(index, sections, err);

    if (code == RK_OK) {
        code = rk__cluster_read(index, &cluster, sections, err);
    }
    index->impl = cluster;
    return code;
}

void
rk__cluster_delete(rk__cluster *cluster)
{
    if (!cluster) {
        return;
    }
    for (size_t i = 0; i < RK__CLUSTER_PARTS; i++) {
        rk_free(cluster->owned[i]);
    }
    rk_free(cluster);
}

static void
free_index(rk_index *index)
{
    rk__cluster_delete(index->impl);
}

static rk_code
search_index(const rk_index *index, const rk__query *query, const rk_search_options *options,
             rk__heap *heap, rk_err *err)
{
    return rk__cluster_search(index, index->impl, query, options, heap, err);
}

static rk_code
order(const rk_index *index, rk_index_filter *filter, const rk_bitset *passing, rk_err *err)
{
    return rk__cluster_order(index->impl, filter, passing, err);
}

const rk__verbs rk__cluster_verbs = {
    .build = rk__cluster_build,
    .search = search_index,
    .sections = sections_of,
    .open = open_index,
    .free = free_index,
    .order = order,
};
