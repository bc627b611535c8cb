"""Queues asked for with Debian's ovs-ofctl: counters, configurations, errors."""

from __future__ import annotations

import pytest
from ofctl import Ofctl, needs_ovs_ofctl
from switchd_process import Switchd

FRAME = "ffffffffffff0200000000010800" + "00" * 46


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    path = tmp_path_factory.mktemp("queues")
    ports = ("--port", "1=null,queue=0,queue=1:10M", "--port", "2=null,queue=5", "--port", "3=null")
    with Switchd(path / "run", "--bridge", "br0", *ports) as switch:
        yield switch


@needs_ovs_ofctl
@pytest.mark.parametrize("version", ["OpenFlow10", "OpenFlow13", "OpenFlow14"])
def test_counters(running, version):
    ofctl = Ofctl(running.run_dir, version)

    def stats(*arguments: str) -> dict[tuple[str, str], tuple[int, int, int]]:
        found = {}
        for line in ofctl("queue-stats", "br0", *arguments).splitlines()[1:]:
            words = dict(w.split("=") for w in line.replace(",", " ").split() if "=" in w)
            port, queue = line.split(":")[0].split()[1:4:2]
            found[port, queue] = tuple(int(words[w]) for w in ("bytes", "pkts", "errors"))
        return found

    lines = ofctl("queue-stats", "br0").splitlines()
    assert "3 queues" in lines[0], lines
    before = stats()
    actions = "enqueue:1:1,output:1,enqueue:2:9,set_queue:5,output:2,output:3"
    ofctl("packet-out", "br0", f"in_port=3,packet={FRAME},actions={actions}")
    after = stats()
    gone = {key: tuple(b - a for a, b in zip(before[key], after[key], strict=True))
            for key in after}  # fmt: skip
    assert gone == {("1", "0"): (60, 1, 0), ("1", "1"): (60, 1, 0), ("2", "5"): (60, 1, 0)}
    assert set(stats("1")) == {("1", "0"), ("1", "1")}
    assert set(stats("1", "1")) == {("1", "1")}
    assert "OFPQOFC_BAD_QUEUE" in ofctl.run("queue-stats", "br0", "1", "4").stdout
    assert "OFPQOFC_BAD_PORT" in ofctl.run("queue-stats", "br0", "9").stdout


@needs_ovs_ofctl
@pytest.mark.parametrize("version", ["OpenFlow10", "OpenFlow13", "OpenFlow14"])
def test_configurations(running, version):
    ofctl = Ofctl(running.run_dir, version)
    text = ofctl("queue-get-config", "br0", "1")
    queues = [word for word in text.replace(":", " ").split() if word.isdecimal()]
    assert "queue" in text and {"0", "1"} <= set(queues)
    assert "5" in ofctl("queue-get-config", "br0", "2").split("queue")[-1]
    assert "OFPQOFC_BAD_PORT" in ofctl.run("queue-get-config", "br0", "9").stdout
