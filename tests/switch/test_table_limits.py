"""Full tables: who is pushed out, and who is told that there is little room."""

from __future__ import annotations

from random import Random

import pytest

from oko.datapath import Datapath, Frame
from oko.model.flow import DELETE, SEND_FLOW_REM, Flow, FlowMod
from oko.switch.bridge import Bridge, BridgeError
from oko.switch.events import EVICTED, FlowRemoved, TableStatus
from oko.text import parse_flow

SECOND = 1_000_000_000
FRAME = bytes(60)


class Ears:
    """Keeps what a bridge tells."""

    def __init__(self, bridge: Bridge) -> None:
        self.heard: list[object] = []
        bridge.listen(self)

    def event(self, event: object) -> None:
        self.heard.append(event)

    def take(self) -> list[object]:
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def bridge():
    made = Bridge("br0", Datapath())
    made.tables.limit(3, 10)
    made.datapath.clock_start(1000 * SECOND)
    yield made
    made.close()


def flow(priority: int, **rest: int) -> FlowMod:
    return FlowMod(Flow(table=3, priority=priority, flags=SEND_FLOW_REM, **rest))


def priorities(bridge: Bridge) -> list[int]:
    return sorted(f.priority for f in bridge.flow_stats(table=3))


def test_a_full_table_refuses_unless_it_evicts(bridge):
    bridge.apply([flow(n, idle_timeout=60) for n in range(10)])
    with pytest.raises(BridgeError, match="table 3 has 10 already") as caught:
        bridge.apply([flow(50)])
    assert caught.value.name == "OFPFMFC_TABLE_FULL"
    bridge.apply([flow(5, hard_timeout=7)])  # replaces
    bridge.apply([FlowMod(Flow(table=2, priority=50))])
    ears = Ears(bridge)
    bridge.tables.configure([3], evict=True, vacancy=None)
    bridge.apply([flow(50)])
    assert priorities(bridge) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 50]
    bridge.poll()
    (gone,) = ears.take()
    assert isinstance(gone, FlowRemoved) and (gone.reason, gone.priority) == (EVICTED, 5)
    bridge.tables.configure([3], evict=False, vacancy=None)
    with pytest.raises(BridgeError):
        bridge.apply([flow(51)])


def test_flows_without_timeout_and_more_important_ones_stay(bridge):
    bridge.tables.configure([3], evict=True, vacancy=None)
    bridge.apply([flow(n) for n in range(9)])
    bridge.apply([flow(9, idle_timeout=60, importance=5)])
    with pytest.raises(BridgeError) as caught:
        bridge.apply([flow(20, importance=4)])
    assert caught.value.name == "OFPFMFC_TABLE_FULL"
    assert priorities(bridge) == list(range(10))
    bridge.apply([flow(20, importance=5)])
    assert priorities(bridge) == [*range(9), 20]


def test_use_prolongs_a_flow(bridge):
    bridge.add_port(1, "p1")
    bridge.tables.configure([0, 3], evict=True, vacancy=None)
    bridge.apply([FlowMod(parse_flow("actions=resubmit(,3)"))])
    in_port_1 = "table=3,priority=2,in_port=1,idle_timeout=60,actions=drop"
    bridge.apply([flow(n, idle_timeout=60) for n in range(2)])
    bridge.apply([FlowMod(parse_flow(in_port_1))])
    bridge.apply([flow(n, idle_timeout=60) for n in range(3, 10)])
    bridge.datapath.process([Frame(FRAME, 1, ns=1010 * SECOND)])  # priority 9 takes it
    bridge.apply([flow(n) for n in range(50, 59)])
    assert priorities(bridge) == [9, *range(50, 59)]


def test_a_transaction_that_fails_evicts_nothing(bridge):
    bridge.apply([flow(n, idle_timeout=60) for n in range(10)])
    bridge.tables.configure([3], evict=True, vacancy=None)
    bad = FlowMod(parse_flow("table=3,priority=99,actions=group:9"))
    with pytest.raises(BridgeError):
        bridge.apply([flow(50), flow(51), bad])
    assert priorities(bridge) == list(range(10))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("at_once", [False, True])
def test_the_same_as_a_list(seed, at_once):
    """Eviction beside a sorted list; at_once: all adds are one transaction."""
    rng = Random(seed)
    limit = rng.choice([1, 5, 150])
    bridge = Bridge("br0", Datapath())
    bridge.tables.limit(3, limit)
    bridge.datapath.clock_start(SECOND)
    bridge.tables.configure([3], evict=True, vacancy=None)
    there: list[tuple[int, int, int]] = []  # (importance, timeout or much, priority)
    changes = []
    for n in range(limit):
        importance, timeout = rng.randrange(4), rng.choice([0, 10, 20, 30])
        changes.append(flow(n, importance=importance, hard_timeout=timeout))
        there.append((importance, timeout or 10**9, n))
    bridge.apply(changes)
    adds = []
    for n in range(limit, 2 * limit):
        # Newcomers that nobody pushes out: then it does not matter when victims are looked for.
        candidates = [row for row in there if row[1] < 10**9]
        if not candidates or min(candidates)[0] > 3:
            break
        there.remove(min(candidates))
        there.append((3, 10**9, n))
        adds.append(flow(n, importance=3))
    if at_once:
        bridge.apply(adds)
    else:
        for add in adds:
            bridge.apply([add])
    assert priorities(bridge) == sorted(n for _, _, n in there)
    bridge.close()


def test_vacancy_is_told_once_each_way(bridge):
    ears = Ears(bridge)
    bridge.tables.configure([3], evict=False, vacancy=(20, 50))
    bridge.apply([flow(n) for n in range(8)])  # 20 % is not below
    assert ears.take() == []
    bridge.apply([flow(8)])
    assert ears.take() == [TableStatus(3, 3, False, (20, 50), 10)]
    bridge.apply([flow(9)])
    bridge.apply([FlowMod(Flow(table=3), DELETE)])
    told = [event for event in ears.take() if isinstance(event, TableStatus)]
    assert told == [TableStatus(4, 3, False, (20, 50), 100)]
    bridge.tables.configure([3], evict=False, vacancy=None)
    bridge.apply([flow(n) for n in range(10)])
    assert [event for event in ears.take() if isinstance(event, TableStatus)] == []


def test_vacancy_follows_timeouts(bridge):
    ears = Ears(bridge)
    bridge.apply([flow(n, hard_timeout=5) for n in range(10)])
    bridge.tables.configure([3], evict=False, vacancy=(20, 50))
    bridge.datapath.tick(1010 * SECOND)
    bridge.poll()
    assert TableStatus(4, 3, False, (20, 50), 100) in ears.take()
