/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The syntax of regular expressions: RE2's without Unicode classes.
 *
 * Literals, ., classes, \d \w \s \b and their inverses, anchors, groups, alternation, repetition,
 * flags (?i) (?s) (?m). No back references and no look-around. Recursion goes by groups alone, of
 * which at most GROUPS_MAX nest. Folding of case covers ASCII; a pattern that asks for more is
 * refused rather than half answered.
 */
#include "filter/regex_private.h"

#define GROUPS_MAX 100
#define REPEAT_MAX 1000

typedef struct compiler {
    rk_str pattern;
    size_t at;
    rk_arena *arena;
    rk__regex_node *nodes;
    uint32_t nodes_len, nodes_cap;
    uint32_t groups;
    bool fold, multiline, no_newline;
    const char *why;
    bool no_memory;
} compiler;

static uint32_t
fail(compiler *c, const char *why)
{
    if (!c->why) {
        c->why = why;
    }
    return RK__REGEX_NONE;
}

static uint32_t
out_of_memory(compiler *c)
{
    c->no_memory = true;
    return fail(c, "no memory");
}

uint32_t
rk__regex_next(rk_str s, size_t *at)
{
    unsigned char ch = (unsigned char)s.data[*at];
    size_t left = s.len - *at;
    size_t len = ch < 0x80 ? 1 : ch < 0xC2 ? 0 : ch < 0xE0 ? 2 : ch < 0xF0 ? 3 : ch < 0xF5 ? 4 : 0;
    static const uint8_t first_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};

    if (len == 1) {
        *at += 1;
        return ch;
    }
    uint32_t code = len ? ch & first_bits[len] : 0;
    bool good = len > 0 && len <= left;
    for (size_t i = 1; good && i < len; i++) {
        unsigned char more = (unsigned char)s.data[*at + i];
        good = (more & 0xC0) == 0x80;
        code = (code << 6) | (more & 0x3F);
    }
    if (!good || code < smallest[len] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
        *at += 1;
        return 0xFFFD;
    }
    *at += len;
    return code;
}

/* ---- the tree ---- */

static uint32_t
new_node(compiler *c, rk__regex_kind kind)
{
    if (c->nodes_len == RK__REGEX_MAX) {
        return fail(c, "the pattern is too large");
    }
    if (c->nodes_len == c->nodes_cap) {
        uint32_t cap = c->nodes_cap ? c->nodes_cap * 2 : 32;
        rk__regex_node *grown = RK_ARENA_ARRAY(c->arena, rk__regex_node, cap);
        if (!grown) {
            return out_of_memory(c);
        }
        if (c->nodes_len) {
            memcpy(grown, c->nodes, c->nodes_len * sizeof(*grown));
        }
        c->nodes = grown;
        c->nodes_cap = cap;
    }
    c->nodes[c->nodes_len] =
        (rk__regex_node){.kind = kind, .first = RK__REGEX_NONE, .next = RK__REGEX_NONE};
    return c->nodes_len++;
}

static bool
add_range(compiler *c, uint32_t set, uint32_t lo, uint32_t hi)
{
    rk__regex_node *n = &c->nodes[set];
    if ((n->ranges_len & (n->ranges_len - 1)) == 0) { /* full at every power of two */
        uint32_t cap = n->ranges_len ? n->ranges_len * 2 : 1;
        rk__regex_range *grown = RK_ARENA_ARRAY(c->arena, rk__regex_range, cap);
        if (!grown) {
            (void)out_of_memory(c);
            return false;
        }
        if (n->ranges_len) {
            memcpy(grown, n->ranges, n->ranges_len * sizeof(*grown));
        }
        n->ranges = grown;
    }
    n->ranges[n->ranges_len++] = (rk__regex_range){lo, hi};
    return true;
}

/* As add_range(), with the other case of letters when folding. */
static bool
add_folded(compiler *c, uint32_t set, uint32_t lo, uint32_t hi)
{
    if (!add_range(c, set, lo, hi)) {
        return false;
    }
    if (!c->fold) {
        return true;
    }
    if (hi >= 0x80) {
        (void)fail(c, "(?i) is supported for ASCII only");
        return false;
    }
    uint32_t up_lo = RK_MAX(lo, (uint32_t)'a');
    uint32_t up_hi = RK_MIN(hi, (uint32_t)'z');
    uint32_t down_lo = RK_MAX(lo, (uint32_t)'A');
    uint32_t down_hi = RK_MIN(hi, (uint32_t)'Z');
    return (up_lo > up_hi || add_range(c, set, up_lo - 32, up_hi - 32)) &&
           (down_lo > down_hi || add_range(c, set, down_lo + 32, down_hi + 32));
}

static uint32_t
literal(compiler *c, uint32_t code)
{
    uint32_t n = new_node(c, RN_SET);
    if (n == RK__REGEX_NONE) {
        return RK__REGEX_NONE;
    }
    bool letter = rk__regex_is_word(code) && code >= 'A' && code != '_';
    bool good = c->fold && (letter || code >= 0x80) ? add_folded(c, n, code, code)
                                                    : add_range(c, n, code, code);
    return good ? n : RK__REGEX_NONE;
}

static bool
more(const compiler *c)
{
    return c->at < c->pattern.len;
}

static char
peek(const compiler *c)
{
    return more(c) ? c->pattern.data[c->at] : '\0';
}

static bool
take(compiler *c, const char *word)
{
    size_t len = strlen(word);
    if (c->pattern.len - c->at < len || memcmp(c->pattern.data + c->at, word, len) != 0) {
        return false;
    }
    c->at += len;
    return true;
}

/* \d \w \s (|which| lower case): adds their ranges, or, |inverse|, all others. */
static bool
add_class(compiler *c, uint32_t set, char which, bool inverse)
{
    static const rk__regex_range digits[] = {{'0', '9'}};
    static const rk__regex_range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const rk__regex_range blanks[] = {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}};
    const rk__regex_range *r = which == 'd' ? digits : which == 'w' ? words : blanks;
    size_t n = which == 'd' ? RK_COUNT(digits) : which == 'w' ? RK_COUNT(words) : RK_COUNT(blanks);
    uint32_t from = 0;

    for (size_t i = 0; i < n; i++) {
        if (!inverse && !add_range(c, set, r[i].lo, r[i].hi)) {
            return false;
        }
        if (inverse && r[i].lo > from && !add_range(c, set, from, r[i].lo - 1)) {
            return false;
        }
        from = r[i].hi + 1;
    }
    return !inverse || add_range(c, set, from, 0x10FFFF);
}

static bool
is_class_letter(char ch)
{
    return ch == 'd' || ch == 'w' || ch == 's' || ch == 'D' || ch == 'W' || ch == 'S';
}

static int
hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9') {
        return ch - '0';
    }
    ch = (char)(ch | 32);
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* The code point of an escape after its backslash; RK__REGEX_NONE when it is none. */
static uint32_t
escaped(compiler *c)
{
    static const char names[] = "aftnrv";
    static const char values[] = "\a\f\t\n\r\v";
    char ch = peek(c);
    const char *found = ch ? strchr(names, ch) : NULL;

    if (!more(c)) {
        return fail(c, "trailing backslash");
    }
    if (found) {
        c->at++;
        return (uint32_t)values[found - names];
    }
    if (ch == 'x') {
        uint32_t code = 0;
        bool braces = false;
        c->at++;
        braces = take(c, "{");
        size_t from = c->at;
        while (more(c) && hex_digit(peek(c)) >= 0 && c->at - from < (braces ? 6u : 2u)) {
            code = code * 16 + (uint32_t)hex_digit(peek(c));
            c->at++;
        }
        bool good = braces ? c->at > from && take(c, "}") : c->at - from == 2;
        return good && code <= 0x10FFFF ? code : fail(c, "bad \\x escape");
    }
    if (ch == '0') {
        c->at++;
        uint32_t code = 0;
        for (int i = 0; i < 2 && peek(c) >= '0' && peek(c) <= '7'; i++) {
            code = code * 8 + (uint32_t)(peek(c) - '0');
            c->at++;
        }
        return code;
    }
    if (ch >= '1' && ch <= '9') {
        return fail(c, "back references are not supported");
    }
    if (ch == 'p' || ch == 'P') {
        return fail(c, "Unicode classes are not supported by this build");
    }
    if ((unsigned char)ch < 0x80 && (rk__regex_is_word((uint32_t)ch) && ch != '_')) {
        return fail(c, "unknown escape");
    }
    return rk__regex_next(c->pattern, &c->at);
}

/* [:name:] inside brackets, after "[:". */
static bool
add_named(compiler *c, uint32_t set)
{
    static const struct {
        const char *name;
        rk__regex_range ranges[4];
        size_t n;
    } named[] = {
        {"alpha:]", {{'A', 'Z'}, {'a', 'z'}}, 2},
        {"digit:]", {{'0', '9'}}, 1},
        {"alnum:]", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}, 3},
        {"upper:]", {{'A', 'Z'}}, 1},
        {"lower:]", {{'a', 'z'}}, 1},
        {"space:]", {{'\t', '\r'}, {' ', ' '}}, 2},
        {"punct:]", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}, 4},
        {"word:]", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, 4},
        {"xdigit:]", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}, 3},
    };
    for (size_t i = 0; i < RK_COUNT(named); i++) {
        if (take(c, named[i].name)) {
            for (size_t k = 0; k < named[i].n; k++) {
                if (!add_folded(c, set, named[i].ranges[k].lo, named[i].ranges[k].hi)) {
                    return false;
                }
            }
            return true;
        }
    }
    (void)fail(c, "unknown class name");
    return false;
}

static uint32_t
brackets(compiler *c)
{
    uint32_t set = new_node(c, RN_SET);
    if (set == RK__REGEX_NONE) {
        return RK__REGEX_NONE;
    }
    c->nodes[set].negated = take(c, "^");
    for (bool first = true; first || peek(c) != ']'; first = false) {
        if (!more(c)) {
            return fail(c, "missing ]");
        }
        if (take(c, "[:")) {
            if (!add_named(c, set)) {
                return RK__REGEX_NONE;
            }
            continue;
        }
        uint32_t lo = 0;
        if (take(c, "\\")) {
            if (is_class_letter(peek(c))) {
                char ch = c->pattern.data[c->at++];
                if (!add_class(c, set, (char)(ch | 32), ch < 'a')) {
                    return RK__REGEX_NONE;
                }
                continue;
            }
            lo = escaped(c);
        } else {
            lo = rk__regex_next(c->pattern, &c->at);
        }
        uint32_t hi = lo;
        if (peek(c) == '-' && c->at + 1 < c->pattern.len && c->pattern.data[c->at + 1] != ']') {
            c->at++;
            hi = take(c, "\\") ? escaped(c) : rk__regex_next(c->pattern, &c->at);
        }
        if (c->why) {
            return RK__REGEX_NONE;
        }
        if (hi < lo) {
            return fail(c, "range out of order");
        }
        if (!add_folded(c, set, lo, hi)) {
            return RK__REGEX_NONE;
        }
    }
    c->at++;
    return set;
}

static uint32_t
assertion_node(compiler *c, rk__assertion which)
{
    uint32_t n = new_node(c, RN_ASSERT);
    if (n != RK__REGEX_NONE) {
        c->nodes[n].assertion = which;
    }
    return n;
}

static uint32_t alternate(compiler *c);

/* "(?" was taken: flags. True when a group follows (":" seen), false when they hold for the rest.
 */
static bool
flags(compiler *c, bool *group)
{
    bool on = true;
    for (;;) {
        char ch = peek(c);
        c->at++;
        switch (ch) {
        case 'i':
            c->fold = on;
            break;
        case 'm':
            c->multiline = on;
            break;
        case 's':
            c->no_newline = !on;
            break;
        case 'U':
            break; /* greedy or not: no difference */
        case '-':
            on = false;
            break;
        case ':':
            *group = true;
            return true;
        case ')':
            *group = false;
            return true;
        default:
            (void)fail(c, "unknown group syntax");
            return false;
        }
    }
}

static uint32_t
group(compiler *c)
{
    bool fold = c->fold;
    bool multiline = c->multiline;
    bool no_newline = c->no_newline;
    bool is_group = true;

    if (c->groups >= GROUPS_MAX) {
        return fail(c, "groups nest too deep");
    }
    if (take(c, "?P<") || take(c, "?<")) {
        if (peek(c) == '=' || peek(c) == '!') {
            return fail(c, "look-around is not supported");
        }
        while (rk__regex_is_word((uint32_t)(unsigned char)peek(c))) {
            c->at++;
        }
        if (!take(c, ">")) {
            return fail(c, "bad group name");
        }
    } else if (take(c, "?")) {
        if (peek(c) == '=' || peek(c) == '!') {
            return fail(c, "look-around is not supported");
        }
        if (!flags(c, &is_group)) {
            return RK__REGEX_NONE;
        }
        if (!is_group) {
            return new_node(c, RN_EMPTY);
        }
    }
    c->groups++;
    uint32_t inside = alternate(c);
    c->groups--;
    if (inside == RK__REGEX_NONE) {
        return RK__REGEX_NONE;
    }
    if (!take(c, ")")) {
        return fail(c, "missing )");
    }
    c->fold = fold;
    c->multiline = multiline;
    c->no_newline = no_newline;
    return inside;
}

static uint32_t
dot(compiler *c)
{
    uint32_t n = new_node(c, RN_SET);
    if (n == RK__REGEX_NONE) {
        return RK__REGEX_NONE;
    }
    if (!c->no_newline) {
        return add_range(c, n, 0, 0x10FFFF) ? n : RK__REGEX_NONE;
    }
    return add_range(c, n, 0, '\n' - 1) && add_range(c, n, '\n' + 1, 0x10FFFF) ? n : RK__REGEX_NONE;
}

static uint32_t
backslash(compiler *c)
{
    char ch = peek(c);
    if (is_class_letter(ch)) {
        uint32_t n = new_node(c, RN_SET);
        c->at++;
        return n != RK__REGEX_NONE && add_class(c, n, (char)(ch | 32), ch < 'a') ? n
                                                                                 : RK__REGEX_NONE;
    }
    if (ch == 'b' || ch == 'B' || ch == 'A' || ch == 'z') {
        c->at++;
        return assertion_node(c, ch == 'b'   ? AS_WORD
                                 : ch == 'B' ? AS_NOT_WORD
                                 : ch == 'A' ? AS_BEGIN
                                             : AS_END);
    }
    if (ch == 'Q') {
        return fail(c, "\\Q is not supported by this build");
    }
    uint32_t code = escaped(c);
    return code == RK__REGEX_NONE ? RK__REGEX_NONE : literal(c, code);
}

static uint32_t
atom(compiler *c)
{
    char ch = c->pattern.data[c->at];
    switch (ch) {
    case '(':
        c->at++;
        return group(c);
    case '[':
        c->at++;
        return brackets(c);
    case '.':
        c->at++;
        return dot(c);
    case '^':
        c->at++;
        return assertion_node(c, c->multiline ? AS_LINE_BEGIN : AS_BEGIN);
    case '$':
        c->at++;
        return assertion_node(c, c->multiline ? AS_LINE_END : AS_END);
    case '\\':
        c->at++;
        return backslash(c);
    case '*':
    case '+':
    case '?':
        return fail(c, "missing argument to repetition operator");
    default:
        return literal(c, rk__regex_next(c->pattern, &c->at));
    }
}

/* {n}, {n,}, {n,m} at the current place; false, and nothing taken, when it is a plain brace. */
static bool
counts(compiler *c, uint32_t *min, uint32_t *max)
{
    size_t start = c->at;
    uint32_t values[2] = {0, 0};
    int have = 0;
    bool comma = false;

    if (!take(c, "{")) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        size_t from = c->at;
        while (peek(c) >= '0' && peek(c) <= '9') {
            values[i] = RK_MIN(values[i] * 10 + (uint32_t)(peek(c) - '0'), 100000u);
            c->at++;
        }
        have += c->at > from ? 1 : 0;
        if (i == 0 && (c->at == from || !(comma = take(c, ",")))) {
            break;
        }
    }
    if (have == 0 || !take(c, "}")) {
        c->at = start;
        return false;
    }
    *min = values[0];
    *max = !comma ? values[0] : have == 2 ? values[1] : RK__REGEX_NONE;
    return true;
}

static uint32_t
repeat(compiler *c)
{
    uint32_t inside = atom(c);
    uint32_t min = 0;
    uint32_t max = RK__REGEX_NONE;

    if (inside == RK__REGEX_NONE || !more(c)) {
        return inside;
    }
    if (take(c, "*")) {
        min = 0;
    } else if (take(c, "+")) {
        min = 1;
    } else if (take(c, "?")) {
        max = 1;
    } else if (!counts(c, &min, &max)) {
        return inside;
    }
    (void)take(c, "?"); /* lazy: the same set of matches */
    char ch = peek(c);
    uint32_t unused = 0;
    if (ch == '*' || ch == '+' || ch == '?' || counts(c, &unused, &unused)) {
        return fail(c, "bad repetition operator");
    }
    if ((max != RK__REGEX_NONE && max < min) || min > REPEAT_MAX ||
        (max != RK__REGEX_NONE && max > REPEAT_MAX)) {
        return fail(c, "bad repetition count");
    }
    uint32_t n = new_node(c, RN_REPEAT);
    if (n != RK__REGEX_NONE) {
        c->nodes[n].first = inside;
        c->nodes[n].min = min;
        c->nodes[n].max = max;
    }
    return n;
}

static uint32_t
concat(compiler *c)
{
    uint32_t n = new_node(c, RN_CONCAT);
    uint32_t last = RK__REGEX_NONE;
    if (n == RK__REGEX_NONE) {
        return RK__REGEX_NONE;
    }
    while (more(c) && peek(c) != '|' && peek(c) != ')') {
        uint32_t child = repeat(c);
        if (child == RK__REGEX_NONE) {
            return RK__REGEX_NONE;
        }
        if (last == RK__REGEX_NONE) {
            c->nodes[n].first = child;
        } else {
            c->nodes[last].next = child;
        }
        last = child;
    }
    return n;
}

static uint32_t
alternate(compiler *c)
{
    uint32_t n = new_node(c, RN_ALTERNATE);
    uint32_t last = RK__REGEX_NONE;
    if (n == RK__REGEX_NONE) {
        return RK__REGEX_NONE;
    }
    do {
        uint32_t child = concat(c);
        if (child == RK__REGEX_NONE) {
            return RK__REGEX_NONE;
        }
        if (last == RK__REGEX_NONE) {
            c->nodes[n].first = child;
        } else {
            c->nodes[last].next = child;
        }
        last = child;
    } while (take(c, "|"));
    return n;
}

rk_code
rk__regex_parse(rk__regex_tree *out, rk_str pattern, const char **why, rk_arena *arena)
{
    compiler c = {.pattern = pattern, .arena = arena};
    uint32_t root = alternate(&c);
    if (root != RK__REGEX_NONE && more(&c)) {
        root = fail(&c, "unexpected )");
    }
    if (root == RK__REGEX_NONE) {
        *why = c.why;
        return c.no_memory ? RK_ENOMEM : RK_EINVAL;
    }
    *out = (rk__regex_tree){.nodes = c.nodes, .root = root};
    return RK_OK;
}
