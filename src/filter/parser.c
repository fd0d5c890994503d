/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From tokens to syntax nodes: an operator-precedence parser with a stack of its own.
 *
 * The parser is in one of two states. Wanting an operand, it pushes prefix operators and opening
 * brackets and takes names, literals and whole function heads. Having an operand, it takes infix
 * operators (first folding those on the stack that bind at least as tightly: all are left
 * associative, ** too), separators and closing brackets. A prefix operator may begin an operand of
 * a tighter operator and then takes everything down to its own level; pushing it regardless of what
 * lies below does that.
 *
 * A finished node is appended to c->nodes, so children always stand before parents and later passes
 * are plain loops. Elements of a list that are plain literals (perhaps signed) never become nodes:
 * a list of a million keys is a vector of values.
 *
 * Bounds: depth counts open brackets and prefix operators; between two of those at most one frame
 * per precedence level waits.
 */
#include <strings.h>

#include "filter/filter_private.h"

/* Binding strength, larger is tighter. */
enum {
    LV_NONE = 0,
    LV_OR,
    LV_AND,
    LV_BOR,
    LV_BXOR,
    LV_BAND,
    LV_EQ,
    LV_REL,
    LV_RCHAIN,
    LV_CHAIN,
    LV_IN,
    LV_SHIFT,
    LV_ADD,
    LV_MUL,
    LV_PREFIX,
    LV_POW,
    LV_NOT_MATCH,
    LV_MATCH,
    LV_LIKE,
    LV_EXISTS,
};

#define FRAMES_MAX ((RK__DEPTH_MAX + 1) * 18)

typedef enum frame_kind {
    FR_PREFIX,
    FR_BINARY, /* also IN */
    FR_CHAIN,
    FR_PAREN,
    FR_LIST,
    FR_CALL,
} frame_kind;

typedef struct frame {
    frame_kind kind;
    uint8_t level;
    bool negated;
    rk__token_kind op;
    rk__token_kind op2;
    uint32_t start;  /* where the text of the result begins */
    uint32_t lhs;    /* FR_BINARY, FR_CHAIN: left operand */
    uint32_t middle; /* FR_CHAIN: the name */
    rk__values *list;
    rk__node call; /* FR_CALL: being filled */
    uint32_t last; /* FR_CALL: last argument */
} frame;

typedef struct parser {
    rk__compile *c;
    rk__token token; /* the current one */
    frame *frames;
    uint32_t frames_len;
    uint32_t frames_cap;
    uint32_t depth;
    /* the operand just finished, with parentheses around it counted in */
    uint32_t node;
    uint32_t start, end;
    bool have;
    bool done;
} parser;

static void
advance(parser *p)
{
    p->token = rk__lex(p->c->text, p->token.end);
}

static rk__token
after(const parser *p, rk__token token)
{
    return rk__lex(p->c->text, token.end);
}

/* The innermost bracket that is open. */
static void
find_open(const parser *p, rk__mistake *m)
{
    for (uint32_t i = p->frames_len; i-- > 0;) {
        const frame *f = &p->frames[i];
        if (f->kind < FR_PAREN) {
            continue;
        }
        m->open = f->kind == FR_LIST ? '[' : '(';
        m->open_at = f->start;
        m->open_in = f->kind == FR_PAREN && i > 0 && p->frames[i - 1].op == TK_IN;
        while (p->c->text.data[m->open_at] != m->open) { /* a call begins with its name */
            m->open_at++;
        }
        return;
    }
}

/* |token| is not what must be here; with a hint where |plain|, that is when it stands in the midst
 * of operators and values. */
static rk_code
refuse(parser *p, bool plain)
{
    rk_str text = p->c->text;
    rk__mistake m = {.token = p->token, .after_operand = p->have};
    uint32_t line = 1;
    uint32_t column = 0;

    rk__place(text, p->token.start, &line, &column);
    uint32_t end = p->token.end;
    while (p->token.kind == TK_BAD && end < text.len && ((uint8_t)text.data[end] & 0xC0) == 0x80) {
        end++; /* the whole character, not its first byte */
    }
    rk_str word = p->token.kind == TK_EOF ? RK_STR("<EOF>") : rk__span(p->c, p->token.start, end);
    (void)rk__fail(p->c, "line %u:%u %s '%.*s'", line, column,
                   p->token.kind == TK_BAD ? "token recognition error at:" : "mismatched input",
                   RK__SHORT(word));
    if (!plain && p->token.kind != TK_BAD && p->token.kind != TK_EOF) {
        return RK_EINVAL;
    }
    find_open(p, &m);
    m.operand_is_name = p->have && p->c->nodes[p->node].kind == ND_NAME;
    return rk__hint_syntax(p->c, &m);
}

static rk_code
syntax_error(parser *p)
{
    return refuse(p, false);
}

static rk_code
misplaced(parser *p)
{
    return refuse(p, true);
}

static rk_code
expect(parser *p, rk__token_kind kind)
{
    if (p->token.kind != kind) {
        return syntax_error(p);
    }
    advance(p);
    return RK_OK;
}

static rk_code
add_node(parser *p, rk__node node, uint32_t *out)
{
    rk__compile *c = p->c;
    if (c->nodes_len >= RK__NODES_MAX) {
        return rk__fail(c, "expression has more than %d terms", RK__NODES_MAX);
    }
    if (c->nodes_len == c->nodes_cap) {
        uint32_t cap = c->nodes_cap ? c->nodes_cap * 2 : 64;
        rk__node *grown = RK_ARENA_ARRAY(c->arena, rk__node, cap);
        if (!grown) {
            return RK_ENOMEM;
        }
        if (c->nodes_len) {
            memcpy(grown, c->nodes, c->nodes_len * sizeof(*grown));
        }
        c->nodes = grown;
        c->nodes_cap = cap;
    }
    c->nodes[c->nodes_len] = node;
    *out = c->nodes_len++;
    return RK_OK;
}

/* |node| becomes the current operand. */
static rk_code
finish(parser *p, rk__node node)
{
    RK_RET(add_node(p, node, &p->node));
    p->start = node.start;
    p->end = node.end;
    p->have = true;
    return RK_OK;
}

static rk_code
push(parser *p, frame f)
{
    if (p->frames_len == p->frames_cap) {
        uint32_t cap = p->frames_cap ? p->frames_cap * 2 : 32;
        RK_ASSERT(cap <= FRAMES_MAX * 2);
        frame *grown = RK_ARENA_ARRAY(p->c->arena, frame, cap);
        if (!grown) {
            return RK_ENOMEM;
        }
        if (p->frames_len) {
            memcpy(grown, p->frames, p->frames_len * sizeof(*grown));
        }
        p->frames = grown;
        p->frames_cap = cap;
    }
    p->frames[p->frames_len++] = f;
    return RK_OK;
}

/* As push(), for frames that count as nesting. */
static rk_code
push_nested(parser *p, frame f)
{
    if (p->depth >= RK__DEPTH_MAX) {
        return rk__fail(p->c, "expression nesting depth exceeds the limit of %d", RK__DEPTH_MAX);
    }
    p->depth++;
    return push(p, f);
}

/* Folds operators on the stack that bind at least as tightly as |level|. */
static rk_code
reduce(parser *p, uint8_t level)
{
    while (p->frames_len > 0) {
        frame *f = &p->frames[p->frames_len - 1];
        if (f->kind >= FR_PAREN || f->level < level) {
            return RK_OK;
        }
        rk__node node = {.start = f->start, .end = p->end, .op = f->op};
        if (f->kind == FR_PREFIX && f->op == TK_SUB && p->c->nodes[p->node].kind == ND_BIG) {
            p->c->nodes[p->node].kind = ND_VALUE; /* it already holds the smallest integer */
            p->start = f->start;
            p->depth--;
            p->frames_len--;
            continue;
        }
        if (f->kind == FR_PREFIX) {
            node.kind = ND_PREFIX;
            node.a = p->node;
            p->depth--;
        } else if (f->kind == FR_CHAIN) {
            node.kind = ND_CHAIN;
            node.op2 = f->op2;
            node.a = f->lhs;
            node.b = f->middle;
            node.c = p->node;
        } else {
            node.kind = f->op == TK_IN ? ND_IN : ND_BINARY;
            node.negated = f->negated;
            node.a = f->lhs;
            node.b = p->node;
            if (f->op == TK_MATCH || f->op == TK_NOT_MATCH) {
                p->c->nodes[p->node].negated = true; /* a string there is read as a regex */
            }
        }
        p->frames_len--;
        RK_RET(finish(p, node));
    }
    return RK_OK;
}

/* ---- operands ---- */

static rk_code
finish_list(parser *p, frame *f, uint32_t end)
{
    rk__node node = {.kind = ND_LIST, .start = f->start, .end = end, .list = f->list};
    p->frames_len--;
    p->depth--;
    return finish(p, node);
}

/* Takes elements of the innermost list while they are plain literals. */
static rk_code
take_literals(parser *p)
{
    frame *f = &p->frames[p->frames_len - 1];
    rk__compile *c = p->c;

    for (;;) {
        rk__token sign = p->token;
        rk__token literal = sign;
        rk__value value = {0};
        if (sign.kind == TK_RBRACKET && f->list->n > 0) { /* a trailing comma */
            advance(p);
            return finish_list(p, f, sign.end);
        }
        if (sign.kind == TK_SUB) {
            literal = after(p, sign);
            if (literal.kind != TK_INT && literal.kind != TK_FLOAT) {
                return RK_OK;
            }
        }
        if (literal.kind < TK_INT || literal.kind > TK_RAW) {
            return RK_OK;
        }
        rk__token next = after(p, literal);
        if (next.kind != TK_COMMA && next.kind != TK_RBRACKET) {
            return RK_OK;
        }
        if (literal.kind == TK_BOOL) {
            char first = c->text.data[literal.start];
            value.kind = VK_BOOL;
            value.b = first == 't' || first == 'T';
        } else if (literal.kind >= TK_STRING) {
            value.kind = VK_STRING;
            RK_RET(rk__unquote(c, rk__span(c, literal.start, literal.end), &value.s));
        } else {
            bool big = false;
            RK_RET(rk__number(c, literal, &value, &big));
            if (big && sign.kind != TK_SUB) {
                return rk__fail(c, "integer literal 9223372036854775808 overflows Int64");
            }
            if (value.kind == VK_INT && sign.kind == TK_SUB) {
                value.i = rk__int_op(TK_SUB, 0, value.i);
            } else if (sign.kind == TK_SUB) {
                value.f = -value.f;
            }
        }
        RK_RET(rk__values_push(f->list, value, c->arena));
        p->token = next;
        advance(p);
        if (next.kind == TK_RBRACKET) {
            return finish_list(p, f, next.end);
        }
    }
}

static rk_code
open_list(parser *p)
{
    frame f = {.kind = FR_LIST, .start = p->token.start};
    f.list = RK_ARENA_NEW(p->c->arena, rk__values);
    if (!f.list) {
        return RK_ENOMEM;
    }
    RK_RET(push_nested(p, f));
    advance(p);
    return take_literals(p);
}

static bool
is_compare(rk__token_kind kind)
{
    return kind >= TK_LT && kind <= TK_NE;
}

/* [("+"|"-") INTERVAL STRING] after a name, when it is there. */
static rk_code
take_interval(parser *p, bool *taken)
{
    *taken = false;
    if ((p->token.kind == TK_ADD || p->token.kind == TK_SUB) &&
        after(p, p->token).kind == TK_INTERVAL) {
        advance(p);
        advance(p);
        *taken = true;
        return expect(p, TK_STRING);
    }
    return RK_OK;
}

/* Timestamp comparisons are one operand each: name [+ INTERVAL 'd'] cmp ISO 't', or the mirror
 * image. */
static rk_code
take_time(parser *p, bool *taken)
{
    rk__node node = {.kind = ND_TIME, .start = p->token.start};
    bool interval = false;

    *taken = true;
    if (p->token.kind == TK_ISO) {
        advance(p);
        RK_RET(expect(p, TK_STRING));
        if (!is_compare(p->token.kind)) {
            return syntax_error(p);
        }
        advance(p);
        node.name_start = p->token.start;
        node.name_end = p->token.end;
        node.end = p->token.end;
        RK_RET(expect(p, TK_NAME));
        RK_RET(take_interval(p, &interval));
        return finish(p, node);
    }
    rk__token name = p->token;
    rk__token next = after(p, name);
    bool moved = (next.kind == TK_ADD || next.kind == TK_SUB) && after(p, next).kind == TK_INTERVAL;
    if (!moved && !(is_compare(next.kind) && after(p, next).kind == TK_ISO)) {
        *taken = false;
        return RK_OK;
    }
    advance(p);
    RK_RET(take_interval(p, &interval));
    if (!is_compare(p->token.kind)) {
        return syntax_error(p);
    }
    advance(p);
    RK_RET(expect(p, TK_ISO));
    node.name_start = name.start;
    node.name_end = name.end;
    node.end = p->token.end;
    RK_RET(expect(p, TK_STRING));
    return finish(p, node);
}

/* What follows the parenthesis of each function: a field name first, and how many expressions. */
static const struct {
    bool name_first;
    uint8_t min, max;
} heads[] = {
    [FN_TEXT_MATCH] = {true, 1, 1},     [FN_TEXT_MATCH_FUZZY] = {true, 1, 1},
    [FN_PHRASE_MATCH] = {true, 1, 2},   [FN_RANDOM_SAMPLE] = {false, 1, 1},
    [FN_ELEMENT_FILTER] = {true, 1, 1}, [FN_MATCH_ALL] = {true, 1, 1},
    [FN_MATCH_ANY] = {true, 1, 1},      [FN_MATCH_LEAST] = {true, 1, 1},
    [FN_MATCH_MOST] = {true, 1, 1},     [FN_MATCH_EXACT] = {true, 1, 1},
    [FN_CONTAINS] = {false, 2, 2},      [FN_CONTAINS_ALL] = {false, 2, 2},
    [FN_CONTAINS_ANY] = {false, 2, 2},  [FN_ARRAY_LENGTH] = {true, 0, 0},
    [FN_ST_BINARY] = {true, 1, 1},      [FN_ST_DWITHIN] = {true, 2, 2},
    [FN_ST_ISVALID] = {true, 0, 0},
};

static rk_code
finish_call(parser *p, frame *f)
{
    rk__node node = f->call;
    if (node.fn != FN_GENERIC) {
        bool must = node.fn == FN_TEXT_MATCH_FUZZY || node.fn == FN_MATCH_LEAST ||
                    node.fn == FN_MATCH_MOST || node.fn == FN_MATCH_EXACT;
        if (node.b < heads[node.fn].min || (must && !node.has_option)) {
            return syntax_error(p);
        }
    }
    node.end = p->token.end;
    p->frames_len--;
    p->depth--;
    RK_RET(finish(p, node));
    advance(p);
    return RK_OK;
}

/* The named option as the last argument: NAME "=" INT ")". */
static rk_code
take_option(parser *p, frame *f)
{
    rk__function fn = f->call.fn;
    rk_str name = rk__span(p->c, p->token.start, p->token.end);
    bool fits = false;
    if (fn == FN_TEXT_MATCH) {
        fits = name.len == 20 && p->token.kind == TK_OPTION;
    } else if (fn == FN_MATCH_LEAST || fn == FN_MATCH_MOST || fn == FN_MATCH_EXACT) {
        fits = name.len == 9 && p->token.kind == TK_OPTION;
    } else if (fn == FN_TEXT_MATCH_FUZZY) {
        fits = name.len == 17 && strncasecmp(name.data, "max_edit_distance", 17) == 0;
    }
    if (!fits) {
        return syntax_error(p);
    }
    advance(p);
    RK_RET(expect(p, TK_ASSIGN));
    rk__token number = p->token;
    bool big = false;
    RK_RET(expect(p, TK_INT));
    RK_RET(rk__number(p->c, number, &f->call.value, &big));
    f->call.has_option = true;
    if (p->token.kind != TK_RPAREN) {
        return syntax_error(p);
    }
    return finish_call(p, f);
}

/* |fn| "(" up to the first expression argument. */
static rk_code
open_call(parser *p, rk__function fn)
{
    frame f = {.kind = FR_CALL, .start = p->token.start};
    f.call = (rk__node){.kind = ND_CALL, .fn = fn, .start = p->token.start};
    f.call.name_start = p->token.start;
    f.call.name_end = p->token.end;
    advance(p);
    RK_RET(expect(p, TK_LPAREN));
    RK_RET(push_nested(p, f));
    frame *top = &p->frames[p->frames_len - 1];
    if (fn == FN_GENERIC) {
        return p->token.kind == TK_RPAREN ? finish_call(p, top) : RK_OK;
    }
    if (!heads[fn].name_first) {
        return RK_OK;
    }
    bool path = fn == FN_ARRAY_LENGTH && (p->token.kind == TK_JSON || p->token.kind == TK_STRUCT);
    if (p->token.kind != TK_NAME && !path) {
        return syntax_error(p);
    }
    top->call.name_start = p->token.start;
    top->call.name_end = p->token.end;
    advance(p);
    if (heads[fn].max == 0) {
        return p->token.kind == TK_RPAREN ? finish_call(p, top) : syntax_error(p);
    }
    return expect(p, TK_COMMA);
}

static rk_code
take_name(parser *p)
{
    rk__token token = p->token;
    rk__node node = {.start = token.start, .end = token.end};
    rk__token next = after(p, token);

    if (token.kind == TK_NAME) {
        bool taken = false;
        RK_RET(take_time(p, &taken));
        if (taken) {
            return RK_OK;
        }
        if (next.kind == TK_LPAREN) {
            return open_call(p, FN_GENERIC);
        }
    }
    node.kind = token.kind == TK_NAME ? ND_NAME : token.kind == TK_META ? ND_META : ND_JSON;
    if (token.kind == TK_STRUCT) {
        node.kind = ND_STRUCT;
    }
    advance(p);
    RK_RET(finish(p, node));
    bool test = next.kind == TK_IS_NULL || next.kind == TK_IS_NOT_NULL;
    if (test && (token.kind == TK_NAME || token.kind == TK_JSON)) {
        rk__node parent = {.kind = ND_NULL_TEST, .start = token.start, .end = next.end};
        parent.a = p->node;
        parent.negated = next.kind == TK_IS_NOT_NULL;
        advance(p);
        return finish(p, parent);
    }
    return RK_OK;
}

static rk_code
take_template(parser *p)
{
    rk__node node = {.kind = ND_TEMPLATE, .start = p->token.start};
    advance(p);
    node.name_start = p->token.start;
    node.name_end = p->token.end;
    RK_RET(expect(p, TK_NAME));
    node.end = p->token.end;
    RK_RET(expect(p, TK_RBRACE));
    return finish(p, node);
}

static rk_code
take_literal(parser *p)
{
    rk__token token = p->token;
    rk__node node = {.kind = ND_VALUE, .start = token.start, .end = token.end};
    bool big = false;

    if (token.kind == TK_BOOL) {
        char first = p->c->text.data[token.start];
        node.value.kind = VK_BOOL;
        node.value.b = first == 't' || first == 'T';
    } else if (token.kind == TK_STRING || token.kind == TK_RAW) {
        node.kind = ND_STRING;
    } else {
        RK_RET(rk__number(p->c, token, &node.value, &big));
        node.kind = big ? ND_BIG : ND_VALUE;
    }
    advance(p);
    return finish(p, node);
}

static rk_code
take_empty_list(parser *p)
{
    rk__node node = {.kind = ND_LIST, .start = p->token.start, .end = p->token.end};
    node.list = RK_ARENA_NEW(p->c->arena, rk__values);
    if (!node.list) {
        return RK_ENOMEM;
    }
    advance(p);
    return finish(p, node);
}

static rk_code
step_operand(parser *p)
{
    frame prefix = {.kind = FR_PREFIX, .op = p->token.kind, .start = p->token.start};
    bool taken = false;

    switch ((int)p->token.kind) {
    case TK_ADD:
    case TK_SUB:
    case TK_BNOT:
    case TK_NOT:
    case TK_EXISTS:
        prefix.level = p->token.kind == TK_EXISTS ? LV_EXISTS : LV_PREFIX;
        RK_RET(push_nested(p, prefix));
        advance(p);
        return RK_OK;
    case TK_LPAREN:
        prefix.kind = FR_PAREN;
        RK_RET(push_nested(p, prefix));
        advance(p);
        return RK_OK;
    case TK_LBRACKET:
        return open_list(p);
    case TK_EMPTY:
        return take_empty_list(p);
    case TK_LBRACE:
        return take_template(p);
    case TK_INT:
    case TK_FLOAT:
    case TK_BOOL:
    case TK_STRING:
    case TK_RAW:
        return take_literal(p);
    case TK_NAME:
    case TK_META:
    case TK_JSON:
    case TK_STRUCT:
        return take_name(p);
    case TK_ISO:
        return take_time(p, &taken);
    case TK_FUNCTION:
        return open_call(p, p->token.fn);
    default:
        return misplaced(p);
    }
}

/* ---- operators ---- */

static uint8_t
infix_level(rk__token_kind kind)
{
    switch ((int)kind) {
    case TK_OR:
        return LV_OR;
    case TK_AND:
        return LV_AND;
    case TK_BOR:
        return LV_BOR;
    case TK_BXOR:
        return LV_BXOR;
    case TK_BAND:
        return LV_BAND;
    case TK_EQ:
    case TK_NE:
        return LV_EQ;
    case TK_LT:
    case TK_LE:
    case TK_GT:
    case TK_GE:
        return LV_REL;
    case TK_IN:
        return LV_IN;
    case TK_SHL:
    case TK_SHR:
        return LV_SHIFT;
    case TK_ADD:
    case TK_SUB:
        return LV_ADD;
    case TK_MUL:
    case TK_DIV:
    case TK_MOD:
        return LV_MUL;
    case TK_POW:
        return LV_POW;
    case TK_NOT_MATCH:
        return LV_NOT_MATCH;
    case TK_MATCH:
        return LV_MATCH;
    case TK_LIKE:
        return LV_LIKE;
    default:
        return LV_NONE;
    }
}

static bool
is_chain_name(rk_str text, rk__token token)
{
    if (token.kind == TK_STRUCT) {
        /* $[x] and s[0][x]; not s[x] */
        for (uint32_t i = token.start; i < token.end; i++) {
            if (text.data[i] == '[') {
                char ch = text.data[i + 1];
                return text.data[token.start] == '$' || (ch >= '0' && ch <= '9');
            }
        }
        return false;
    }
    return token.kind == TK_NAME || token.kind == TK_JSON;
}

/* lo < NAME < hi: true when a chain was opened. */
static rk_code
take_chain(parser *p, bool *taken)
{
    rk__token op = p->token;
    bool less = op.kind == TK_LT || op.kind == TK_LE;
    bool greater = op.kind == TK_GT || op.kind == TK_GE;

    *taken = false;
    if (!less && !greater) {
        return RK_OK;
    }
    rk__token name = after(p, op);
    if (!is_chain_name(p->c->text, name)) {
        return RK_OK;
    }
    rk__token op2 = after(p, name);
    bool same =
        less ? op2.kind == TK_LT || op2.kind == TK_LE : op2.kind == TK_GT || op2.kind == TK_GE;
    if (!same || after(p, op2).kind == TK_ISO) {
        return RK_OK;
    }
    uint8_t level = less ? LV_CHAIN : LV_RCHAIN;
    RK_RET(reduce(p, level));
    frame f = {.kind = FR_CHAIN, .level = level, .op = op.kind, .op2 = op2.kind};
    rk__node node = {.kind = ND_NAME, .start = name.start, .end = name.end};
    node.kind = name.kind == TK_NAME ? ND_NAME : name.kind == TK_JSON ? ND_JSON : ND_STRUCT;
    f.start = p->start;
    f.lhs = p->node;
    RK_RET(add_node(p, node, &f.middle));
    RK_RET(push(p, f));
    p->token = op2;
    advance(p);
    p->have = false;
    *taken = true;
    return RK_OK;
}

static rk_code
add_argument(parser *p, frame *f)
{
    if (f->call.b == 0) {
        f->call.a = p->node;
    } else {
        p->c->nodes[f->last].next = p->node;
    }
    f->last = p->node;
    f->call.b++;
    if (f->call.fn != FN_GENERIC && f->call.b > heads[f->call.fn].max) {
        return syntax_error(p);
    }
    return RK_OK;
}

static rk_code
close_paren(parser *p)
{
    RK_RET(reduce(p, LV_NONE));
    frame *f = p->frames_len ? &p->frames[p->frames_len - 1] : NULL;
    if (f && f->kind == FR_PAREN) {
        p->start = f->start;
        p->end = p->token.end;
        p->frames_len--;
        p->depth--;
        advance(p);
        return RK_OK;
    }
    if (f && f->kind == FR_CALL) {
        RK_RET(add_argument(p, f));
        return finish_call(p, f);
    }
    return misplaced(p);
}

static rk_code
add_element(parser *p, frame *f)
{
    rk__value value = {.kind = VK_NODE, .node = p->node};
    return rk__values_push(f->list, value, p->c->arena);
}

static rk_code
take_comma(parser *p)
{
    RK_RET(reduce(p, LV_NONE));
    frame *f = p->frames_len ? &p->frames[p->frames_len - 1] : NULL;
    if (f && f->kind == FR_LIST) {
        RK_RET(add_element(p, f));
        advance(p);
        p->have = false;
        return take_literals(p);
    }
    if (f && f->kind == FR_CALL) {
        bool more = f->call.fn == FN_GENERIC || f->call.b + 1u < heads[f->call.fn].max;
        rk__token next = after(p, p->token);
        bool option = next.kind == TK_OPTION || after(p, next).kind == TK_ASSIGN;
        if (!more && !option) {
            return syntax_error(p);
        }
        RK_RET(add_argument(p, f));
        advance(p);
        p->have = false;
        if (option) {
            return take_option(p, f);
        }
        if (f->call.fn == FN_GENERIC && p->token.kind == TK_RPAREN) {
            return finish_call(p, f);
        }
        return RK_OK;
    }
    return misplaced(p);
}

static rk_code
close_list(parser *p)
{
    RK_RET(reduce(p, LV_NONE));
    frame *f = p->frames_len ? &p->frames[p->frames_len - 1] : NULL;
    if (!f || f->kind != FR_LIST) {
        return misplaced(p);
    }
    uint32_t end = p->token.end;
    RK_RET(add_element(p, f));
    advance(p);
    return finish_list(p, f, end);
}

static rk_code
step_operator(parser *p)
{
    rk__token token = p->token;
    bool taken = false;
    bool negated = false;

    switch ((int)token.kind) {
    case TK_RPAREN:
        return close_paren(p);
    case TK_COMMA:
        return take_comma(p);
    case TK_RBRACKET:
        return close_list(p);
    case TK_EOF:
        RK_RET(reduce(p, LV_NONE));
        if (p->frames_len > 0) {
            return misplaced(p);
        }
        p->done = true;
        return RK_OK;
    default:
        break;
    }
    RK_RET(take_chain(p, &taken));
    if (taken) {
        return RK_OK;
    }
    if (token.kind == TK_NOT && after(p, token).kind == TK_IN) {
        negated = true;
        token = after(p, token);
    }
    uint8_t level = infix_level(token.kind);
    if (level == LV_NONE) {
        return misplaced(p);
    }
    RK_RET(reduce(p, level));
    frame f = {.kind = FR_BINARY, .level = level, .op = token.kind, .negated = negated};
    f.start = p->start;
    f.lhs = p->node;
    RK_RET(push(p, f));
    p->token = token;
    advance(p);
    p->have = false;
    return RK_OK;
}

rk_code
rk__parse(rk__compile *c)
{
    parser p = {.c = c, .token = rk__lex(c->text, 0)};
    while (!p.done) {
        RK_RET(p.have ? step_operator(&p) : step_operand(&p));
    }
    c->root = p.node;
    return RK_OK;
}
