"""Changes while packets run: each packet sees all of a transaction or none of it, and afterwards
nothing of the old.

Forwarding runs on a thread of its own (the interpreter's lock is released there), the changes come
from the test's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from twin.build import frame
from twin.core import Core
from twin.generate import Arrival
from twin.programs import constant, every, first_per_source

from oko.model.flow import FlowMod
from oko.text import parse_flow_mod, parse_group, parse_meter, parse_rules

ROUND = 320  # packets of one call


def mods(*lines: str) -> list[FlowMod]:
    rules = parse_rules("\n".join(lines))
    return [rule for rule in rules if isinstance(rule, FlowMod)]


def arrivals(*words: str, n: int = ROUND) -> list[Arrival]:
    """n packets, taken by turns from these."""
    frames = [frame(text) for text in words]
    return [
        Arrival(data, port, 10**18, 0) for data, port in (frames[i % len(frames)] for i in range(n))
    ]


@contextmanager
def traffic(core: Core, packets: list[Arrival], n_workers: int = 1) -> Iterator[list[int]]:
    """Handles these packets over and over until the block ends; yields the rounds done so far."""
    prepared = core.prepare(packets)
    rounds = [0] * n_workers
    stop = threading.Event()
    failed: list[BaseException] = []

    def forward(worker: int) -> None:
        try:
            while not stop.is_set():
                core.run(prepared, worker)
                rounds[worker] += 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=forward, args=(i,)) for i in range(n_workers)]
    for thread in threads:
        thread.start()
    try:
        yield rounds
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed


def wait_for(rounds: list[int], more: int = 1) -> None:
    """Until every worker has done so many more rounds."""
    want = [n + more for n in rounds]
    while any(a < b for a, b in zip(rounds, want, strict=True)):
        threading.Event().wait(0.0005)


@pytest.fixture
def core() -> Iterator[Callable[..., Core]]:
    made: list[Core] = []

    def make(**options: Any) -> Core:
        made.append(Core(null_ports=True, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("cache", [True, False])
def test_a_bundle_is_seen_whole_or_not_at_all(core: Callable[..., Core], cache: bool) -> None:
    """Table 0 says a number, table 1 knows the number: half a bundle would not fit."""
    dp = core(cache=cache)
    decoys = [f"table=1,priority=7,udp,tp_dst={i}/0x{i:x},actions=output:3" for i in range(1, 9)]
    dp.apply(mods("table=1,priority=1,actions=output:4", *decoys))
    others = mods(*(f"table=1,priority=6,udp,tp_dst={i},actions=drop" for i in range(100)))
    version = 1

    def bundle() -> list[FlowMod]:
        """Takes a while between the two that belong together."""
        return [
            *mods(f"priority={version},actions=set_field:{version}->reg0,goto_table:1"),
            *others,
            *mods(
                f"delete_strict priority={version - 1}",
                f"delete_strict table=1,priority=9,reg0={version - 1}",
                f"table=1,priority=9,reg0={version},actions=output:2",
            ),
        ]

    dp.apply(bundle())
    with traffic(dp, arrivals("tcp,tp_src=1", "tcp,tp_src=2", "tcp,tp_src=3")) as rounds:
        for version in range(2, 400):
            dp.apply(bundle())
            if version % 20 == 0:
                wait_for(rounds)
    sent = dp.sent()
    assert sent[4] == 0
    assert sent[2] == sum(rounds) * ROUND > 0
    assert dp.drops() == {}


def test_counters_lose_nothing(core: Callable[..., Core]) -> None:
    """Flows are replaced and modified all the time; what they counted adds up, on two workers."""
    dp = core(n_workers=2)
    dp.apply(mods("priority=5,tcp,actions=output:2", "priority=5,udp,actions=output:3"))
    with traffic(dp, arrivals("tcp", "udp"), n_workers=2) as rounds:
        for i in range(300):
            dp.apply(mods("priority=5,tcp,actions=output:2"))  # replaces, counters stay
            dp.apply(mods(f"modify udp,actions=set_field:{i}->reg0,output:3"))
            if i % 20 == 0:
                wait_for(rounds)
    packets = sum(rounds) * ROUND
    assert sorted(n for n, _ in dp.flows().values()) == [packets // 2, packets // 2]
    assert dp.sent()[2] + dp.sent()[3] == packets


def test_a_reload_replaces_at_once(core: Callable[..., Core]) -> None:
    """Once loading has returned, no packet asks the old program; before, each asks one of them."""
    dp = core()
    dp.load(1, constant(1))
    dp.apply(mods("priority=5,filter_prog=1,actions=output:2", "priority=1,actions=output:3"))
    packets = arrivals("tcp", "udp")
    with traffic(dp, packets) as rounds:
        for i in range(200):
            dp.load(1, constant(i % 2))
            if i % 10 == 0:
                wait_for(rounds)
    for answer, port in ((1, 2), (0, 3)):
        dp.load(1, constant(answer))
        before = dp.sent()[port]
        dp.process(packets)
        assert dp.sent()[port] == before + ROUND
    assert dp.sent()[2] + dp.sent()[3] == (sum(rounds) + 2) * ROUND


def test_stateful_programs_count_every_packet_once(core: Callable[..., Core]) -> None:
    """While flows around it change, a counter in a map sees each packet exactly once."""
    dp = core()
    counter = every(2)
    dp.load(1, counter)
    dp.load(2, first_per_source(3))
    dp.apply(mods("priority=9,filter_prog=1,actions=output:2", "priority=1,actions=output:3"))
    with traffic(dp, arrivals("tcp", "udp", "icmp")) as rounds:
        for i in range(300):
            dp.apply(mods(f"priority=20,udp,tp_dst={1000 + i},filter_prog=2,actions=drop"))
            dp.apply(mods(f"delete_strict priority=20,udp,tp_dst={1000 + i},filter_prog=2"))
            if i % 20 == 0:
                wait_for(rounds)
    packets = sum(rounds) * ROUND
    ((_, value),) = dp.maps(1, counter)[0]
    assert int.from_bytes(value, "little") == packets
    assert dp.programs()[1] == (packets, packets // 2)
    assert dp.sent()[2] == dp.sent()[3] == packets // 2


def test_groups_and_meters_change_whole(core: Callable[..., Core]) -> None:
    """A group's buckets belong together: a packet leaves through both ports of one version."""
    dp = core()
    versions = [
        parse_group("group_id=1,type=all,bucket=output:1,bucket=output:2"),
        parse_group("group_id=1,type=all,bucket=output:3,bucket=output:4"),
    ]
    dp.set_group(versions[0])
    dp.set_meter(parse_meter("meter=1,pktps,bands=type=drop,rate=4000000000"))
    dp.apply(mods("actions=meter:1,group:1"))
    with traffic(dp, arrivals("tcp,in_port=9", "udp,in_port=9")) as rounds:
        for i in range(300):
            dp.set_group(versions[i % 2], command=1)
            dp.set_meter(parse_meter(f"meter=1,pktps,bands=type=drop,rate={4 * 10**9 - i}"), 1)
            if i % 20 == 0:
                wait_for(rounds)
    sent = dp.sent()
    assert sent[1] == sent[2]
    assert sent[3] == sent[4]
    assert sent[1] + sent[3] == sum(rounds) * ROUND


def test_a_deleted_flow_is_gone_when_the_call_returns(core: Callable[..., Core]) -> None:
    """No cache remembers it, however warm."""
    dp = core()
    lines = [f"priority={10 + i},tcp,tp_dst={i}/0x{i:x},actions=output:3" for i in range(1, 9)]
    dp.apply(mods("priority=1,actions=output:3", *lines))
    packets = arrivals("tcp,tp_dst=0,tp_src=1", "tcp,tp_dst=0,tp_src=2")
    flow = "priority=100,tcp,tp_src=1,actions=output:2"
    for _ in range(50):
        dp.apply(mods(flow))
        dp.process(packets)
        before = dp.sent()[2]
        dp.process(packets)
        assert dp.sent()[2] == before + ROUND // 2
        dp.apply([parse_flow_mod("priority=100,tcp,tp_src=1", command=4)])
        dp.process(packets)
        assert dp.sent()[2] == before + ROUND // 2


def test_learning_on_two_workers_while_flows_change(core: Callable[..., Core]) -> None:
    """Packets and the control side change the same tables; every packet still goes somewhere."""
    dp = core(n_workers=2)
    learn = "learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])"
    dp.apply(mods(f"actions={learn},resubmit(,1)", "table=1,priority=1,actions=output:4"))
    hosts = [f"02:00:00:00:01:{i:02x}" for i in range(40)]
    words = [
        f"tcp,in_port={1 + i % 3},dl_src={host},dl_dst={hosts[(i + 1) % 40]}"
        for i, host in enumerate(hosts)
    ]
    with traffic(dp, arrivals(*words), n_workers=2) as rounds:
        for i in range(200):
            dp.apply(mods("delete table=1,cookie=0/1"))
            dp.apply(mods("table=1,priority=1,actions=output:4"))
            if i % 10 == 0:
                wait_for(rounds)
    packets = sum(rounds) * ROUND
    assert sum(n for (table, *_), (n, _) in dp.flows().items() if table == 0) == packets
    assert sum(dp.sent().values()) + sum(dp.drops().values()) == packets
    assert set(dp.drops()) <= {"table-miss", "output-to-in-port"}
