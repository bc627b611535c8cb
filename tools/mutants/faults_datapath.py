"""Faults of the datapath: most are mistakes that the 2018 prototype made."""

from __future__ import annotations

from fault import Fault

OKO2018 = "tests/differential/test_oko2018.py::"
RANDOM = "tests/differential/test_datapath_random.py::"
LIVE = "tests/differential/test_datapath_live.py::"
PIPELINE = "tests/pipeline/test_pipeline.py"

DATAPATH = [
    Fault(
        "verdict-by-place",
        "a packet is decided by another one's verdict, by its place in half a burst",
        "csrc/filter.c",
        "    uint32_t bit = 1u << index;\n    if (!(memo->ran & bit))",
        "    uint32_t bit = 1u << index % 16;\n    if (!(memo->ran & bit))",
        OKO2018 + "test_1_as_many_filters_as_destinations_in_batches",
    ),
    Fault(
        "stale-verdict",
        "verdicts of an earlier burst, or of a number's last owner, count for this one",
        "csrc/filter.c",
        "    *memo = (struct oko_memo){.burst = w->burst, .prog = prog};",
        "    memo->burst = w->burst, memo->prog = prog;",
        OKO2018 + "test_2_a_recycled_number_does_not_remember",
    ),
    Fault(
        "no-counts-as-settled",
        "a packet that ran ahead is decided by its first filter, whatever that said",
        "csrc/ahead.c",
        "    uint32_t yes = group->packets & memo->matched;",
        "    uint32_t yes = group->packets;",
        OKO2018 + "test_a_no_leads_to_the_next_flow_at_any_depth",
    ),
    Fault(
        "shared-list-lost",
        "packets that share a list of candidates lose it when their first is looked up again",
        "csrc/ahead.c",
        "    hand_out(w); /* before their first is looked up again */\n",
        "",
        "test_bursts",
    ),
    Fault(
        "verdict-across-bridges",
        "bridges share verdicts by program number",
        "csrc/filter.c",
        "    struct oko_memo *memo = &w->memo[slot];\n"
        "    struct oko_prog *prog = prog_of(w, slot);\n"
        "    if (__builtin_expect(memo->burst == w->burst && memo->prog == prog, 1))",
        "    static struct oko_memo shared[65536];\n"
        "    struct oko_memo *memo = &shared[slot];\n"
        "    struct oko_prog *prog = prog_of(w, slot);\n"
        "    if (__builtin_expect(memo->burst == w->burst, 1))",
        OKO2018 + "test_4_bridges_share_nothing",
    ),
    Fault(
        "conjunction-by-one",
        "a conjunction counts as complete when one of its dimensions is there",
        "csrc/conj.c",
        "            if ((tally.seen & all) == all) {",
        "            if (tally.seen & all) {",
        PIPELINE,
    ),
    Fault(
        "conjunction-not-logged",
        "caches keep what they found before a flow that matches conj_id came or went",
        "csrc/commit.c",
        "st->mask[i] & ~oko_conj_bits(st->word[i]);",
        "st->mask[i];",
        PIPELINE,
    ),
    Fault(
        "run-per-rule",
        "a program runs again for every flow that names it",
        "csrc/filter.c",
        "    if (!(memo->ran & bit))\n        oko_filter_run(w, memo, bit);",
        "    oko_filter_run(w, memo, bit);",
        PIPELINE,
    ),
    Fault(
        "stateful-ahead",
        "a stateful program runs on packets that do not come to it, or out of turn",
        "csrc/ahead.c",
        "    return !prog->info.stateful ||",
        "    return true || !prog->info.stateful ||",
        "test_bursts",
    ),
    Fault(
        "goto-past-a-change",
        "packets go past a flow that learns, whose table they then find as it was before",
        "csrc/ahead.c",
        "    front.sure = !(w->view->flags & OKO_VIEW_CHANGES) && ",
        "    front.sure = ",
        "test_bursts",
    ),
    Fault(
        "goto-uncounted",
        "a flow that only says goto is not counted when its packets go ahead",
        "csrc/ahead.c",
        "        oko_count_packets(w, from, n, bytes, ns);",
        "        (void)from;",
        "test_bursts",
    ),
    Fault(
        "goto-shares-lookups",
        "packets share a lookup though the table tells them apart",
        "csrc/cls_lookup.c",
        "            same ^= (uint32_t)((oko_key_words(&keys[k])[w] & mask) != want) << k;",
        "            same ^= (uint32_t)((oko_key_words(&keys[k])[w] & mask) != want) << 31;",
        "test_bursts",
    ),
    Fault(
        "sieve-forgets",
        "a sieve does not know a key that was added, so its flow is not found",
        "csrc/cls.c",
        "        sow(st, st->slots, rule->key);\n        OKO_STORE_REL",
        "        OKO_STORE_REL",
        "test_cls",
    ),
    Fault(
        "normal-by-destination",
        "NORMAL does not notice that a host has moved while it sends to the same address",
        "csrc/output.c",
        " && last->in_port == in_port",
        "",
        "test_bursts",
    ),
    Fault(
        "length-8",
        "programs are told that every packet has 8 bytes",
        "csrc/pipeline.h",
        "(struct oko_prog_in){pkt->data, pkt->len, &pkt->meta}",
        "(struct oko_prog_in){pkt->data, 8, &pkt->meta}",
        OKO2018 + "test_6_programs_get_the_real_length",
    ),
    Fault(
        "reload-keeps-old",
        "loading under a number that is in use leaves the old program in place",
        "csrc/programs.c",
        "        rc = oko_commit_prog(&c, slot, prog);",
        "        rc = *replaced ? 0 : oko_commit_prog(&c, slot, prog);",
        OKO2018 + "test_19_a_reload_replaces_the_program",
    ),
    Fault(
        "identity-ignores-filter",
        "a flow replaces one that differs in its filter",
        "csrc/cls.c",
        "rule->priority == priority && rule->slot == slot && oko_rule_visible",
        "rule->priority == priority && oko_rule_visible",
        OKO2018 + "test_18_strict_commands_know_the_filter",
    ),
    Fault(
        "filter-not-first",
        "at equal priority a flow without filter hides one with",
        "csrc/rule.h",
        "oko_rank_base(priority) | (uint64_t)!filter << 47",
        "oko_rank_base(priority) | (uint64_t)filter << 47",
        PIPELINE,
    ),
    Fault(
        "cache-forgets-the-rest",
        "the cache remembers only the first candidate: a filter's no becomes a miss",
        "csrc/cache.c",
        "        entry->n_cands = (uint8_t)cands[i].n;\n        entry->more = cands[i].more != 0;",
        "        entry->n_cands = cands[i].n > 1 ? 1 : (uint8_t)cands[i].n;\n"
        "        entry->more = 0;",
        RANDOM + "test_streams",
    ),
    Fault(
        "cache-ignores-changes",
        "an entry of an older version is used without a look at the change log",
        "csrc/cache.c",
        "            if (!oko_log_spares(log, e->version, version, table, &keys[i]))\n"
        "                continue;",
        "            (void)log, (void)table, (void)keys;",
        LIVE + "test_a_deleted_flow_is_gone_when_the_call_returns",
    ),
    Fault(
        "half-a-bundle",
        "flows of a transaction show one by one",
        "csrc/commit.c",
        "    rule->add_version = c->version;",
        "    rule->add_version = c->version - 1;",
        LIVE + "test_a_bundle_is_seen_whole_or_not_at_all",
    ),
    Fault(
        "edits-show-to-programs",
        "a program in a later table sees the frame as changed, not as it came",
        "csrc/action.c",
        "    if (oko_pkt_writable(x->pkt, x->worker->pool) == 0)\n        return true;",
        "    if (oko_pkt_writable(x->pkt, x->worker->pool) == 0) {\n"
        "        x->worker->in[x->index].data = x->pkt->data;\n        return true;\n    }",
        PIPELINE,
    ),
    Fault(
        "goes-on-without-room",
        "an action list goes on after a push that found no room",
        "csrc/action.c",
        "        return decremented(x, rc, op) && !x->stop;",
        "        return decremented(x, rc, op);",
        PIPELINE,
    ),
    Fault(
        "clone-leaks",
        "what a clone did to the registers stays",
        "csrc/action.c",
        "    *x->key = aside->key;",
        "",
        PIPELINE,
    ),
    Fault(
        "learned-too-late",
        "a flow learned from a packet is not there for the next one of the burst",
        "csrc/pipeline.c",
        "        if (__builtin_expect(w->changed, 0)) {",
        "        if (0 && w->changed) {",
        PIPELINE,
    ),
    Fault(
        "timeouts-late",
        "an expired flow matches until the burst ends",
        "csrc/pipeline.c",
        "        if (pass_time(w, w->pkts[index].meta.rx_ns)) {",
        "        if (index == 0 && pass_time(w, w->pkts[index].meta.rx_ns)) {",
        PIPELINE,
    ),
]
