/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns: the line in which writes of one collection are applied. See streaming_private.h.
 *
 * A turn is a node on its owner's stack, linked from the moment it is queued until it ends. The
 * head of the list has the turn.
 */
#include "worker/streaming/streaming_private.h"

void
rk__sn_turn_queue(rk__sn_collection *c, rk__sn_turn *turn)
{
    rk_mutex_lock(&c->turns);
    turn->next = NULL;
    turn->seq = ++c->next_seq;
    if (c->tail) {
        c->tail->next = turn;
    } else {
        c->head = turn;
    }
    c->tail = turn;
    rk_mutex_unlock(&c->turns);
}

void
rk__sn_turn_wait(rk__sn_collection *c, const rk__sn_turn *turn)
{
    rk_mutex_lock(&c->turns);
    while (c->head != turn) {
        rk_cond_wait(&c->turn_ended, &c->turns);
    }
    rk_mutex_unlock(&c->turns);
}

void
rk__sn_turn_end(rk__sn_collection *c, rk__sn_turn *turn)
{
    rk_mutex_lock(&c->turns);
    RK_ASSERT(c->head == turn);
    c->head = turn->next;
    if (!c->head) {
        c->tail = NULL;
    }
    rk_cond_broadcast(&c->turn_ended);
    rk_mutex_unlock(&c->turns);
}

bool
rk__sn_turns_pass(rk__sn_collection *c, uint64_t ts, int64_t deadline_ns)
{
    uint64_t until = 0;
    bool passed = true;

    rk_mutex_lock(&c->turns);
    for (const rk__sn_turn *turn = c->head; turn; turn = turn->next) {
        if (turn->ts != 0 && turn->ts <= ts) {
            until = turn->seq;
        }
    }
    while (passed && c->head && c->head->seq <= until) {
        passed = rk_cond_wait_until(&c->turn_ended, &c->turns, deadline_ns);
    }
    rk_mutex_unlock(&c->turns);
    return passed;
}

uint64_t
rk__sn_turns_first_lsn(rk__sn_collection *c)
{
    uint64_t first = UINT64_MAX;

    rk_mutex_lock(&c->turns);
    for (const rk__sn_turn *turn = c->head; turn; turn = turn->next) {
        if (turn->lsn != 0 && turn->lsn < first) {
            first = turn->lsn;
        }
    }
    rk_mutex_unlock(&c->turns);
    return first;
}
