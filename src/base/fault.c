/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named fault points, driven by the environment of crash tests; never armed in normal runs.
 *
 * REDKITE_FAULT holds "name:nth:action,...". REDKITE_FAULT_FILE names a file with such a list
 * (lines or commas), read again whenever its time, size or inode changes, so that a test can arm a
 * running server. A new list starts counting anew. One lock guards the list; it is a leaf and taken
 * only when armed.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"

#define RULES_MAX    64
#define NAME_LEN_MAX 96

typedef enum fault_action { FAULT_KILL, FAULT_ERROR, FAULT_FULL } fault_action;

typedef struct rule {
    char name[NAME_LEN_MAX];
    uint64_t nth;
    uint64_t passes;
    fault_action action;
    bool and_later;
} rule;

bool rk_fault_armed = false;

static pthread_mutex_t rules_lock = PTHREAD_MUTEX_INITIALIZER;
static rule rules[RULES_MAX];
static size_t rules_count;
static char file_path[4096]; /* empty: no file */
static struct stat file_seen;

/* Takes the text up to |separator| off |*rest|. */
static rk_str
take_part(rk_str *rest, const char *separators)
{
    size_t len = 0;

    while (len < rest->len && !strchr(separators, rest->data[len])) {
        len++;
    }
    rk_str part = {rest->data, len};
    size_t skip = len < rest->len ? len + 1 : len;
    rest->data += skip;
    rest->len -= skip;
    return rk_str_trim(part);
}

static bool
parse_rule(rk_str text, rule *out)
{
    rk_str name = take_part(&text, ":");
    rk_str nth = take_part(&text, ":");
    rk_str action = take_part(&text, ":");

    *out = (rule){0};
    if (name.len == 0 || name.len >= sizeof(out->name) || !rk_str_to_u64(nth, &out->nth) ||
        out->nth == 0) {
        return false;
    }
    memcpy(out->name, name.data, name.len);
    if (action.len > 0 && action.data[action.len - 1] == '+') {
        out->and_later = true;
        action.len--;
    }
    if (rk_str_is(action, "kill")) {
        out->action = FAULT_KILL;
    } else if (rk_str_is(action, "error")) {
        out->action = FAULT_ERROR;
    } else if (rk_str_is(action, "full")) {
        out->action = FAULT_FULL;
    } else {
        return false;
    }
    return true;
}

static void
parse_list(rk_str text)
{
    while (text.len > 0) {
        rk_str item = take_part(&text, ",\n");
        if (item.len == 0) {
            continue;
        }
        if (rules_count == RULES_MAX || !parse_rule(item, &rules[rules_count])) {
            RK_LOG_W("fault", "ignored fault rule \"%.*s\": want name:nth:kill|error|full[+]",
                     RK_STR_ARG(item));
            continue;
        }
        rules_count++;
    }
}

static void
load_environment(void)
{
    const char *text = getenv("REDKITE_FAULT");

    rules_count = 0;
    if (text) {
        parse_list(rk_str_from(text));
    }
}

static void
reload_file_if_changed(void)
{
    char text[8192];
    struct stat now;

    if (file_path[0] == '\0') {
        return;
    }
    if (stat(file_path, &now) != 0) {
        now = (struct stat){0};
    }
    if (now.st_ino == file_seen.st_ino && now.st_size == file_seen.st_size &&
        now.st_mtim.tv_sec == file_seen.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == file_seen.st_mtim.tv_nsec) {
        return;
    }
    file_seen = now;
    load_environment();
    int fd = open(file_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    ssize_t got = read(fd, text, sizeof(text));
    close(fd);
    if (got > 0) {
        parse_list((rk_str){text, (size_t)got});
    }
}

void
rk_fault_init(void)
{
    const char *path = getenv("REDKITE_FAULT_FILE");

    pthread_mutex_lock(&rules_lock);
    file_path[0] = '\0';
    file_seen = (struct stat){0};
    if (path && strlen(path) < sizeof(file_path)) {
        memcpy(file_path, path, strlen(path) + 1);
    }
    load_environment();
    reload_file_if_changed();
    rk_fault_armed = rules_count > 0 || file_path[0] != '\0';
    pthread_mutex_unlock(&rules_lock);
}

rk_code
rk_fault_hit(const char *name)
{
    rk_code code = RK_OK;

    pthread_mutex_lock(&rules_lock);
    reload_file_if_changed();
    for (size_t i = 0; i < rules_count; i++) {
        rule *r = &rules[i];
        if (strcmp(r->name, name) != 0) {
            continue;
        }
        r->passes++;
        if (r->passes != r->nth && !(r->and_later && r->passes > r->nth)) {
            continue;
        }
        if (r->action == FAULT_KILL) {
            kill(getpid(), SIGKILL);
        }
        code = r->action == FAULT_FULL ? RK_EDISK_FULL : RK_EIO;
    }
    pthread_mutex_unlock(&rules_lock);
    return code;
}
