/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves over one VarChar column: 64 texts at a time, read where they lie.
 *
 *   == and !=        rows of that length (a kernel over the offsets), then the bytes as words
 *   in               a key of two words and a length per text, asked of the set's bitmap without
 *                    branches; what passes is looked up
 *   < <= > >=        the first eight bytes as a number, the rest where they are equal
 *   like 'abc%'      the first eight bytes under a mask; '%abc' the last eight
 *   like '%abc%'     the bytes of all 64 texts are searched in one go for three bytes of
 *                    the literal, and a hit counts when all of it lies inside one text; other
 *                    patterns take their longest literal that way and are matched where it is found
 *
 * Words of eight bytes are read beyond a short text's end, into the next text, but never outside
 * the bytes of the column's rows: the last rows of a column, and words of which few rows are asked,
 * go one by one through rk__test_string().
 */
#include "filter/kernel.h"

#define FEW  8  /* rows of a word that are asked one by one */
#define MANY 16 /* rows of a word from which all are looked at, whichever are asked */

/* 64 rows, or what is left of them. */
typedef struct texts {
    const char *data;
    const uint64_t *offsets;
    const char *end; /* of all texts of the column */
    size_t n;
} texts;

static const uint64_t masks[9] = {
    0,
    UINT64_C(0xff),
    UINT64_C(0xffff),
    UINT64_C(0xffffff),
    UINT64_C(0xffffffff),
    UINT64_C(0xffffffffff),
    UINT64_C(0xffffffffffff),
    UINT64_C(0xffffffffffffff),
    UINT64_MAX,
};

/* Of little-endian words: the first |len| bytes. */
static inline uint64_t
first_bytes(size_t len)
{
    return masks[len < 8 ? len : 8];
}

static inline rk_str
text_at(const texts *t, unsigned i)
{
    return (rk_str){t->data + t->offsets[i], (size_t)(t->offsets[i + 1] - t->offsets[i])};
}

static uint64_t
one_by_one(const rk__leaf *leaf, const texts *t, uint64_t todo)
{
    uint64_t word = 0;
    for (; todo; todo &= todo - 1) {
        unsigned i = (unsigned)__builtin_ctzll(todo);
        word |= (uint64_t)rk__test_string(leaf, text_at(t, i)) << i;
    }
    return word;
}

/* Eight bytes from every text's beginning on lie inside the column. */
static bool
heads_readable(const texts *t)
{
    return t->n == 64 && (size_t)(t->end - (t->data + t->offsets[63])) >= 8;
}

/* The first eight bytes, zeros behind them. */
static uint64_t
head_of(rk_str s)
{
    char padded[8] = {0};
    memcpy(padded, s.len ? s.data : "", RK_MIN(s.len, sizeof(padded)));
    return rk_get_u64le(padded);
}

/*
 * Bit i: text i has lo to hi bytes, and the eight bytes at base + at[i] are those of |want| under
 * |mask|. 64 texts; all those eight bytes may be read. (Gathers of AVX-512 are half as fast: they
 * wait for the slowest of eight.)
 */
static uint64_t
eights(const char *base, const uint64_t *at, const texts *t, uint64_t lo, uint64_t hi,
       uint64_t want, uint64_t mask)
{
    uint8_t bytes[64];

    for (unsigned i = 0; i < 64; i++) {
        uint64_t differs = (rk_get_u64le(base + at[i]) ^ want) & mask;
        bytes[i] = (uint8_t)((differs == 0) & (t->offsets[i + 1] - t->offsets[i] - lo <= hi - lo));
    }
    return rk__pack(bytes);
}

/* ---- equality ---- */

/* Texts of |todo| have |want|'s length. A loop per class of lengths: |len| > 0. */
#define SAME_LOOP(differs)                                                                         \
    for (; todo; todo &= todo - 1) {                                                               \
        unsigned i = (unsigned)__builtin_ctzll(todo);                                              \
        const char *p = t->data + t->offsets[i];                                                   \
        word |= (uint64_t)((differs) == 0) << i;                                                   \
    }                                                                                              \
    return word

static uint64_t
same_bytes(const texts *t, uint64_t todo, rk_str want)
{
    uint64_t word = 0;
    const char *w = want.data;
    size_t len = want.len;

    if (len == 0) {
        return todo;
    }
    if (len == 1) {
        SAME_LOOP(*p != *w);
    }
    if (len < 4) {
        unsigned a = rk_get_u16le(w);
        char b = w[len - 1];
        SAME_LOOP((rk_get_u16le(p) ^ a) | (unsigned)(p[len - 1] ^ b));
    }
    if (len < 8) {
        uint32_t a = rk_get_u32le(w);
        uint32_t b = rk_get_u32le(w + len - 4);
        SAME_LOOP((rk_get_u32le(p) ^ a) | (rk_get_u32le(p + len - 4) ^ b));
    }
    uint64_t a = rk_get_u64le(w);
    uint64_t b = rk_get_u64le(w + len - 8);
    if (len <= 16) {
        SAME_LOOP((rk_get_u64le(p) ^ a) | (rk_get_u64le(p + len - 8) ^ b));
    }
    SAME_LOOP((rk_get_u64le(p) ^ a) | (rk_get_u64le(p + len - 8) ^ b) ||
              memcmp(p + 8, w + 8, len - 16) != 0);
}

static uint64_t
equal_word(const texts *t, uint64_t todo, rk_str want)
{
    const rk__filter_kernels *k = rk__filter_kernels_get();
    uint64_t word = 0;

    if (t->n == 64) {
        k->lengths(t->offsets, 1, want.len, want.len, &word);
    } else {
        for (unsigned i = 0; i < t->n; i++) {
            word |= (uint64_t)(t->offsets[i + 1] - t->offsets[i] == want.len) << i;
        }
    }
    word &= todo;
    if (__builtin_popcountll(word) > MANY && want.len > 0 && heads_readable(t)) {
        word &= eights(t->data, t->offsets, t, want.len, want.len, head_of(want),
                       first_bytes(want.len));
        if (want.len <= 8) {
            return word;
        }
    }
    return same_bytes(t, word, want);
}

/* ---- sets ---- */

/* Keys of 64 texts behind which eight bytes may be read, as rk__text_key_of() makes them; without
 * |hashed| those of long texts, which then are in no set that is asked, are any. */
typedef struct keys {
    uint64_t head[64];
    uint64_t tail[64];
    uint32_t len[64];
} keys;

static void
keys_of(const texts *t, bool hashed, keys *k)
{
    uint32_t longest = 0;

    for (unsigned i = 0; i < 64; i++) {
        const char *p = t->data + t->offsets[i];
        uint64_t len = t->offsets[i + 1] - t->offsets[i];
        uint64_t mask = first_bytes(len);
        k->head[i] = rk_get_u64le(p) & mask;
        k->tail[i] = rk_get_u64le(p + RK_MAX(len, (uint64_t)8) - 8) & mask;
        k->len[i] = (uint32_t)len;
        longest = RK_MAX(longest, k->len[i]);
    }
    for (unsigned i = 0; hashed && longest > 16 && i < 64; i++) {
        if (k->len[i] > 16) {
            k->head[i] = rk__text_key_of(text_at(t, i)).head;
            k->tail[i] = 0;
        }
    }
}

/* A few short texts: every key is compared with each of them. */
static uint64_t
few_word(const rk__set *set, const keys *k)
{
    const rk__filter_kernels *kernels = rk__filter_kernels_get();
    uint64_t word = 0;

    for (size_t i = 0; i < set->few_texts_len; i++) {
        rk__text_key want = set->few_texts[i];
        rk__range head = {.i_lo = (int64_t)want.head, .i_hi = (int64_t)want.head};
        rk__range tail = {.i_lo = (int64_t)want.tail, .i_hi = (int64_t)want.tail};
        rk__range len = {.i_lo = want.len, .i_hi = want.len};
        uint64_t same[3];
        kernels->range[LANE_I64](k->head, 1, &head, &same[0]);
        if (same[0] == 0) {
            continue;
        }
        kernels->range[LANE_I64](k->tail, 1, &tail, &same[1]);
        kernels->range[LANE_I32](k->len, 1, &len, &same[2]);
        word |= same[0] & same[1] & same[2];
    }
    return word;
}

static uint64_t
set_word(const rk__set *set, const texts *t, uint64_t todo)
{
    uint64_t word = 0;
    uint8_t bytes[64];
    keys k;

    if (!set->text_slots) {
        return 0;
    }
    keys_of(t, set->long_texts, &k);
    if (set->few_texts_len > 0) {
        return few_word(set, &k) & todo;
    }
    for (unsigned i = 0; i < 64; i++) {
        uint64_t at = rk__text_hash(k.head[i], k.tail[i], k.len[i], set->seed) >>
                      (set->text_shift - RK__BITS_PER_SLOT_LOG2);
        bytes[i] = (uint8_t)rk__bit_at(set->text_bits, at);
    }
    word = rk__pack(bytes) & todo;
    for (todo = word; todo; todo &= todo - 1) {
        unsigned i = (unsigned)__builtin_ctzll(todo);
        bool has = rk__set_has_text(set, k.head[i], k.tail[i], k.len[i], t->data + t->offsets[i]);
        word &= ~((uint64_t)!has << i);
    }
    return word;
}

/* ---- order ---- */

/* Bits of texts below |c| and of those equal to it. */
typedef struct order {
    uint64_t below;
    uint64_t equal;
} order;

static order
order_word(const texts *t, uint64_t todo, rk_str c)
{
    uint8_t below[64];
    uint8_t equal[64];
    uint8_t tied[64];
    uint64_t want = __builtin_bswap64(head_of(c));

    for (unsigned i = 0; i < 64; i++) {
        uint64_t at = t->offsets[i];
        uint64_t len = t->offsets[i + 1] - at;
        uint64_t head = __builtin_bswap64(rk_get_u64le(t->data + at) & first_bytes(len));
        bool tie = head == want;
        /* where the eight bytes are equal and |c| has no more, the longer one is above */
        below[i] = (uint8_t)((head < want) | (tie & (len < c.len)));
        equal[i] = (uint8_t)(tie & (len == c.len));
        tied[i] = (uint8_t)tie;
    }
    order o = {rk__pack(below), rk__pack(equal)};
    uint64_t ties = rk__pack(tied);
    for (ties = c.len > 8 ? ties & todo : 0; ties; ties &= ties - 1) {
        unsigned i = (unsigned)__builtin_ctzll(ties);
        int sign = rk__text_cmp(text_at(t, i), c);
        uint64_t bit = UINT64_C(1) << i;
        o.below = sign < 0 ? o.below | bit : o.below & ~bit;
        o.equal = sign == 0 ? o.equal | bit : o.equal & ~bit;
    }
    return o;
}

static uint64_t
order_bits(order o, rk__token_kind cmp)
{
    switch ((int)cmp) {
    case TK_LT:
        return o.below;
    case TK_LE:
        return o.below | o.equal;
    case TK_GT:
        return ~(o.below | o.equal);
    default:
        return ~o.below;
    }
}

/* ---- LIKE ---- */

static uint64_t
prefix_word(const texts *t, uint64_t todo, rk_str want)
{
    uint64_t word =
        eights(t->data, t->offsets, t, want.len, UINT64_MAX, head_of(want), first_bytes(want.len));
    word &= todo;
    for (todo = want.len > 8 ? word : 0; todo; todo &= todo - 1) {
        unsigned i = (unsigned)__builtin_ctzll(todo);
        bool same = memcmp(t->data + t->offsets[i] + 8, want.data + 8, want.len - 8) == 0;
        word &= ~((uint64_t)!same << i);
    }
    return word;
}

static uint64_t
suffix_word(const texts *t, uint64_t todo, rk_str want)
{
    size_t n = RK_MIN(want.len, (size_t)8);
    uint64_t tail = head_of((rk_str){want.data + want.len - n, n}) << (8 * (8 - n));
    uint64_t word =
        eights(t->data - 8, t->offsets + 1, t, want.len, UINT64_MAX, tail, ~first_bytes(8 - n));
    word &= todo;
    for (todo = want.len > 8 ? word : 0; todo; todo &= todo - 1) {
        unsigned i = (unsigned)__builtin_ctzll(todo);
        const char *p = t->data + t->offsets[i + 1] - want.len;
        word &= ~((uint64_t)(memcmp(p, want.data, want.len - 8) != 0) << i);
    }
    return word;
}

#define INFIX_MOST 64 /* bytes */
#define SCAN_WORDS 16 /* words of hits made at a time */
#define SCAN       ((size_t)SCAN_WORDS * 64)

/* Where a scan stands: texts before |row| are done with. */
typedef struct scan {
    const texts *t;
    rk_str want;
    unsigned row;
    uint64_t word;
} scan;

/* Are the |want|.len bytes at |p| those of |want|? Words that may overlap. */
static inline bool
same_text(const char *p, rk_str want)
{
    const char *w = want.data;
    size_t n = want.len;

    if (n >= 8) {
        uint64_t diff = (rk_get_u64le(p) ^ rk_get_u64le(w)) |
                        (rk_get_u64le(p + n - 8) ^ rk_get_u64le(w + n - 8));
        return diff == 0 && (n <= 16 || memcmp(p + 8, w + 8, n - 16) == 0);
    }
    if (n >= 4) {
        return ((rk_get_u32le(p) ^ rk_get_u32le(w)) |
                (rk_get_u32le(p + n - 4) ^ rk_get_u32le(w + n - 4))) == 0;
    }
    return p[0] == w[0] && p[n / 2] == w[n / 2] && p[n - 1] == w[n - 1];
}

/* The text, from |row| on, in which byte |at| lies; t->n: behind them all. Most are at most four
 * ahead, found without a branch each. */
static unsigned
row_of(const texts *t, unsigned row, uint64_t at)
{
    unsigned step = 4;

    while (step == 4 && row + 4 <= t->n) {
        const uint64_t *end = t->offsets + row + 1;
        step = (unsigned)(end[0] <= at) + (end[1] <= at) + (end[2] <= at) + (end[3] <= at);
        row += step;
    }
    while (row < t->n && t->offsets[row + 1] <= at) {
        row++;
    }
    return row;
}

/* Hits at data + base + (their bit): those that are |want| and lie inside a text. */
static void
take_hits(scan *s, uint64_t base, uint64_t hits)
{
    const uint64_t *offsets = s->t->offsets;

    while (hits) {
        uint64_t at = base + (unsigned)__builtin_ctzll(hits);
        hits &= hits - 1;
        s->row = row_of(s->t, s->row, at);
        if (s->row == s->t->n) {
            return;
        }
        if (at < offsets[s->row] || at + s->want.len > offsets[s->row + 1] ||
            !same_text(s->t->data + at, s->want)) {
            continue;
        }
        s->word |= UINT64_C(1) << s->row;
        uint64_t next = offsets[s->row + 1] - base; /* this text is done with */
        hits = next < 64 ? hits & (UINT64_MAX << next) : 0;
    }
}

/* Texts that hold |want|, which is not empty. */
static uint64_t
infix_word(const texts *t, rk_str want)
{
    size_t distance = RK_MIN(want.len - 1, (size_t)63);
    uint64_t at = t->offsets[0];
    uint64_t last = t->offsets[t->n];
    uint64_t hits[SCAN_WORDS];
    scan s = {t, want, 0, 0};
    const rk__filter_kernels *k = rk__filter_kernels_get();

    while (at < last) {
        char buffer[128] = {0};
        const char *p = t->data + at;
        size_t words = (size_t)RK_MIN(last - at + 63, (uint64_t)SCAN) / 64;
        size_t readable = (size_t)(t->end - p);
        if (readable < words * 64 + distance) {
            words = readable >= 64 + distance ? (readable - distance) / 64 : 1;
        }
        if (readable < 64 + distance) { /* the column's end */
            memcpy(buffer, p, RK_MIN(readable, sizeof(buffer)));
            p = buffer;
        }
        k->trios(p, words, want.data, distance, hits);
        for (size_t w = 0; w < words; w++) {
            if (hits[w]) {
                take_hits(&s, at + w * 64, hits[w]);
            }
        }
        at += words * 64;
    }
    return s.word;
}

/* ---- dispatch ---- */

static uint64_t
like_word(const rk__leaf *leaf, const texts *t, uint64_t todo, rk__like_shape shape, rk_str literal)
{
    switch (shape) {
    case LIKE_SAME:
        return equal_word(t, todo, literal);
    case LIKE_PREFIX:
        return heads_readable(t) ? prefix_word(t, todo, literal) : one_by_one(leaf, t, todo);
    case LIKE_SUFFIX:
        return t->n == 64 && t->offsets[1] - leaf->col->offsets[0] >= 8
                   ? suffix_word(t, todo, literal)
                   : one_by_one(leaf, t, todo);
    case LIKE_INFIX: /* of a long one, many places may have to be compared at length */
        return literal.len <= INFIX_MOST ? infix_word(t, literal) & todo
                                         : one_by_one(leaf, t, todo);
    case LIKE_OTHER:
    default:
        todo &= literal.len > 0 && literal.len <= INFIX_MOST ? infix_word(t, literal) : UINT64_MAX;
        return one_by_one(leaf, t, todo);
    }
}

static uint64_t
eval_word(const rk__leaf *leaf, const texts *t, uint64_t todo, rk__like_shape shape, rk_str literal)
{
    const rk__pred *pred = leaf->pred;

    switch ((int)pred->kind) {
    case PK_EMPTY:
        return equal_word(t, todo, RK_STR(""));
    case PK_STARTS:
        return like_word(leaf, t, todo, LIKE_PREFIX, pred->value2.s);
    case PK_LIKE:
        return like_word(leaf, t, todo, shape, literal);
    case PK_IN:
        return heads_readable(t) ? set_word(pred->set, t, todo) : one_by_one(leaf, t, todo);
    case PK_RANGE: {
        if (!heads_readable(t)) {
            return one_by_one(leaf, t, todo);
        }
        uint64_t above =
            order_bits(order_word(t, todo, pred->value.s), pred->lo_open ? TK_GT : TK_GE);
        return above & order_bits(order_word(t, todo & above, pred->value2.s),
                                  pred->hi_open ? TK_LT : TK_LE);
    }
    default: /* PK_CMP */
        if (pred->cmp == TK_EQ || pred->cmp == TK_NE) {
            return equal_word(t, todo, pred->value.s) ^ (pred->cmp == TK_NE ? UINT64_MAX : 0);
        }
        return heads_readable(t) ? order_bits(order_word(t, todo, pred->value.s), pred->cmp)
                                 : one_by_one(leaf, t, todo);
    }
}

bool
rk__eval_texts(const rk__leaf *leaf)
{
    const rk__pred *pred = leaf->pred;
    const rk_column *col = leaf->col;
    rk__like_shape shape = LIKE_OTHER;
    rk_str literal = {0};
    bool ours = pred->kind == PK_EMPTY || pred->kind == PK_LIKE || pred->kind == PK_IN ||
                pred->kind == PK_RANGE || pred->kind == PK_CMP || pred->kind == PK_STARTS;

    if (!ours || !col || leaf->col2) {
        return false;
    }
    if (pred->kind == PK_LIKE) {
        shape = rk__like_shape_of(pred->like, &literal);
    }
    for (size_t at = 0; at < leaf->rows; at += 64) {
        uint64_t todo = leaf->known[at / 64] & leaf->active[at / 64];
        texts t = {col->data, col->offsets + leaf->first + at, NULL,
                   RK_MIN(leaf->rows - at, (size_t)64)};
        t.end = t.data + col->offsets[leaf->first + leaf->rows];
        leaf->value[at / 64] = 0;
        if (t.n < 64) {
            todo &= (UINT64_C(1) << t.n) - 1;
        }
        if (todo) {
            bool few = __builtin_popcountll(todo) < FEW;
            uint64_t word =
                few ? one_by_one(leaf, &t, todo) : eval_word(leaf, &t, todo, shape, literal);
            leaf->value[at / 64] = word & todo;
        }
    }
    return true;
}
