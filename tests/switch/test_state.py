"""State on disk: what was acknowledged is there again, whatever happened to process or file."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from switchd_process import ROOT, Switchd
from test_appctl import Client
from twin.generate import Options, flow_of
from waiting import wait_until

from oko.datapath import Datapath, Frame
from oko.model import actions as act
from oko.model.flow import (
    DELETE,
    MODIFY,
    Bucket,
    DropBand,
    Flow,
    FlowMod,
    Group,
    GroupMod,
    Meter,
    MeterMod,
)
from oko.switch import journal, ports
from oko.switch.bridge import Bridge
from oko.switch.record import Formatter, change_from
from oko.switch.state import State
from oko.text import parse_flow, parse_rules

ELF = (ROOT / "examples" / "bpf" / "syn_flood.o").read_bytes()
LIMITER = (ROOT / "examples" / "bpf" / "rate_limiter.o").read_bytes()


def opened(path: Path, **options) -> Bridge:
    """A bridge with the state of that directory, as the daemon makes it."""
    bridge = Bridge("br0", Datapath(workers=2))
    bridge.state = State(path, **options)
    bridge.state.restore(bridge)
    bridge.add_port(1, "one")
    bridge.state.restore_ports(bridge)
    return bridge


def killed(bridge: Bridge) -> None:
    """As kill -9 leaves it: nothing is said good-bye to."""
    os.close(bridge.state._journal._fd)
    bridge.close()


def revived(bridge: Bridge, path: Path) -> Bridge:
    """What comes up after a kill."""
    killed(bridge)
    return opened(path)


def contents(bridge: Bridge):
    flows = sorted((f.id, f.flow) for f in bridge.flow_stats())
    return (
        [flow for _, flow in flows],
        bridge.groups(), bridge.meters(),
        [(p.number, p.sha256, p.owner) for p in bridge.programs()],
        {(p.number, m.name): sorted(m.items()) for p in bridge.programs()
         for m in bridge.maps(p.number).values() if m.spec.type in (1, 4, 5, 6)},
        [(p.number, p.config) for p in bridge.ports()],
    )  # fmt: skip


def rules(text: str):
    return list(parse_rules(text, "rules"))


async def fill(bridge: Bridge) -> None:
    assert await bridge.load_program(0, ELF, owner="tests") == 1
    assert await bridge.load_program(5, LIMITER, owner="more tests") == 5
    group = Group(4, 1, (Bucket((act.Output(2),), weight=3), Bucket((act.Output(1),))))
    bridge.apply([GroupMod(group), MeterMod(Meter(6, pktps=True, bands=(DropBand(10),)))])
    bridge.apply(rules(
        "filter_prog=1,priority=7,tcp,actions=group:4\n"
        "priority=7,udp,cookie=0x5,idle_timeout=100,actions=meter:6,output:2,goto_table:3\n"
        "table=3,hard_timeout=1000,importance=9,dl_vlan=5,actions=strip_vlan,NORMAL\n"
        "table=3,ipv6,ipv6_dst=fe80::/10,actions=learn(table=4,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])\n"
    ))  # fmt: skip
    bridge.apply(rules("delete table=3,ipv6\nmodify udp,actions=output:1"))
    first = next(iter(bridge.maps(1).values()))
    bridge.change_map(1, 0, "set", [(bytes(first.spec.key_size), b"\7" * first.spec.value_size)])
    bridge.modify_port(1, None, ports.NO_FLOOD, ports.NO_FLOOD)


def test_everything_is_back_after_a_kill(tmp_path):
    bridge = opened(tmp_path)
    asyncio.run(fill(bridge))
    before = contents(bridge)
    assert [len(part) for part in before] == [3, 1, 1, 2, len(before[4]), 2]
    killed(bridge)
    for _ in range(3):
        bridge = opened(tmp_path)
        assert contents(bridge) == before
        killed(bridge)


def test_compaction_changes_nothing(tmp_path):
    bridge = opened(tmp_path)
    asyncio.run(fill(bridge))
    for number in range(300):
        bridge.apply(rules(f"table=9,reg0={number},actions=drop"))
        bridge.apply(rules(f"delete table=9,reg0={max(0, number - 1)}"))
    before, size = contents(bridge), bridge.state._journal.size
    asyncio.run(bridge.state.compact(bridge))
    assert bridge.state._journal.size < size / 5
    bridge.apply(rules("table=10,actions=output:2"))
    bridge.unload_program(5)
    before = contents(bridge)
    bridge = revived(bridge, tmp_path)
    assert contents(bridge) == before
    asyncio.run(bridge.state.compact(bridge))
    assert len(list((tmp_path / "programs").glob("*.o"))) == 1
    bridge = revived(bridge, tmp_path)
    assert contents(bridge) == before
    killed(bridge)


def test_what_is_appended_while_it_is_compacted(tmp_path):
    bridge = opened(tmp_path)
    asyncio.run(fill(bridge))

    async def session() -> None:
        task = asyncio.get_running_loop().create_task(bridge.state.compact(bridge))
        for number in range(200):
            bridge.apply(rules(f"table=9,reg0={number},actions=drop"))
            await asyncio.sleep(0)
        await task

    asyncio.run(session())
    before = contents(bridge)
    assert len(before[0]) == 203
    bridge = revived(bridge, tmp_path)
    assert contents(bridge) == before
    killed(bridge)


def test_packets_map_changes_come_back_from_a_checkpoint(tmp_path):
    bridge = opened(tmp_path)
    asyncio.run(bridge.load_program(1, LIMITER))
    bridge.apply(rules("filter_prog=1,actions=output:1"))
    frame = bytes.fromhex("020000000002" "020000000001" "0800" "4500002e000000004006" "0000"
                          "0a000001" "0a000002") + bytes(26)  # fmt: skip
    bridge.datapath.process([Frame(frame, 1, i * 10**6) for i in range(20)])
    before = contents(bridge)[4]
    assert any(entries for entries in before.values())
    asyncio.run(bridge.state.checkpoint(bridge))
    bridge = revived(bridge, tmp_path)
    assert contents(bridge)[4] == before
    killed(bridge)


def test_a_controllers_change_after_the_checkpoint_wins(tmp_path):
    bridge = opened(tmp_path)
    asyncio.run(fill(bridge))
    spec = next(iter(bridge.maps(1).values())).spec
    key = bytes(spec.key_size)
    asyncio.run(bridge.state.checkpoint(bridge))
    bridge.change_map(1, 0, "set", [(key, b"\x09" * spec.value_size)])
    bridge = revived(bridge, tmp_path)
    assert bridge.map(1, 0).get(key) == b"\x09" * spec.value_size
    killed(bridge)


def test_remaining_time(tmp_path):
    bridge = opened(tmp_path)
    began = time.monotonic()
    bridge.apply(rules("hard_timeout=3,table=1,actions=drop\nhard_timeout=600,table=2,actions=drop\n"
                       "table=3,actions=drop"))  # fmt: skip
    killed(bridge)
    time.sleep(1.1)
    bridge = opened(tmp_path)
    bridge.start()
    ages = {f.table: f.duration / 1e9 for f in bridge.flow_stats()}
    passed = time.monotonic() - began
    assert all(1 < age < passed + 0.1 for age in ages.values())
    assert len(ages) == 3 or passed > 3
    wait_until(lambda: {f.table for f in bridge.flow_stats()} == {2, 3})
    assert time.monotonic() - began > 2.9
    bridge.poll()  # the end of the flow is noted
    bridge = revived(bridge, tmp_path)
    assert {f.table for f in bridge.flow_stats()} == {2, 3}
    killed(bridge)


def test_a_flow_that_ended_is_not_missed_by_later_changes(tmp_path):
    """Its end stands in the journal, so a later modify that adds works the same again."""
    bridge = opened(tmp_path)
    bridge.start()
    bridge.apply(rules("hard_timeout=1,tcp,actions=output:1"))
    wait_until(lambda: not list(bridge.flow_stats()))
    flow = parse_flow("tcp,cookie=0x7,actions=output:2")
    bridge.apply([FlowMod(flow, MODIFY, or_add=True)])
    before = contents(bridge)
    assert [f.cookie for f in before[0]] == [7]
    bridge = revived(bridge, tmp_path)
    assert contents(bridge) == before
    killed(bridge)


@pytest.mark.parametrize("seed", range(30))
def test_records_of_any_flow(seed):
    flow = flow_of(random.Random(seed), Options())
    for change in (FlowMod(flow), FlowMod(flow, DELETE, 0xFF, out_port=3), FlowMod(flow, MODIFY)):
        record = json.loads(json.dumps(Formatter().change(change)))
        assert change_from(record) == change
    everything = FlowMod(Flow(table=255), DELETE)
    assert change_from(Formatter().change(everything)) == everything


# ---------------------------------------------------------------- the file


def filled(path: Path, n: int = 20) -> bytes:
    made = journal.Journal(path)
    for number in range(n):
        made.append({"k": "x", "n": number})
    made.close()
    return path.read_bytes()


@pytest.mark.parametrize("step", [1, 7])
def test_cut_anywhere_it_is_a_prefix(tmp_path, step, caplog):
    """A power cut: whatever was on the disk, the whole records of it count."""
    data = filled(tmp_path / "whole")
    path = tmp_path / "cut"
    last = 0
    for size in range(0, len(data) + 1, step):
        path.write_bytes(data[:size])
        made = journal.Journal(path)
        numbers = [record["n"] for record in made.records]
        assert numbers == list(range(len(numbers))) and len(numbers) >= last
        last = len(numbers)
        made.append({"k": "x", "n": len(numbers)})
        made.close()
        again = journal.Journal(path)
        assert [r["n"] for r in again.records] == [*numbers, len(numbers)]
        again.close()
    assert last >= 19
    assert not list(tmp_path.glob("*damaged*"))


def test_damage_anywhere_is_no_crash(tmp_path, caplog):
    data = filled(tmp_path / "whole")
    path = tmp_path / "damaged"
    random.seed(1)
    aside = 0
    for at in range(0, len(data), 5):
        path.write_bytes(data[:at] + bytes([data[at] ^ random.randrange(1, 256)]) + data[at + 1 :])
        made = journal.Journal(path)
        numbers = [record["n"] for record in made.records]
        assert numbers == list(range(len(numbers)))
        made.close()
        for other in tmp_path.glob("*damaged-*"):
            aside += 1
            other.unlink()
        again = journal.Journal(path)  # it is good now
        assert [r["n"] for r in again.records] == numbers
        again.close()
        assert not list(tmp_path.glob("*damaged-*"))
    assert aside > 50


def test_a_tail_of_zeroes(tmp_path):
    data = filled(tmp_path / "journal")
    (tmp_path / "journal").write_bytes(data + bytes(5000))
    made = journal.Journal(tmp_path / "journal")
    assert len(made.records) == 20 and made.size == len(data)
    made.close()


def test_damaged_maps_are_set_aside(tmp_path):
    bridge = opened(tmp_path)
    asyncio.run(fill(bridge))
    asyncio.run(bridge.state.checkpoint(bridge))
    killed(bridge)
    data = bytearray((tmp_path / "maps").read_bytes())
    data[-1] ^= 1
    (tmp_path / "maps").write_bytes(data)
    bridge = opened(tmp_path)
    assert len(list(tmp_path.glob("maps.damaged-*"))) == 1 and len(bridge.programs()) == 2
    killed(bridge)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(ELF)],
                         ids=["missing", "another"])  # fmt: skip
def test_a_bad_object_costs_only_what_needs_it(tmp_path, damage):
    bridge = opened(tmp_path)
    asyncio.run(fill(bridge))
    bridge.apply(rules("filter_prog=5,actions=drop"))
    gone = [p.sha256 for p in bridge.programs() if p.number == 5]
    killed(bridge)
    damage(tmp_path / "programs" / f"{gone[0]}.o")
    bridge = opened(tmp_path)
    assert [p.number for p in bridge.programs()] == [1]
    assert len(contents(bridge)[0]) == 3
    killed(bridge)


def test_what_a_bridge_does_alone_is_not_kept(tmp_path):
    """Nor brought back by a compaction, unless a controller has added the same flow."""

    def alone() -> Bridge:
        bridge = opened(tmp_path)
        bridge.fail_mode = "standalone"
        bridge.controllers_changed(0)
        return bridge

    for compacted in (False, True):
        bridge = alone()
        assert len(list(bridge.flow_stats())) == 1
        if compacted:
            asyncio.run(bridge.state.compact(bridge))
        killed(bridge)
    bridge = alone()
    bridge.controllers_changed(1)
    assert list(bridge.flow_stats()) == []
    bridge.controllers_changed(0)
    bridge.apply(rules("priority=0,actions=NORMAL"))
    bridge.controllers_changed(1)
    assert len(list(bridge.flow_stats())) == 1
    asyncio.run(bridge.state.compact(bridge))
    bridge = revived(bridge, tmp_path)
    assert len(list(bridge.flow_stats())) == 1
    killed(bridge)


# ---------------------------------------------------------------- the daemon


def flows_of(switch: Switchd) -> list[str]:
    client = Client(switch)
    text, error = client.ask("bridge/dump-flows", "br0")
    client.socket.close()
    assert error is None
    return [line.split("priority=")[1] for line in text.splitlines()]


@pytest.mark.parametrize("how", ["kill", "term", "sync"])
def test_the_daemon(tmp_path, how):
    flows = tmp_path / "flows"
    flows.write_text("".join(f"priority={n},tcp,actions=output:{n}\n" for n in range(1, 50)))
    options = ["--state-dir", str(tmp_path / "state"), *(["--sync"] if how == "sync" else [])]
    options += ["--bridge", "br0", "--port", "1=null"]
    with Switchd(tmp_path / "run", *options, "--flows", str(flows)) as switch:
        before = flows_of(switch)
        assert len(before) == 49
        switch.signal(signal.SIGTERM if how == "term" else signal.SIGKILL)
        switch.process.wait(60)
    left = set((tmp_path / "run").glob("*.ctl"))
    assert bool(left) == (how != "term")
    flows.write_text("actions=drop\n")  # only for a switch without state
    with Switchd(tmp_path / "run", *options, "--flows", str(flows)) as switch:
        assert "49 flows, 0 programs restored" in switch.wait_for("restored")
        assert flows_of(switch) == before
        assert not left & set((tmp_path / "run").glob("*.ctl"))


def test_the_daemon_with_a_damaged_journal(tmp_path):
    path = tmp_path / "state" / "br0"
    path.mkdir(parents=True)
    (path / "journal").write_bytes(os.urandom(5000))
    options = ["--state-dir", str(tmp_path / "state"), "--bridge", "br0"]
    with Switchd(tmp_path / "run", *options) as switch:
        assert "is no good" in switch.wait_for("journal.damaged-")
        assert flows_of(switch) == []
        assert switch.stop() == 0
