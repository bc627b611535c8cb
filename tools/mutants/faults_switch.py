"""Faults of the daemon and of what the core does for it."""

from __future__ import annotations

from fault import Fault

REPLACE = "tests/switch/test_map_replace.py::"
CHECKPOINT = "tests/switch/test_checkpoint.py::"
QUEUES = "tests/switch/test_queues.py::"
CACHE = "tests/switch/test_cache_view.py::"

SWITCH = [
    Fault(
        "replaced-in-place",
        "replacing a map's entries writes them into the map that is there",
        "csrc/programs.c",
        "    rc = fill(map, entries, n, error);",
        "    rc = fill((struct oko_map *)(uintptr_t)old, entries, n, error);",
        REPLACE + "test_failures_change_nothing",
    ),
    Fault(
        "replaced-map-stays",
        "the map that was replaced is never freed",
        "csrc/bpf/prog.c",
        "    for (uint32_t i = 0; prog->maps != NULL && i < prog->spec.n_maps; i++)\n"
        "        oko_map_unref(prog->maps[i]);\n",
        "    for (uint32_t i = 0; prog->body == prog && prog->maps != NULL && "
        "i < prog->spec.n_maps; i++)\n        oko_map_unref(prog->maps[i]);\n",
        REPLACE + "test_memory_is_that_of_one_map",
    ),
    Fault(
        "two-records",
        "replacing a map is not kept over a restart",
        "oko/switch/bridge_programs.py",
        '            operation = "replace" if replace else "add" if sketch else "set"',
        '            operation = "add" if sketch else "set"',
        REPLACE + "test_it_is_one_record_of_the_state",
    ),
    Fault(
        "stale-cache-shown",
        "the view of the cache shows what would not be used any more",
        "csrc/cache_dump.c",
        "    if (!still_good(w, place, table, &key))",
        "    if (0 && !still_good(w, place, table, &key))",
        CACHE + "test_changed_flows_are_not_shown",
    ),
    Fault(
        "queue-of-no-choice",
        "every packet uses queue 0",
        "csrc/output.c",
        "oko_queues_find(queues, x->pkt->queue)",
        "oko_queues_find(queues, 0)",
        QUEUES + "test_against_counting",
    ),
    Fault(
        "queue-without-rate",
        "a queue's rate is not kept",
        "csrc/queue.c",
        "    return !meter || !oko_meter_run(meter, now_ns, wire_len);",
        "    return !meter || !oko_meter_run(meter, now_ns, wire_len) || true;",
        QUEUES + "test_a_rate_is_kept_and_its_drops_have_a_name",
    ),
    Fault(
        "idle-anew",
        "idle timeouts begin anew after a restart",
        "csrc/txn.c",
        "n_workers, 0, 0, c->now_ns - idle);",
        "n_workers, 0, 0, c->now_ns - 0 * idle);",
        CHECKPOINT + "test_idle_time_goes_on_where_it_was",
    ),
    Fault(
        "all-of-the-first-worker",
        "a per-worker hash comes back with one worker's values",
        "csrc/bpf/map_hash.c",
        "    for (uint32_t w = 1; at.slot != NULL && w < map->n_workers; w++)\n",
        "    for (uint32_t w = 1; at.slot != NULL && w < 1; w++)\n",
        CHECKPOINT + "test_dump_and_restore",
    ),
    Fault(
        "compacted-contents-first",
        "after a compaction the maps are put back before their programs are there",
        "oko/switch/state.py",
        "        await self._save_contents(bridge, number)\n        await self._save_idle",
        "        await self._save_contents(bridge, number - 1)\n        await self._save_idle",
        CHECKPOINT + "test_contents_after_a_compaction",
    ),
]
