/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LIKE patterns: % any bytes, _ one code point, backslash makes the next byte literal.
 *
 * The pattern is cut at its % signs into pieces of literal bytes and single-character places. The
 * first piece is anchored at the front, the last at the back, each one between is put at the
 * leftmost place where it fits, which is enough for patterns of this kind and never steps back over
 * a piece: no pattern takes more than (text times longest piece) steps, and pieces without _ are
 * found by the C library's linear search.
 */
#include "filter/filter_private.h"

typedef struct piece {
    rk_str literal;      /* bytes; where |wild| is set the byte stands for one code point */
    const uint8_t *wild; /* a flag per byte; NULL: none */
} piece;

struct rk__like {
    piece *pieces;
    size_t pieces_len; /* at least 1; pieces are separated by % */
    bool any;          /* there was a % : |pieces_len| > 1 */
};

rk_code
rk__like_new(const rk__like **out, rk_str pattern, rk_arena *arena)
{
    rk__like *like = RK_ARENA_NEW(arena, rk__like);
    char *bytes = rk_arena_alloc(arena, pattern.len + 1);
    uint8_t *wild = rk_arena_zero(arena, pattern.len + 1, 1);
    size_t cuts = 0;

    if (!like || !bytes || !wild) {
        return RK_ENOMEM;
    }
    for (size_t i = 0; i < pattern.len; i++) {
        if (pattern.data[i] == '\\') {
            i++;
        } else if (pattern.data[i] == '%') {
            cuts++;
        }
    }
    like->pieces = RK_ARENA_ARRAY(arena, piece, cuts + 1);
    if (!like->pieces) {
        return RK_ENOMEM;
    }
    size_t from = 0;
    size_t len = 0;
    bool any_wild = false;
    for (size_t i = 0; i <= pattern.len; i++) {
        char ch = i < pattern.len ? pattern.data[i] : '%';
        if (ch == '%') {
            /* an empty piece between two % says nothing; the first and the last one anchor */
            if (len > from || like->pieces_len == 0 || i == pattern.len) {
                like->pieces[like->pieces_len++] =
                    (piece){{bytes + from, len - from}, any_wild ? wild + from : NULL};
            }
            from = len;
            any_wild = false;
            continue;
        }
        if (ch == '\\') {
            i++;
            if (i >= pattern.len) {
                return RK_EINVAL;
            }
            ch = pattern.data[i];
        } else if (ch == '_') {
            wild[len] = 1;
            any_wild = true;
        }
        bytes[len++] = ch;
    }
    like->any = cuts > 0;
    *out = like;
    return RK_OK;
}

/* Bytes of the code point at |at|; 0 when it is ill-formed. */
static size_t
code_point_len(rk_str s, size_t at)
{
    unsigned char ch = (unsigned char)s.data[at];
    size_t len = ch < 0x80 ? 1 : ch >= 0xC2 && ch < 0xE0 ? 2 : (ch & 0xF0) == 0xE0 ? 3 : 4;
    if (ch < 0x80) {
        return 1;
    }
    if (ch < 0xC2 || ch > 0xF4 || at + len > s.len) {
        return 0;
    }
    return rk_utf8_invalid_at((rk_str){s.data + at, len}) == SIZE_MAX ? len : 0;
}

/* Bytes |p| takes at |at|, or SIZE_MAX. */
static size_t
match_at(const piece *p, rk_str s, size_t at)
{
    size_t start = at;
    if (!p->wild) {
        bool fits =
            p->literal.len <= s.len - at &&
            (p->literal.len == 0 || memcmp(s.data + at, p->literal.data, p->literal.len) == 0);
        return fits ? p->literal.len : SIZE_MAX;
    }
    for (size_t i = 0; i < p->literal.len; i++) {
        if (at >= s.len) {
            return SIZE_MAX;
        }
        size_t len = 1;
        if (p->wild[i]) {
            len = code_point_len(s, at);
            if (len == 0) {
                return SIZE_MAX;
            }
        } else if (s.data[at] != p->literal.data[i]) {
            return SIZE_MAX;
        }
        at += len;
    }
    return at - start;
}

/* Where |p| begins when it is to end with the text, not before |from|; SIZE_MAX when it does not.
 */
static size_t
match_back(const piece *p, rk_str s, size_t from)
{
    size_t at = s.len;
    for (size_t i = p->literal.len; i > 0; i--) {
        if (at <= from) {
            return SIZE_MAX;
        }
        size_t len = 1;
        if (p->wild && p->wild[i - 1]) {
            while (len < 4 && at - len > from && ((unsigned char)s.data[at - len] & 0xC0) == 0x80) {
                len++;
            }
            if (code_point_len(s, at - len) != len) {
                return SIZE_MAX;
            }
        } else if (s.data[at - 1] != p->literal.data[i - 1]) {
            return SIZE_MAX;
        }
        at -= len;
    }
    return at;
}

#define NEAR 192 /* bytes in which looking for two bytes of a literal beats memmem() */

/* The leftmost |want| in |n| bytes at |p|: eight places at a time are asked for its first and its
 * last byte. */
static const char *
find_near(const char *p, size_t n, rk_str want)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t first = ones * (unsigned char)want.data[0];
    uint64_t last = ones * (unsigned char)want.data[want.len - 1];
    const char *end = p + n; /* of the text */
    const char *tail = p + want.len - 1;

    for (; tail < end; p += 8, tail += 8) {
        uint64_t hits = end - tail >= 8 ? 0 : ones << 7; /* the last few: ask all */
        if (!hits) {
            uint64_t differs = (rk_get_u64le(p) ^ first) | (rk_get_u64le(tail) ^ last);
            hits = (differs - ones) & ~differs & ones << 7; /* none missed, a few too many */
        }
        for (; hits; hits &= hits - 1) {
            size_t i = (size_t)__builtin_ctzll(hits) / 8;
            if ((size_t)(end - p) - i < want.len) {
                break;
            }
            if (p[i] == want.data[0] && memcmp(p + i, want.data, want.len) == 0) {
                return p + i;
            }
        }
    }
    return NULL;
}

static const char *
find_literal(const char *p, size_t n, rk_str want)
{
    if (want.len == 0 || n < want.len) {
        return want.len == 0 ? p : NULL;
    }
    return n <= NEAR ? find_near(p, n, want) : memmem(p, n, want.data, want.len);
}

/* The leftmost place of |p| in [from, end); its end goes to |*after|. */
static bool
find_piece(const piece *p, rk_str s, size_t from, size_t *after)
{
    if (!p->wild) {
        const char *found = find_literal(s.data + from, s.len - from, p->literal);
        if (!found) {
            return false;
        }
        *after = (size_t)(found - s.data) + p->literal.len;
        return true;
    }
    for (size_t at = from; at < s.len; at++) {
        size_t len = match_at(p, s, at);
        if (len != SIZE_MAX) {
            *after = at + len;
            return true;
        }
    }
    return false;
}

rk__like_shape
rk__like_shape_of(const rk__like *like, rk_str *literal)
{
    const piece *first = &like->pieces[0];
    const piece *last = &like->pieces[like->pieces_len - 1];
    const piece *best = NULL;
    size_t filled = 0;
    bool plain = true;

    for (size_t i = 0; i < like->pieces_len; i++) {
        const piece *p = &like->pieces[i];
        plain = plain && !p->wild;
        filled += p->literal.len > 0;
        if (!p->wild && (!best || p->literal.len > best->literal.len)) {
            best = p;
        }
    }
    *literal = best ? best->literal : (rk_str){0};
    if (!plain || filled > 1 || like->pieces_len > 3) {
        return LIKE_OTHER;
    }
    if (!like->any) {
        return LIKE_SAME;
    }
    return first->literal.len > 0 || filled == 0 ? LIKE_PREFIX
           : last->literal.len > 0               ? LIKE_SUFFIX
                                                 : LIKE_INFIX;
}

bool
rk__like_test(const rk__like *like, rk_str text)
{
    const piece *first = &like->pieces[0];
    if (!text.data) {
        text.data = "";
    }
    size_t at = match_at(first, text, 0);
    if (at == SIZE_MAX) {
        return false;
    }
    if (!like->any) {
        return at == text.len;
    }
    size_t end = match_back(&like->pieces[like->pieces_len - 1], text, at);
    if (end == SIZE_MAX) {
        return false;
    }
    text.len = end;
    for (size_t i = 1; i + 1 < like->pieces_len; i++) {
        if (!find_piece(&like->pieces[i], text, at, &at)) {
            return false;
        }
    }
    return true;
}
