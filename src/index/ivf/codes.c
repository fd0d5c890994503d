/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inverted lists of codes: estimates, and the image. See ivf/codes.h.
 *
 * Sections: 1 norms (COSINE), 90 head (u32 codec, m, nbits, nrq, nlist, flags (1 refined, 2 codes
 * of refine_type), f32 error, zero up to 64 bytes), 91 centres (nlist * dim f32), 92 offsets into
 * 93 (u64, nlist + 1), 93 rows (u32), 94 tables of the codec, 95 codes, 96 factors (f32 per slot:
 * all add, then all mul), 100 to 102 codes of refine_type (code/coded.h).
 */
#include "index/ivf/codes.h"

void
rk__ivfc_fill_slots(const uint64_t *offsets, uint32_t nlist, uint64_t *slots)
{
    slots[0] = 0;
    for (uint32_t l = 0; l < nlist; l++) {
        slots[l + 1] = slots[l] + (offsets[l + 1] - offsets[l] + 31) / 32 * 32;
    }
}

/* ---- estimates ---- */

static size_t
round64(size_t n)
{
    return (n + 63) / 64 * 64;
}

size_t
rk__ivfc_query_bytes(const rk__ivfc *ivf)
{
    return round64(ivf->codec.dim * sizeof(float)) + round64(rk__codec_query_bytes(&ivf->codec)) +
           (ivf->blocks ? rk__codec_block_bytes(&ivf->codec) : 0);
}

bool
rk__ivfc_query_init(rk__ivfc_query *out, const rk__ivfc *ivf, const rk__space *space,
                    const void *row, float inv_norm, void *memory)
{
    float *vector = memory;
    uint8_t *at = (uint8_t *)memory + round64(space->dim * sizeof(float));

    *out = (rk__ivfc_query){.vector = vector};
    if (!rk__coded_source(space, row, inv_norm, vector) ||
        !rk__codec_query_init(&out->query, &ivf->codec, vector, at)) {
        return false;
    }
    if (ivf->blocks) {
        out->lut = at + round64(rk__codec_query_bytes(&ivf->codec));
        rk__codec_block_lut(&out->query, out->lut, &out->unit, &out->bias);
    }
    return true;
}

uint32_t
rk__ivfc_estimate(const rk__ivfc *ivf, const rk__ivfc_query *query, uint64_t slot, size_t n,
                  float extra, float below, float out[32])
{
    uint32_t all = n < 32 ? (UINT32_C(1) << n) - 1 : UINT32_MAX;
    uint32_t mask = 0;

    if (ivf->blocks) {
        return all & rk__kernels_get()->scan32(
                         query->lut, ivf->codes + slot / 32 * rk__codec_block_bytes(&ivf->codec),
                         rk__codec_groups(&ivf->codec), ivf->add + slot, ivf->mul + slot,
                         query->unit, query->bias, extra, below, out);
    }
    rk__codec_dots(&query->query, ivf->codes + slot * ivf->codec.code_bytes, NULL, n, out);
    for (size_t i = 0; i < n; i++) {
        out[i] = ivf->add[slot + i] + ivf->mul[slot + i] * out[i] + extra;
        mask |= (uint32_t)(out[i] < below) << i;
    }
    return mask;
}

void
rk__ivfc_centre_keys(const rk__ivfc *ivf, const rk__space *space, const float *vector,
                     uint32_t list, uint32_t n, float *keys)
{
    const rk__dense_kernels *f32 = &rk__kernels_get()->dense[RK__F32];
    bool ip = rk__ivfc_metric(space) == RK_METRIC_IP;

    for (uint32_t i = 0; i < n; i += 4) {
        const void *four[4];
        float out[4];
        uint32_t m = RK_MIN(n - i, 4u);
        for (uint32_t j = 0; j < 4; j++) {
            four[j] = ivf->centres + (size_t)(list + i + RK_MIN(j, m - 1)) * space->dim;
        }
        (ip ? f32->ipx4 : f32->l2x4)(vector, four, space->dim, out);
        for (uint32_t j = 0; j < m; j++) {
            keys[i + j] = ip ? -out[j] : out[j];
        }
    }
}

/* ---- image ---- */

static void
ivfc_sections(const rk_index *index, rk__sections *out)
{
    const rk__ivfc *ivf = index->impl;

    rk__norms_section(index, out);
    rk__sections_add(out, 90, ivf->head, sizeof(ivf->head));
    rk__sections_add(out, 91, ivf->centres, (uint64_t)ivf->nlist * index->space.dim * 4);
    rk__sections_add(out, 92, ivf->offsets, ((uint64_t)ivf->nlist + 1) * sizeof(uint64_t));
    rk__sections_add(out, 93, ivf->rows, (uint64_t)index->space.rows * sizeof(uint32_t));
    rk__sections_add(out, 94, ivf->codec.tables, ivf->codec.tables_n * sizeof(float));
    rk__sections_add(out, 95, ivf->codes, rk__ivfc_code_bytes(ivf));
    rk__sections_add(out, 96, ivf->add, rk__ivfc_n_slots(ivf) * 2 * sizeof(float));
    rk__coded_sections(&ivf->refine, index->space.rows, 100, out);
}

static rk_code
open_lists(rk_index *index, rk__ivfc *ivf, const rk__sections *sections, rk_err *err)
{
    const rk__space *space = &index->space;
    const void *at = NULL;

    RK_RET(rk__sections_get(sections, 91, (uint64_t)ivf->nlist * space->dim * 4, &at, NULL, err));
    ivf->centres = at;
    RK_RET(rk__sections_get(sections, 92, ((uint64_t)ivf->nlist + 1) * sizeof(uint64_t), &at, NULL,
                            err));
    ivf->offsets = at;
    for (uint32_t l = 0; l < ivf->nlist; l++) {
        if (ivf->offsets[l + 1] < ivf->offsets[l]) {
            return rk_fail(err, RK_ECORRUPT, "IVF image: offsets fall at list %u of %u", l,
                           ivf->nlist);
        }
    }
    if (ivf->offsets[0] != 0 || ivf->offsets[ivf->nlist] > space->rows) {
        return rk_fail(err, RK_ECORRUPT, "IVF image: lists do not hold the %zu rows", space->rows);
    }
    RK_RET(
        rk__sections_get(sections, 93, (uint64_t)space->rows * sizeof(uint32_t), &at, NULL, err));
    ivf->rows = at;
    ivf->slots = ivf->offsets;
    if (ivf->blocks) {
        size_t bytes = ((size_t)ivf->nlist + 1) * sizeof(uint64_t);
        RK_RET(rk__index_reserve(index, bytes, "IVF lists", err));
        ivf->owned[RK__IVFC_SLOTS] = rk_alloc(bytes);
        if (!ivf->owned[RK__IVFC_SLOTS]) {
            return rk_fail(err, RK_ENOMEM, "IVF image: no memory for %u lists", ivf->nlist);
        }
        rk__ivfc_fill_slots(ivf->offsets, ivf->nlist, ivf->owned[RK__IVFC_SLOTS]);
        ivf->slots = ivf->owned[RK__IVFC_SLOTS];
    }
    return RK_OK;
}

static rk_code
ivfc_open(rk_index *index, const rk__sections *sections, rk_err *err)
{
    rk__ivfc *ivf = rk_alloc_zero(1, sizeof(*ivf));
    const rk__space *space = &index->space;
    const void *at = NULL;
    uint64_t bytes = 0;
    uint32_t flags = 0;
    uint32_t word = 0;

    if (!ivf) {
        return rk_fail(err, RK_ENOMEM, "IVF image: no memory for its header");
    }
    index->impl = ivf;
    RK_RET(rk__norms_open(index, sections, err));
    RK_RET(rk__sections_get(sections, 90, RK__IVFC_HEAD_BYTES, &at, NULL, err));
    memcpy(ivf->head, at, sizeof(ivf->head));
    RK_RET(rk__codec_read(&ivf->codec, ivf->head, space->dim, err));
    ivf->nlist = rk_get_u32le(ivf->head + 16);
    flags = rk_get_u32le(ivf->head + 20);
    word = rk_get_u32le(ivf->head + 24);
    memcpy(&ivf->error, &word, sizeof(ivf->error));
    if (ivf->nlist == 0 || ivf->nlist > 65536) {
        return rk_fail(err, RK_ECORRUPT, "IVF image: %u lists", ivf->nlist);
    }
    ivf->refined = (flags & 1u) != 0;
    ivf->blocks = rk__codec_has_blocks(&ivf->codec);
    RK_RET(open_lists(index, ivf, sections, err));
    RK_RET(rk__sections_get(sections, 94, SIZE_MAX, &at, &bytes, err));
    RK_RET(rk__codec_open(&ivf->codec, at, bytes, err));
    RK_RET(rk__sections_get(sections, 95, rk__ivfc_code_bytes(ivf), &at, NULL, err));
    ivf->codes = at;
    RK_RET(
        rk__sections_get(sections, 96, rk__ivfc_n_slots(ivf) * 2 * sizeof(float), &at, NULL, err));
    ivf->add = at;
    ivf->mul = ivf->add + rk__ivfc_n_slots(ivf);
    return flags & 2u ? rk__coded_open(&ivf->refine, space, sections, 100, err) : RK_OK;
}

static void
ivfc_free(rk_index *index)
{
    rk__ivfc *ivf = index->impl;

    if (!ivf) {
        return;
    }
    rk__codec_deinit(&ivf->codec);
    rk__coded_free(&ivf->refine);
    for (size_t i = 0; i < RK_COUNT(ivf->owned); i++) {
        rk_free(ivf->owned[i]);
    }
    rk_free(ivf);
}

const rk__verbs rk__ivf_codes_verbs = {
    .build = rk__ivfc_build,
    .search = rk__ivfc_search,
    .sections = ivfc_sections,
    .open = ivfc_open,
    .free = ivfc_free,
};
