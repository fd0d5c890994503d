/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of the log. All integers little-endian.
 *
 *   file header                              record header (8-byte aligned)
 *   0   8  magic "RKWALSEG"                  0   4  CRC32C of bytes 4..39, started from the file's
 * seed 8   4  version, 1                        4   4  payload bytes; 0xffffffff: a mark, not a
 * record 12  4  offset of the first record, 4096  8   8  lsn 16  8  number of the file 16  8  epoch
 *   24  8  lsn of its first record           24  8  group: number of the write attempt in this
 * epoch 32  8  epoch that made it                32  4  lsn less the first lsn of the group 40  8
 * size of the file                  36  4  CRC32C of the payload 48  8  salt, random 40 payload,
 * then zeros to a multiple of 8 56  4  zero 60  4  CRC32C of bytes 0..59: the seed
 *
 * The seed ties a record to one life of one file: what a recycled file held before can never look
 * valid.
 */
#include <stdio.h>

#include "base/util.h"
#include "storage/wal/wal_private.h"

static const char file_magic[8] = {'R', 'K', 'W', 'A', 'L', 'S', 'E', 'G'};
#define FILE_VERSION 1u

_Static_assert(WAL_HEADER_LEN == 64 && WAL_RECORD_LEN == 40, "sizes on disk");

void
rk__wal_file_encode(uint8_t out[WAL_HEADER_LEN], wal_file *file, uint64_t salt)
{
    memset(out, 0, WAL_HEADER_LEN);
    memcpy(out, file_magic, sizeof(file_magic));
    rk_put_u32le(out + 8, FILE_VERSION);
    rk_put_u32le(out + 12, WAL_PAGE);
    rk_put_u64le(out + 16, file->seq);
    rk_put_u64le(out + 24, file->first_lsn);
    rk_put_u64le(out + 32, file->epoch);
    rk_put_u64le(out + 40, file->bytes);
    rk_put_u64le(out + 48, salt);
    file->seed = rk_crc32c(0, out, 60);
    rk_put_u32le(out + 60, file->seed);
}

rk_code
rk__wal_file_decode(wal_file *out, const uint8_t in[WAL_HEADER_LEN], const char *path, rk_err *err)
{
    if (memcmp(in, file_magic, sizeof(file_magic)) != 0) {
        return rk_fail(err, RK_ECORRUPT, "%s: not a log file: wrong magic at offset 0", path);
    }
    if (rk_crc32c(0, in, 60) != rk_get_u32le(in + 60)) {
        return rk_fail(err, RK_ECORRUPT, "%s: wrong checksum of the file header at offset 60",
                       path);
    }
    uint32_t version = rk_get_u32le(in + 8);
    if (version != FILE_VERSION || rk_get_u32le(in + 12) != WAL_PAGE) {
        return rk_fail(err, RK_ECORRUPT, "%s: log version %u, this program reads version %u", path,
                       version, FILE_VERSION);
    }
    *out = (wal_file){
        .seq = rk_get_u64le(in + 16),
        .first_lsn = rk_get_u64le(in + 24),
        .epoch = rk_get_u64le(in + 32),
        .bytes = rk_get_u64le(in + 40),
        .seed = rk_get_u32le(in + 60),
    };
    if (out->first_lsn == 0 || out->bytes < WAL_PAGE || out->bytes > INT64_MAX) {
        return rk_fail(err, RK_ECORRUPT, "%s: impossible first lsn %llu or size %llu in its header",
                       path, (unsigned long long)out->first_lsn, (unsigned long long)out->bytes);
    }
    return RK_OK;
}

void
rk__wal_record_encode(uint8_t out[WAL_RECORD_LEN], const wal_record *record, uint32_t seed)
{
    rk_put_u32le(out + 4, record->len);
    rk_put_u64le(out + 8, record->lsn);
    rk_put_u64le(out + 16, record->epoch);
    rk_put_u64le(out + 24, record->group);
    rk_put_u32le(out + 32, record->group_off);
    rk_put_u32le(out + 36, record->payload_crc);
    rk_put_u32le(out, rk_crc32c(seed, out + 4, WAL_RECORD_LEN - 4));
}

bool
rk__wal_record_decode(wal_record *out, const uint8_t in[WAL_RECORD_LEN], uint32_t seed)
{
    if (rk_crc32c(seed, in + 4, WAL_RECORD_LEN - 4) != rk_get_u32le(in)) {
        return false;
    }
    *out = (wal_record){
        .len = rk_get_u32le(in + 4),
        .lsn = rk_get_u64le(in + 8),
        .epoch = rk_get_u64le(in + 16),
        .group = rk_get_u64le(in + 24),
        .group_off = rk_get_u32le(in + 32),
        .payload_crc = rk_get_u32le(in + 36),
    };
    return out->lsn != 0 && out->group_off < out->lsn &&
           (out->len == WAL_MARK || out->len <= RK_WAL_RECORD_MAX);
}

rk_code
rk__wal_path(char out[WAL_PATH_MAX], const char *folder, const char *name, rk_err *err)
{
    int len = snprintf(out, WAL_PATH_MAX, "%s/%s", folder, name);
    if (len < 0 || (size_t)len >= WAL_PATH_MAX) {
        return rk_fail(err, RK_EINVAL, "log folder %.64s...: the path is longer than %u bytes",
                       folder, WAL_PATH_MAX - 32);
    }
    return RK_OK;
}

void
rk__wal_name(char out[32], uint64_t seq)
{
    snprintf(out, 32, "%016llx.wal", (unsigned long long)seq);
}
