"""What a tool dumped it can add again, and so can the other: ovs-ofctl and oko-ofctl.

A filter is the one thing that a stock tool's dump loses; oko-ofctl's keeps it.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ofctl"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))
from stock import Done, oko, ovs
from switchd_process import Switchd
from test_beside_open_vswitch import FLOWS, GROUPS

ROOT = Path(__file__).resolve().parents[2]
FIREWALL = str(ROOT / "examples" / "bpf" / "stateless_firewall.o")
FILTERS = """
priority=50,filter_prog=1,in_port=1 actions=drop
priority=51,filter_prog=1,tcp,tp_dst=80 actions=send_maps(1),output:2
"""
pytestmark = pytest.mark.skipif(
    shutil.which("ovs-ofctl") is None, reason="ovs-ofctl (openvswitch-common) is not installed"
)


TOOLS = {"ovs-ofctl": ovs, "oko-ofctl": oko}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with Switchd(folder, "--bridge", "br0", "--port", "1=null", "--port", "2=null"):
        assert oko(folder, "load-filter-prog", "br0", "1", FIREWALL).status == 0
        yield folder


@pytest.fixture
def full(run_dir):
    """With flows, some of which have filters, and groups."""
    assert oko(run_dir, "add-groups", "br0", "-", stdin=GROUPS).status == 0
    assert oko(run_dir, "add-flows", "br0", "-", stdin=FLOWS + FILTERS) == Done(0, "", "")
    yield run_dir
    for command in ("del-flows", "del-groups"):
        assert oko(run_dir, command, "br0").status == 0


def flows(run_dir):
    """All there is, as oko-ofctl shows it."""
    return sorted(
        oko(run_dir, "-O", "OpenFlow13", "dump-flows", "br0", "--no-stats").out.split("\n")
    )


@pytest.mark.parametrize("reader", TOOLS)
@pytest.mark.parametrize("writer", TOOLS)
@pytest.mark.parametrize("of", ["OpenFlow10", "OpenFlow13", "OpenFlow14"])
def test_flows(full, of, writer, reader):
    before = flows(full)
    assert len(before) == len((FLOWS + FILTERS).split("\n")) - 3 + 1
    done = TOOLS[writer](full, "-O", of, "dump-flows", "br0", "--no-stats")
    assert done.status == 0 and "left out" not in done.err
    if writer == "ovs-ofctl":
        assert "filter_prog" not in done.out and "send_maps" not in done.out
        kept = [re.sub(r"filter_prog=1,?|send_maps\(prog=1\),", "", line) for line in before]
        expected = sorted(line.replace(",  actions", " actions") for line in kept)
    else:
        expected = before
    if of == "OpenFlow10":  # whose statistics have no flags
        expected = sorted(line.replace("send_flow_rem ", "") for line in expected)
    if writer == "oko-ofctl" and reader == "ovs-ofctl":
        refused = ovs(full, "-O", of, "add-flows", "br0", "-", stdin=done.out)
        assert refused.status == 1 and "filter_prog" in refused.err, "it cannot drop them silently"
        return
    assert oko(full, "del-flows", "br0").status == 0
    again = TOOLS[reader](full, "-O", of, "add-flows", "br0", "-", stdin=done.out)
    assert again == Done(0, "", "")
    assert flows(full) == expected


@pytest.mark.parametrize("reader", TOOLS)
@pytest.mark.parametrize("writer", TOOLS)
def test_groups(full, writer, reader):
    of = ("-O", "OpenFlow13")
    done = TOOLS[writer](full, *of, "dump-groups", "br0")
    lines = [line for line in done.out.split("\n") if line.startswith(" ")]
    assert len(lines) == 4
    for command in ("del-flows", "del-groups"):
        assert oko(full, command, "br0").status == 0
    lines.sort(key=lambda line: "group:" in line)  # what is named has to be there
    text = "\n".join(lines) + "\n"
    assert TOOLS[reader](full, *of, "add-groups", "br0", "-", stdin=text) == Done(0, "", "")
    again = TOOLS[writer](full, *of, "dump-groups", "br0")
    assert sorted(again.out.split("\n")[1:]) == sorted(done.out.split("\n")[1:])


def test_replace_and_diff_keep_filters(full, tmp_path):
    file = tmp_path / "saved"
    file.write_text(oko(full, "dump-flows", "br0", "--no-stats").out)
    assert oko(full, "diff-flows", "br0", str(file)) == Done(0, "", "")
    before = flows(full)
    assert oko(full, "del-flows", "br0", "filter_prog=1").status == 0
    assert oko(full, "diff-flows", "br0", str(file)).out.count("+") == 2
    assert oko(full, "replace-flows", "br0", str(file)) == Done(0, "", "")
    assert flows(full) == before
