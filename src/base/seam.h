/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seams: clock, randomness and disk, each a small table of functions chosen once in main().
 * Production binds the real ones; tests bind ones that fail on the Nth call, forget what was not
 * synced, or run on virtual time. Object store, meta store, log and scheduler have seams of their
 * own in their headers.
 *
 * Threads: every function of a seam may be called from any thread.
 */
#ifndef RK_BASE_SEAM_H
#define RK_BASE_SEAM_H

#include "base/slice.h"
#include "base/status.h"

typedef struct rk_clock {
    int64_t (*wall_ms)(void *self);      /* since 1970, may jump */
    int64_t (*monotonic_ns)(void *self); /* never goes back; for deadlines */
    void (*sleep_ns)(void *self, int64_t duration_ns);
    void *self;
} rk_clock;

/* Long work asks it between pieces of a tenth of a second or so; true: nobody wants the result any
 * more, and so it stays. Such work then ends with RK_ECANCELLED. */
typedef struct rk_stop {
    bool (*asked)(void *self); /* any thread */
    void *self;
} rk_stop;

/* |stop| may be NULL: the work goes on to its end. */
static inline bool
rk_stop_asked(const rk_stop *stop)
{
    return stop && stop->asked(stop->self);
}

typedef struct rk_random {
    void (*bytes)(void *self, void *out, size_t len);
    void *self;
} rk_random;

/* ---- disk ---- */

typedef struct rk_disk rk_disk;
typedef struct rk_file rk_file; /* one open file; opaque, made by the disk */

#define RK_OPEN_READ      0u
#define RK_OPEN_WRITE     1u /* read and write */
#define RK_OPEN_CREATE    2u /* create when absent */
#define RK_OPEN_EXCLUSIVE 4u /* with CREATE: RK_EEXISTS when present */
#define RK_OPEN_TRUNCATE  8u

/* An immutable mapping of a whole file. */
typedef struct rk_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t len;
    void *priv;
} rk_map;

/*
 * Errors of all: RK_EKEY_NOT_FOUND (no such file: never confused with "could not read"),
 * RK_EEXISTS, RK_EDISK_FULL (ENOSPC, EDQUOT), RK_EIO (all else, with path and errno text). Paths
 * are NUL-terminated.
 */
struct rk_disk {
    rk_code (*open)(rk_disk *d, rk_file **out, const char *path, unsigned flags, rk_err *err);
    void (*close)(rk_disk *d, rk_file *f);
    rk_code (*size)(rk_disk *d, rk_file *f, uint64_t *out, rk_err *err);
    /* Reads exactly |len| bytes; RK_EEOF when the file is shorter. */
    rk_code (*read)(rk_disk *d, rk_file *f, uint64_t offset, void *buf, size_t len, rk_err *err);
    rk_code (*write)(rk_disk *d, rk_file *f, uint64_t offset, const void *buf, size_t len,
                     rk_err *err);
    rk_code (*allocate)(rk_disk *d, rk_file *f, uint64_t len,
                        rk_err *err); /* preallocates, zero-filled */
    rk_code (*truncate)(rk_disk *d, rk_file *f, uint64_t len, rk_err *err);
    rk_code (*sync)(rk_disk *d, rk_file *f,
                    rk_err *err); /* fdatasync; a failure poisons the file */
    rk_code (*sync_dir)(rk_disk *d, const char *path, rk_err *err);
    rk_code (*rename)(rk_disk *d, const char *from, const char *to, rk_err *err);
    rk_code (*remove)(rk_disk *d, const char *path, rk_err *err); /* file or empty folder */
    rk_code (*mkdirs)(rk_disk *d, const char *path,
                      rk_err *err); /* mode 0700, parents too, present is fine */
    /* Calls |each| with every name in the folder except "." and ".."; stops at its first error. */
    rk_code (*list)(rk_disk *d, const char *path,
                    rk_code (*each)(void *user, const char *name, bool is_dir), void *user,
                    rk_err *err);
    rk_code (*map)(rk_disk *d, rk_map *out, const char *path, rk_err *err); /* read-only, shared */
    void (*unmap)(rk_disk *d, rk_map *map);
    rk_code (*free_bytes)(rk_disk *d, const char *path, uint64_t *out, rk_err *err);
    /* As rename, but RK_EEXISTS when |to| is there: one step, also between processes. Counted as
     * "rename". */
    rk_code (*rename_new)(rk_disk *d, const char *from, const char *to, rk_err *err);
};

/* The seams of the process, handed down from main() or a test. */
typedef struct rk_env {
    const rk_clock *clock;
    const rk_random *random;
    rk_disk *disk;
} rk_env;

/* The real ones. Static; never freed. */
const rk_clock *rk_clock_real(void);
const rk_random *rk_random_real(void);
rk_disk *rk_disk_real(void);
const rk_env *rk_env_real(void);

/* A disk over |inner| for tests: remembers unsynced writes, can drop them, and fails the Nth call
 * of a kind. */
typedef struct rk_disk_faulty rk_disk_faulty;
rk_disk_faulty *rk_disk_faulty_new(rk_disk *inner);
rk_disk *rk_disk_faulty_disk(rk_disk_faulty *f);
/* |call| is "write", "sync", "allocate", "rename", "open", "map"...; from the |nth| (1-based) call
 * after this one on, |times| calls fail with |code|. One rule per kind of call; |times| 0 takes it
 * away. */
void rk_disk_faulty_fail(rk_disk_faulty *f, const char *call, uint64_t nth, uint64_t times,
                         rk_code code);
/* How many calls of this kind were made so far, failed ones included. */
uint64_t rk_disk_faulty_calls(rk_disk_faulty *f, const char *call);
/*
 * A power cut: takes back every write, size change, create, rename and remove that no sync has made
 * durable. With |seed| 0 all of them; else each 512-byte sector of a lost write survives by the
 * toss of a coin. Files open now only answer RK_EIO; close them. Fails only when the inner disk
 * does.
 */
RK_MUST_CHECK rk_code rk_disk_faulty_crash(rk_disk_faulty *f, uint64_t seed);
void rk_disk_faulty_free(rk_disk_faulty *f);

/* Seeded random for tests and k-means: splitmix64/xoshiro, not for secrets. */
typedef struct rk_rng {
    uint64_t s[4];
} rk_rng;
void rk_rng_init(rk_rng *rng, uint64_t seed);
uint64_t rk_rng_next(rk_rng *rng);
uint64_t rk_rng_below(rk_rng *rng, uint64_t bound); /* uniform in [0, bound), bound > 0 */
float rk_rng_float(rk_rng *rng);                    /* uniform in [0, 1) */
float rk_rng_normal(rk_rng *rng);

#endif
