"""Faults of oko-ofctl, its client, and what it asks a switch."""

from __future__ import annotations

from fault import Fault

CLIENT = "tests/ofctl/test_client.py::"
FILTERS = "tests/ofctl/test_filter_commands.py::"
STOCK = "tests/ofctl/test_against_stock.py::"

OFCTL = [
    Fault(
        "deaf-writer",
        "client and switch wait for each other when both have much to say",
        "oko/openflow/client.py",
        "            elif readable:\n",
        "            elif False:\n",
        CLIENT + "test_a_peer_that_only_writes_does_not_stop_us",
    ),
    Fault(
        "refusals-lost",
        "a flow that was refused is no failure of the command",
        "oko/ofctl/changes.py",
        "    if refused:\n        waiting.clear()",
        "    if False:\n        waiting.clear()",
        FILTERS + "test_many_flows_and_many_refusals",
    ),
    Fault(
        "modify-everywhere",
        "a modify without a table names all tables in 1.3, which Open vSwitch refuses",
        "oko/ofctl/changes.py",
        "    if version != OF10 and modifies and",
        "    if version == OF10 and modifies and",
        STOCK + "test_changes",
    ),
    Fault(
        "filters-unseen",
        "dump-flows does not say that it knows filters, so the switch leaves them out",
        "oko/ofctl/dump.py",
        "_versions(request), aware=True)",
        "_versions(request), aware=False)",
        FILTERS + "test_the_session_of_okos_readme",
    ),
    Fault(
        "cookies-alike",
        "flows that differ in their cookies only are no difference",
        "oko/ofctl/replace.py",
        "    return flow.cookie, flow.idle_timeout,",
        "    return 0, flow.idle_timeout,",
        STOCK + "test_diff_and_replace_flows",
    ),
    Fault(
        "bytes-of-nine-bits",
        "update-map takes 256 for a byte",
        "oko/ofctl/maps.py",
        "    if not 0 <= value <= 255:\n",
        "    if not 0 <= value <= 256:\n",
        FILTERS + "test_mistakes",
    ),
    Fault(
        "wrong-line",
        "a trace shows the program's first line for the one that decided",
        "csrc/bpf/interp_loop.h",
        "            trace->path->branch = pc;",
        "            trace->path->branch = 0;",
        "tests/switch/test_trace.py::test_programs_say_the_same_and_keep_their_state",
    ),
    Fault(
        "modify-adds-nowhere",
        "OpenFlow 1.0's modify adds to a table that there is not",
        "csrc/txn.c",
        "        add.spec.table = 0;",
        "        add.spec.table = 1;",
        "tests/switch/test_bridge.py::test_modify_may_add_and_may_set_the_cookie",
    ),
    Fault(
        "bucket-before",
        "a bucket is inserted before the one that it should follow",
        "oko/switch/buckets.py",
        "        at = _place(buckets, change.bucket) + 1\n",
        "        at = _place(buckets, change.bucket)\n",
        "tests/ofctl/test_buckets.py::test_buckets_keep_the_numbers_they_were_shown_with",
    ),
    Fault(
        "fields-outside",
        "a switch may tell of fields that lie outside of their struct",
        "oko/bpf/layouts.py",
        "_number(at, size) + layout.size > size:",
        "_number(at, size) > size:",
        "tests/unit/test_layouts.py::test_what_is_no_layout",
    ),
    Fault(
        "settings-on-only",
        "mod-table can switch on but not off",
        "oko/ofctl/tables.py",
        '    on = not setting.startswith("no")\n',
        "    on = True\n",
        "tests/ofctl/test_tables.py::test_setting_tables",
    ),
    Fault(
        "watch-all",
        "watch:!add does not leave out what is added",
        "oko/ofctl/monitor.py",
        "            flags &= ~bit\n",
        "            flags |= bit\n",
        "tests/ofctl/test_watch.py::test_what_is_watched",
    ),
]
