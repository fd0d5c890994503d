/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would have been right: put behind the sentence of an error where it is plain what was meant.
 *
 * People bring habits: `=` and `<>` from SQL, `&` from dataframes, `===` from the web, lists in
 * round brackets, texts without quotes. The sentence itself keeps the form of the public API, which
 * test suites match; the hint comes after a semicolon. Where a guess could be wrong there is none.
 */
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "base/nearest.h"
#include "filter/filter_private.h"

rk_code
rk__hint(rk__compile *c, const char *fmt, ...)
{
    size_t len = strlen(c->detail);
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(c->detail + len, sizeof(c->detail) - len, fmt, args);
    va_end(args);
    return RK_EINVAL;
}

void
rk__place(rk_str text, uint32_t at, uint32_t *line, uint32_t *column)
{
    *line = 1;
    *column = 0;
    for (uint32_t i = 0; i < at; i++) {
        ++*column;
        if (text.data[i] == '\n') {
            ++*line;
            *column = 0;
        }
    }
}

static char
char_at(rk_str text, size_t at)
{
    return at < text.len ? text.data[at] : '\0';
}

static bool
is_blank(char ch)
{
    return ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n';
}

/* The last character before |at| that is no blank; NUL: none. */
static char
char_before(rk_str text, uint32_t at)
{
    while (at > 0 && is_blank(text.data[at - 1])) {
        at--;
    }
    return at > 0 ? text.data[at - 1] : '\0';
}

/* The first character from |at| on that is no blank. */
static char
char_after(rk_str text, uint32_t at)
{
    while (is_blank(char_at(text, at))) {
        at++;
    }
    return char_at(text, at);
}

static bool
is_word(rk_str word, const char *keyword)
{
    return word.len == strlen(keyword) && strncasecmp(word.data, keyword, word.len) == 0;
}

/* ---- what is no token ---- */

static rk_code
hint_bad(rk__compile *c, uint32_t at)
{
    static const struct {
        const char *text;
        const char *hint;
    } hints[] = {
        {"\"", "the quote that opens here is not closed on its line"},
        {"'", "the quote that opens here is not closed on its line"},
        {"r\"", "the quote that opens here is not closed on its line"},
        {"r'", "the quote that opens here is not closed on its line"},
        {"R\"", "the quote that opens here is not closed on its line"},
        {"R'", "the quote that opens here is not closed on its line"},
        {"\xe2\x80\x98", "the quotes of text are \" and '"}, /* curved ones */
        {"\xe2\x80\x99", "the quotes of text are \" and '"},
        {"\xe2\x80\x9c", "the quotes of text are \" and '"},
        {"\xe2\x80\x9d", "the quotes of text are \" and '"},
        {"`", "the quotes of text are \" and ', fields stand without"},
        {"\xc2\xa0", "this is a no-break space, write a plain one"},
        {";", "an expression ends without ;"},
        {".", "a key below a JSON field is written name[\"key\"]"},
    };
    rk_str rest = {c->text.data + at, c->text.len - at};

    for (size_t i = 0; i < RK_COUNT(hints); i++) {
        if (rk_str_starts(rest, hints[i].text)) {
            return rk__hint(c, "; %s", hints[i].hint);
        }
    }
    return RK_EINVAL;
}

/* ---- brackets ---- */

static rk_code
hint_open(rk__compile *c, const rk__mistake *m, const char *what)
{
    uint32_t line;
    uint32_t column;

    rk__place(c->text, m->open_at, &line, &column);
    return rk__hint(c, "; the '%c' at line %u:%u %s", m->open, line, column, what);
}

static rk_code
hint_close(rk__compile *c, const rk__mistake *m)
{
    char wanted = m->token.kind == TK_RPAREN ? '(' : '[';

    if (m->open == '\0') {
        return rk__hint(c, "; there is no '%c' for it to close", wanted);
    }
    if (m->open != wanted) {
        return hint_open(c, m, "must be closed first");
    }
    return m->after_operand ? RK_EINVAL : rk__hint(c, "; a value is missing before it");
}

/* ---- where an operator should be ---- */

static rk_code
hint_word(rk__compile *c, const rk__mistake *m, rk_str word)
{
    static const char *const keywords[] = {"and", "or", "not", "in", "like"};

    for (size_t i = 0; i < RK_COUNT(keywords); i++) {
        if (is_word(word, keywords[i])) {
            return rk__hint(c, "; keywords are all in lower or all in upper case: write %s",
                            keywords[i]);
        }
    }
    if (is_word(word, "is")) {
        return rk__hint(c, "; write is null or is not null, with one blank between the words, all "
                           "in lower or all in upper case");
    }
    if (is_word(word, "between")) {
        return rk__hint(c, "; write 1 <= field <= 2");
    }
    if (m->operand_is_name) {
        return rk__hint(c, "; an operator is missing before it, or quotes around text");
    }
    return rk__hint(c, "; an operator is missing before it, such as and");
}

static rk_code
hint_not(rk__compile *c, const rk__mistake *m)
{
    if (char_at(c->text, m->token.start) == '!' && char_after(c->text, m->token.end) == '=') {
        return rk__hint(c, "; write != without a blank");
    }
    return rk__hint(c, "; after a value write not in or !=, or put not ( ) around the whole");
}

static rk_code
hint_assign(rk__compile *c, const rk__mistake *m)
{
    char next = char_at(c->text, m->token.end);

    if (next == '<' || next == '>') {
        return rk__hint(c, "; write %c=", next);
    }
    return rk__hint(c, "; write == to compare");
}

static rk_code
hint_operator(rk__compile *c, const rk__mistake *m)
{
    rk_str word = rk__span(c, m->token.start, m->token.end);

    switch ((int)m->token.kind) {
    case TK_RPAREN:
    case TK_RBRACKET:
        return hint_close(c, m);
    case TK_COMMA:
        if (m->open == '(' && m->open_in) {
            return rk__hint(c, "; the list of in stands in square brackets: [1, 2]");
        }
        return m->open == '\0' ? rk__hint(c, "; conditions are joined by and, or") : RK_EINVAL;
    case TK_ASSIGN:
        return hint_assign(c, m);
    case TK_NOT:
        return hint_not(c, m);
    case TK_NAME:
        return hint_word(c, m, word);
    case TK_JSON:
        if (word.len > 3 && is_word((rk_str){word.data, 3}, "in[")) {
            return rk__hint(c, "; write a blank after in");
        }
        break;
    case TK_LBRACKET:
    case TK_EMPTY:
        return rk__hint(c, "; a path has no blank before its [");
    case TK_IS_NULL:
    case TK_IS_NOT_NULL:
        return rk__hint(c, "; is null takes a field or a path, without parentheses");
    case TK_INT:
    case TK_FLOAT:
    case TK_BOOL:
    case TK_STRING:
    case TK_RAW:
    case TK_LPAREN:
        return rk__hint(c, "; an operator is missing before it");
    default:
        break;
    }
    return RK_EINVAL;
}

/* ---- where a value should be ---- */

static rk_code
hint_operand(rk__compile *c, const rk__mistake *m)
{
    char before = char_before(c->text, m->token.start);
    bool joined = m->token.start > 0 && c->text.data[m->token.start - 1] == before;

    switch ((int)m->token.kind) {
    case TK_RPAREN:
    case TK_RBRACKET:
        return hint_close(c, m);
    case TK_GT:
        if (before == '<' && joined) {
            return rk__hint(c, "; not equal is written !=");
        }
        break;
    case TK_ASSIGN:
        if (before == '=') {
            return rk__hint(c, "; write == to compare");
        }
        if (before == '<' || before == '>' || before == '!') {
            return rk__hint(c, "; write %c= without a blank", before);
        }
        break;
    default:
        break;
    }
    return m->token.kind == TK_RBRACE || m->token.kind >= TK_FUNCTION
               ? RK_EINVAL
               : rk__hint(c, "; a value is missing before it");
}

rk_code
rk__hint_syntax(rk__compile *c, const rk__mistake *m)
{
    if (m->token.kind == TK_BAD) {
        return hint_bad(c, m->token.start);
    }
    if (m->token.kind == TK_EOF) {
        if (m->open != '\0') {
            return hint_open(c, m, "is not closed");
        }
        return m->after_operand || c->text.len == 0
                   ? RK_EINVAL
                   : rk__hint(c, "; a value is missing at the end");
    }
    return m->after_operand ? hint_operator(c, m) : hint_operand(c, m);
}

/* ---- names ---- */

/* Whether |name|, a piece of the expression, stands where a value would: behind a comparison or in
 * a list. */
static bool
is_value_place(const rk__compile *c, rk_str name)
{
    char before;

    if (name.data < c->text.data || name.data >= c->text.data + c->text.len) {
        return false;
    }
    before = char_before(c->text, (uint32_t)(name.data - c->text.data));
    return before == '=' || before == '<' || before == '>' || before == '[' || before == ',';
}

rk_code
rk__hint_name(rk__compile *c, rk_str name)
{
    rk_nearest near = rk_nearest_to(name);

    for (size_t i = 0; i < c->schema->fields_len; i++) {
        if (!c->schema->fields[i].dynamic) {
            rk_nearest_offer(&near, c->schema->fields[i].name);
        }
    }
    if (near.best.len > 0) {
        (void)rk__hint(c, ", did you mean %.*s?", RK__SHORT(near.best));
    }
    if (is_value_place(c, name)) {
        (void)rk__hint(c, "%s text stands in quotes: \"%.*s\"", near.best.len > 0 ? "" : ";",
                       RK__SHORT(name));
    }
    return RK_EINVAL;
}

rk_code
rk__hint_value(rk__compile *c, const rk__node *node, const rk__col *col)
{
    rk_str name = rk__span(c, node->start, node->end);

    if (node->kind == ND_NAME && col->field->dynamic && is_value_place(c, name)) {
        return rk__hint(c, "; %.*s is no field, text stands in quotes: \"%.*s\"", RK__SHORT(name),
                        RK__SHORT(name));
    }
    return RK_EINVAL;
}
