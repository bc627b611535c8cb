"""Single buckets of groups, and bundles: oko-ofctl as ovs-ofctl, Debian's switch as oko-switchd."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from stock import Done, oko, open_stock, ovs, plain

from oko.model.flow import BUCKET_ALL, BUCKET_FIRST, BUCKET_LAST, Bucket, Group, GroupMod
from oko.openflow.common import OF13, OF15, OpenFlowError
from oko.openflow.groups import decode_group_mod, encode_group_mod
from oko.switch.buckets import BucketError, changed
from oko.text.flows import parse_rules

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))
from switchd_process import Switchd

PORTS = ("--port", "1=null", "--port", "2=null")
ALL = ("--protocols", "OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15")


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    yield from open_stock(tmp_path_factory)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    with Switchd(run_dir, "--bridge", "br0", *PORTS, *ALL):
        yield run_dir


STEPS = (
    ("add-group", "group_id=1,type=select,bucket=bucket_id:1,output:1,bucket=bucket_id:5,output:2"),
    ("insert-buckets", "group_id=1,command_bucket_id=first,bucket=bucket_id:9,weight:4,output:2"),
    ("insert-buckets", "group_id=1,command_bucket_id=1,bucket=bucket_id:10,weight:2,output:1"),
    ("insert-buckets", "group_id=1,command_bucket_id=last,bucket=bucket_id:2,weight:3,output:2"),
    ("insert-buckets", "group_id=1,command_bucket_id=99,bucket=bucket_id:1,weight:1,output:2"),
    ("insert-buckets", "group_id=1,command_bucket_id=last,bucket=bucket_id:9,weight:1,output:2"),
    ("insert-buckets", "group_id=77,command_bucket_id=last,bucket=weight:1,output:2"),
    ("insert-buckets", "group_id=1,command_bucket_id=all,bucket=weight:1,output:1"),
    ("insert-buckets", "group_id=1,bucket=weight:1,output:1"),
    ("insert-buckets", "command_bucket_id=last,bucket=weight:1,output:1"),
    ("insert-buckets", "group_id=1,type=select,command_bucket_id=last,bucket=output:2"),
    ("remove-buckets", "group_id=1,command_bucket_id=9"),
    ("remove-buckets", "group_id=1,command_bucket_id=last"),
    ("remove-buckets", "group_id=1,command_bucket_id=77"),
    ("remove-buckets", "group_id=1,bucket=output:1"),
    ("remove-buckets", "group_id=1,command_bucket_id=first"),
    ("remove-buckets", "group_id=1"),
    ("mod-group", "group_id=1,type=select,command_bucket_id=1,bucket=output:1"),
)  # fmt: skip


def walk(tool, run_dir):
    """What a tool makes of a switch's groups, step by step: (status, error, groups)."""
    tool(run_dir, "-O", "OpenFlow15", "del-groups", "br0")
    steps = []
    for command, text in STEPS:
        done = tool(run_dir, "-O", "OpenFlow15", command, "br0", text)
        error = re.search(r"OFP\w+_\w+|must specify \w+|not \w+", done.err)
        groups = ovs(run_dir, "-O", "OpenFlow15", "dump-groups", "br0").out
        steps.append((command, text, done.status, error and error[0], plain(groups)))
    return steps


def test_either_tool_at_either_switch(stock, own):
    expected = walk(ovs, stock.folder)
    assert [status for _, _, status, _, _ in expected].count(1) == 10
    assert walk(oko, stock.folder) == expected
    assert walk(ovs, own) == expected
    assert walk(oko, own) == expected


def test_they_need_openflow_15(stock, own, tmp_path):
    for command in ("insert-buckets", "remove-buckets"):
        text = "group_id=50,command_bucket_id=last" + ",bucket=output:2" * (command[0] == "i")
        theirs, mine = (t("-O", "OpenFlow14", command, "br0", text) for t in (stock.ovs, stock.oko))
        assert theirs.status == mine.status == 1
        assert "needs OpenFlow 1.5 or later" in mine.err
    text = "group_id=50,command_bucket_id=last,bucket=output:2"
    with Switchd(tmp_path, "--bridge", "br0", *PORTS):
        done = oko(tmp_path, "insert-buckets", "br0", text)
        assert done.status == 1 and "since OpenFlow 1.5" in done.err and "--protocols" in done.err
    # By itself it speaks 1.5.
    assert oko(own, "add-group", "br0", "group_id=50,type=all").status == 0
    assert oko(own, "insert-buckets", "br0", text) == Done(0, "", "")
    assert oko(own, "remove-buckets", "br0", "group_id=50,command_bucket_id=first").status == 0


def test_groups_in_a_file(own):
    oko(own, "del-groups", "br0")
    text = (
        "group add group_id=1,type=select,bucket=output:1\n"
        "insert_bucket group_id=1,command_bucket_id=last,bucket=bucket_id:7,weight:9,output:2\n"
        "remove_bucket group_id=1,command_bucket_id=0\n"
    )
    assert oko(own, "add-groups", "br0", "-", stdin=text) == Done(0, "", "")
    shown = oko(own, "-O", "OpenFlow15", "dump-groups", "br0").out
    assert shown.endswith(
        "\n group_id=1,type=select,bucket=bucket_id:7,weight:9,actions=output:2\n"
    )


def test_they_survive_a_restart(tmp_path):
    arguments = ("--state-dir", str(tmp_path / "state"), "--bridge", "br0", *PORTS, *ALL)
    with Switchd(tmp_path / "run", *arguments) as daemon:
        for command, text in STEPS[:4]:
            assert oko(daemon.run_dir, command, "br0", text).status == 0
        before = oko(daemon.run_dir, "-O", "OpenFlow15", "dump-groups", "br0").out
        daemon.process.kill()
        daemon.process.wait()
    assert before.count("bucket_id") == 5
    with Switchd(tmp_path / "run", *arguments) as daemon:
        after = oko(daemon.run_dir, "-O", "OpenFlow15", "dump-groups", "br0").out
    assert plain(after) == plain(before)


BUNDLE = """\
flow add table=9,priority=5,actions=group:4  # a comment
group group_id=4,type=all,bucket=output:2

packet-out in_port=1 packet=ffffffffffff0200000000010806 actions=group:4
table=9,priority=6,tcp,actions=drop
"""


@pytest.mark.parametrize("tool", [ovs, oko])
def test_a_bundle_of_all_kinds(own, tool):
    oko(own, "del-flows", "br0")
    oko(own, "del-groups", "br0")
    # The group has to be there before the flow: the bundle does not come into force.
    text = BUNDLE if tool is oko else BUNDLE.replace("\ntable", "\nflow table")
    done = tool(own, "bundle", "br0", "-", stdin=text)
    assert done.status == 1 and "OFPBAC_BAD_OUT_GROUP" in done.err, done
    assert "table=9" not in oko(own, "dump-flows", "br0").out
    lines = text.splitlines(keepends=True)
    text = lines[1] + lines[0] + "".join(lines[2:])
    before = _sent(own)
    assert tool(own, "bundle", "br0", "-", stdin=text) == Done(0, "", "")
    shown = oko(own, "dump-flows", "br0", "--no-stats", "--sort=tcp_dst").out
    assert shown == " table=9, priority=6,tcp actions=drop\n table=9, priority=5 actions=group:4\n"
    assert _sent(own) == before + 1


def _sent(run_dir):
    return int(re.search(r"tx pkts=(\d+)", oko(run_dir, "dump-ports", "br0", "2").out)[1])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("packet-out", "must specify packet"),
        ("packet-out in_port=1 packet=00 actions=output:1", "too short"),
        ("\n\nflow tcp,foo=1,actions=drop", "file:3:"),
        ("\npacket-out packet=" + "00" * 14 + " actions=output:1\nfoo=1,actions=drop", "file:3:"),
    ],
)
def test_mistakes_in_bundles(own, tmp_path, line, reason):
    file = tmp_path / "file"
    file.write_text(line + "\n")
    done = oko(own, "bundle", "br0", str(file))
    assert done.status == 1 and reason in done.err, done


# ---------------------------------------------------------------- the parts


def test_on_the_wire():
    for text in (
        "insert_bucket group_id=1,command_bucket_id=first,bucket=bucket_id:3,weight:7,output:1",
        "insert_bucket group_id=1,command_bucket_id=5,bucket=bucket_id:3,watch_port:1,output:1",
        "remove_bucket group_id=8,command_bucket_id=all",
        "remove_bucket group_id=8,command_bucket_id=77",
    ):
        (mod,) = parse_rules(f"group {text}\n")
        msg = encode_group_mod(OF15, mod)
        back = decode_group_mod(OF15, msg)
        assert encode_group_mod(OF15, back) == msg
        assert (back.command, back.bucket, back.group.id) == (mod.command, mod.bucket, mod.group.id)
        assert back.group.buckets == mod.group.buckets
        with pytest.raises(OpenFlowError, match=r"since OpenFlow 1\.5"):
            encode_group_mod(OF13, mod)
    msg = encode_group_mod(OF15, GroupMod(Group(1, -1), "insert_bucket", BUCKET_ALL))
    with pytest.raises(OpenFlowError, match="OFPGMFC_UNKNOWN_BUCKET"):
        decode_group_mod(OF15, msg)
    msg = encode_group_mod(OF15, GroupMod(Group(1, -1), "remove_bucket", 0xFFFFFF01))
    with pytest.raises(OpenFlowError, match="OFPGMFC_UNKNOWN_BUCKET"):
        decode_group_mod(OF15, msg)


@pytest.mark.parametrize(
    ("kind", "bucket", "error"),
    [
        (0, Bucket(weight=3, id=7), "OFPGMFC_INVALID_GROUP"),
        (2, Bucket(weight=0, id=7), "OFPGMFC_INVALID_GROUP"),
        (3, Bucket(weight=0, id=7), "OFPGMFC_INVALID_GROUP"),
        (1, Bucket(weight=0, id=0), "OFPGMFC_BUCKET_EXISTS"),
    ],
)
def test_buckets_that_do_not_fit_their_group(kind, bucket, error):
    group = Group(1, kind, (Bucket(watch_port=1),))
    for place in (BUCKET_FIRST, BUCKET_LAST, 0):
        change = GroupMod(Group(1, -1, (bucket,)), "insert_bucket", place)
        with pytest.raises(BucketError) as caught:
            changed(group, change)
        assert caught.value.name == error


def test_the_last_bucket_of_an_indirect_group_stays():
    with pytest.raises(BucketError, match="exactly one bucket"):
        changed(Group(1, 2, (Bucket(),)), GroupMod(Group(1, -1), "remove_bucket", BUCKET_LAST))


def test_buckets_keep_the_numbers_they_were_shown_with():
    group = Group(1, 1, (Bucket(weight=5), Bucket(weight=6), Bucket(weight=7)))
    group = changed(group, GroupMod(Group(1, -1), "remove_bucket", 1))
    assert [(b.id, b.weight) for b in group.buckets] == [(0, 5), (2, 7)]
    new = Group(1, -1, (Bucket(weight=0, id=1),))
    group = changed(group, GroupMod(new, "insert_bucket", 0))
    assert [(b.id, b.weight) for b in group.buckets] == [(0, 5), (1, 1), (2, 7)]
