/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading parameters. They arrive as text pairs; CreateIndex and a search have judged them
 * (params_build.c, params_search.c), so that here an unreadable value counts as absent and one
 * beyond its range is cut. Keys that a kind does not know are ignored, as the API does.
 */
#include "index/params.h"

#include <strings.h>

rk_str
rk_params_get(rk_params params, const char *key)
{
    for (size_t i = 0; i < params.n; i++) {
        if (rk_str_is(params.data[i].key, key)) {
            return params.data[i].value;
        }
    }
    return (rk_str){NULL, 0};
}

int64_t
rk__param_int(rk_params params, const char *key, int64_t fallback, int64_t min, int64_t max)
{
    rk_str text = rk_params_get(params, key);
    int64_t value = 0;

    if (!text.data || !rk_str_to_i64(rk_str_trim(text), &value)) {
        return fallback;
    }
    return value < min ? min : value > max ? max : value;
}

double
rk__param_float(rk_params params, const char *key, double fallback, double min, double max)
{
    rk_str text = rk_params_get(params, key);
    double value = 0;

    if (!text.data || !rk_str_to_f64(rk_str_trim(text), &value) || !(value >= min)) {
        return fallback;
    }
    return value > max ? max : value;
}

/* ---- by the table ---- */

static const rk__param_spec *
find_param(const rk__param_spec *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n && list[i].type != RK__PARAM_NONE; i++) {
        if (strcmp(list[i].name, name) == 0) {
            return &list[i];
        }
    }
    return NULL;
}

static const rk__param_spec *
build_param(rk__kind_id kind, const char *name)
{
    const rk__kind_spec *spec = rk__kind_spec_of(kind);
    const rk__param_spec *param = find_param(spec->build, RK__BUILD_PARAMS_MAX, name);

    RK_ASSERT(param);
    return param;
}

static const rk__param_spec *
search_param(rk__kind_id kind, const char *name)
{
    const rk__kind_spec *spec = rk__kind_spec_of(kind);
    const rk__param_spec *param = find_param(spec->search, RK__SEARCH_PARAMS_MAX, name);

    RK_ASSERT(param);
    return param;
}

static int64_t
int_of(const rk__param_spec *param, rk_params params)
{
    return rk__param_int(params, param->name, (int64_t)param->fallback, (int64_t)param->min,
                         (int64_t)param->max);
}

static double
float_of(const rk__param_spec *param, rk_params params)
{
    return rk__param_float(params, param->name, param->fallback, param->min, param->max);
}

static bool
bool_of(const rk__param_spec *param, rk_params params)
{
    rk_str text = rk_str_trim(rk_params_get(params, param->name));
    bool value = param->fallback > 0;

    return text.data && rk_str_to_bool(text, &value) ? value : param->fallback > 0;
}

int64_t
rk__build_int(rk__kind_id kind, rk_params params, const char *name)
{
    return int_of(build_param(kind, name), params);
}

double
rk__build_float(rk__kind_id kind, rk_params params, const char *name)
{
    return float_of(build_param(kind, name), params);
}

bool
rk__build_bool(rk__kind_id kind, rk_params params, const char *name)
{
    return bool_of(build_param(kind, name), params);
}

const char *
rk__build_word(rk__kind_id kind, rk_params params, const char *name)
{
    const rk__param_spec *param = build_param(kind, name);
    rk_str text = rk_params_get(params, name);
    int found = text.data ? rk__word_find(param->words, text) : -1;

    found = found < 0 ? (int)param->fallback : found;
    return found < 0 ? NULL : param->words->words[found];
}

int64_t
rk__search_int(rk__kind_id kind, rk_params params, const char *name)
{
    return int_of(search_param(kind, name), params);
}

double
rk__search_float(rk__kind_id kind, rk_params params, const char *name)
{
    return float_of(search_param(kind, name), params);
}

bool
rk__search_bool(rk__kind_id kind, rk_params params, const char *name)
{
    return bool_of(search_param(kind, name), params);
}
