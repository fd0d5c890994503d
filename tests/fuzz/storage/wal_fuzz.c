/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log against a hostile folder: the input becomes its files, then it is opened, read, appended
 * to and opened again. Whatever the bytes, that ends in RK_OK or an error; after RK_OK the log must
 * take a record and give it back.
 *
 * Input: byte 0 holds flags, the rest is the first log file behind its header page. Flag 1: a
 * second log file from the second half. Flag 2: the epoch file is damaged. Flag 4: the file header
 * is taken from the input, not made good. Flag 8: checksums of records are left as they are;
 * otherwise they are made good, so that the fuzzer gets behind them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "storage/wal/wal_private.h"

#define SEGMENT (64u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];

static void
put_file(const char *name, const uint8_t *data, size_t len)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, len, file) != len) {
        abort();
    }
    fclose(file);
}

static void
drop_file(const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    unlink(path);
}

static void
remove_folder(void)
{
    rmdir(folder);
}

/* Walks the records by their lengths and makes their checksums good. */
static void
repair(uint8_t *file, uint32_t seed)
{
    size_t at = WAL_PAGE;
    while (at + WAL_RECORD_LEN <= SEGMENT) {
        uint32_t len = rk_get_u32le(file + at + 4);
        if (len <= SEGMENT - at - WAL_RECORD_LEN) {
            rk_put_u32le(file + at + 36, rk_crc32c(0, file + at + WAL_RECORD_LEN, len));
        }
        rk_put_u32le(file + at, rk_crc32c(seed, file + at + 4, WAL_RECORD_LEN - 4));
        if (len > SEGMENT) {
            return;
        }
        at += rk__wal_record_bytes(len);
    }
}

static void
make_log_file(uint64_t seq, uint64_t first_lsn, const uint8_t *data, size_t size, uint8_t flags)
{
    static uint8_t bytes[SEGMENT];
    char name[32];
    wal_file file = {.seq = seq, .first_lsn = first_lsn, .epoch = 1, .bytes = SEGMENT};

    memset(bytes, 0, sizeof(bytes));
    rk__wal_file_encode(bytes, &file, 7);
    if (flags & 4) {
        memcpy(bytes, data, RK_MIN(size, (size_t)WAL_HEADER_LEN));
    }
    memcpy(bytes + WAL_PAGE, data, RK_MIN(size, (size_t)(SEGMENT - WAL_PAGE)));
    if (!(flags & 8)) {
        repair(bytes, file.seed);
    }
    rk__wal_name(name, seq);
    put_file(name, bytes, SEGMENT);
}

static void
make_epoch_file(uint8_t flags)
{
    uint8_t bytes[2 * WAL_EPOCH_SLOT] = {0};

    memcpy(bytes, "RKEPOCH1", 8);
    rk_put_u64le(bytes + 8, 9);
    rk_put_u32le(bytes + 24, rk_crc32c(0, bytes, 24));
    bytes[9] ^= flags & 2;
    put_file("epoch", bytes, sizeof(bytes));
}

static void
read_all(rk_wal *wal)
{
    rk_wal_stats stats;
    rk_wal_reader *reader = NULL;
    rk_str record;
    rk_err err = {0};
    uint64_t lsn = 0;

    rk_wal_stats_get(wal, &stats);
    if (rk_wal_read_from(&reader, wal, stats.first_lsn, &err) == RK_OK) {
        while (rk_wal_read(reader, &lsn, &record, &err) == RK_OK) {
            RK_ASSERT(lsn < stats.next_lsn);
        }
    }
    rk_wal_reader_close(reader);
}

static void
use(rk_wal *wal)
{
    rk_err err = {0};
    rk_str part = RK_STR("appended");
    rk_str record;
    rk_wal_reader *reader = NULL;
    uint64_t lsn = 0;
    uint64_t got = 0;

    read_all(wal);
    RK_ASSERT(rk_wal_append(wal, &part, 1, NULL, NULL, &lsn, &err) == RK_OK);
    rk_code code = rk_wal_read_from(&reader, wal, lsn, &err);
    RK_ASSERT(code == RK_OK);
    code = rk_wal_read(reader, &got, &record, &err);
    /* the reader walks the file from its start; what open cut cannot be in its way */
    RK_ASSERT(code == RK_OK && got == lsn && rk_str_eq(record, part));
    rk_wal_reader_close(reader);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rk_wal *wal = NULL;
    rk_err err = {0};
    rk_wal_options options = {.segment_bytes = SEGMENT};

    if (size < 1) {
        return 0;
    }
    if (!folder[0]) {
        snprintf(folder, sizeof(folder), "/tmp/rk_wal_fuzz_XXXXXX");
        RK_ASSERT(mkdtemp(folder));
        rk_log_set_level(RK_LOG_ERROR);
        atexit(remove_folder);
    }
    uint8_t flags = data[0];
    size_t half = flags & 1 ? (size - 1) / 2 : size - 1;
    make_log_file(1, 1, data + 1, half, flags);
    if (flags & 1) {
        make_log_file(2, 3, data + 1 + half, size - 1 - half, flags);
    }
    make_epoch_file(flags);
    for (int i = 0; i < 2; i++) {
        rk_code code = rk_wal_open_local(&wal, folder, &options, rk_env_real(), &err);
        RK_ASSERT(i == 0 || code == RK_OK);
        if (code != RK_OK) {
            break;
        }
        use(wal);
        rk_wal_close(wal);
    }
    drop_file("0000000000000001.wal");
    drop_file("0000000000000002.wal");
    drop_file("0000000000000003.wal");
    drop_file("0000000000000004.wal");
    drop_file("spare.wal");
    drop_file("epoch");
    drop_file("lock");
    rmdir(folder);
    mkdir(folder, 0700);
    return 0;
}
