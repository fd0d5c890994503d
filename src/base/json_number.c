/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of JSON, both ways.
 *
 * Reading: up to 19 significant digits are gathered into an integer w, so the number is w * 10^e.
 * When w < 2^53 and |e| <= 22 both are exact doubles and one rounding gives the right answer. For
 * float the product in double is off by at most a few units of 2^-53; if the product a little above
 * and a little below round to the same float, that float is right. What is left goes to strtod().
 *
 * Writing floats: the shortest of 6, 7, 8 or 9 digits that reads back the same, found in double
 * arithmetic with the same margin argument; nine digits always do. Any text of at most six digits
 * that names a float is also its six-digit rounding without the trailing zeros, so starting at six
 * loses nothing. Doubles go through snprintf() with 15, 16 and 17 digits. The form is plain from
 * 1e-6 up to below 1e21 and with an exponent outside, as other JSON writers do.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/json_private.h"

#define SAFE                                                                                       \
    8.8817841970012523e-16 /* 2^-50: more than the error of two roundings and of a power of ten,   \
                              in double */

/* 10^i, exact up to 22. */
static const double powers[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31,
    1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44, 1e45, 1e46, 1e47,
    1e48, 1e49, 1e50, 1e51, 1e52, 1e53, 1e54, 1e55, 1e56, 1e57, 1e58, 1e59, 1e60,
};

#define POWER_MAX ((int)RK_COUNT(powers) - 1)

/* ---- reading ---- */

typedef struct decimal {
    uint64_t digits;  /* at most 19 of them */
    int64_t exponent; /* of ten */
    bool negative;
    bool exact; /* no digit was left out */
} decimal;

/* |raw| is well formed, or the result is meaningless. */
static decimal
parse(rk_str raw)
{
    const char *p = raw.data;
    const char *end = p + raw.len;
    decimal d = {0, 0, false, true};
    int count = 0;
    bool point = false;

    if (p < end && *p == '-') {
        d.negative = true;
        p++;
    }
    for (; p < end; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        unsigned digit = (unsigned)*p - '0';
        if (digit > 9) {
            break;
        }
        if (count < 19) {
            d.digits = d.digits * 10 + digit;
            count += d.digits != 0;
            d.exponent -= point;
        } else {
            d.exact = d.exact && digit == 0;
            d.exponent += !point;
        }
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        int64_t value = 0;
        p++;
        bool minus = p < end && *p == '-';
        p += p < end && (*p == '-' || *p == '+');
        for (; p < end && *p >= '0' && *p <= '9'; p++) {
            value = value < 1000000 ? value * 10 + (*p - '0') : value;
        }
        d.exponent += minus ? -value : value;
    }
    return d;
}

/*
 * |raw| with the terminator that strtod() wants. A number too long for |text| is cut after more
 * digits than can matter in practice.
 */
static void
terminate(char *text, size_t size, rk_str raw, decimal d)
{
    if (raw.len < size) {
        memcpy(text, raw.data, raw.len);
        text[raw.len] = '\0';
        return;
    }
    int64_t exponent = RK_MAX(RK_MIN(d.exponent, 100000), -100000);
    (void)snprintf(text, size, "%s%llue%lld", d.negative ? "-" : "", (unsigned long long)d.digits,
                   (long long)exponent);
}

#define TEXT_MAX 1200

static double
slow_double(rk_str raw, decimal d)
{
    char text[TEXT_MAX];

    terminate(text, sizeof(text), raw, d);
    return strtod(text, NULL);
}

static float
slow_float(rk_str raw, decimal d)
{
    char text[TEXT_MAX];

    terminate(text, sizeof(text), raw, d);
    return strtof(text, NULL);
}

static bool
is_number(rk_json_value v)
{
    return (v.type == RK_JSON_INT || v.type == RK_JSON_DOUBLE) && v.raw.len > 0;
}

bool
rk_json_get_f64(rk_json_value v, double *out)
{
    double value;

    if (!is_number(v)) {
        return false;
    }
    decimal d = parse(v.raw);
    if (d.exact && d.digits <= (UINT64_C(1) << 53) && d.exponent >= -22 && d.exponent <= 22) {
        value = (double)d.digits;
        value = d.exponent < 0 ? value / powers[-d.exponent] : value * powers[d.exponent];
        value = d.negative ? -value : value;
    } else {
        value = slow_double(v.raw, d);
    }
    *out = value;
    return isfinite(value);
}

bool
rk_json_get_f32(rk_json_value v, float *out)
{
    double value;

    if (!is_number(v)) {
        return false;
    }
    decimal d = parse(v.raw);
    if (d.exponent >= -POWER_MAX && d.exponent <= POWER_MAX) {
        value = (double)d.digits;
        value = d.exponent < 0 ? value / powers[-d.exponent] : value * powers[d.exponent];
        float low = (float)(value * (1.0 - SAFE));
        float high = (float)(value * (1.0 + SAFE));
        if (memcmp(&low, &high, sizeof(low)) == 0) {
            *out = d.negative ? -low : low;
            return isfinite(low);
        }
    }
    *out = slow_float(v.raw, d);
    return isfinite(*out);
}

bool
rk_json_get_i64(rk_json_value v, int64_t *out)
{
    return v.type == RK_JSON_INT && rk_str_to_i64(v.raw, out);
}

rk_json_type
rk__json_number_type(rk_str raw)
{
    int64_t value;

    for (size_t i = raw.len > 0 && raw.data[0] == '-'; i < raw.len; i++) {
        if (raw.data[i] < '0' || raw.data[i] > '9') {
            return RK_JSON_DOUBLE;
        }
    }
    return raw.len < 19 || rk_str_to_i64(raw, &value) ? RK_JSON_INT : RK_JSON_DOUBLE;
}

/* ---- writing ---- */

/* The number 0.DIGITS * 10^point, trailing zeros dropped, in the form the preamble tells. */
static size_t
lay_out(char *out, bool negative, const char *digits, int len, int point)
{
    char *p = out;

    while (len > 1 && digits[len - 1] == '0') {
        len--;
    }
    if (negative) {
        *p++ = '-';
    }
    if (point > 21 || point < -5) {
        *p++ = digits[0];
        if (len > 1) {
            *p++ = '.';
            memcpy(p, digits + 1, (size_t)len - 1);
            p += len - 1;
        }
        int exponent = point - 1;
        *p++ = 'e';
        *p++ = exponent < 0 ? '-' : '+';
        exponent = exponent < 0 ? -exponent : exponent;
        if (exponent >= 100) {
            *p++ = (char)('0' + exponent / 100);
        }
        if (exponent >= 10) {
            *p++ = (char)('0' + exponent / 10 % 10);
        }
        *p++ = (char)('0' + exponent % 10);
        return (size_t)(p - out);
    }
    if (point <= 0) {
        *p++ = '0';
        *p++ = '.';
        memset(p, '0', (size_t)-point);
        p += -point;
        memcpy(p, digits, (size_t)len);
        return (size_t)(p + len - out);
    }
    int whole = RK_MIN(point, len);
    memcpy(p, digits, (size_t)whole);
    p += whole;
    memset(p, '0', (size_t)(point - whole));
    p += point - whole;
    if (len > whole) {
        *p++ = '.';
        memcpy(p, digits + whole, (size_t)(len - whole));
        p += len - whole;
    }
    return (size_t)(p - out);
}

/* |value| * 10^|exponent| for exponents of either sign within the table. */
static double
scale(double value, int exponent)
{
    return exponent < 0 ? value / powers[-exponent] : value * powers[exponent];
}

/*
 * True when a reader of |rounded| * 10^|exponent| gets the float |magnitude|: surely so when a
 * little less and a little more round to it as well. At the very middle between two floats they do
 * not; there the product must be exact for the rounding to be known.
 */
static bool
reads_back(double rounded, int exponent, double magnitude)
{
    double back = scale(rounded, exponent);
    float low = (float)(back * (1.0 - SAFE));
    float high = (float)(back * (1.0 + SAFE));

    if (memcmp(&low, &high, sizeof(low)) == 0) {
        return (double)low == magnitude;
    }
    if (exponent < -22 || exponent > 22 || (double)(float)back != magnitude) {
        return false;
    }
    double rest = exponent < 0 ? fma(back, powers[-exponent], -rounded)
                               : fma(rounded, powers[exponent], -back);
    return fpclassify(rest) == FP_ZERO;
}

/* e with 10^e <= |magnitude| < 10^(e + 1), for a float above zero: no float is so near a power of
 * ten that double errs. */
static int
decimal_exponent(double magnitude)
{
    int binary;

    (void)frexp(magnitude, &binary); /* 2^(binary - 1) <= magnitude < 2^binary */
    int e = (int)floor((binary - 1) * 0.30102999566398120);
    return magnitude >= scale(1.0, e + 1) ? e + 1 : e;
}

size_t
rk_json_format_f32(char *out, float value)
{
    double magnitude = fabs((double)value);
    char digits[16];

    if (magnitude == 0) {
        memcpy(out, "-0", 2);
        out[0] = signbit(value) ? '-' : '0';
        return signbit(value) ? 2 : 1;
    }
    int e = decimal_exponent(magnitude);
    for (int n = magnitude < (double)FLT_MIN ? 1 : 6; n <= 9; n++) {
        double rounded = rint(scale(magnitude, n - 1 - e));
        if (n < 9 && !reads_back(rounded, e - n + 1, magnitude)) {
            continue;
        }
        char *first = digits + sizeof(digits);
        for (uint32_t left = (uint32_t)rounded; left > 0; left /= 10) {
            *--first = (char)('0' + left % 10);
        }
        int len = (int)(digits + sizeof(digits) - first);
        /* rounding may carry: the length of the integer tells the true exponent */
        return lay_out(out, value < 0, first, len, e - n + 1 + len);
    }
    RK_ASSERT(false); /* nine digits tell any float */
    return 0;
}

size_t
rk_json_format_f64(char *out, double value)
{
    char text[40];
    char digits[20];

    if (value == 0) {
        return rk_json_format_f32(out, (float)value);
    }
    for (int precision = fabs(value) < DBL_MIN ? 0 : 14; precision <= 16; precision++) {
        (void)snprintf(text, sizeof(text), "%.*e", precision, fabs(value));
        if (precision == 16 || strtod(text, NULL) == fabs(value)) {
            break;
        }
    }
    char *exponent = strchr(text, 'e');
    size_t len = 0;
    for (const char *p = text; p < exponent; p++) {
        if (*p != '.') {
            digits[len++] = *p;
        }
    }
    return lay_out(out, value < 0, digits, (int)len, (int)strtol(exponent + 1, NULL, 10) + 1);
}
