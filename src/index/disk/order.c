/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of a list's rows on disk: rows near one another share a page, so that one read serves
 * several candidates. A list is cut in two at a page boundary, each half filled with the rows
 * nearer to one of two means than to the other, and so on down to single pages: two-means with
 * halves of fixed size, a few rounds each, from the two ends of a long diagonal.
 *
 * It only moves rows within their list; codes are made afterwards, in this order. Lists too large
 * for the scratch memory of a thread stay as they are.
 */
#include "index/disk/disk.h"

#define ROUNDS       4u
#define PENDING_MAX  64u
#define MEMORY_BYTES ((size_t)64 << 20)

typedef struct sorter {
    const float *forms; /* of the list's rows, dim each */
    rk__near *items;    /* places in |forms|, in the order so far */
    float *means;       /* two of dim */
    size_t dim;
    rk__dist_fn dist;
} sorter;

typedef struct part {
    uint32_t from;
    uint32_t to;
} part;

/* The place in [from, to) of the row farthest from |point|. */
static uint32_t
farthest(const sorter *s, part p, const float *point)
{
    uint32_t best = p.from;
    float most = -1;

    for (uint32_t i = p.from; i < p.to; i++) {
        float d = s->dist(point, s->forms + s->items[i].row * s->dim, s->dim);
        if (d > most) {
            most = d;
            best = i;
        }
    }
    return best;
}

static void
mean_of(const sorter *s, part p, float *out)
{
    memset(out, 0, s->dim * sizeof(*out));
    for (uint32_t i = p.from; i < p.to; i++) {
        const float *form = s->forms + s->items[i].row * s->dim;
        for (size_t d = 0; d < s->dim; d++) {
            out[d] += form[d];
        }
    }
    for (size_t d = 0; d < s->dim; d++) {
        out[d] /= (float)(p.to - p.from);
    }
}

/* Sorts a part by how much nearer its rows are to the first mean than to the second. */
static void
sort_part(const sorter *s, part p)
{
    rk__heap heap = {.items = s->items + p.from, .n = p.to - p.from, .cap = p.to - p.from};

    for (uint32_t i = p.from; i < p.to; i++) {
        const float *form = s->forms + s->items[i].row * s->dim;
        float key = s->dist(s->means, form, s->dim) - s->dist(s->means + s->dim, form, s->dim);
        s->items[i].key = key == key ? key : 0;
    }
    rk__heap_make(&heap);
    rk__heap_sort(&heap);
}

static void
split(const sorter *s, part p, uint32_t middle)
{
    uint32_t a = farthest(s, p, s->forms + s->items[p.from].row * s->dim);
    uint32_t b = farthest(s, p, s->forms + s->items[a].row * s->dim);

    memcpy(s->means, s->forms + s->items[a].row * s->dim, s->dim * sizeof(float));
    memcpy(s->means + s->dim, s->forms + s->items[b].row * s->dim, s->dim * sizeof(float));
    sort_part(s, p);
    for (uint32_t round = 1; round < ROUNDS; round++) {
        mean_of(s, (part){p.from, middle}, s->means);
        mean_of(s, (part){middle, p.to}, s->means + s->dim);
        sort_part(s, p);
    }
}

/* Cuts the list into pages. |first| is the position of its first row. */
static void
split_all(const sorter *s, uint32_t n, uint32_t first, uint32_t unit_rows)
{
    part pending[PENDING_MAX] = {{0, n}};
    uint32_t left = 1;

    while (left > 0) {
        part p = pending[--left];
        uint32_t half = first + p.from + (p.to - p.from) / 2;
        uint32_t middle = (half + unit_rows / 2) / unit_rows * unit_rows;
        middle = middle <= first + p.from ? middle + unit_rows : middle;
        middle = middle >= first + p.to && middle >= unit_rows ? middle - unit_rows : middle;
        if (middle <= first + p.from || middle >= first + p.to || left + 2 > PENDING_MAX) {
            continue; /* all in one page */
        }
        middle -= first;
        split(s, p, middle);
        pending[left++] = (part){p.from, middle};
        pending[left++] = (part){middle, p.to};
    }
}

bool
rk__disk_order_rows(const rk_index *index, uint32_t *rows, uint32_t n, uint32_t first,
                    uint32_t unit_rows)
{
    const rk__space *space = &index->space;
    size_t form_bytes = (size_t)space->dim * sizeof(float);
    size_t bytes = (n + 2) * form_bytes + n * (sizeof(rk__near) + sizeof(uint32_t));
    sorter s = {.dim = space->dim, .dist = rk__kernels_get()->dense[RK__F32].l2};
    float *forms;
    uint32_t *copy;

    if (unit_rows < 2 || n <= unit_rows || bytes > MEMORY_BYTES) {
        return true;
    }
    forms = rk_alloc_aligned(64, (bytes + 63) / 64 * 64);
    if (!forms) {
        return false;
    }
    s.forms = forms;
    s.means = forms + (size_t)n * space->dim;
    s.items = (rk__near *)(void *)(s.means + 2 * (size_t)space->dim);
    copy = (uint32_t *)(void *)(s.items + n);
    for (uint32_t i = 0; i < n; i++) {
        rk__disk_form(space, rk__space_row(space, rows[i]), forms + (size_t)i * space->dim);
        s.items[i] = (rk__near){0, i};
        copy[i] = rows[i];
    }
    split_all(&s, n, first, unit_rows);
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = copy[s.items[i].row];
    }
    rk_free(forms);
    return true;
}
