/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular expressions that take time linear in the text: Thompson's construction, run as a set of
 * states.
 *
 * The syntax is RE2's without Unicode classes: literals, ., classes, \d \w \s \b and their
 * inverses, anchors, groups, alternation, repetition (greedy or not is the same here: only whether
 * there is a match counts), flags (?i) (?s) (?m). No back references and no look-around, by
 * construction. A match may lie anywhere in the text; the dot takes a newline.
 *
 * Pattern -> tree (recursion bounded by GROUPS_MAX) -> program of at most PROGRAM_MAX steps -> per
 * character of the text, the set of steps that could be next. Patterns that are plain text, perhaps
 * anchored, are searched as text.
 *
 * Characters are code points; an ill-formed byte counts as U+FFFD. Folding of case covers ASCII; a
 * pattern that asks for more is refused rather than half answered.
 */
#include "filter/filter_private.h"

#define GROUPS_MAX  100
#define PROGRAM_MAX 20000
#define REPEAT_MAX  1000
#define NONE        UINT32_MAX

typedef struct range {
    uint32_t lo, hi;
} range;

typedef enum node_kind {
    RN_EMPTY,
    RN_SET, /* one code point out of |ranges| */
    RN_ASSERT,
    RN_CONCAT,
    RN_ALTERNATE,
    RN_REPEAT,
} node_kind;

typedef enum assertion {
    AS_BEGIN,
    AS_END,
    AS_LINE_BEGIN,
    AS_LINE_END,
    AS_WORD,
    AS_NOT_WORD,
} assertion;

typedef struct node {
    node_kind kind;
    assertion assertion;
    range *ranges;
    uint32_t ranges_len;
    bool negated;
    uint32_t min, max; /* RN_REPEAT; max NONE: any number */
    uint32_t first;    /* child */
    uint32_t next;     /* sibling */
} node;

typedef enum op { OP_SET, OP_ASSERT, OP_SPLIT, OP_JUMP, OP_MATCH } op;

typedef struct step {
    op op;
    assertion assertion;
    const node *set;
    uint32_t x, y; /* OP_SPLIT: both; OP_JUMP: x */
} step;

struct rk__regex {
    step *steps;
    uint32_t steps_len;
    bool plain; /* |text| alone decides */
    bool at_begin, at_end;
    rk_str text;
};

/* A set of steps with constant-time insert, test and clear. */
typedef struct state_set {
    uint32_t *dense;
    uint32_t *sparse;
    uint32_t n;
} state_set;

struct rk__regex_scratch {
    state_set now, then;
    uint32_t *stack;
};

typedef struct compiler {
    rk_str pattern;
    size_t at;
    rk_arena *arena;
    node *nodes;
    uint32_t nodes_len, nodes_cap;
    uint32_t groups;
    bool fold, multiline, no_newline;
    const char *why;
    bool no_memory;
    step *steps;
    uint32_t steps_len, steps_cap;
    uint32_t visits; /* of tree nodes while generating: nested counts of nothing must end, too */
} compiler;

static uint32_t
fail(compiler *c, const char *why)
{
    if (!c->why) {
        c->why = why;
    }
    return NONE;
}

static uint32_t
out_of_memory(compiler *c)
{
    c->no_memory = true;
    return fail(c, "no memory");
}

/* ---- text ---- */

/* The code point at |*at| of |s|, which moves past it. */
static uint32_t
next_code_point(rk_str s, size_t *at)
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

static bool
is_word(uint32_t code)
{
    return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z') ||
           (code >= '0' && code <= '9') || code == '_';
}

static bool
set_has(const node *set, uint32_t code)
{
    for (uint32_t i = 0; i < set->ranges_len; i++) {
        if (code >= set->ranges[i].lo && code <= set->ranges[i].hi) {
            return !set->negated;
        }
    }
    return set->negated;
}

/* ---- the tree ---- */

static uint32_t
new_node(compiler *c, node_kind kind)
{
    if (c->nodes_len == PROGRAM_MAX) {
        return fail(c, "the pattern is too large");
    }
    if (c->nodes_len == c->nodes_cap) {
        uint32_t cap = c->nodes_cap ? c->nodes_cap * 2 : 32;
        node *grown = RK_ARENA_ARRAY(c->arena, node, cap);
        if (!grown) {
            return out_of_memory(c);
        }
        if (c->nodes_len) {
            memcpy(grown, c->nodes, c->nodes_len * sizeof(*grown));
        }
        c->nodes = grown;
        c->nodes_cap = cap;
    }
    c->nodes[c->nodes_len] = (node){.kind = kind, .first = NONE, .next = NONE};
    return c->nodes_len++;
}

static bool
add_range(compiler *c, uint32_t set, uint32_t lo, uint32_t hi)
{
    node *n = &c->nodes[set];
    if ((n->ranges_len & (n->ranges_len - 1)) == 0) { /* full at every power of two */
        uint32_t cap = n->ranges_len ? n->ranges_len * 2 : 1;
        range *grown = RK_ARENA_ARRAY(c->arena, range, cap);
        if (!grown) {
            (void)out_of_memory(c);
            return false;
        }
        if (n->ranges_len) {
            memcpy(grown, n->ranges, n->ranges_len * sizeof(*grown));
        }
        n->ranges = grown;
    }
    n->ranges[n->ranges_len++] = (range){lo, hi};
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
    if (n == NONE) {
        return NONE;
    }
    bool letter = is_word(code) && code >= 'A' && code != '_';
    bool good = c->fold && (letter || code >= 0x80) ? add_folded(c, n, code, code)
                                                    : add_range(c, n, code, code);
    return good ? n : NONE;
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
    static const range digits[] = {{'0', '9'}};
    static const range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const range blanks[] = {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}};
    const range *r = which == 'd' ? digits : which == 'w' ? words : blanks;
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

/* The code point of an escape after its backslash; NONE when it is none. */
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
    if ((unsigned char)ch < 0x80 && (is_word((uint32_t)ch) && ch != '_')) {
        return fail(c, "unknown escape");
    }
    return next_code_point(c->pattern, &c->at);
}

/* [:name:] inside brackets, after "[:". */
static bool
add_named(compiler *c, uint32_t set)
{
    static const struct {
        const char *name;
        range ranges[4];
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
    if (set == NONE) {
        return NONE;
    }
    c->nodes[set].negated = take(c, "^");
    for (bool first = true; first || peek(c) != ']'; first = false) {
        if (!more(c)) {
            return fail(c, "missing ]");
        }
        if (take(c, "[:")) {
            if (!add_named(c, set)) {
                return NONE;
            }
            continue;
        }
        uint32_t lo = 0;
        if (take(c, "\\")) {
            if (is_class_letter(peek(c))) {
                char ch = c->pattern.data[c->at++];
                if (!add_class(c, set, (char)(ch | 32), ch < 'a')) {
                    return NONE;
                }
                continue;
            }
            lo = escaped(c);
        } else {
            lo = next_code_point(c->pattern, &c->at);
        }
        uint32_t hi = lo;
        if (peek(c) == '-' && c->at + 1 < c->pattern.len && c->pattern.data[c->at + 1] != ']') {
            c->at++;
            hi = take(c, "\\") ? escaped(c) : next_code_point(c->pattern, &c->at);
        }
        if (c->why) {
            return NONE;
        }
        if (hi < lo) {
            return fail(c, "range out of order");
        }
        if (!add_folded(c, set, lo, hi)) {
            return NONE;
        }
    }
    c->at++;
    return set;
}

static uint32_t
assertion_node(compiler *c, assertion which)
{
    uint32_t n = new_node(c, RN_ASSERT);
    if (n != NONE) {
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
        while (is_word((uint32_t)(unsigned char)peek(c))) {
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
            return NONE;
        }
        if (!is_group) {
            return new_node(c, RN_EMPTY);
        }
    }
    c->groups++;
    uint32_t inside = alternate(c);
    c->groups--;
    if (inside == NONE) {
        return NONE;
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
    if (n == NONE) {
        return NONE;
    }
    if (!c->no_newline) {
        return add_range(c, n, 0, 0x10FFFF) ? n : NONE;
    }
    return add_range(c, n, 0, '\n' - 1) && add_range(c, n, '\n' + 1, 0x10FFFF) ? n : NONE;
}

static uint32_t
backslash(compiler *c)
{
    char ch = peek(c);
    if (is_class_letter(ch)) {
        uint32_t n = new_node(c, RN_SET);
        c->at++;
        return n != NONE && add_class(c, n, (char)(ch | 32), ch < 'a') ? n : NONE;
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
    return code == NONE ? NONE : literal(c, code);
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
        return literal(c, next_code_point(c->pattern, &c->at));
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
    *max = !comma ? values[0] : have == 2 ? values[1] : NONE;
    return true;
}

static uint32_t
repeat(compiler *c)
{
    uint32_t inside = atom(c);
    uint32_t min = 0;
    uint32_t max = NONE;

    if (inside == NONE || !more(c)) {
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
    if ((max != NONE && max < min) || min > REPEAT_MAX || (max != NONE && max > REPEAT_MAX)) {
        return fail(c, "bad repetition count");
    }
    uint32_t n = new_node(c, RN_REPEAT);
    if (n != NONE) {
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
    uint32_t last = NONE;
    if (n == NONE) {
        return NONE;
    }
    while (more(c) && peek(c) != '|' && peek(c) != ')') {
        uint32_t child = repeat(c);
        if (child == NONE) {
            return NONE;
        }
        if (last == NONE) {
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
    uint32_t last = NONE;
    if (n == NONE) {
        return NONE;
    }
    do {
        uint32_t child = concat(c);
        if (child == NONE) {
            return NONE;
        }
        if (last == NONE) {
            c->nodes[n].first = child;
        } else {
            c->nodes[last].next = child;
        }
        last = child;
    } while (take(c, "|"));
    return n;
}

/* ---- the program ---- */

static uint32_t
emit(compiler *c, step s)
{
    if (c->steps_len >= PROGRAM_MAX) {
        return fail(c, "the pattern is too large");
    }
    if (c->steps_len == c->steps_cap) {
        uint32_t cap = c->steps_cap ? c->steps_cap * 2 : 64;
        step *grown = RK_ARENA_ARRAY(c->arena, step, cap);
        if (!grown) {
            return out_of_memory(c);
        }
        if (c->steps_len) {
            memcpy(grown, c->steps, c->steps_len * sizeof(*grown));
        }
        c->steps = grown;
        c->steps_cap = cap;
    }
    c->steps[c->steps_len] = s;
    return c->steps_len++;
}

static bool generate(compiler *c, uint32_t at);

static bool
generate_repeat(compiler *c, const node *n)
{
    for (uint32_t i = 0; i < n->min; i++) {
        if (!generate(c, n->first)) {
            return false;
        }
    }
    if (n->max == NONE) { /* L: split body, out; body; jump L */
        uint32_t split = emit(c, (step){.op = OP_SPLIT});
        if (split == NONE || !generate(c, n->first) ||
            emit(c, (step){.op = OP_JUMP, .x = split}) == NONE) {
            return false;
        }
        c->steps[split].x = split + 1;
        c->steps[split].y = c->steps_len;
        return true;
    }
    for (uint32_t i = n->min; i < n->max; i++) {
        uint32_t split = emit(c, (step){.op = OP_SPLIT});
        if (split == NONE || !generate(c, n->first)) {
            return false;
        }
        c->steps[split].x = split + 1;
        c->steps[split].y = c->steps_len;
    }
    return true;
}

static bool
generate_alternate(compiler *c, const node *n)
{
    uint32_t jumps = NONE; /* jumps to the end, chained through x until it is known */
    for (uint32_t child = n->first; child != NONE; child = c->nodes[child].next) {
        bool last = c->nodes[child].next == NONE;
        uint32_t split = last ? 0 : emit(c, (step){.op = OP_SPLIT});
        if (split == NONE || !generate(c, child)) {
            return false;
        }
        if (!last) {
            jumps = emit(c, (step){.op = OP_JUMP, .x = jumps});
            if (jumps == NONE) {
                return false;
            }
            c->steps[split].x = split + 1;
            c->steps[split].y = c->steps_len;
        }
    }
    while (jumps != NONE) {
        uint32_t before = c->steps[jumps].x;
        c->steps[jumps].x = c->steps_len;
        jumps = before;
    }
    return true;
}

/* Depth: at most four levels of tree per group. */
static bool
generate(compiler *c, uint32_t at)
{
    const node *n = &c->nodes[at]; /* the tree is complete: it does not move any more */
    if (c->visits++ > PROGRAM_MAX * 8) {
        (void)fail(c, "the pattern is too large");
        return false;
    }
    switch (n->kind) {
    case RN_SET:
        return emit(c, (step){.op = OP_SET, .set = n}) != NONE;
    case RN_ASSERT:
        return emit(c, (step){.op = OP_ASSERT, .assertion = n->assertion}) != NONE;
    case RN_CONCAT:
        for (uint32_t child = n->first; child != NONE; child = c->nodes[child].next) {
            if (!generate(c, child)) {
                return false;
            }
        }
        return true;
    case RN_ALTERNATE:
        return generate_alternate(c, n);
    case RN_REPEAT:
        return generate_repeat(c, n);
    case RN_EMPTY:
    default:
        return true;
    }
}

/* Plain text, perhaps anchored: cut the anchors, and if the rest has no other sign it is searched
 * as text. */
static void
try_plain(rk__regex *regex, rk_str pattern)
{
    static const char signs[] = "\\.[](){}*+?|^$";
    rk_str text = pattern;
    if (text.len > 0 && text.data[0] == '^') {
        regex->at_begin = true;
        text.data++;
        text.len--;
    }
    if (text.len > 0 && text.data[text.len - 1] == '$') {
        regex->at_end = true;
        text.len--;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] != '\0' && strchr(signs, text.data[i])) {
            return;
        }
    }
    regex->plain = true;
    regex->text = text;
}

rk_code
rk__regex_new(const rk__regex **out, rk_str pattern, const char **why, rk_arena *arena)
{
    rk__regex *regex = RK_ARENA_NEW(arena, rk__regex);
    rk_str copy = rk_arena_str(arena, pattern);
    compiler c = {.pattern = copy, .arena = arena};

    if (!regex || !copy.data) {
        return RK_ENOMEM;
    }
    try_plain(regex, copy);
    uint32_t root = alternate(&c);
    if (root != NONE && more(&c)) {
        root = fail(&c, "unexpected )");
    }
    bool good = root != NONE && generate(&c, root) && emit(&c, (step){.op = OP_MATCH}) != NONE;
    if (!good) {
        *why = c.why ? c.why : "bad pattern";
        return c.no_memory ? RK_ENOMEM : RK_EINVAL;
    }
    regex->steps = c.steps;
    regex->steps_len = c.steps_len;
    *out = regex;
    return RK_OK;
}

/* ---- running ---- */

rk__regex_scratch *
rk__regex_scratch_new(const rk__regex *regex, rk_arena *arena)
{
    rk__regex_scratch *s = RK_ARENA_NEW(arena, rk__regex_scratch);
    size_t n = regex->steps_len;
    uint32_t *words = RK_ARENA_ARRAY(arena, uint32_t, n * 6 + 2);
    if (!s || !words) {
        return NULL;
    }
    s->now = (state_set){words, words + n, 0};
    s->then = (state_set){words + 2 * n, words + 3 * n, 0};
    s->stack = words + 4 * n;
    return s;
}

static bool
insert(state_set *set, uint32_t at)
{
    uint32_t slot = set->sparse[at];
    if (slot < set->n && set->dense[slot] == at) {
        return false;
    }
    set->sparse[at] = set->n;
    set->dense[set->n++] = at;
    return true;
}

/* What stands around a place of the text: NONE beyond its ends. */
typedef struct place {
    uint32_t before, after;
} place;

static bool
holds(assertion which, place p)
{
    bool word = (p.before != NONE && is_word(p.before)) != (p.after != NONE && is_word(p.after));
    switch (which) {
    case AS_BEGIN:
        return p.before == NONE;
    case AS_END:
        return p.after == NONE;
    case AS_LINE_BEGIN:
        return p.before == NONE || p.before == '\n';
    case AS_LINE_END:
        return p.after == NONE || p.after == '\n';
    case AS_WORD:
        return word;
    case AS_NOT_WORD:
    default:
        return !word;
    }
}

/* Adds |at| and all steps reached from it without reading; true when one of them is the match. */
static bool
follow(const rk__regex *regex, state_set *set, uint32_t *stack, uint32_t at, place p)
{
    uint32_t depth = 0;
    stack[depth++] = at;
    while (depth > 0) {
        uint32_t pc = stack[--depth];
        if (!insert(set, pc)) {
            continue;
        }
        const step *s = &regex->steps[pc];
        switch (s->op) {
        case OP_MATCH:
            return true;
        case OP_JUMP:
            stack[depth++] = s->x;
            break;
        case OP_SPLIT:
            stack[depth++] = s->y;
            stack[depth++] = s->x;
            break;
        case OP_ASSERT:
            if (holds(s->assertion, p)) {
                stack[depth++] = pc + 1;
            }
            break;
        case OP_SET:
        default:
            break;
        }
    }
    return false;
}

static bool
plain_test(const rk__regex *regex, rk_str text)
{
    rk_str want = regex->text;
    if (want.len > text.len) {
        return false;
    }
    if (regex->at_begin && regex->at_end) {
        return rk_str_eq(text, want);
    }
    if (want.len == 0) {
        return true;
    }
    if (regex->at_begin) {
        return memcmp(text.data, want.data, want.len) == 0;
    }
    if (regex->at_end) {
        return memcmp(text.data + (text.len - want.len), want.data, want.len) == 0;
    }
    return memmem(text.data, text.len, want.data, want.len) != NULL;
}

bool
rk__regex_test(const rk__regex *regex, rk__regex_scratch *scratch, rk_str text)
{
    state_set *now = &scratch->now;
    state_set *then = &scratch->then;
    size_t at = 0;
    place p = {NONE, NONE};

    if (regex->plain) {
        return plain_test(regex, text);
    }
    now->n = 0;
    p.after = at < text.len ? next_code_point(text, &at) : NONE;
    for (;;) {
        if (follow(regex, now, scratch->stack, 0, p)) { /* a match may start anywhere */
            return true;
        }
        if (p.after == NONE) {
            return false;
        }
        uint32_t code = p.after;
        place next = {code, at < text.len ? next_code_point(text, &at) : NONE};
        then->n = 0;
        for (uint32_t i = 0; i < now->n; i++) {
            uint32_t pc = now->dense[i];
            const step *s = &regex->steps[pc];
            if (s->op == OP_SET && set_has(s->set, code) &&
                follow(regex, then, scratch->stack, pc + 1, next)) {
                return true;
            }
        }
        state_set *swap = now;
        now = then;
        then = swap;
        p = next;
    }
}
