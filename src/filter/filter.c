/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way in: compile, and what can be asked about a compiled filter.
 */
#include "filter/filter.h"

#include "filter/filter_private.h"

#define QUOTE_MAX                                                                                  \
    1400 /* bytes of the expression repeated in an error, so that the reason still fits */

/* The sentence a client sees: its expression, then why. */
static rk_code
fail_public(const rk__compile *c, rk_str expr, rk_err *err)
{
    const char *what = c->options && c->options->what ? c->options->what : "query plan";
    const char *more = expr.len > QUOTE_MAX ? "..." : "";
    rk_str quote = expr;

    if (quote.len > QUOTE_MAX) {
        quote.len = QUOTE_MAX;
        while (quote.len > 0 && ((unsigned char)expr.data[quote.len] & 0xC0) == 0x80) {
            quote.len--;
        }
    }
    if (c->not_boolean) {
        rk_fail_tail(err, RK_EINVAL,
                     "failed to create %s: predicate is not a boolean expression: %.*s%s, data "
                     "type: %s: query plan failed",
                     what, RK_STR_ARG(quote), more, c->detail);
    } else {
        rk_fail_tail(err, RK_EINVAL,
                     "failed to create %s: cannot parse expression: %.*s%s: %s: query plan failed",
                     what, RK_STR_ARG(quote), more, c->detail);
    }
    return err ? rk_err_input(err) : RK_EINVAL;
}

static rk_code
compile(rk__compile *c, rk_filter *filter)
{
    if (c->text.len > RK__TEXT_MAX) {
        return rk__fail(c, "expression is longer than %u bytes", RK__TEXT_MAX);
    }
    if (rk_utf8_invalid_at(c->text) != SIZE_MAX) {
        return rk__fail(c, "expression is not valid UTF-8");
    }
    RK_RET(rk__parse(c));
    RK_RET(rk__check(c, &filter->root, &filter->sample));
    (void)rk__fail(c, "expression nests too deep"); /* the only way the next step can refuse */
    RK_RET(rk__program_new(filter, c->arena));
    return rk__find_keys(filter, c->arena);
}

rk_code
rk_filter_compile(const rk_filter **out, rk_str expr, const rk_schema *schema,
                  const rk_filter_options *options, rk_arena *arena, rk_err *err)
{
    rk__compile c = {.text = expr, .schema = schema, .options = options, .arena = arena};
    rk_filter *filter = RK_ARENA_NEW(arena, rk_filter);
    rk_code code = RK_ENOMEM;

    *out = NULL;
    if (filter) {
        filter->schema = schema;
        filter->seed = options ? options->seed : 0;
        code = compile(&c, filter);
    }
    if (code == RK_ENOMEM) {
        return rk_fail(err, RK_ENOMEM, "no memory to compile a filter of %zu bytes", expr.len);
    }
    if (code != RK_OK) {
        return fail_public(&c, expr, err);
    }
    *out = filter;
    return RK_OK;
}

const uint32_t *
rk_filter_fields(const rk_filter *filter, size_t *n)
{
    *n = filter->fields_len;
    return filter->fields;
}

bool
rk_filter_primary_keys(const rk_filter *filter, const rk_pk **keys, size_t *n)
{
    *keys = filter->keys;
    *n = filter->keys_len;
    return filter->keys_whole;
}

bool
rk_filter_primary_key_bound(const rk_filter *filter, const rk_pk **keys, size_t *n)
{
    *keys = filter->keys;
    *n = filter->keys_len;
    return filter->keys_bound;
}

bool
rk_filter_is_constant(const rk_filter *filter, bool *value)
{
    if (!filter->root || filter->root->kind != PK_CONST || filter->sample > 0) {
        return false;
    }
    *value = filter->root->truth;
    return true;
}

/* The language has no function of the clock; a sample is drawn anew by every call. */
bool
rk_filter_is_stable(const rk_filter *filter)
{
    return filter->sample == 0;
}
