/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens of the filter language.
 *
 * rk__lex() is stateless: text and offset in, one token out, so that the parser looks ahead by
 * calling it again. The longest match wins, with one trap that clients rely on: a name directly
 * followed by [ "key" ] or [ 0 ] is one token together with the brackets, so `in[1]` is a path and
 * no operator. Strings are only delimited here; value.c decodes them.
 *
 * Every call looks at a bounded piece of text: the token and, for a failed path, the string behind
 * its bracket, after which the text cannot parse. The whole is linear.
 */
#include "filter/filter_private.h"

static bool
is_name_start(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_';
}

static bool
is_digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

static bool
is_name(char ch)
{
    return is_name_start(ch) || is_digit(ch);
}

static bool
is_hex(char ch)
{
    return is_digit(ch) || (ch >= 'a' && ch <= 'f') || (ch >= 'A' && ch <= 'F');
}

static bool
is_blank(char ch)
{
    return ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n';
}

/* The byte at |at|, NUL past the end. A NUL inside the text is no token either. */
static char
at_char(rk_str text, size_t at)
{
    return at < text.len ? text.data[at] : '\0';
}

static uint32_t
skip_names(rk_str text, uint32_t at)
{
    while (is_name(at_char(text, at))) {
        at++;
    }
    return at;
}

static uint32_t
skip_digits(rk_str text, uint32_t at)
{
    while (is_digit(at_char(text, at))) {
        at++;
    }
    return at;
}

static uint32_t
skip_hex(rk_str text, uint32_t at)
{
    while (is_hex(at_char(text, at))) {
        at++;
    }
    return at;
}

/* The end of the string whose opening quote is at |at|; 0 when it does not close. */
static uint32_t
string_end(rk_str text, uint32_t at)
{
    char quote = text.data[at];
    for (uint32_t i = at + 1; i < text.len; i++) {
        char ch = text.data[i];
        if (ch == quote) {
            return i + 1;
        }
        if (ch == '\n' || ch == '\r') {
            return 0;
        }
        if (ch == '\\') {
            i++;
            if (i >= text.len || text.data[i] == '\n' || text.data[i] == '\r') {
                return 0;
            }
        }
    }
    return 0;
}

static bool
is_raw_string(rk_str text, uint32_t at)
{
    char ch = at_char(text, at);
    char next = at_char(text, (size_t)at + 1);
    return (ch == 'r' || ch == 'R') && (next == '"' || next == '\'');
}

/* One `[ key ]` of a path at |at|: its end, or 0. */
static uint32_t
bracket_end(rk_str text, uint32_t at)
{
    uint32_t i = at + 1;
    char ch = at_char(text, i);
    if (at_char(text, at) != '[') {
        return 0;
    }
    if (ch == '"' || ch == '\'') {
        i = string_end(text, i);
    } else if (is_raw_string(text, i)) {
        i = string_end(text, i + 1);
    } else if (ch == '0') {
        i++;
    } else if (is_digit(ch)) {
        i = skip_digits(text, i);
    } else {
        return 0;
    }
    return i > 0 && at_char(text, i) == ']' ? i + 1 : 0;
}

/* One `[ name ]` at |at|: its end, or 0. */
static uint32_t
bracket_name_end(rk_str text, uint32_t at)
{
    if (at_char(text, at) != '[' || !is_name_start(at_char(text, (size_t)at + 1))) {
        return 0;
    }
    if (is_raw_string(text, at + 1)) {
        return 0;
    }
    uint32_t i = skip_names(text, at + 1);
    return at_char(text, i) == ']' ? i + 1 : 0;
}

static const struct {
    const char *word;
    rk__token_kind kind;
    rk__function fn;
} keywords[] = {
    {"like", TK_LIKE, FN_NONE},
    {"exists", TK_EXISTS, FN_NONE},
    {"and", TK_AND, FN_NONE},
    {"or", TK_OR, FN_NONE},
    {"not", TK_NOT, FN_NONE},
    {"in", TK_IN, FN_NONE},
    {"text_match", TK_FUNCTION, FN_TEXT_MATCH},
    {"text_match_fuzzy", TK_FUNCTION, FN_TEXT_MATCH_FUZZY},
    {"phrase_match", TK_FUNCTION, FN_PHRASE_MATCH},
    {"random_sample", TK_FUNCTION, FN_RANDOM_SAMPLE},
    {"element_filter", TK_FUNCTION, FN_ELEMENT_FILTER},
    {"match_all", TK_FUNCTION, FN_MATCH_ALL},
    {"match_any", TK_FUNCTION, FN_MATCH_ANY},
    {"match_least", TK_FUNCTION, FN_MATCH_LEAST},
    {"match_most", TK_FUNCTION, FN_MATCH_MOST},
    {"match_exact", TK_FUNCTION, FN_MATCH_EXACT},
    {"json_contains", TK_FUNCTION, FN_CONTAINS},
    {"json_contains_all", TK_FUNCTION, FN_CONTAINS_ALL},
    {"json_contains_any", TK_FUNCTION, FN_CONTAINS_ANY},
    {"array_contains", TK_FUNCTION, FN_CONTAINS},
    {"array_contains_all", TK_FUNCTION, FN_CONTAINS_ALL},
    {"array_contains_any", TK_FUNCTION, FN_CONTAINS_ANY},
    {"array_length", TK_FUNCTION, FN_ARRAY_LENGTH},
    {"interval", TK_INTERVAL, FN_NONE},
    {"iso", TK_ISO, FN_NONE},
    {"minimum_should_match", TK_OPTION, FN_NONE},
    {"threshold", TK_OPTION, FN_NONE},
    {"st_equals", TK_FUNCTION, FN_ST_BINARY},
    {"st_touches", TK_FUNCTION, FN_ST_BINARY},
    {"st_overlaps", TK_FUNCTION, FN_ST_BINARY},
    {"st_crosses", TK_FUNCTION, FN_ST_BINARY},
    {"st_contains", TK_FUNCTION, FN_ST_BINARY},
    {"st_intersects", TK_FUNCTION, FN_ST_BINARY},
    {"st_within", TK_FUNCTION, FN_ST_BINARY},
    {"st_dwithin", TK_FUNCTION, FN_ST_DWITHIN},
    {"st_isvalid", TK_FUNCTION, FN_ST_ISVALID},
};

static bool
starts_at(rk_str text, uint32_t at, const char *word)
{
    size_t len = strlen(word);
    return at + len <= text.len && memcmp(text.data + at, word, len) == 0;
}

/* Is |word|, all lower or all upper, the token's whole text? */
static bool
is_keyword(rk_str token, const char *word)
{
    bool lower = true;
    bool upper = true;
    if (token.len != strlen(word)) {
        return false;
    }
    for (size_t i = 0; i < token.len; i++) {
        char up = word[i] >= 'a' && word[i] <= 'z' ? (char)(word[i] - 'a' + 'A') : word[i];
        lower = lower && token.data[i] == word[i];
        upper = upper && token.data[i] == up;
    }
    return lower || upper;
}

static rk__token
lex_word(rk_str text, rk__token token)
{
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    rk_str word = {text.data + token.start, token.end - token.start};

    token.kind = TK_NAME;
    for (size_t i = 0; i < RK_COUNT(bools); i++) {
        if (rk_str_is(word, bools[i])) {
            token.kind = TK_BOOL;
            return token;
        }
    }
    if (word.len < 2 || word.len > 20) {
        return token;
    }
    for (size_t i = 0; i < RK_COUNT(keywords); i++) {
        if (is_keyword(word, keywords[i].word)) {
            token.kind = keywords[i].kind;
            token.fn = keywords[i].fn;
            return token;
        }
    }
    return token;
}

/* A name, with everything a longer match may make of it. */
static rk__token
lex_name(rk_str text, rk__token token)
{
    bool meta = text.data[token.start] == '$';
    uint32_t end = skip_names(text, meta ? token.start + 1 : token.start);
    uint32_t path = end;
    uint32_t more = 0;
    uint32_t brackets = 0;
    uint32_t structure = 0;

    token.end = end;
    while ((more = bracket_end(text, path)) > 0) {
        path = more;
        brackets++;
        if (brackets == 1 && !meta && is_digit(text.data[end + 1])) {
            structure = bracket_name_end(text, path); /* s[0][x] */
        }
    }
    if (brackets == 0 && !meta) {
        structure = bracket_name_end(text, end);
    }
    if (structure > path) {
        token.kind = TK_STRUCT;
        token.end = structure;
        return token;
    }
    if (brackets > 0) {
        token.kind = TK_JSON;
        token.end = path;
        return token;
    }
    if (meta) {
        token.kind = TK_META;
        return token;
    }
    static const struct {
        const char *word;
        rk__token_kind kind;
    } tests[] = {{"is not null", TK_IS_NOT_NULL},
                 {"IS NOT NULL", TK_IS_NOT_NULL},
                 {"is null", TK_IS_NULL},
                 {"IS NULL", TK_IS_NULL}};
    for (size_t i = 0; i < RK_COUNT(tests); i++) {
        if (starts_at(text, token.start, tests[i].word)) {
            token.kind = tests[i].kind;
            token.end = token.start + (uint32_t)strlen(tests[i].word);
            return token;
        }
    }
    return lex_word(text, token);
}

/* The end of an exponent introduced by |lower| or its upper case at |at|; |at| when there is none.
 */
static uint32_t
exponent_end(rk_str text, uint32_t at, char lower)
{
    char ch = at_char(text, at);
    if (ch != lower && ch != (char)(lower - 'a' + 'A')) {
        return at;
    }
    uint32_t i = at + 1;
    if (at_char(text, i) == '+' || at_char(text, i) == '-') {
        i++;
    }
    uint32_t end = skip_digits(text, i);
    return end > i ? end : at;
}

static rk__token
lex_hex(rk_str text, rk__token token)
{
    uint32_t digits = token.start + 2;
    uint32_t whole = skip_hex(text, digits);
    uint32_t mantissa = whole;
    bool any = whole > digits;

    token.kind = TK_INT;
    token.end = any ? whole : token.start + 1; /* "0x" alone is 0, then a name */
    if (at_char(text, whole) == '.') {
        mantissa = skip_hex(text, whole + 1);
        any = any || mantissa > whole + 1;
    }
    uint32_t end = exponent_end(text, mantissa, 'p');
    if (any && end > mantissa) {
        token.kind = TK_FLOAT;
        token.end = end;
    }
    return token;
}

static rk__token
lex_number(rk_str text, rk__token token)
{
    uint32_t at = token.start;
    char first = text.data[at];
    char next = at_char(text, (size_t)at + 1);

    if (first == '0' && (next == 'x' || next == 'X')) {
        return lex_hex(text, token);
    }
    if (first == '0' && (next == 'b' || next == 'B')) {
        uint32_t i = at + 2;
        while (at_char(text, i) == '0' || at_char(text, i) == '1') {
            i++;
        }
        token.kind = TK_INT;
        token.end = i > at + 2 ? i : at + 1;
        return token;
    }
    uint32_t digits = skip_digits(text, at);
    uint32_t end = digits;
    if (at_char(text, end) == '.') {
        end = skip_digits(text, end + 1);
    }
    uint32_t with_exponent = exponent_end(text, end, 'e');
    if (with_exponent > digits) {
        token.kind = TK_FLOAT;
        token.end = with_exponent;
        return token;
    }
    token.kind = TK_INT;
    token.end = digits;
    if (first == '0') { /* octal: digits up to 7 only */
        uint32_t i = at + 1;
        while (at_char(text, i) >= '0' && at_char(text, i) <= '7') {
            i++;
        }
        token.end = i;
    }
    return token;
}

static rk__token
lex_operator(rk_str text, rk__token token)
{
    static const struct {
        char text[3];
        rk__token_kind kind;
    } operators[] = {
        {"<=", TK_LE},    {"<<", TK_SHL},   {">=", TK_GE},      {">>", TK_SHR},
        {"==", TK_EQ},    {"!=", TK_NE},    {"=~", TK_MATCH},   {"!~", TK_NOT_MATCH},
        {"**", TK_POW},   {"&&", TK_AND},   {"||", TK_OR},      {"<", TK_LT},
        {">", TK_GT},     {"+", TK_ADD},    {"-", TK_SUB},      {"*", TK_MUL},
        {"/", TK_DIV},    {"%", TK_MOD},    {"&", TK_BAND},     {"|", TK_BOR},
        {"^", TK_BXOR},   {"~", TK_BNOT},   {"!", TK_NOT},      {"=", TK_ASSIGN},
        {"(", TK_LPAREN}, {")", TK_RPAREN}, {"[", TK_LBRACKET}, {"]", TK_RBRACKET},
        {"{", TK_LBRACE}, {"}", TK_RBRACE}, {",", TK_COMMA},
    };
    for (size_t i = 0; i < RK_COUNT(operators); i++) {
        if (starts_at(text, token.start, operators[i].text)) {
            token.kind = operators[i].kind;
            token.end = token.start + (uint32_t)strlen(operators[i].text);
            break;
        }
    }
    if (token.kind == TK_LBRACKET) {
        uint32_t i = token.end;
        while (is_blank(at_char(text, i))) {
            i++;
        }
        if (at_char(text, i) == ']') {
            token.kind = TK_EMPTY;
            token.end = i + 1;
        }
    }
    return token;
}

rk__token
rk__lex(rk_str text, uint32_t at)
{
    while (is_blank(at_char(text, at))) {
        at++;
    }
    rk__token token = {.kind = TK_BAD, .start = at, .end = at + 1};
    char ch = at_char(text, at);
    if (at >= text.len) {
        token.kind = TK_EOF;
        token.end = at;
        return token;
    }
    if (is_raw_string(text, at)) {
        uint32_t end = string_end(text, at + 1);
        if (end > 0) {
            token.kind = TK_RAW;
            token.end = end;
        }
        return token;
    }
    if (is_name_start(ch)) {
        return lex_name(text, token);
    }
    if (ch == '$') {
        if (at_char(text, (size_t)at + 1) == '[') {
            uint32_t end = bracket_name_end(text, at + 1);
            if (end > 0) {
                token.kind = TK_STRUCT;
                token.end = end;
            }
            return token;
        }
        if (skip_names(text, at + 1) == at + 5 && starts_at(text, at, "$meta")) {
            return lex_name(text, token);
        }
        return token;
    }
    if (is_digit(ch) || (ch == '.' && is_digit(at_char(text, (size_t)at + 1)))) {
        return lex_number(text, token);
    }
    if (ch == '"' || ch == '\'') {
        uint32_t end = string_end(text, at);
        if (end > 0) {
            token.kind = TK_STRING;
            token.end = end;
        }
        return token;
    }
    return lex_operator(text, token);
}
