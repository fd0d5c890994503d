/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular expressions that take time linear in the text: Thompson's construction, run as a set of
 * states.
 *
 * A match may lie anywhere in the text, and only whether there is one counts: greedy and lazy
 * repetition are the same. The syntax is regex_parse.c's.
 *
 * Pattern -> tree (recursion bounded by nesting of groups) -> program of at most RK__REGEX_MAX
 * steps -> per character of the text, the set of steps that could be next. Patterns that are plain
 * text, perhaps anchored, are searched as text.
 *
 * Characters are code points; an ill-formed byte counts as U+FFFD.
 */
#include "filter/regex_private.h"

typedef enum op { OP_SET, OP_ASSERT, OP_SPLIT, OP_JUMP, OP_MATCH } op;

typedef struct step {
    op op;
    rk__assertion assertion;
    const rk__regex_node *set;
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
    rk_arena *arena;
    const rk__regex_node *nodes;
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
    return RK__REGEX_NONE;
}

static uint32_t
out_of_memory(compiler *c)
{
    c->no_memory = true;
    return fail(c, "no memory");
}

static bool
set_has(const rk__regex_node *set, uint32_t code)
{
    for (uint32_t i = 0; i < set->ranges_len; i++) {
        if (code >= set->ranges[i].lo && code <= set->ranges[i].hi) {
            return !set->negated;
        }
    }
    return set->negated;
}

/* ---- the program ---- */

static uint32_t
emit(compiler *c, step s)
{
    if (c->steps_len >= RK__REGEX_MAX) {
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
generate_repeat(compiler *c, const rk__regex_node *n)
{
    for (uint32_t i = 0; i < n->min; i++) {
        if (!generate(c, n->first)) {
            return false;
        }
    }
    if (n->max == RK__REGEX_NONE) { /* L: split body, out; body; jump L */
        uint32_t split = emit(c, (step){.op = OP_SPLIT});
        if (split == RK__REGEX_NONE || !generate(c, n->first) ||
            emit(c, (step){.op = OP_JUMP, .x = split}) == RK__REGEX_NONE) {
            return false;
        }
        c->steps[split].x = split + 1;
        c->steps[split].y = c->steps_len;
        return true;
    }
    for (uint32_t i = n->min; i < n->max; i++) {
        uint32_t split = emit(c, (step){.op = OP_SPLIT});
        if (split == RK__REGEX_NONE || !generate(c, n->first)) {
            return false;
        }
        c->steps[split].x = split + 1;
        c->steps[split].y = c->steps_len;
    }
    return true;
}

static bool
generate_alternate(compiler *c, const rk__regex_node *n)
{
    uint32_t jumps = RK__REGEX_NONE; /* jumps to the end, chained through x until it is known */
    for (uint32_t child = n->first; child != RK__REGEX_NONE; child = c->nodes[child].next) {
        bool last = c->nodes[child].next == RK__REGEX_NONE;
        uint32_t split = last ? 0 : emit(c, (step){.op = OP_SPLIT});
        if (split == RK__REGEX_NONE || !generate(c, child)) {
            return false;
        }
        if (!last) {
            jumps = emit(c, (step){.op = OP_JUMP, .x = jumps});
            if (jumps == RK__REGEX_NONE) {
                return false;
            }
            c->steps[split].x = split + 1;
            c->steps[split].y = c->steps_len;
        }
    }
    while (jumps != RK__REGEX_NONE) {
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
    const rk__regex_node *n = &c->nodes[at]; /* the tree is complete: it does not move any more */
    if (c->visits++ > RK__REGEX_MAX * 8) {
        (void)fail(c, "the pattern is too large");
        return false;
    }
    switch (n->kind) {
    case RN_SET:
        return emit(c, (step){.op = OP_SET, .set = n}) != RK__REGEX_NONE;
    case RN_ASSERT:
        return emit(c, (step){.op = OP_ASSERT, .assertion = n->assertion}) != RK__REGEX_NONE;
    case RN_CONCAT:
        for (uint32_t child = n->first; child != RK__REGEX_NONE; child = c->nodes[child].next) {
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
    compiler c = {.arena = arena};

    if (!regex || !copy.data) {
        return RK_ENOMEM;
    }
    try_plain(regex, copy);
    rk__regex_tree tree = {0};
    RK_RET(rk__regex_parse(&tree, copy, why, arena));
    c.nodes = tree.nodes;
    if (!generate(&c, tree.root) || emit(&c, (step){.op = OP_MATCH}) == RK__REGEX_NONE) {
        *why = c.why;
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

/* What stands around a place of the text: RK__REGEX_NONE beyond its ends. */
typedef struct place {
    uint32_t before, after;
} place;

static bool
holds(rk__assertion which, place p)
{
    bool word = (p.before != RK__REGEX_NONE && rk__regex_is_word(p.before)) !=
                (p.after != RK__REGEX_NONE && rk__regex_is_word(p.after));
    switch (which) {
    case AS_BEGIN:
        return p.before == RK__REGEX_NONE;
    case AS_END:
        return p.after == RK__REGEX_NONE;
    case AS_LINE_BEGIN:
        return p.before == RK__REGEX_NONE || p.before == '\n';
    case AS_LINE_END:
        return p.after == RK__REGEX_NONE || p.after == '\n';
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
    place p = {RK__REGEX_NONE, RK__REGEX_NONE};

    if (regex->plain) {
        return plain_test(regex, text);
    }
    now->n = 0;
    p.after = at < text.len ? rk__regex_next(text, &at) : RK__REGEX_NONE;
    for (;;) {
        if (follow(regex, now, scratch->stack, 0, p)) { /* a match may start anywhere */
            return true;
        }
        if (p.after == RK__REGEX_NONE) {
            return false;
        }
        uint32_t code = p.after;
        place next = {code, at < text.len ? rk__regex_next(text, &at) : RK__REGEX_NONE};
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
