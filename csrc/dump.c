/* Reading what is there: flows, groups, meters, tables, counters, events, traces. Everything runs
 * under the datapath's mutex, in portions that the caller's buffer bounds; forwarding threads are
 * not stopped. */
#include "commit.h"
#include "pipeline.h"

#include "base/bits.h"

#include <string.h>

/* ---------------------------------------------------------------- events */

void oko_event_flow(struct oko_dp *dp, const struct oko_rule *rule, uint16_t type, uint16_t reason,
                    uint64_t ns, uint64_t seq)
{
    struct oko_match_field match[OKO_N_FIELDS];
    uint64_t used, born = dp->born_ns;
    uint64_t since = rule->created_ns ? rule->created_ns : born;
    oko_rule_match(rule, match);
    struct oko_event event = {.type = type,
                              .reason = reason,
                              .ns = ns,
                              .seq = seq,
                              .cookie = rule->cookie,
                              .flow_id = rule->id,
                              .duration_ns = ns > since ? ns - since : 0,
                              .table = rule->table,
                              .data_len = rule->n_match * (uint32_t)sizeof match[0],
                              .priority = rule->priority,
                              .n_match = rule->n_match,
                              .filter_prog = rule->filter_prog,
                              .idle_timeout = OKO_LOAD(&rule->idle_timeout),
                              .hard_timeout = OKO_LOAD(&rule->hard_timeout),
                              .arg = rule->flags};
    oko_flow_stats_sum(rule->stats, &event.packets, &event.bytes, &used);
    oko_ring_put(dp->events, &event, match);
}

bool oko_dp_events_waiting(struct oko_dp *dp)
{
    return oko_ring_half_full(dp->events);
}

int64_t oko_dp_events(struct oko_dp *dp, uint8_t *out, uint64_t size, uint64_t *lost)
{
    oko_dp_lock(dp);
    oko_gc_poll(&dp->gc); /* flows that wait for their final counters */
    oko_dp_unlock(dp);
    return oko_ring_take(dp->events, out, size, lost);
}

void oko_dp_send_misses(struct oko_dp *dp, uint32_t max_len)
{
    OKO_STORE(&dp->miss_len, max_len);
}

int oko_dp_event_fd(struct oko_dp *dp)
{
    return oko_ring_fd(dp->events);
}

/* ---------------------------------------------------------------- flows */

uint32_t oko_flow_record_size(const struct oko_rule *rule)
{
    return (uint32_t)sizeof(struct oko_flow_info) +
           rule->n_match * (uint32_t)sizeof(struct oko_match_field) + rule->ops_len;
}

void oko_flow_record(const struct oko_rule *rule, uint64_t born, uint8_t *out)
{
    struct oko_flow_info info = {.size = oko_flow_record_size(rule),
                                 .table = rule->table,
                                 .id = rule->id,
                                 .cookie = rule->cookie,
                                 .created_ns = rule->created_ns ? rule->created_ns : born,
                                 .modified_ns = OKO_LOAD(&rule->modified_ns),
                                 .priority = rule->priority,
                                 .flags = rule->flags,
                                 .idle_timeout = OKO_LOAD(&rule->idle_timeout),
                                 .hard_timeout = OKO_LOAD(&rule->hard_timeout),
                                 .filter_prog = rule->filter_prog,
                                 .n_match = rule->n_match,
                                 .ops_len = rule->ops_len,
                                 .learned = rule->learned,
                                 .importance = rule->importance};
    struct oko_match_field match[OKO_N_FIELDS];
    if (!info.modified_ns)
        info.modified_ns = born;
    oko_flow_stats_sum(rule->stats, &info.packets, &info.bytes, &info.used_ns);
    oko_rule_match(rule, match);
    memcpy(out, &info, sizeof info);
    memcpy(out + sizeof info, match, rule->n_match * sizeof match[0]);
    memcpy(out + sizeof info + rule->n_match * sizeof match[0], rule->ops, rule->ops_len);
}

int64_t oko_dp_flows(struct oko_dp *dp, uint64_t *cursor, uint8_t *out, uint64_t size)
{
    uint64_t used = 0;
    bool too_small = false;
    oko_dp_lock(dp);
    oko_gc_poll(&dp->gc);
    for (; *cursor < dp->flows_end; ++*cursor) {
        const struct oko_rule *rule = dp->flows[*cursor];
        if (!rule)
            continue;
        uint32_t need = oko_flow_record_size(rule);
        if (need > size - used) {
            too_small = used == 0;
            break;
        }
        oko_flow_record(rule, dp->born_ns, out + used);
        used += need;
    }
    oko_dp_unlock(dp);
    return too_small ? OKO_E_LIMIT : (int64_t)used;
}

/* How many flows name group (or meter) id? */
struct referring {
    uint16_t op;
    uint32_t id;
};

static bool refers(const struct oko_op_head *op, void *ctx)
{
    const struct referring *to = ctx;
    return op->op == to->op && op->arg == to->id;
}

static uint32_t n_referring(const struct oko_dp *dp, uint16_t op, uint32_t id)
{
    struct referring to = {op, id};
    uint32_t n = 0;
    for (uint32_t i = 0; i < dp->flows_end; i++) {
        const struct oko_rule *rule = dp->flows[i];
        n += rule && rule->ops_flags & OKO_OPS_REFERS &&
             oko_ops_walk(rule->ops, rule->ops_len, refers, &to);
    }
    return n;
}

/* ---------------------------------------------------------------- groups, meters */

/* First object of a set whose number is at least *cursor; NULL: none. */
static void *object_from(const struct oko_set *set, uint64_t cursor, uint32_t *id)
{
    for (uint32_t i = 0; i < set->n; i++)
        if (set->sorted[i].id >= cursor) {
            *id = set->sorted[i].id;
            return set->sorted[i].object;
        }
    return NULL;
}

static uint32_t put_group(struct oko_dp *dp, const struct oko_group *group, uint8_t *out,
                          uint64_t room)
{
    uint32_t size =
        (uint32_t)(sizeof(struct oko_group_info) + group->n_buckets * sizeof(struct oko_counts));
    if (size > room)
        return 0;
    struct oko_counts all = oko_group_counts(group, group->n_buckets);
    struct oko_group_info info = {.size = size,
                                  .id = group->id,
                                  .type = group->type,
                                  .n_buckets = group->n_buckets,
                                  .n_flows = n_referring(dp, OKO_OP_GROUP, group->id),
                                  .packets = all.packets,
                                  .bytes = all.bytes,
                                  .created_ns =
                                      group->created_ns ? group->created_ns : dp->born_ns};
    memcpy(out, &info, sizeof info);
    for (uint32_t i = 0; i < group->n_buckets; i++) {
        struct oko_counts counts = oko_group_counts(group, i);
        memcpy(out + sizeof info + i * sizeof counts, &counts, sizeof counts);
    }
    return size;
}

static uint32_t put_meter(struct oko_dp *dp, struct oko_meter *meter, uint8_t *out, uint64_t room)
{
    uint32_t size =
        (uint32_t)(sizeof(struct oko_meter_info) + meter->n_bands * sizeof(struct oko_counts));
    if (size > room)
        return 0;
    struct oko_counts counts[257];
    oko_meter_counts(meter, counts);
    struct oko_meter_info info = {.size = size,
                                  .id = meter->id,
                                  .flags = meter->flags,
                                  .n_bands = meter->n_bands,
                                  .n_flows = n_referring(dp, OKO_OP_METER, meter->id),
                                  .packets = counts[0].packets,
                                  .bytes = counts[0].bytes,
                                  .created_ns =
                                      meter->created_ns ? meter->created_ns : dp->born_ns};
    memcpy(out, &info, sizeof info);
    memcpy(out + sizeof info, counts + 1, meter->n_bands * sizeof counts[0]);
    return size;
}

static int64_t dump_objects(struct oko_dp *dp, bool groups, uint64_t *cursor, uint8_t *out,
                            uint64_t size)
{
    uint64_t used = 0;
    bool too_small = false;
    oko_dp_lock(dp);
    const struct oko_set *set = groups ? dp->view->groups : dp->view->meters;
    uint32_t id;
    for (void *object; (object = object_from(set, *cursor, &id)) != NULL; *cursor = id + 1ull) {
        uint32_t n = groups ? put_group(dp, object, out + used, size - used)
                            : put_meter(dp, object, out + used, size - used);
        if (!n) {
            too_small = used == 0;
            break;
        }
        used += n;
    }
    oko_dp_unlock(dp);
    return too_small ? OKO_E_LIMIT : (int64_t)used;
}

int64_t oko_dp_groups(struct oko_dp *dp, uint64_t *cursor, uint8_t *out, uint64_t size)
{
    return dump_objects(dp, true, cursor, out, size);
}

int64_t oko_dp_meters(struct oko_dp *dp, uint64_t *cursor, uint8_t *out, uint64_t size)
{
    return dump_objects(dp, false, cursor, out, size);
}

/* ---------------------------------------------------------------- programs */

static void put_prog(struct oko_dp *dp, uint32_t slot, struct oko_dp_prog_info *info)
{
    const struct oko_prog *prog = dp->view->progs->slot[slot];
    *info = (struct oko_dp_prog_info){.number = dp->slots[slot].number,
                                      .n_flows = dp->slots[slot].n_flows};
    memcpy(info->name, prog->spec.name, sizeof info->name);
    for (uint32_t w = 0; w < dp->opts.n_workers; w++) {
        const struct oko_prog_counters *counters = &prog->counters[w];
        info->runs += OKO_LOAD(&counters->runs);
        info->matches += OKO_LOAD(&counters->matches);
        info->faults += OKO_LOAD(&counters->faults);
        info->sampled_ns += OKO_LOAD(&counters->sampled_ns);
        info->samples += OKO_LOAD(&counters->samples);
        info->batch_runs += OKO_LOAD(&counters->batch_runs);
    }
}

uint32_t oko_dp_progs(struct oko_dp *dp, struct oko_dp_prog_info *out, uint32_t max)
{
    uint32_t n = 0;
    oko_dp_lock(dp);
    for (uint32_t last = 0;; n++) {
        uint32_t best = 0; /* the next number, by selection: programs are few */
        for (uint32_t slot = 1; slot < dp->view->progs->n; slot++) {
            uint32_t number = dp->slots[slot].number;
            if (number > last && (!best || number < dp->slots[best].number))
                best = slot;
        }
        if (!best)
            break;
        if (n < max)
            put_prog(dp, best, &out[n]);
        last = dp->slots[best].number;
    }
    oko_dp_unlock(dp);
    return n;
}

/* ---------------------------------------------------------------- counters */

int oko_dp_table(struct oko_dp *dp, uint32_t table, struct oko_table_info *info)
{
    if (table >= OKO_N_TABLES)
        return OKO_E_NOTFOUND;
    *info = (struct oko_table_info){0};
    oko_dp_lock(dp);
    info->n_flows = dp->table[table].n_flows;
    info->n_masks = oko_cls_n_subtables(&dp->tables[table]);
    oko_dp_unlock(dp);
    for (uint32_t i = 0; i < dp->opts.n_workers; i++) {
        info->lookups += OKO_LOAD(&dp->workers[i]->tables[table].lookups);
        info->matches += OKO_LOAD(&dp->workers[i]->tables[table].matches);
    }
    return 0;
}

uint32_t oko_dp_macs(struct oko_dp *dp, struct oko_mac_info *out, uint32_t max)
{
    return oko_macs_list(dp->macs, oko_dp_now(dp), out, max);
}

const char *oko_drop_name(uint32_t drop)
{
    static const char *const names[OKO_N_DROPS] = {
        [OKO_DROP_NONE] = "none",
        [OKO_DROP_LIMIT] = "resubmit-limit",
        [OKO_DROP_TOO_LONG] = "too-long",
        [OKO_DROP_NO_RECV] = "port-no-recv",
        [OKO_DROP_METER] = "meter",
        [OKO_DROP_INVALID_TTL] = "invalid-ttl",
        [OKO_DROP_NO_BUFFER] = "no-buffer",
        [OKO_DROP_GROUP] = "no-group",
        [OKO_DROP_QUEUE_RATE] = "queue-rate",
        [OKO_DROP_TX_FAILED] = "port-tx-failed",
        [OKO_DROP_PORT] = "no-port",
        [OKO_DROP_IN_PORT] = "output-to-in-port",
        [OKO_DROP_NORMAL] = "normal",
        [OKO_DROP_MISS] = "table-miss",
        [OKO_DROP_ACTION] = "drop",
    };
    return drop < OKO_N_DROPS ? names[drop] : NULL;
}

void oko_dp_drops(struct oko_dp *dp, uint64_t *out)
{
    memset(out, 0, OKO_N_DROPS * sizeof *out);
    for (uint32_t w = 0; w < dp->opts.n_workers; w++)
        for (uint32_t i = 0; i < OKO_N_DROPS; i++)
            out[i] += OKO_LOAD(&dp->workers[w]->drops[i]);
}

void oko_dp_stats(struct oko_dp *dp, struct oko_dp_stats *out)
{
    *out = (struct oko_dp_stats){0};
    for (uint32_t w = 0; w < dp->opts.n_workers; w++) {
        const struct oko_dp_stats *stats = &dp->workers[w]->stats;
        out->packets += OKO_LOAD(&stats->packets);
        out->bursts += OKO_LOAD(&stats->bursts);
        out->cache_hits += OKO_LOAD(&stats->cache_hits);
        out->cache_restamped += OKO_LOAD(&stats->cache_restamped);
        out->cache_misses += OKO_LOAD(&stats->cache_misses);
        out->direct += OKO_LOAD(&stats->direct);
        out->relookups += OKO_LOAD(&stats->relookups);
    }
    oko_dp_lock(dp);
    out->commits = dp->n_commits;
    oko_dp_unlock(dp);
}

/* ---------------------------------------------------------------- trace */

enum { TRACE_IDLE, TRACE_ARMED, TRACE_RUNNING, TRACE_DONE };

int oko_dp_trace(struct oko_dp *dp, uint64_t seq)
{
    struct oko_trace *trace = &dp->trace;
    if (OKO_LOAD_ACQUIRE(&trace->state) == TRACE_RUNNING)
        return OKO_E_BUSY;
    OKO_STORE(&trace->seq, seq);
    OKO_STORE_RELEASE(&trace->state, TRACE_ARMED);
    return 0;
}

uint32_t oko_dp_trace_read(struct oko_dp *dp, struct oko_trace_step *out, uint32_t max)
{
    const struct oko_trace *trace = &dp->trace;
    if (OKO_LOAD_ACQUIRE(&trace->state) != TRACE_DONE)
        return 0;
    uint32_t n = trace->n, kept = (uint32_t)OKO_ARRAY_LEN(trace->step);
    n = n < kept ? n : kept;
    for (uint32_t i = 0; i < n && i < max; i++)
        out[i] = trace->step[i];
    return n;
}
