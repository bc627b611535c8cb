"""Queues: exact counters of each, against counting by hand; rates; configuration and metrics."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from switchd_process import Switchd
from test_appctl import Client

from oko.datapath import Datapath, Frame
from oko.errors import CoreError
from oko.model.compose import compose
from oko.model.flow import FlowMod
from oko.switch.bridge import Bridge
from oko.switch.config import ConfigError, parse_port
from oko.switch.metrics import render
from oko.text import parse_flow

SECOND = 10**9
FRAME = compose(parse_flow("udp,actions=drop").match)[1]


def counted(dp: Datapath):
    return {(q.port, q.id): (q.tx_packets, q.tx_bytes, q.tx_errors) for q in dp.queues()}


@pytest.mark.parametrize("seed", range(4))
def test_against_counting(seed):
    """Flows of many shapes; what leaves in which queue is counted from their actions."""
    rng = random.Random(seed)
    declared = {1: [0, 1, 7], 2: [1, 2], 3: []}
    with Datapath() as dp:
        for port, queues in declared.items():
            dp.add_port(port, kind=rng.choice(["null", "mem"]))
            dp.set_queues(port, dict.fromkeys(queues, 0))
        dp.add_port(9)
        packets, n_bytes = Counter(), Counter()
        for flow in range(40):
            actions, queue, leaves = [], 0, []
            for _ in range(rng.randrange(1, 6)):
                what, port = rng.randrange(5), rng.choice([1, 2, 3])
                if what == 0:
                    queue = rng.choice([0, 1, 2, 7, 99])
                    actions.append(f"set_queue:{queue}")
                elif what == 1:
                    other = rng.choice([0, 1, 2, 7])
                    actions.append(f"enqueue:{port}:{other}")
                    leaves.append((port, other))
                    queue = 0
                elif what == 2:
                    actions.append("pop_queue")
                    queue = 0
                elif what == 3:
                    actions.append("all")
                    leaves += [(p, queue) for p in declared]
                else:
                    actions.append(f"output:{port}")
                    leaves.append((port, queue))
            dp.add_flow(parse_flow(f"udp,tp_src={flow},actions={','.join(actions)}"))
            n, size = rng.randrange(1, 5), rng.choice([60, 100, 1400])
            data = compose(parse_flow(f"udp,tp_src={flow},actions=drop").match)[1]
            data = data.ljust(size, b"\0")
            dp.process([Frame(data, 9)] * n)
            for port, number in leaves:
                used = number if number in declared[port] else 0
                if used in declared[port]:
                    packets[port, used] += n
                    n_bytes[port, used] += n * len(data)
        want = {
            (port, queue): (packets[port, queue], n_bytes[port, queue], 0)
            for port, queues in declared.items()
            for queue in queues
        }
        assert sum(packets.values()) > 50
        assert counted(dp) == want


def test_a_rate_is_kept_and_its_drops_have_a_name():
    with Datapath() as dp:
        dp.add_port(1)
        dp.add_port(2)
        dp.set_queues(1, {1: 8_000_000})  # 1 MB a second
        dp.add_flow(parse_flow("actions=set_queue:1,output:1"))
        frame = FRAME.ljust(1000, b"\0")
        n = 20_000  # 10 MB a second for two seconds
        for first in range(0, n, 32):
            dp.process([Frame(frame, 2, ns=SECOND + i * SECOND // 10_000)
                        for i in range(first, min(first + 32, n))])  # fmt: skip
        sent, n_bytes, errors = counted(dp)[1, 1]
        assert sent + errors == n and n_bytes == 1000 * sent
        assert 2_000_000 <= n_bytes <= 2_000_000 + 100_000 + 2000  # and a tenth of a second
        assert dp.drops() == {"queue-rate": errors}
        assert dp.ports()[0].tx_dropped == errors and dp.ports()[0].tx_packets == sent
        dp.set_queues(1, {1: 0})
        dp.process([Frame(frame, 2)] * 32)
        assert counted(dp)[1, 1] == (sent + 32, n_bytes + 32_000, errors)


def test_declaring_again_keeps_counters():
    with Datapath() as dp:
        dp.add_port(1)
        dp.add_port(2)
        dp.add_flow(parse_flow("actions=set_queue:1,output:1"))
        dp.process([Frame(FRAME, 2)])
        assert counted(dp) == {}
        dp.set_queues(1, {1: 0})
        dp.process([Frame(FRAME, 2)])
        dp.set_queues(1, {0: 0, 1: 5000, 2: 0})
        assert counted(dp) == {(1, 0): (0, 0, 0), (1, 1): (1, 60, 0), (1, 2): (0, 0, 0)}
        dp.set_queues(1, {0: 0})
        dp.process([Frame(FRAME, 2)] * 2)
        assert counted(dp) == {(1, 0): (2, 120, 0)}
        dp.set_queues(1, {})
        dp.process([Frame(FRAME, 2)])
        assert counted(dp) == {} and dp.ports()[0].tx_packets == 5
        with pytest.raises(CoreError, match="there is no port 3"):
            dp.set_queues(3, {})
        with pytest.raises(CoreError, match="between 1 kbit/s and 4 Tbit/s"):
            dp.set_queues(1, {1: 0, 2: 10})
        assert counted(dp) == {}


def test_metrics():
    bridge = Bridge("br0", Datapath(workers=2))
    bridge.open_port(parse_port("1=null,name=out,queue=3:1k"))
    bridge.add_port(2, "in")
    bridge.apply([FlowMod(parse_flow("actions=set_queue:3,output:1"))])
    bridge.datapath.process([Frame(FRAME.ljust(60_000, b"\0"), 2)] * 2)
    page = render([bridge])
    for what, n in (("packets", 1), ("bytes", 60_000), ("errors", 1)):
        sample = f'oko_queue_tx_{what}_total{{bridge="br0",port="1",name="out",queue="3"}} {n}'
        assert sample in page.splitlines()
    bridge.close()


@pytest.mark.parametrize(
    "text",
    ["1=null,queue=", "1=null,queue=x", "1=null,queue=1:", "1=null,queue=1:5", "1=null,queue=1:1T",
     "1=null,queue=4294967295", "1=null,queue=1,queue=1:5M", "1=null,queue"],
)  # fmt: skip
def test_bad_queues(text):
    with pytest.raises(ConfigError, match="queue"):
        parse_port(text)


def test_the_daemon_changes_them_in_place(tmp_path):
    config = tmp_path / "oko.toml"
    text = '[[bridge]]\nname = "br0"\nports = ["1=null{}", "2=null"]\nflows = "{}"\n'
    flows = tmp_path / "flows"
    flows.write_text("actions=set_queue:1,output:1\n")
    config.write_text(text.format(",queue=1", flows))
    with Switchd(tmp_path / "run", "--config", str(config)) as switch:
        client = Client(switch)
        config.write_text(text.format(",queue=1:5M,queue=2", flows))
        n = len(switch.log())
        assert client.ask("oko/reload") == ("", None)
        switch.wait_for("configuration read again", after=n)
        assert not any("port 1" in line for line in switch.log()[n:])  # it was not touched
        client.socket.close()
