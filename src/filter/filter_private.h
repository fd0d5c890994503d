/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the filter language: tokens, syntax nodes, constants, typed predicates, programs.
 *
 * A text passes through four forms, each flat so that nothing recurses over input:
 *   tokens      made on demand from an offset (lexer.c)
 *   nodes       an array in which children stand before their parents (parser.c)
 *   predicates  a typed tree: constants folded, names resolved, templates filled in (check*.c)
 *   program     steps in post-order over slots of bits (program.c), run block by block (eval*.c)
 *
 * Everything lives in the arena of the compile; predicates and programs are immutable afterwards.
 */
#ifndef RK_FILTER_FILTER_PRIVATE_H
#define RK_FILTER_FILTER_PRIVATE_H

#include "base/util.h"
#include "filter/filter.h"

#define RK__DEPTH_MAX 256              /* open parentheses, lists, calls and prefix operators */
#define RK__NODES_MAX 65536            /* syntax nodes; plain literals in a list are not nodes */
#define RK__TEXT_MAX  (64u << 20)      /* the largest request; a list of keys may fill it */
#define RK__BLOCK     8192u            /* rows evaluated at a time */
#define RK__WORDS     (RK__BLOCK / 64) /* words of one bitmap of a block */

/* ---- tokens ---- */

typedef enum rk__token_kind {
    TK_EOF,
    TK_BAD,
    TK_NAME,
    TK_META, /* $meta */
    TK_INT,
    TK_FLOAT,
    TK_BOOL,
    TK_STRING,
    TK_RAW,
    TK_JSON,   /* name["k"][0] */
    TK_STRUCT, /* s[x], s[0][x], $[x] */
    TK_EMPTY,  /* [ ] */
    TK_IS_NULL,
    TK_IS_NOT_NULL,
    TK_LT,
    TK_LE,
    TK_GT,
    TK_GE,
    TK_EQ,
    TK_NE,
    TK_MATCH,     /* =~ */
    TK_NOT_MATCH, /* !~ */
    TK_ADD,
    TK_SUB,
    TK_MUL,
    TK_DIV,
    TK_MOD,
    TK_POW,
    TK_SHL,
    TK_SHR,
    TK_BAND,
    TK_BOR,
    TK_BXOR,
    TK_BNOT,
    TK_NOT,
    TK_AND,
    TK_OR,
    TK_ASSIGN,
    TK_LPAREN,
    TK_RPAREN,
    TK_LBRACKET,
    TK_RBRACKET,
    TK_LBRACE,
    TK_RBRACE,
    TK_COMMA,
    TK_LIKE,
    TK_EXISTS,
    TK_IN,
    TK_FUNCTION,
    TK_INTERVAL,
    TK_ISO,
    TK_OPTION, /* minimum_should_match, threshold */
} rk__token_kind;

typedef enum rk__function {
    FN_NONE,
    FN_GENERIC,
    FN_TEXT_MATCH,
    FN_TEXT_MATCH_FUZZY,
    FN_PHRASE_MATCH,
    FN_RANDOM_SAMPLE,
    FN_ELEMENT_FILTER,
    FN_MATCH_ALL,
    FN_MATCH_ANY,
    FN_MATCH_LEAST,
    FN_MATCH_MOST,
    FN_MATCH_EXACT,
    FN_CONTAINS,
    FN_CONTAINS_ALL,
    FN_CONTAINS_ANY,
    FN_ARRAY_LENGTH,
    FN_ST_BINARY,
    FN_ST_DWITHIN,
    FN_ST_ISVALID,
} rk__function;

typedef struct rk__token {
    rk__token_kind kind;
    rk__function fn; /* of TK_FUNCTION */
    uint32_t start;  /* byte offsets into the text */
    uint32_t end;
} rk__token;

/* The token at or after |at|; TK_BAD covers what no token can begin with. */
rk__token rk__lex(rk_str text, uint32_t at);

/* ---- constants ---- */

typedef enum rk__value_kind {
    VK_NONE,
    VK_BOOL,
    VK_INT,
    VK_FLOAT,
    VK_STRING,
    VK_LIST,
    VK_NODE, /* inside an unchecked list: the element is syntax node |node| */
} rk__value_kind;

typedef struct rk__values rk__values;

typedef struct rk__value {
    rk__value_kind kind;
    uint32_t node;
    union {
        bool b;
        int64_t i;
        double f;
        rk_str s;
        const rk__values *list;
    };
} rk__value;

struct rk__values {
    rk__value *data;
    size_t n;
    size_t cap;
};

/* ---- syntax nodes ---- */

typedef enum rk__node_kind {
    ND_VALUE,
    ND_BIG,    /* decimal 9223372036854775808: only good under a minus */
    ND_STRING, /* text still with its quotes */
    ND_NAME,
    ND_META,
    ND_JSON,
    ND_STRUCT,
    ND_TEMPLATE,
    ND_LIST,
    ND_PREFIX,
    ND_BINARY,
    ND_IN,
    ND_CHAIN,
    ND_NULL_TEST,
    ND_CALL,
    ND_TIME,
} rk__node_kind;

typedef struct rk__node {
    rk__node_kind kind;
    rk__token_kind op;  /* operator; of a chain the left one */
    rk__token_kind op2; /* of a chain the right one */
    rk__function fn;
    bool negated;        /* not in, is not null; ND_STRING: the text of a regex */
    bool has_option;     /* a call had its named option */
    uint32_t start, end; /* the text it covers */
    uint32_t a, b, c;    /* children: indexes of nodes; a call: first argument, count */
    uint32_t next;       /* next argument of the same call */
    uint32_t name_start; /* a call: its name, or the field named first */
    uint32_t name_end;
    rk__value value;  /* ND_VALUE; the option's number of a call */
    rk__values *list; /* ND_LIST */
} rk__node;

/* What one compile shares. */
typedef struct rk__compile {
    rk_str text;
    const rk_schema *schema;
    const rk_filter_options *options;
    rk_arena *arena;
    rk__node *nodes;
    uint32_t nodes_len;
    uint32_t nodes_cap;
    uint32_t root;
    bool not_boolean; /* the sentence has its own form */
    char detail[640]; /* why it failed, without the wrapping */
} rk__compile;

/* Writes |c->detail| and returns RK_EINVAL. */
rk_code rk__fail(rk__compile *c, const char *fmt, ...) RK_PRINTF(2, 3);

static inline rk_str
rk__span(const rk__compile *c, uint32_t start, uint32_t end)
{
    return (rk_str){c->text.data + start, end - start};
}

static inline rk_str
rk__node_text(const rk__compile *c, uint32_t node)
{
    return rk__span(c, c->nodes[node].start, c->nodes[node].end);
}

/* For "%.*s" of text from the caller: at most 200 bytes. */
#define RK__SHORT(s) (int)RK_MIN((s).len, (size_t)200), ((s).data ? (s).data : "")

/* Fills c->nodes and c->root. */
RK_MUST_CHECK rk_code rk__parse(rk__compile *c);

/* ---- values (value.c) ---- */

RK_MUST_CHECK rk_code rk__values_push(rk__values *list, rk__value value, rk_arena *arena);
/* The value of an INT or FLOAT token; |*big| for decimal 2^63. */
RK_MUST_CHECK rk_code rk__number(rk__compile *c, rk__token token, rk__value *out, bool *big);
/* Text of a quoted token without quotes; escapes decoded unless raw. */
RK_MUST_CHECK rk_code rk__unquote(rk__compile *c, rk_str quoted, rk_str *out);
/* As rk__unquote() for a key of a JSON path: only \uXXXX is decoded. */
RK_MUST_CHECK rk_code rk__unquote_key(rk__compile *c, rk_str quoted, rk_str *out);
/* Folds |a| op |b| (arithmetic or comparison); |node| for messages. */
RK_MUST_CHECK rk_code rk__fold(rk__compile *c, rk__token_kind op, rk__value a, rk__value b,
                               rk_str text, rk__value *out);
RK_MUST_CHECK rk_code rk__template_value(rk__compile *c, rk_str name, rk__value *out);
const char *rk__value_type_name(rk__value_kind kind);
/* Appends |v| as the language spells it. */
void rk__value_print(rk_buf *out, rk__value v);
/* A short print for messages. */
typedef struct rk__short_text {
    char text[96];
} rk__short_text;
rk__short_text rk__value_text(rk__value v);

/* -1, 0 or 1. */
static inline int
rk__text_cmp(rk_str a, rk_str b)
{
    int order = rk_str_cmp(a, b);
    return (order > 0) - (order < 0);
}
/* Sign of a - b for numbers, exact for two integers; 2 when a NaN is among them. */
int rk__number_cmp(rk__value a, rk__value b);
/* Wrapping 64-bit arithmetic that never traps; |b| is not 0 for / and %. */
int64_t rk__int_op(rk__token_kind op, int64_t a, int64_t b);
double rk__float_op(rk__token_kind op, double a, double b);

/* ---- columns ---- */

typedef enum rk__column_kind {
    CK_SCALAR,  /* a whole column: bool, numbers, VarChar */
    CK_ARRAY,   /* a whole array */
    CK_ELEMENT, /* one element of an array */
    CK_JSON,    /* a JSON column, or a path below it */
    CK_OTHER,   /* vectors: only named, never read */
} rk__column_kind;

typedef struct rk__col {
    rk__column_kind kind;
    uint32_t position; /* in schema->fields */
    const rk_field *field;
    rk_type type;   /* of the value: RK_JSON for paths, the element type for elements */
    uint32_t index; /* of CK_ELEMENT; UINT32_MAX: always out of range */
    const rk_str *keys;
    size_t keys_len;
} rk__col;

/* ---- LIKE patterns (like.c) ---- */

typedef struct rk__like rk__like;
/* RK_EINVAL with no sentence when a lone backslash ends the pattern. */
RK_MUST_CHECK rk_code rk__like_new(const rk__like **out, rk_str pattern, rk_arena *arena);
bool rk__like_test(const rk__like *like, rk_str text);
typedef enum rk__like_shape {
    LIKE_SAME,   /* abc */
    LIKE_PREFIX, /* abc%, % */
    LIKE_SUFFIX, /* %abc */
    LIKE_INFIX,  /* %abc% */
    LIKE_OTHER,
} rk__like_shape;
/* |*literal|: the bytes of that shape; of LIKE_OTHER some bytes that every match holds, perhaps
 * none. */
rk__like_shape rk__like_shape_of(const rk__like *like, rk_str *literal);

/* ---- regular expressions (regex.c) ---- */

typedef struct rk__regex rk__regex;
typedef struct rk__regex_scratch rk__regex_scratch;
/* RK_EINVAL with |*why| a static sentence; RK_ENOMEM. */
RK_MUST_CHECK rk_code rk__regex_new(const rk__regex **out, rk_str pattern, const char **why,
                                    rk_arena *arena);
/* Scratch for one thread; NULL when memory is out. */
rk__regex_scratch *rk__regex_scratch_new(const rk__regex *regex, rk_arena *arena);
bool rk__regex_test(const rk__regex *regex, rk__regex_scratch *scratch, rk_str text);

/* ---- sets for IN ---- */

/* A text as two words: of at most 16 bytes they and the length say all (the first eight and the
 * last eight bytes, or all of them and zeros), of a longer one |head| is a hash. */
typedef struct rk__text_key {
    uint64_t head;
    uint64_t tail;
    uint32_t len; /* texts are shorter than 2^32 bytes */
} rk__text_key;

typedef struct rk__text_slot {
    uint64_t head;
    uint64_t tail;
    uint32_t len;
    uint32_t string; /* position + 1; 0: free */
} rk__text_slot;

#define RK__FEW_TEXTS 8

/*
 * Distinct values, sorted by kind. Who looks up many asks |bits| first, eight to a slot:
 * a clear bit at the top bits of the value's hash says no without a branch. Integers that lie
 * close together have a bit each instead, and no hash.
 */
typedef struct rk__set {
    bool only_ints; /* no boolean among them */
    bool only_strings;
    uint64_t seed;       /* of this process: nobody outside can choose values that collide */
    const int64_t *ints; /* ascending, distinct */
    size_t ints_len;
    const double *floats; /* ascending, distinct, no NaN */
    size_t floats_len;
    const rk_str *strings; /* ascending, distinct */
    size_t strings_len;
    const struct rk__set *float_set; /* rk__float_bits() of |floats| as integers; NULL: none */
    const uint64_t *near; /* bit i: near_lo + i is one of the integers; NULL: they lie apart */
    int64_t near_lo;
    uint64_t near_span;       /* bits, at least 64, a power of two */
    const uint64_t *int_bits; /* NULL: no such table */
    const int64_t *int_slots; /* open addressing, |int_free| where nothing is */
    int64_t int_free;
    unsigned int_shift; /* a hash's slot: hash >> int_shift; there are 8 bits to a slot */
    rk__text_key few_texts[RK__FEW_TEXTS]; /* of all of them, when they are few and short */
    size_t few_texts_len;                  /* 0: they are not */
    bool long_texts;                       /* one has more than 16 bytes: keys must be hashed */
    const uint64_t *text_bits;
    const rk__text_slot *text_slots;
    unsigned text_shift;
} rk__set;

#define RK__SET_FROM           12 /* values of a list over JSON from which the set serves */
#define RK__BITS_PER_SLOT_LOG2 3  /* bits of |int_bits| and |text_bits| to a slot */

/*
 * A list over JSON. A value meets constants of its own kind; where it equals none of them the
 * answer is no when all are of that kind, else unknown. Numbers are equal as integers, or as
 * doubles when one of the two is no integer.
 */
typedef struct rk__json_set {
    const rk__set *exact;   /* integers, floats and texts as they were written */
    const rk__set *doubles; /* all numbers as doubles */
    bool truths[2];         /* false, true */
    bool arrays;
    bool all_numbers, all_texts, all_truths;
} rk__json_set;

RK_MUST_CHECK rk_code rk__json_set_new(const rk__json_set **out, const rk__values *list,
                                       rk_arena *arena);
RK_MUST_CHECK rk_code rk__set_new(const rk__set **out, const rk__values *list, rk_arena *arena);
bool rk__set_has_int(const rk__set *set, int64_t v);
bool rk__set_has_float(const rk__set *set, double v);
bool rk__set_has_string(const rk__set *set, rk_str v);

/* Equal for equal numbers; |v| is no NaN. */
static inline int64_t
rk__float_bits(double v)
{
    int64_t bits;
    v += 0.0; /* -0.0 becomes 0.0 */
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

static inline uint64_t
rk__int_hash(int64_t v, uint64_t seed)
{
    uint64_t x = ((uint64_t)v ^ seed) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 32;
    return x * UINT64_C(0xd6e8feb86659fd93);
}

static inline rk__text_key
rk__text_key_of(rk_str v)
{
    rk__text_key key = {.len = (uint32_t)v.len};
    const uint8_t *p = (const uint8_t *)v.data;

    if (v.len > 16) {
        key.head = rk_hash64(v.data, v.len);
        return key;
    }
    if (v.len >= 8) {
        key.head = rk_get_u64le(p);
        key.tail = rk_get_u64le(p + v.len - 8);
        return key;
    }
    if (v.len >= 4) { /* two halves that may overlap */
        key.head = rk_get_u32le(p) | (uint64_t)rk_get_u32le(p + v.len - 4) << (8 * (v.len - 4));
    } else if (v.len > 0) {
        key.head = p[0] | (uint64_t)p[v.len / 2] << (8 * (v.len / 2)) |
                   (uint64_t)p[v.len - 1] << (8 * (v.len - 1));
    }
    key.tail = key.head;
    return key;
}

static inline uint64_t
rk__text_hash(uint64_t head, uint64_t tail, uint32_t len, uint64_t seed)
{
    uint64_t x = (head ^ seed) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 32;
    x += (tail + seed) * UINT64_C(0xbf58476d1ce4e5b9) + len;
    x ^= x >> 29;
    return x * UINT64_C(0xd6e8feb86659fd93);
}

/* rk__set_has_string() of the |len| bytes at |text| whose key is at hand. */
static inline bool
rk__set_has_text(const rk__set *set, uint64_t head, uint64_t tail, uint32_t len, const char *text)
{
    if (!set->text_slots) {
        return false;
    }
    uint64_t mask = (UINT64_C(1) << (64 - set->text_shift)) - 1;
    uint64_t at = rk__text_hash(head, tail, len, set->seed) >> set->text_shift;
    for (;; at = (at + 1) & mask) {
        const rk__text_slot *slot = &set->text_slots[at];
        if (!slot->string) {
            return false;
        }
        if (((slot->head ^ head) | (slot->tail ^ tail) | (slot->len ^ len)) == 0 &&
            (len <= 16 || memcmp(set->strings[slot->string - 1].data, text, len) == 0)) {
            return true;
        }
    }
}

static inline bool
rk__bit_at(const uint64_t *bits, uint64_t at)
{
    return bits[at / 64] >> (at % 64) & 1;
}

/* ---- predicates ---- */

typedef enum rk__pred_kind {
    PK_CONST,
    PK_AND,
    PK_OR,
    PK_NOT,
    PK_CMP,      /* col cmp value */
    PK_CMP_COLS, /* col cmp col2 */
    PK_RANGE,    /* value <(=) col <(=) value2 */
    PK_IN,
    PK_LIKE,
    PK_REGEX,
    PK_NULL, /* col is null */
    PK_EXISTS,
    PK_ARITH,    /* (col aop value2) cmp value */
    PK_LENGTH,   /* array_length(col) cmp value */
    PK_CONTAINS, /* fn says which; value holds the list, or the one value */
    PK_STARTS,   /* starts_with(arg 0, arg 1) */
    PK_EMPTY,    /* empty(arg 0) */
} rk__pred_kind;

/* An inclusive range of numbers: what every comparison of a scalar column turns into. */
typedef struct rk__range {
    bool empty;  /* nothing lies inside */
    bool negate; /* outside counts */
    int64_t i_lo, i_hi;
    double f_lo, f_hi;
} rk__range;

/* Division by a constant as a multiplication: see rk__divisor_of(). */
typedef struct rk__divisor {
    int64_t by;
    int64_t factor;
    unsigned shift;
} rk__divisor;

typedef struct rk__json_key rk__json_key; /* kernel.h */
typedef struct rk__pred rk__pred;
struct rk__pred {
    rk__pred_kind kind;
    rk__token_kind cmp; /* TK_LT .. TK_NE */
    rk__token_kind aop;
    rk__function fn;
    bool truth;   /* of PK_CONST */
    bool lo_open; /* of PK_RANGE */
    bool hi_open;
    uint8_t cost; /* 0..7: cheap ones run first */
    const rk__col *col;
    const rk__col *col2;
    rk__value value;
    rk__value value2;
    rk__pred **children;
    uint32_t children_len;
    uint32_t children_cap;
    /* made by rk__program_new() */
    rk__range range;    /* of PK_ARITH: where the result must lie */
    rk__divisor divide; /* of PK_ARITH with / or % by an integer */
    const rk__set *set;
    const rk__json_set *json_set; /* of a long IN list over JSON, else NULL */
    const rk__like *like;
    const rk__regex *regex;
    uint32_t regex_slot;      /* which scratch */
    const rk__json_key *path; /* the first steps of a path below JSON, as far as kernels can go */
    size_t path_len;
    size_t path_slack; /* bytes behind a text that kernels may read on the way */
};

/* The typed tree; |*sample| > 0 when random_sample() is its last conjunct (then |*out| may be NULL:
 * all rows). */
RK_MUST_CHECK rk_code rk__check(rk__compile *c, rk__pred **out, double *sample);

/* ---- check, inside ---- */

typedef enum rk__sem_kind {
    SK_NONE, /* consumed by its parent's syntax: nothing to read */
    SK_CONST,
    SK_TEMPLATE,
    SK_COLUMN,
    SK_ARITH,
    SK_LENGTH,
    SK_PRED,
    SK_SAMPLE, /* a predicate (or NULL) and a sample of what passes */
} rk__sem_kind;

typedef struct rk__sem {
    rk__sem_kind kind;
    rk__token_kind aop; /* SK_ARITH */
    bool big;           /* the constant is 2^63, waiting for a minus */
    uint32_t bad;       /* a list with an element that is no constant: its node + 1 */
    rk__value value;    /* SK_CONST; SK_ARITH: the operand */
    const rk__col *col;
    rk__pred *pred;
    double sample;
} rk__sem;

typedef struct rk__checker {
    rk__compile *c;
    rk__sem *sems; /* one per node */
} rk__checker;

rk__pred *rk__pred_new(rk__checker *k, rk__pred_kind kind, const rk__col *col);
RK_MUST_CHECK rk_code rk__sem_pred(rk__sem *out, rk__pred *pred); /* RK_ENOMEM for NULL */
/* The constant of a constant or template; a missing template is an error. */
RK_MUST_CHECK rk_code rk__sem_constant(rk__checker *k, uint32_t node, rk__value *out);
static inline bool
rk__sem_is_constant(const rk__sem *s)
{
    return s->kind == SK_CONST || s->kind == SK_TEMPLATE;
}
/* Converts |v| to the type |col| compares as; false when it does not fit. */
bool rk__convert(const rk__col *col, rk__value v, rk__value *out);
const char *rk__col_type_name(const rk__col *col, rk__short_text *scratch);

RK_MUST_CHECK rk_code rk__check_compare(rk__checker *k, uint32_t node, rk__sem *out);
RK_MUST_CHECK rk_code rk__check_chain(rk__checker *k, uint32_t node, rk__sem *out);
RK_MUST_CHECK rk_code rk__check_arith(rk__checker *k, uint32_t node, rk__sem *out);
RK_MUST_CHECK rk_code rk__check_in(rk__checker *k, uint32_t node, rk__sem *out);
RK_MUST_CHECK rk_code rk__check_like(rk__checker *k, uint32_t node, rk__sem *out);
RK_MUST_CHECK rk_code rk__check_regex(rk__checker *k, uint32_t node, rk__sem *out);
RK_MUST_CHECK rk_code rk__check_call(rk__checker *k, uint32_t node, rk__sem *out);
/* Names (check_name.c). */
RK_MUST_CHECK rk_code rk__resolve_name(rk__compile *c, rk_str name, const rk__col **out);
RK_MUST_CHECK rk_code rk__resolve_path(rk__compile *c, rk_str text, const rk__col **out);

/* ---- programs ---- */

typedef enum rk__step_kind {
    SP_LEAF,   /* slot = predicate, where active */
    SP_NOT,    /* slot = not slot */
    SP_NARROW, /* save the active rows; drop those |slot| has decided; none left: go to |jump| */
    SP_AND,    /* slot = slot and slot + 1; restore the active rows */
    SP_OR,
} rk__step_kind;

typedef struct rk__step {
    rk__step_kind kind;
    bool is_and; /* SP_NARROW */
    uint32_t slot;
    uint32_t mask; /* which saved mask: narrow writes |mask|, reads |mask| - 1 */
    uint32_t jump; /* the step after the matching SP_AND or SP_OR */
    const rk__pred *pred;
} rk__step;

struct rk_filter {
    const rk_schema *schema;
    rk__pred *root; /* NULL: all rows (a sample of them) */
    double sample;  /* 0: none */
    uint64_t seed;
    rk__step *steps;
    uint32_t steps_len;
    uint32_t slots;
    uint32_t masks;
    const rk__regex **regexes;
    uint32_t regexes_len;
    uint32_t *fields;
    size_t fields_len;
    const rk_pk *keys; /* of the whole or of a conjunct */
    size_t keys_len;
    bool keys_whole;
    bool keys_bound;
};

/* Fills everything behind |root|. */
RK_MUST_CHECK rk_code rk__program_new(rk_filter *filter, rk_arena *arena);
/* Finds keys of the primary key that bound |root|. */
RK_MUST_CHECK rk_code rk__find_keys(rk_filter *filter, rk_arena *arena);

/* ---- evaluation ---- */

/* A leaf over rows [first, first + rows) of its column; |first| is a multiple of 64. Bits of
 * |value| are set only where |known| is. |active| (may be NULL): rows outside it may get any
 * answer. */
typedef struct rk__leaf {
    const rk__pred *pred;
    const rk_column *col;
    const rk_column *col2;
    size_t first;
    size_t rows;
    const uint64_t *active;
    uint64_t *value;
    uint64_t *known;
    rk__regex_scratch **regexes;
    rk_arena *texts; /* reset at will: for decoding one text of JSON */
    bool *failed;    /* set when memory ran out */
} rk__leaf;

/* |by| is not zero (zero gives one that divides by 1). */
rk__divisor rk__divisor_of(int64_t by);
/* As rk__int_op(TK_DIV, a, d.by). */
static inline int64_t
rk__divide(int64_t a, rk__divisor d)
{
    __extension__ typedef __int128 wide;
    uint64_t high = (uint64_t)(((wide)a * d.factor) >> 64);
    uint64_t fix = (uint64_t)a & (0 - (uint64_t)((d.by > 0) & (d.factor < 0)));
    uint64_t unfix = (uint64_t)a & (0 - (uint64_t)((d.by < 0) & (d.factor > 0)));
    int64_t q = (int64_t)(high + fix - unfix) >> d.shift;
    return (int64_t)((uint64_t)q + ((uint64_t)q >> 63));
}

void rk__eval_scalar(const rk__leaf *leaf); /* comparisons, ranges, IN and arithmetic of bool and
                                               numbers; column pairs */
void rk__eval_rows(const rk__leaf *leaf);   /* VarChar, elements, whole arrays */
/* The rows of one VarChar column among |leaf->known| and |leaf->active|; false when this predicate
 * has no loop of its own. */
bool rk__eval_texts(const rk__leaf *leaf);
void rk__eval_json(const rk__leaf *leaf);
/* The words of |known| for a column without more: valid rows. */
void rk__known_from_valid(const rk__leaf *leaf, const rk_column *col);

/* Does a number, a text pass this comparison, range or set? Shared by elements and texts. */
bool rk__test_int(const rk__pred *pred, int64_t v);
bool rk__test_float(const rk__pred *pred, double v);
bool rk__test_string(const rk__leaf *leaf, rk_str v);
bool rk__cmp_holds(rk__token_kind cmp, int order); /* |order| 2: incomparable, holds for != only */

/* ---- hints (hint.c): each appends to |c->detail| when it knows one, and returns RK_EINVAL ---- */

/* Where the parser stopped. */
typedef struct rk__mistake {
    rk__token token;
    bool after_operand;   /* an operator could stand here, else a value */
    bool operand_is_name; /* that value is a bare name */
    bool open_in;         /* the bracket below stands behind IN */
    char open;            /* the innermost bracket that is open, NUL: none */
    uint32_t open_at;
} rk__mistake;

rk_code rk__hint(rk__compile *c, const char *fmt, ...) RK_PRINTF(2, 3);
rk_code rk__hint_syntax(rk__compile *c, const rk__mistake *m);
/* |name| is no field: the nearest one, quotes. */
rk_code rk__hint_name(rk__compile *c, rk_str name);
/* |node|, a key of the dynamic field, stands where a value should. */
rk_code rk__hint_value(rk__compile *c, const rk__node *node, const rk__col *col);
/* Line from 1, column from 0, of the byte at |at|. */
void rk__place(rk_str text, uint32_t at, uint32_t *line, uint32_t *column);

#endif
