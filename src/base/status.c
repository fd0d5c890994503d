/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of result codes, and the writing of error sentences.
 *
 * A sentence is always composed in a buffer of its own before it is stored, so that a caller may
 * quote the old sentence of the same rk_err in the new one. A sentence that is too long loses its
 * end, never half a character. Nothing here allocates or locks: it works when memory is out. Any
 * thread; one rk_err belongs to one thread at a time.
 */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/slice.h"

#define CODE_ROW(id, public_number, legacy_code, grpc_code, http_code, flag_bits, base_text)       \
    {#id, base_text, public_number, legacy_code, grpc_code, http_code, flag_bits},

static const rk_code_info code_rows[] = {RK_CODES(CODE_ROW)};
static const rk_code_info ok_row = {"OK", "", 0, 0, 0, 200, RK_F_NONE};
static const rk_code_info unknown_row = {"EUNEXPECTED", "unexpected error", 65535, 1, 2,
                                         500,           RK_F_NONE};

void
rk_assert_fail(const char *expr, const char *file, int line)
{
    fprintf(stderr, "assertion failed: %s at %s:%d\n", expr, file, line);
    fflush(stderr);
    abort();
}

const rk_code_info *
rk_code_get_info(rk_code code)
{
    if (code == RK_OK) {
        return &ok_row;
    }
    for (size_t i = 0; i < RK_COUNT(code_rows); i++) {
        if (code_rows[i].number == -(int32_t)code) {
            return &code_rows[i];
        }
    }
    return &unknown_row;
}

rk_code
rk_code_from_number(int32_t number)
{
    if (number == 0) {
        return RK_OK;
    }
    for (size_t i = 0; i < RK_COUNT(code_rows); i++) {
        if (code_rows[i].number == number) {
            return (rk_code)-number;
        }
    }
    return RK_EUNEXPECTED;
}

/* Cuts |text| of |len| bytes back so that it does not end within a UTF-8 sequence; returns the
 * length. */
static size_t
cut_at_character(char *text, size_t len)
{
    size_t start = len;

    while (start > 0 && len - start < 4 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) {
        start--;
    }
    if (start == 0) {
        return len;
    }
    unsigned char lead = (unsigned char)text[start - 1];
    size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (want > 1 && len - (start - 1) < want) {
        len = start - 1;
    }
    text[len] = '\0';
    return len;
}

/* vsnprintf that reports the length written and never leaves half a character. */
static size_t RK_PRINTF(3, 0) format_text(char *out, size_t cap, const char *fmt, va_list args)
{
    int wanted = vsnprintf(out, cap, fmt, args);

    if (wanted < 0) {
        out[0] = '\0';
        return 0;
    }
    if ((size_t)wanted < cap) {
        return (size_t)wanted;
    }
    return cut_at_character(out, cap - 1);
}

static size_t
append_text(char *out, size_t len, size_t cap, const char *more)
{
    size_t more_len = strlen(more);
    bool cut = more_len > cap - 1 - len;

    if (cut) {
        more_len = cap - 1 - len;
    }
    memcpy(out + len, more, more_len);
    out[len + more_len] = '\0';
    return cut ? cut_at_character(out, len + more_len) : len + more_len;
}

/* Bytes that are no UTF-8 become '?': a sentence may quote what a client sent, and clients refuse a
 * reply whose text is ill-formed. */
static void
mend_utf8(char *text, size_t len)
{
    size_t from = 0;

    while (from < len) {
        size_t at = rk_utf8_invalid_at((rk_str){text + from, len - from});
        if (at == SIZE_MAX) {
            return;
        }
        text[from + at] = '?';
        from += at + 1;
    }
}

static rk_code
store(rk_err *err, rk_code code, const char *text, size_t len)
{
    err->code = code;
    err->input = (rk_code_get_info(code)->flags & RK_F_INPUT) != 0;
    memcpy(err->text, text, len + 1);
    mend_utf8(err->text, len);
    return code;
}

rk_code
rk_fail(rk_err *err, rk_code code, const char *fmt, ...)
{
    char text[RK_ERR_TEXT_MAX];
    va_list args;

    if (!err) {
        return code;
    }
    va_start(args, fmt);
    size_t len = format_text(text, sizeof(text), fmt, args);
    va_end(args);
    return store(err, code, text, len);
}

rk_code
rk_fail_tail(rk_err *err, rk_code code, const char *fmt, ...)
{
    char text[RK_ERR_TEXT_MAX];
    va_list args;

    if (!err) {
        return code;
    }
    va_start(args, fmt);
    size_t len = format_text(text, sizeof(text), fmt, args);
    va_end(args);
    len = append_text(text, len, sizeof(text), ": ");
    len = append_text(text, len, sizeof(text), rk_code_get_info(code)->text);
    return store(err, code, text, len);
}

rk_code
rk_err_wrap(rk_err *err, const char *fmt, ...)
{
    char text[RK_ERR_TEXT_MAX];
    va_list args;

    if (!err) {
        return RK_EUNEXPECTED; /* the code was not kept; a failure must not turn into success */
    }
    va_start(args, fmt);
    size_t len = format_text(text, sizeof(text), fmt, args);
    va_end(args);
    len = append_text(text, len, sizeof(text), ": ");
    len = append_text(text, len, sizeof(text), err->text);
    memcpy(err->text, text, len + 1);
    mend_utf8(err->text, len);
    if (err->code == RK_OK) {
        err->code = RK_EUNEXPECTED;
    }
    return err->code;
}

rk_code
rk_err_input(rk_err *err)
{
    if (!err) {
        return RK_EUNEXPECTED;
    }
    err->input = true;
    return err->code;
}

void
rk_err_clear(rk_err *err)
{
    if (err) {
        err->code = RK_OK;
        err->input = false;
        err->text[0] = '\0';
    }
}
