/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging: one line per event, `time level module key=value ...`, to standard error or a file.
 * Past tense, ids so that a request can be followed; never vectors, row values or secrets.
 * A call site prints at most 10 lines a second; what was held back is counted in its next line.
 */
#ifndef RK_BASE_LOG_H
#define RK_BASE_LOG_H

#include "base/status.h"

typedef enum rk_log_level { RK_LOG_DEBUG, RK_LOG_INFO, RK_LOG_WARN, RK_LOG_ERROR } rk_log_level;

void rk_log_set_level(rk_log_level level);
rk_log_level rk_log_get_level(void);
RK_MUST_CHECK rk_code rk_log_set_file(const char *path, rk_err *err); /* NULL: standard error */
void rk_log_write(rk_log_level level, const char *module, const char *fmt, ...) RK_PRINTF(3, 4);

#define RK_LOG_D(module, ...)                                                                      \
    (rk_log_get_level() <= RK_LOG_DEBUG ? rk_log_write(RK_LOG_DEBUG, module, __VA_ARGS__) : (void)0)
#define RK_LOG_I(module, ...) rk_log_write(RK_LOG_INFO, module, __VA_ARGS__)
#define RK_LOG_W(module, ...) rk_log_write(RK_LOG_WARN, module, __VA_ARGS__)
#define RK_LOG_E(module, ...) rk_log_write(RK_LOG_ERROR, module, __VA_ARGS__)

#endif
