/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking for a key in a text of JSON, 64 bytes at a time, as structural bits rather than a parse.
 *
 * Included once per instruction set with TARGET, JSON_KEY and JSON_END (names), EQUAL(p, c) and
 * EQUAL_FOLDED(p, c) defined: 64 bits for 64 bytes that are c, or c with bit 0x20 set (which makes
 * one of [ and {, one of ] and }).
 *
 * Quotes that are not escaped, summed up modulo 2, tell what is inside a string; brackets outside
 * strings give the depth. A member's key is an opening quote at depth 1 followed by the key's
 * bytes, a quote and a colon. Only an escape in a key could spell it otherwise, and of ASCII
 * characters other than those that a searched key never has only \u00XX can; a text with one of
 * those is left to the slow way.
 */

#ifndef RK_FILTER_KERNEL_JSON_H
#define RK_FILTER_KERNEL_JSON_H

/* Bit i: an odd number of bits at or below i. */
static inline uint64_t
prefix_parity(uint64_t x)
{
    x ^= x << 1;
    x ^= x << 2;
    x ^= x << 4;
    x ^= x << 8;
    x ^= x << 16;
    return x ^ (x << 32);
}

/* Bytes that a backslash escapes; |*carry|: the last backslash of the word escapes the next one's
 * first byte. */
static inline uint64_t
escaped_bytes(uint64_t slashes, uint64_t *carry)
{
    uint64_t escaped = *carry;

    slashes &= ~*carry;
    *carry = 0;
    while (slashes) { /* few: two bytes at a time */
        uint64_t first = slashes & (0 - slashes);
        escaped |= first << 1;
        *carry = first >> 63;
        slashes &= ~(first | first << 1);
    }
    return escaped;
}

/* Could one of the escapes that begin at |slashes| spell a byte of a key? */
static inline bool
spells_keys(const char *p, uint64_t slashes, bool ascii)
{
    for (; slashes; slashes &= slashes - 1) {
        const char *at = p + __builtin_ctzll(slashes);
        if (at[1] == 'u' && (!ascii || (at[2] == '0' && at[3] == '0'))) {
            return true;
        }
    }
    return false;
}
#endif

TARGET static const char *
JSON_END(const char *p, const char *end)
{
    uint64_t in_string = 0;
    uint64_t carry = 0;
    int depth = 0;

    for (; p < end; p += 64) {
        uint64_t valid = end - p >= 64 ? UINT64_MAX : (UINT64_C(1) << (end - p)) - 1;
        uint64_t quotes = EQUAL(p, '"') & valid;
        uint64_t slashes = EQUAL(p, '\\') & valid;
        if (slashes | carry) {
            quotes &= ~escaped_bytes(slashes, &carry);
        }
        uint64_t strings = prefix_parity(quotes) ^ in_string;
        uint64_t outside = valid & ~strings;
        uint64_t open = EQUAL_FOLDED(p, '{') & outside;
        uint64_t close = EQUAL_FOLDED(p, '}') & outside;
        for (uint64_t left = close; left; left &= left - 1) {
            uint64_t upto = left ^ (left - 1);
            depth = depth + __builtin_popcountll(open & upto) - 1;
            open &= ~upto;
            if (depth <= 0) {
                return p + __builtin_ctzll(left) + 1;
            }
        }
        depth += __builtin_popcountll(open);
        in_string = 0 - (strings >> 63);
    }
    return end;
}

TARGET static rk__json_found
JSON_KEY(const char *text, size_t len, const rk__json_key *key, const char **at)
{
    const char *found = NULL;
    const char *end = text + len;
    uint64_t in_string = 0;
    uint64_t carry = 0;
    int depth = 0;

    for (const char *p = text; p < end; p += 64) {
        uint64_t valid = end - p >= 64 ? UINT64_MAX : (UINT64_C(1) << (end - p)) - 1;
        uint64_t quotes = EQUAL(p, '"') & valid;
        uint64_t slashes = EQUAL(p, '\\') & valid;
        if (slashes | carry) {
            if (spells_keys(p, slashes, key->ascii)) {
                return KEY_ASK;
            }
            quotes &= ~escaped_bytes(slashes, &carry);
        }
        uint64_t strings = prefix_parity(quotes) ^ in_string;
        uint64_t outside = valid & ~strings;
        uint64_t open = EQUAL_FOLDED(p, '{') & outside;
        uint64_t close = EQUAL_FOLDED(p, '}') & outside;
        uint64_t hits =
            quotes & strings & EQUAL(p + 1, key->quoted[1]) & EQUAL(p + key->len - 1, '"');
        for (; hits; hits &= hits - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(hits);
            const char *q = p + bit;
            uint64_t below = (UINT64_C(1) << bit) - 1;
            int level =
                depth + __builtin_popcountll(open & below) - __builtin_popcountll(close & below);
            if (level != 1 || (size_t)(end - q) <= key->len ||
                memcmp(q, key->quoted, key->len) != 0) {
                continue;
            }
            q += key->len;
            while (q < end && (*q == ' ' || *q == '\t' || *q == '\n' || *q == '\r')) {
                q++;
            }
            found = q < end && *q == ':' ? q + 1 : found;
        }
        depth += __builtin_popcountll(open) - __builtin_popcountll(close);
        in_string = 0 - (strings >> 63);
    }
    *at = found;
    return found ? KEY_FOUND : KEY_ABSENT;
}
