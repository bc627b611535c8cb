/* Replay: captures through a datapath, at a pace, with one or several forwarding threads.
 *
 *     sources -> merge by time -> datapath clock -> pace -> (spread) -> worker bursts -> ports
 *
 * Idea. One worker runs in the calling thread, in bursts, on frames that lie in the readers'
 * buffers. With several, the calling thread collects a round (some thousand packets, copied unless
 * preloaded), each worker takes its share of it in input order, and when all have finished, what
 * they sent is brought into order and the next round, collected meanwhile, begins. So memory is
 * bounded, nothing is shared between workers but the datapath, and output order does not depend on
 * the threads' speed. Where nothing has to be read, paced or written, the calling thread is a
 * worker itself, and workers run a few rounds ahead of each other. oko_replay_run() returns after a
 * slice of time, so that Python can show progress, collect events and take Ctrl-C without any
 * thread of its own.
 *
 * The datapath clock (design, section 3). Each capture is read in its order, its times never
 * running back; several are merged by time, at equal times in the order of the arguments. When
 * looping or in real time, a gap of more than an hour counts as a second. Round k is shifted by k
 * times (length of one round + its mean gap), so it follows the round before after a mean gap. With
 * a set rate packet i comes i/rate after the first one, which comes at its capture time (bits: as
 * many bits of wire length before it).
 *
 * Fails safely: a broken capture ends where it breaks, the rest goes on; a failed write ends the
 * replay. Wall time decides nothing but when packets are handed on and when a duration is over.
 *
 * Thread-safety: the public functions by one thread; a forwarding thread touches its worker, and
 * the round it was given, which nobody changes meanwhile. */
#include "oko.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "merge.h"
#include "parse.h"
#include "port_pcap.h"
#include "spread.h"
#include "team.h"
#include "worker.h"

enum {
    /* With a packet-in each, what a round gives fits into half of a 16 MiB event ring. */
    ROUND_ITEMS = 16384,
    CHUNK = 512, /* items of a copied round that a worker sorts out at a time */
    ROUND_BYTES = 4 << 20,
    ARENA_BYTES = 8 << 20, /* a preloaded capture is kept in pieces of this size */
    FRAME_ALIGN = 64,
    AHEAD = 24 /* preloaded frames are fetched this many packets before their burst */
};

static const uint64_t SECOND = 1000000000, HOUR = 3600 * 1000000000ull;

/* A packet of the replay. What `units` counts depends on the pace: nanoseconds, packets, or bytes
 * since the first packet of the round. */
struct item {
    uint8_t *data; /* NULL: longer than any frame */
    uint64_t units;
    uint32_t len, wire_len;
    uint32_t in_port;
    uint32_t owner; /* worker */
};

/* What the workers are given at once. */
struct round {
    const struct item *items;
    uint32_t n;
    uint64_t seq;   /* of items[0], minus 1 */
    uint64_t shift; /* units of the rounds over the captures before this one */
    struct item *own;
    uint8_t *bytes; /* copies of frames; NULL when preloaded */
    uint32_t used;
};

/* What the forwarding threads are told to do, all of them. */
struct task {
    enum { TASK_WORK, TASK_ONLINE, TASK_OFFLINE } order;
    struct round round;
};

struct oko_replay {
    struct oko_dp *dp;
    struct oko_replay_opts opts;
    struct oko_merge *merge;
    struct oko_writer **writers;
    uint32_t n_writers;

    /* The clock. */
    bool started; /* a first packet has come: base_ns is its time */
    bool cut;     /* long gaps count as a second */
    uint64_t base_ns;
    uint64_t last_raw; /* newest capture time of this round */
    uint64_t units;    /* of the newest packet, within its round */
    uint64_t in_round; /* packets of this round so far */
    uint64_t bytes_in_round;
    uint64_t shift;       /* units of all rounds before this one */
    uint64_t round_units; /* of one whole round, its final gap included; known after the first */

    /* Preloaded packets. */
    struct item *items;
    uint64_t n_items, max_items, cursor;
    uint64_t *sums;   /* [n_items + 1]: wire bytes of all items before this one */
    uint32_t *places; /* several workers: places of items, by worker, then in input order ... */
    uint64_t *shares; /* ... [n_workers + 1]: where each worker's begin */
    uint8_t **arenas;
    uint32_t n_arenas, max_arenas;
    size_t arena_used;
    bool loaded;

    /* Pace. */
    uint64_t start_wall; /* CLOCK_MONOTONIC when the first packet was due; 0 = not started */
    uint64_t now;        /* wall time, as of the last look */
    uint64_t began;      /* wall time of the first run, after loading; 0 = not yet */
    uint64_t slice_end;
    bool tick; /* real time: let the clock run while nothing comes */

    struct item pending; /* taken from the sources, but not due yet */
    bool has_pending;
    bool finished;
    struct oko_replay_status status;
    struct oko_pkt pkts[OKO_BURST];
    uint32_t n_pkts;

    /* Several workers. */
    struct oko_team *team; /* workers 0.., or 1.. when the calling thread is one */
    bool ahead;            /* the calling thread is worker 0 */
    struct task tasks[OKO_TEAM_AHEAD];
    struct round rounds[2];
};

static uint64_t wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* ---------------------------------------------------------------- places in time */

/* The next packet of this round over the captures, with its place in time. */
static enum oko_merge_result next_item(struct oko_replay *r, struct item *item)
{
    struct oko_merged next;
    enum oko_merge_result result = oko_merge_next(r->merge, &next);
    if (result != OKO_MERGE_RECORD)
        return result;

    if (!r->started) {
        r->started = true;
        r->base_ns = next.ns;
        oko_dp_clock_start(r->dp, next.ns);
    }
    if (r->in_round == 0) {
        r->last_raw = next.ns;
        r->units = r->bytes_in_round = 0;
    }
    uint64_t gap = next.ns - r->last_raw;
    r->last_raw = next.ns;
    if (r->cut && gap > HOUR)
        gap = SECOND;
    if (r->opts.pace == OKO_PACE_PPS)
        r->units = r->in_round;
    else if (r->opts.pace == OKO_PACE_BITS)
        r->units = r->bytes_in_round;
    else
        r->units += gap;
    r->in_round++;
    r->bytes_in_round += next.record.wire_len;
    *item = (struct item){.data = next.record.data,
                          .units = r->units,
                          .len = next.record.len,
                          .wire_len = next.record.wire_len,
                          .in_port = next.in_port};
    return result;
}

/* The round over the captures is complete: how long it was, and where the next one begins. */
static void end_round(struct oko_replay *r)
{
    uint64_t n = r->in_round;
    if (r->opts.pace == OKO_PACE_PPS)
        r->round_units = n;
    else if (r->opts.pace == OKO_PACE_BITS)
        r->round_units = r->bytes_in_round;
    else /* length + mean gap; all at one time: a microsecond, the captures' resolution */
        r->round_units = r->units ? r->units + r->units / (n - 1) : 1000;
    r->status.per_round = n;
}

/* ---------------------------------------------------------------- preloading */

static uint8_t *arena_take(struct oko_replay *r, uint32_t n)
{
    size_t size = (n + FRAME_ALIGN - 1u) / FRAME_ALIGN * FRAME_ALIGN;
    if (!r->n_arenas || ARENA_BYTES - r->arena_used < size) {
        if (r->n_arenas == r->max_arenas) {
            uint32_t max = r->max_arenas ? 2 * r->max_arenas : 16;
            uint8_t **grown = realloc(r->arenas, max * sizeof *grown);
            if (!grown)
                return NULL;
            r->arenas = grown;
            r->max_arenas = max;
        }
        uint8_t *arena = aligned_alloc(FRAME_ALIGN, ARENA_BYTES);
        if (!arena)
            return NULL;
        r->arenas[r->n_arenas++] = arena;
        r->arena_used = 0;
    }
    r->arena_used += size;
    return r->arenas[r->n_arenas - 1] + r->arena_used - size;
}

static uint32_t owner_of(const struct oko_replay *r, const struct item *item)
{
    struct oko_pkt pkt = {.data = item->data, .len = item->len, .in_port = item->in_port};
    struct oko_key key;

    if (r->opts.n_workers == 1)
        return 0;
    if (!item->data)
        pkt.len = 0;
    oko_parse(&pkt, OKO_LAYER_L4, &key);
    return oko_spread_of(&key, (enum oko_spread)r->opts.spread, r->opts.n_workers);
}

static int sum_up(struct oko_replay *r)
{
    r->sums = malloc((r->n_items + 1) * sizeof *r->sums);
    if (!r->sums)
        return OKO_E_NOMEM;
    r->sums[0] = 0;
    for (uint64_t i = 0; i < r->n_items; i++)
        r->sums[i + 1] = r->sums[i] + r->items[i].wire_len;
    return OKO_REPLAY_DONE;
}

/* Each worker's items, as a list of their places: nobody has to look at those of others. */
static int sort_out(struct oko_replay *r)
{
    if (r->opts.n_workers == 1)
        return OKO_REPLAY_DONE;
    r->places = malloc((r->n_items + 1) * sizeof *r->places);
    r->shares = calloc(r->opts.n_workers + 2u, sizeof *r->shares);
    if (!r->places || !r->shares)
        return OKO_E_NOMEM;
    uint64_t *next = r->shares + 1; /* of each worker; at last, where the next one's begin */
    for (uint64_t i = 0; i < r->n_items; i++)
        next[r->items[i].owner + 1]++;
    for (uint32_t w = 1; w <= r->opts.n_workers; w++)
        next[w] += next[w - 1];
    for (uint64_t i = 0; i < r->n_items; i++)
        r->places[next[r->items[i].owner]++] = (uint32_t)i;
    return OKO_REPLAY_DONE;
}

/* Reads on until everything is there: OKO_REPLAY_DONE, or OKO_REPLAY_MORE when the slice is over.
 */
static int load(struct oko_replay *r)
{
    struct item item;

    for (;;) {
        switch (next_item(r, &item)) {
        case OKO_MERGE_REFILL:
            if (oko_merge_refill(r->merge) == OKO_E_BUSY || wall() > r->slice_end)
                return OKO_REPLAY_MORE;
            continue;
        case OKO_MERGE_END:
            end_round(r);
            r->loaded = true;
            return sum_up(r) == OKO_REPLAY_DONE ? sort_out(r) : OKO_E_NOMEM;
        case OKO_MERGE_RECORD:
            break;
        }
        if (r->n_items == r->max_items) {
            uint64_t max = r->max_items ? 2 * r->max_items : 65536;
            struct item *grown = realloc(r->items, max * sizeof *grown);
            if (!grown)
                return OKO_E_NOMEM;
            r->items = grown;
            r->max_items = max;
        }
        if (item.data) {
            uint8_t *copy = arena_take(r, item.len);
            if (!copy)
                return OKO_E_NOMEM;
            memcpy(copy, item.data, item.len);
            item.data = copy;
        }
        item.owner = owner_of(r, &item);
        r->items[r->n_items++] = item;
        r->status.loaded = r->n_items;
    }
}

/* ---------------------------------------------------------------- time */

/* x * num / den without overflow; 0 < den. */
static uint64_t scale(uint64_t x, uint64_t num, double den)
{
    /* The rate is split into an integer of 1/1024ths: exact for every rate a person types. */
    unsigned __int128 d = (unsigned __int128)(den * 1024.0);
    return (uint64_t)((unsigned __int128)x * num * 1024 / (d ? d : 1));
}

/* When a packet arrives by the datapath clock. */
static uint64_t clock_of(const struct oko_replay *r, uint64_t units)
{
    if (r->opts.pace == OKO_PACE_PPS)
        return r->base_ns + scale(units, SECOND, r->opts.rate);
    if (r->opts.pace == OKO_PACE_BITS)
        return r->base_ns + scale(units, 8 * SECOND, r->opts.rate);
    return r->base_ns + units;
}

/* When it is due by the wall clock. */
static uint64_t due_at(const struct oko_replay *r, uint64_t ns)
{
    uint64_t passed = ns - r->base_ns;
    if (r->opts.pace == OKO_PACE_REALTIME)
        passed = (uint64_t)((double)passed / r->opts.rate);
    return r->start_wall + passed;
}

/* Waits until `due` or the end of the slice; false: it was the slice. */
static bool wait_until(struct oko_replay *r, uint64_t due)
{
    uint64_t until = due < r->slice_end ? due : r->slice_end;
    struct timespec t = {.tv_sec = (time_t)(until / SECOND), .tv_nsec = (long)(until % SECOND)};

    if (until > r->now)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL); /* a signal ends it early */
    r->now = wall();
    return r->now >= due;
}

/* ---------------------------------------------------------------- the next packet */

enum take { TAKE_ITEM, TAKE_END, TAKE_REFILL, TAKE_WAIT };

/* The next packet that is due, whatever the mode. TAKE_WAIT: there is one, at *due. */
static enum take take(struct oko_replay *r, struct item *item, uint64_t *ns, uint64_t *due)
{
    if (!r->has_pending) {
        if (r->opts.preload) {
            if (r->cursor == r->n_items)
                return TAKE_END;
            r->pending = r->items[r->cursor++];
        } else {
            enum oko_merge_result next = next_item(r, &r->pending);
            if (next != OKO_MERGE_RECORD)
                return next == OKO_MERGE_END ? TAKE_END : TAKE_REFILL;
        }
        r->has_pending = true;
    }
    *ns = clock_of(r, r->pending.units + r->shift);
    if (r->opts.pace != OKO_PACE_MAX) {
        if (!r->start_wall)
            r->start_wall = r->now = wall();
        *due = due_at(r, *ns);
        if (*due > r->now && *due > (r->now = wall()))
            return TAKE_WAIT;
    }
    *item = r->pending;
    r->has_pending = false;
    return TAKE_ITEM;
}

static bool enough(const struct oko_replay *r)
{
    return r->opts.max_packets && r->status.packets >= r->opts.max_packets;
}

static void count(struct oko_replay *r, const struct item *item, uint64_t ns)
{
    if (!r->status.packets)
        r->status.first_ns = ns;
    r->status.last_ns = ns;
    r->status.packets++;
    r->status.bytes += item->wire_len;
}

/* The captures are through: OKO_REPLAY_DONE, OKO_REPLAY_REWIND, or OKO_REPLAY_MORE to go on. */
static int next_round(struct oko_replay *r)
{
    if (!r->opts.preload && r->in_round)
        end_round(r);
    r->status.loops++;
    bool empty = r->status.per_round == 0;
    if (empty || enough(r) || (r->opts.loops && r->status.loops >= r->opts.loops))
        return OKO_REPLAY_DONE;
    r->shift += r->round_units;
    r->cursor = 0;
    r->in_round = 0;
    return r->opts.preload ? OKO_REPLAY_MORE : OKO_REPLAY_REWIND;
}

static int writer_errors(struct oko_replay *r, struct oko_error *error)
{
    for (uint32_t i = 0; i < r->n_writers; i++) {
        int err = oko_writer_merge(r->writers[i], error);
        if (err)
            return err;
    }
    return 0;
}

static void fill_pkt(struct oko_pkt *pkt, const struct item *item, uint64_t ns, uint64_t seq)
{
    static uint8_t nothing[1]; /* never read: what is too long is dropped unseen */

    pkt->data = item->data ? item->data : nothing;
    pkt->len = item->data ? item->len : OKO_FRAME_MAX + 1u;
    pkt->in_port = item->in_port;
    pkt->meta = (struct oko_meta){
        .rx_ns = ns, .in_port = item->in_port, .wire_len = item->wire_len, .len = pkt->len};
    pkt->owned = false;
    pkt->seq = seq;
    pkt->queue = 0;
    pkt->buffer = NULL;
}

/* ---------------------------------------------------------------- one worker */

static void flush_burst(struct oko_replay *r)
{
    if (r->n_pkts)
        oko_worker_burst(oko_dp_worker(r->dp, 0), r->pkts, r->n_pkts);
    r->n_pkts = 0;
}

/* Preloaded frames of the burst after this one: on their way while this one is handled. */
static void prefetch(const struct oko_replay *r)
{
    uint64_t at = r->cursor + AHEAD;
    if (r->opts.preload && at < r->n_items)
        __builtin_prefetch(r->items[at].data);
}

static int run_single(struct oko_replay *r, struct oko_error *error)
{
    struct oko_worker *worker = oko_dp_worker(r->dp, 0);
    struct item item;
    uint64_t ns = 0, due = 0;

    for (;;) {
        switch (take(r, &item, &ns, &due)) {
        case TAKE_REFILL: /* frames of the burst lie in the buffer that will move */
            flush_burst(r);
            if (oko_merge_refill(r->merge) == OKO_E_BUSY)
                return OKO_REPLAY_MORE;
            continue;
        case TAKE_WAIT:
            flush_burst(r);
            if (r->tick && due > r->now + SECOND / 100 && r->status.packets)
                oko_worker_tick(worker, ns - (uint64_t)((double)(due - r->now) * r->opts.rate));
            if (!wait_until(r, due))
                return OKO_REPLAY_MORE;
            continue;
        case TAKE_END: {
            flush_burst(r);
            int result = next_round(r);
            if (result != OKO_REPLAY_MORE)
                return result;
            if (wall() > r->slice_end)
                return OKO_REPLAY_MORE;
            continue;
        }
        case TAKE_ITEM:
            break;
        }
        prefetch(r);
        count(r, &item, ns);
        fill_pkt(&r->pkts[r->n_pkts++], &item, ns, r->status.packets);
        if (r->n_pkts < r->opts.burst && !enough(r))
            continue;

        flush_burst(r);
        int err = writer_errors(r, error);
        if (err)
            return err;
        if (enough(r))
            return OKO_REPLAY_DONE;
        if ((r->now = wall()) > r->slice_end || oko_dp_events_waiting(r->dp))
            return OKO_REPLAY_MORE;
    }
}

/* ---------------------------------------------------------------- several workers */

/* The items of a worker among n, as a list of their places; without a branch per item, which
 * nobody could predict. */
static uint32_t share(const struct item *items, uint32_t n, uint32_t owner, uint32_t *places)
{
    uint32_t n_places = 0;
    for (uint32_t i = 0; i < n; i++) {
        places[n_places] = i;
        n_places += items[i].owner == owner;
    }
    return n_places;
}

/* Where a worker's places from this one on begin in its list. */
static uint64_t share_from(const struct oko_replay *r, uint32_t owner, uint64_t place)
{
    uint64_t low = r->shares[owner], high = r->shares[owner + 1];
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (r->places[middle] < place)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A burst that a worker is collecting. */
struct batch {
    struct oko_worker *worker;
    struct oko_pkt pkts[OKO_BURST];
    uint32_t n;
};

/* Forwards the items at these places, in bursts; the last ones stay in the batch. */
static void forward(const struct oko_replay *r, const struct round *round, const struct item *items,
                    const uint32_t *places, uint64_t n, struct batch *batch)
{
    for (uint64_t k = 0; k < n; k++) {
        const struct item *item = &items[places[k]];
        if (k + AHEAD < n)
            __builtin_prefetch(items[places[k + AHEAD]].data);
        fill_pkt(&batch->pkts[batch->n++], item, clock_of(r, item->units + round->shift),
                 round->seq + 1 + (uint64_t)(item - round->items));
        if (batch->n == r->opts.burst) {
            oko_worker_burst(batch->worker, batch->pkts, batch->n);
            batch->n = 0;
        }
    }
}

/* A worker's share of a round, in input order. All workers stay online for the whole slice, so that
 * a flow expires only when the slowest of them has passed its deadline. */
static void work(struct oko_replay *r, uint32_t index, const struct round *round)
{
    struct batch batch;
    uint32_t places[CHUNK];

    batch.worker = oko_dp_worker(r->dp, index);
    batch.n = 0;
    if (r->opts.preload) {
        uint64_t at = (uint64_t)(round->items - r->items);
        uint64_t from = share_from(r, index, at), to = share_from(r, index, at + round->n);
        forward(r, round, r->items, r->places + from, to - from, &batch);
    }
    for (uint32_t at = 0; at < round->n && !r->opts.preload; at += CHUNK) {
        const struct item *items = round->items + at;
        uint32_t n = round->n - at < CHUNK ? round->n - at : CHUNK;
        forward(r, round, items, places, share(items, n, index, places), &batch);
    }
    if (batch.n)
        oko_worker_burst(batch.worker, batch.pkts, batch.n);
    /* The whole round is over for this worker, also where it had no packets. */
    oko_worker_tick(batch.worker, clock_of(r, round->items[round->n - 1].units + round->shift));
}

static void carry_out(void *ctx, uint32_t index, uint64_t number)
{
    struct oko_replay *r = ctx;
    const struct task *task = &r->tasks[number % OKO_TEAM_AHEAD];

    if (task->order == TASK_ONLINE)
        oko_worker_online(oko_dp_worker(r->dp, index));
    else if (task->order == TASK_OFFLINE)
        oko_worker_offline(oko_dp_worker(r->dp, index));
    else
        work(r, index, &task->round);
}

static struct task *next_task(struct oko_replay *r)
{
    oko_team_wait_room(r->team);
    return &r->tasks[oko_team_next(r->team) % OKO_TEAM_AHEAD];
}

/* All workers, the calling thread included, take part or rest. */
static void turn(struct oko_replay *r, bool online)
{
    next_task(r)->order = online ? TASK_ONLINE : TASK_OFFLINE;
    oko_team_give(r->team);
    if (r->ahead)
        (online ? oko_worker_online : oko_worker_offline)(oko_dp_worker(r->dp, 0));
    oko_team_wait_all(r->team);
}

/* Preloaded and without a pace, a round is a stretch of items: nothing is looked at. */
static enum take cut_out(struct oko_replay *r, struct round *round)
{
    /* Several rounds under way have to fit into the event ring together. */
    uint64_t parts = r->ahead ? OKO_TEAM_AHEAD : 1, n = r->n_items - r->cursor;
    if (n > ROUND_ITEMS / parts)
        n = ROUND_ITEMS / parts;
    while (n > 1 && r->sums[r->cursor + n] - r->sums[r->cursor] > ROUND_BYTES / parts)
        n /= 2;
    if (r->opts.max_packets && n > r->opts.max_packets - r->status.packets)
        n = r->opts.max_packets - r->status.packets;
    *round = (struct round){.items = r->items + r->cursor,
                            .n = (uint32_t)n,
                            .seq = r->status.packets,
                            .shift = r->shift};
    if (!n)
        return enough(r) ? TAKE_ITEM : TAKE_END;
    if (!r->status.packets)
        r->status.first_ns = clock_of(r, round->items[0].units + r->shift);
    r->status.last_ns = clock_of(r, round->items[n - 1].units + r->shift);
    r->status.packets += n;
    r->status.bytes += r->sums[r->cursor + n] - r->sums[r->cursor];
    r->cursor += n;
    return TAKE_ITEM;
}

/* Collects what is due, at most a round. Returns what ended it. */
static enum take collect(struct oko_replay *r, struct round *round, uint64_t *due)
{
    uint64_t ns = 0;

    if (r->opts.preload && r->opts.pace == OKO_PACE_MAX)
        return cut_out(r, round);
    round->n = round->used = 0;
    round->seq = r->status.packets;
    round->shift = r->shift;
    round->items = r->opts.preload ? r->items + r->cursor - r->has_pending : round->own;
    while (round->n < ROUND_ITEMS && !enough(r)) {
        struct item item;
        enum take taken = take(r, &item, &ns, due);
        if (taken == TAKE_REFILL) { /* frames are copied: the buffer may move */
            if (oko_merge_refill(r->merge) == OKO_E_BUSY)
                return TAKE_REFILL;
            continue;
        }
        if (taken != TAKE_ITEM)
            return taken;
        count(r, &item, ns);
        if (!r->opts.preload) {
            item.owner = owner_of(r, &item);
            if (item.data) {
                memcpy(round->bytes + round->used, item.data, item.len);
                item.data = round->bytes + round->used;
            }
            round->own[round->n] = item;
        }
        if (item.data)
            round->used += (item.len + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
        round->n++;
        if (round->used > ROUND_BYTES)
            break;
    }
    return TAKE_ITEM;
}

static int run_workers(struct oko_replay *r, struct oko_error *error)
{
    uint64_t due = 0;

    for (uint32_t turn = 0;; turn ^= 1) {
        struct round *round = &r->rounds[turn];
        enum take ended = collect(r, round, &due);

        /* The round before has been worked on meanwhile. */
        oko_team_wait_all(r->team);
        int err = writer_errors(r, error);
        if (err)
            return err;
        if (round->n) {
            *next_task(r) = (struct task){.order = TASK_WORK, .round = *round};
            oko_team_give(r->team);
        }
        uint64_t now = wall();
        bool stop =
            now > r->slice_end || oko_dp_events_waiting(r->dp) || enough(r) || ended == TAKE_REFILL;
        if (ended == TAKE_WAIT && !stop)
            stop = !wait_until(r, due);
        int result = OKO_REPLAY_MORE;
        if (ended == TAKE_END) {
            oko_team_wait_all(r->team);
            result = next_round(r);
        }
        if (stop || result != OKO_REPLAY_MORE) {
            oko_team_wait_all(r->team);
            err = writer_errors(r, error);
            if (err)
                return err;
            return enough(r) ? OKO_REPLAY_DONE : result;
        }
    }
}

/* Preloaded, without a pace and without writers: rounds are cut out as long as there is room, and
 * the calling thread does its share of each as worker 0. */
static int run_ahead(struct oko_replay *r)
{
    uint64_t own = oko_team_next(r->team); /* this thread's next task */
    int result = OKO_REPLAY_MORE;

    for (bool stop = false;;) {
        while (!stop && oko_team_next(r->team) < own + OKO_TEAM_AHEAD &&
               (oko_team_has_room(r->team) || oko_team_next(r->team) == own)) {
            struct task *task = next_task(r);
            task->order = TASK_WORK;
            enum take ended = cut_out(r, &task->round);
            if (task->round.n)
                oko_team_give(r->team);
            if (ended == TAKE_END)
                result = next_round(r);
            if (enough(r))
                result = OKO_REPLAY_DONE;
            stop =
                result != OKO_REPLAY_MORE || wall() > r->slice_end || oko_dp_events_waiting(r->dp);
        }
        if (own == oko_team_next(r->team))
            break;
        work(r, 0, &r->tasks[own++ % OKO_TEAM_AHEAD].round);
    }
    oko_team_wait_all(r->team);
    return result;
}

static int start_threads(struct oko_replay *r)
{
    r->ahead = r->opts.preload && r->opts.pace == OKO_PACE_MAX && !r->n_writers;
    for (uint32_t i = 0; i < 2; i++) {
        if (r->opts.preload)
            break;
        r->rounds[i].own = malloc(ROUND_ITEMS * sizeof *r->rounds[i].own);
        r->rounds[i].bytes = aligned_alloc(FRAME_ALIGN, ROUND_BYTES + 2 * 65536);
        if (!r->rounds[i].own || !r->rounds[i].bytes)
            return OKO_E_NOMEM;
    }
    return oko_team_new(r->opts.n_workers - r->ahead, r->ahead, carry_out, r, &r->team);
}

/* ---------------------------------------------------------------- public */

int oko_replay_new(struct oko_dp *dp, const struct oko_replay_opts *opts,
                   const struct oko_replay_source *sources, uint32_t n_sources,
                   struct oko_writer *const *writers, uint32_t n_writers,
                   struct oko_replay **replay, struct oko_error *error)
{
    *error = (struct oko_error){.code = OKO_E_INVAL, .insn = -1};
    bool paced = opts->pace != OKO_PACE_MAX;
    if (!opts->n_workers || opts->n_workers > 64 || opts->spread > OKO_SPREAD_PORT ||
        opts->pace > OKO_PACE_REALTIME || opts->burst > OKO_BURST || !n_sources ||
        (paced && !(opts->rate > 0 && opts->rate < 1e18)) || (!opts->loops && !opts->duration_ns)) {
        snprintf(error->reason, sizeof error->reason, "an option is out of range");
        return OKO_E_INVAL;
    }

    struct oko_replay *r = calloc(1, sizeof *r);
    if (!r)
        return error->code = OKO_E_NOMEM;
    r->dp = dp;
    r->opts = *opts;
    if (!r->opts.burst)
        r->opts.burst = OKO_BURST;
    r->n_writers = n_writers;
    r->writers = calloc(n_writers + 1u, sizeof(struct oko_writer *));
    if (!r->writers || oko_merge_new(sources, n_sources, &r->merge)) {
        oko_replay_free(r);
        return error->code = OKO_E_NOMEM;
    }
    for (uint32_t i = 0; i < n_writers; i++)
        r->writers[i] = writers[i];
    r->cut = opts->loops != 1 || opts->duration_ns || opts->pace == OKO_PACE_REALTIME;
    r->tick = opts->pace == OKO_PACE_REALTIME;
    r->status.copied = opts->n_workers > 1 && !opts->preload;
    if (opts->n_workers > 1 && start_threads(r)) {
        oko_replay_free(r);
        snprintf(error->reason, sizeof error->reason, "cannot start %u threads", opts->n_workers);
        return error->code = OKO_E_NOMEM;
    }
    *replay = r;
    return 0;
}

int oko_replay_run(struct oko_replay *r, uint64_t slice_ns, struct oko_error *error)
{
    uint64_t start = wall();

    *error = (struct oko_error){.insn = -1};
    if (r->finished)
        return OKO_REPLAY_DONE;
    r->slice_end = start + slice_ns;
    if (r->opts.preload && !r->loaded) {
        int result = load(r);
        if (result)
            return result;
        start = wall();
    }
    if (!r->began)
        r->began = start;
    uint64_t end = r->opts.duration_ns ? r->began + r->opts.duration_ns : UINT64_MAX;
    if (end < r->slice_end)
        r->slice_end = end;

    r->now = start;
    int result;
    if (r->opts.n_workers == 1) {
        struct oko_worker *worker = oko_dp_worker(r->dp, 0);
        oko_worker_online(worker);
        result = run_single(r, error);
        flush_burst(r);
        oko_worker_offline(worker);
    } else {
        turn(r, true);
        result = r->ahead ? run_ahead(r) : run_workers(r, error);
        oko_team_wait_all(r->team);
        turn(r, false);
    }
    uint64_t now = wall();
    r->status.run_ns = now - r->began;
    if (result > 0 && now >= end)
        result = OKO_REPLAY_DONE;
    r->finished = result == OKO_REPLAY_DONE;
    return result;
}

int oko_replay_rewind(struct oko_replay *r, struct oko_capture *const *captures)
{
    if (r->finished || r->opts.preload)
        return OKO_E_INVAL;
    oko_merge_rewind(r->merge, captures);
    return 0;
}

int oko_replay_source_error(const struct oko_replay *r, uint32_t i, struct oko_error *error)
{
    return oko_merge_error(r->merge, i, error);
}

void oko_replay_status(const struct oko_replay *r, struct oko_replay_status *status)
{
    *status = r->status;
}

void oko_replay_free(struct oko_replay *r)
{
    if (!r)
        return;
    oko_team_free(r->team);
    for (uint32_t i = 0; i < 2; i++) {
        free(r->rounds[i].own);
        free(r->rounds[i].bytes);
    }
    for (uint32_t i = 0; i < r->n_arenas; i++)
        free(r->arenas[i]);
    free(r->arenas);
    free(r->items);
    free(r->sums);
    free(r->places);
    free(r->shares);
    free(r->writers);
    oko_merge_free(r->merge);
    free(r);
}
