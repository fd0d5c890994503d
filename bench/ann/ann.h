/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ann.c and ann_filter.c share.
 */
#ifndef RK_BENCH_ANN_H
#define RK_BENCH_ANN_H

#include "ann_make.h"

#define ANN_PARAMS_MAX 16

/* "KEY=VALUE,KEY=VALUE" or "-" as parameters that borrow |text|. */
rk_params ann_setting(char *text, rk_param params[ANN_PARAMS_MAX]);

/* Opens the image file |path|, read into memory. */
rk_index *ann_open(const char *path, const rk_vectors *v);

/* argv: NAME DATA IMAGE SETTING PERCENT... */
void ann_filter(char **argv, int argc);

#endif
