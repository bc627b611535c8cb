"""The ovs-ofctl grammar: normal forms against the real tool, round trips, errors with their place.

`ovs-ofctl parse-flows` is the oracle: it prints each flow in Open vSwitch's own normal form, here
that of OpenFlow 1.5, where set_field has a mask.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from twin.generate import Options, flow_of

from oko.model.flow import FLAG_NAMES, PRIORITY_DEFAULT, Flow, FlowMod
from oko.text import (
    FlowStats,
    FlowSyntaxError,
    dump_flow,
    format_flow,
    format_group,
    format_meter,
    parse_flow,
    parse_flow_mod,
    parse_flows,
    parse_group,
    parse_meter,
    parse_rules,
)
from oko.text.action_format import format_instructions
from oko.text.flows import format_match_part

DATA = Path(__file__).parent / "data"

needs_ofctl = pytest.mark.skipif(
    shutil.which("ovs-ofctl") is None, reason="ovs-ofctl (Debian: openvswitch-switch) is missing"
)


def ofctl_normal_forms(lines: list[str], tmp_path: Path, protocol: str = "OpenFlow15") -> list[str]:
    """What ovs-ofctl makes of these flows, one line each."""
    path = tmp_path / "flows.txt"
    path.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        ["ovs-ofctl", "-O", protocol, "parse-flows", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if "FLOW_MOD" in line]
    return [re.sub(r"^.*?xid=0x[0-9a-f]+\): ", "", line) for line in printed]


def as_flow_mod(flow: Flow) -> str:
    """A flow as ovs-ofctl prints flow-mods of OpenFlow 1.5."""
    words = ["ADD"]
    if flow.table:
        words.append(f"table:{flow.table}")
    if format_match_part(flow):
        words.append(format_match_part(flow))
    if flow.cookie:
        words.append(f"cookie:{flow.cookie:#x}")
    for name in ("idle", "hard"):
        value = getattr(flow, f"{name}_timeout")
        if value:
            words.append(f"{name}:{value}")
    if flow.importance:
        words.append(f"importance:{flow.importance}")
    words += [name for name, bit in FLAG_NAMES.items() if flow.flags & bit]
    text = " ".join(words) + f" actions={format_instructions(flow.instructions)}"
    return to_openflow15(text)


def to_openflow15(text: str) -> str:
    """Our text keeps OpenFlow 1.0's name where set_field would need the match to say more."""
    text = re.sub(r"mod_nw_(src|dst):([0-9.]+)", r"set_field:\2->ip_\1", text)
    text = re.sub(r"mod_nw_tos:(\d+)", lambda m: f"set_field:{int(m[1]) >> 2}->ip_dscp", text)
    text = re.sub(
        r"set_field:(\d+)(/0xfc)?->nw_tos",
        lambda m: f"set_field:{int(m[1]) >> 2}->ip_dscp",
        text,
    )
    return re.sub(r"mod_nw_ecn:(\d)", r"set_field:\1->nw_ecn", text)


def lines_of(name: str) -> list[str]:
    text = (DATA / name).read_text()
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


@needs_ofctl
def test_normal_forms_equal_ovs_ofctl(tmp_path: Path) -> None:
    """Every line of flows.txt, as ovs-ofctl prints it."""
    lines = lines_of("flows.txt")
    expected = ofctl_normal_forms(lines, tmp_path)
    assert len(expected) == len(lines) > 200
    for line, theirs in zip(lines, expected, strict=True):
        assert as_flow_mod(parse_flow(line)) == to_openflow15(theirs), line


@needs_ofctl
def test_old_actions_equal_ovs_ofctl(tmp_path: Path) -> None:
    """OpenFlow 1.0's own actions keep their names."""
    for line in lines_of("flows10.txt"):
        (theirs,) = ofctl_normal_forms([line], tmp_path, "OpenFlow10")
        flow = parse_flow(line)
        assert f"ADD {format_flow(flow)}" == theirs, line


@needs_ofctl
def test_random_flows_mean_the_same_to_ovs_ofctl(tmp_path: Path) -> None:
    """Our text of a random flow is read by ovs-ofctl and printed back alike."""
    rng = Random(1)
    options = Options(groups=(1, 2), meters=(3,), text_only=True)
    flows = [flow_of(rng, options) for _ in range(600)]
    ours, texts = [], []
    for flow in flows:
        text = format_flow(flow)
        if re.search(r"pbb|copy_ttl|send_maps|exthdr|OXM_OF_PKT_REG1\[|in_phy_port", text):
            continue  # Open vSwitch does not know these
        if re.search(r"/[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}", text):
            continue  # nor a mask of 39 characters
        if re.search(
            r"mod_(vlan|tp)|vlan_tci|mpls_ttl|dec_ttl|fin_timeout|mod_nw|pop_vlan|nw_frag=(later|0x)",
            text,
        ):
            continue  # and turns these into other things, or wants to know more of the packet
        texts.append(text)
        ours.append(as_flow_mod(flow))
    assert len(texts) > 150
    theirs = ofctl_normal_forms(texts, tmp_path)
    for text, a, b in zip(texts, ours, theirs, strict=True):
        assert a == to_openflow15(b), text


@given(st.randoms(use_true_random=False))
def test_what_is_printed_is_read_back(rng: Random) -> None:
    flow = flow_of(rng, Options(programs=(1, 7), groups=(1,), meters=(2,), text_only=True))
    assert parse_flow(format_flow(flow)) == flow
    stats = FlowStats(duration=1.5, n_packets=3, n_bytes=4, idle_age=1)
    assert parse_flow(dump_flow(flow, stats)) == flow
    assert parse_flow(dump_flow(flow)) == flow


def test_dump_flows_form() -> None:
    """As Open vSwitch 3.1 printed these flows (filter_prog aside, which it does not have)."""
    flow = parse_flow(
        "cookie=7,table=2,idle_timeout=5,hard_timeout=9,importance=3,send_flow_rem,reset_counts,"
        "no_byte_counts,priority=9,tcp,tcp_dst=80,actions=output:2"
    )
    assert dump_flow(flow, FlowStats(0.005)) == (
        " cookie=0x7, duration=0.005s, table=2, n_packets=0, n_bytes=0, idle_timeout=5, "
        "hard_timeout=9, send_flow_rem reset_counts no_byte_counts importance=3, "
        "priority=9,tcp,tp_dst=80 actions=output:2"
    )
    assert dump_flow(flow) == (
        " cookie=0x7, table=2, idle_timeout=5, hard_timeout=9, send_flow_rem reset_counts "
        "no_byte_counts importance=3, priority=9,tcp,tp_dst=80 actions=output:2"
    )
    flow = parse_flow("filter_prog=1,priority=5,table=3,actions=drop")
    assert dump_flow(flow, FlowStats(2.0, 3, 180, idle_age=4)) == (
        " cookie=0x0, duration=2s, table=3, n_packets=3, n_bytes=180, idle_age=4, "
        "priority=5,filter_prog=1 actions=drop"
    )
    assert dump_flow(flow) == " table=3, priority=5,filter_prog=1 actions=drop"
    assert dump_flow(parse_flow("cookie=1,ip,actions=drop")) == " cookie=0x1, ip actions=drop"
    assert dump_flow(parse_flow("importance=9,actions=1")) == " importance=9, actions=output:1"
    assert dump_flow(parse_flow("actions=drop")) == " actions=drop"


@pytest.mark.parametrize("text", lines_of("flows.txt") + lines_of("flows10.txt"))
def test_flow_lists_are_stable(text: str) -> None:
    flow = parse_flow(text)
    assert parse_flow(format_flow(flow)) == flow


def test_filter_prog() -> None:
    assert parse_flow("filter_prog=3,actions=drop").filter_prog == 3
    assert parse_flow("filter_prog=0,actions=drop").filter_prog == 0
    assert parse_flow_mod("filter_prog=0", command=4).flow.filter_prog == 0
    with pytest.raises(FlowSyntaxError, match="filter_prog=0 has no meaning here"):
        parse_flow_mod("filter_prog=0", command=3)
    with pytest.raises(FlowSyntaxError, match="out of range"):
        parse_flow("filter_prog=65536,actions=drop")


def cases(name: str) -> list[tuple[str, int, str]]:
    """Lines `flow | column | words of the reason`."""
    result = []
    for line in lines_of(name):
        text, column, reason = (part.strip() for part in line.rsplit(" | ", 2))
        result.append((text, int(column), reason))
    return result


@pytest.mark.parametrize(("text", "column", "reason"), cases("flow-errors.txt"))
def test_errors_have_a_place_and_a_reason(text: str, column: int, reason: str) -> None:
    with pytest.raises(FlowSyntaxError) as caught:
        parse_rules(text, "f.txt")
    error = caught.value
    assert str(error).startswith(f"f.txt:1:{error.column}: ")
    assert (error.column, reason in str(error) + " " + error.hint) == (column, True), str(error)
    assert "\n" not in str(error)
    shown, caret = error.excerpt.splitlines()
    assert "^" in caret
    assert len(caret) <= len(shown) + 1


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("prioritty=1,actions=drop", 'did you mean "priority"?'),
        ("tpc,actions=drop", 'did you mean "tcp"?'),
        ("tcp,tcp_dts=3,actions=drop", 'did you mean "tcp_dst"?'),
        ("actions=otput:2", 'did you mean "output"?'),
        ("actions=flod", 'did you mean "FLOOD"?'),
        ("zzzz,actions=drop", ""),
    ],
)
def test_an_unknown_word_hints_at_the_one_it_looks_like(text: str, hint: str) -> None:
    with pytest.raises(FlowSyntaxError) as caught:
        parse_rules(text)
    assert caught.value.hint == hint


@given(st.text(alphabet='ab1,=:()[]->/.*#" \tctionsdrpuflw', max_size=60))
def test_any_text_is_a_flow_or_an_error(text: str) -> None:
    try:
        rules = parse_rules(text)
    except FlowSyntaxError as error:
        assert error.excerpt
    else:
        assert all(isinstance(rule, FlowMod) for rule in rules) or rules


@given(st.sampled_from(lines_of("flows.txt")), st.data())
def test_damaged_flows_are_flows_or_errors(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    piece = data.draw(st.text(alphabet=",=:()[]->/.*0x9a \t", max_size=3))
    keep = data.draw(st.integers(0, 3))
    damaged = text[:at] + piece + text[at + keep :]
    try:
        flow = parse_flow(damaged)
    except FlowSyntaxError:
        return
    assert parse_flow(format_flow(flow)) == flow


def test_file_with_comments_commands_groups_and_meters() -> None:
    rules = parse_rules(
        """
        # a comment
        group add group_id=1,type=all,bucket=output:1,bucket=output:2
        meter meter=3,pktps,bands=type=drop,rate=10
        priority=5,actions=group:1   # here too
        flow add actions=meter:3,output:4
        delete_strict priority=5
        modify ip actions=drop
        delete cookie=5/0xf,out_port=3
        """
    )
    assert [type(rule).__name__ for rule in rules] == (["GroupMod", "MeterMod"] + ["FlowMod"] * 5)
    flows = [rule for rule in rules if isinstance(rule, FlowMod)]
    assert [rule.command for rule in flows] == [0, 0, 4, 1, 3]
    assert flows[4].out_port == 3
    assert flows[4].cookie_mask == 0xF
    assert flows[3].flow.priority == PRIORITY_DEFAULT
    with pytest.raises(FlowSyntaxError, match=r"rules\.txt:2:1: only flows"):
        parse_flows("actions=drop\ngroup group_id=1,type=all\n", "rules.txt")


def test_the_grammar_is_light_to_import() -> None:
    """oko-ofctl must start in a moment: neither the extension nor os_ken come along."""
    code = "import sys, oko.text; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    heavy = ("os_ken", "cffi", "elftools", "rich", "oko._oko", "oko._binding", "numpy", "asyncio")
    assert [name for name in heavy if name in loaded] == []


def test_port_names() -> None:
    flow = parse_flow('in_port=eth0,actions=output:"eth1",eth0', {"eth0": 1, "eth1": 2})
    assert format_flow(flow) == "in_port=1 actions=output:2,output:1"


@needs_ofctl
@pytest.mark.parametrize("text", lines_of("groups.txt"))
def test_groups_equal_ovs_ofctl(text: str) -> None:
    printed = subprocess.run(
        ["ovs-ofctl", "-O", "OpenFlow13", "parse-group", text],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    theirs = re.sub(r"^ ADD ", "", printed.splitlines()[-1])
    group = parse_group(text)
    assert to_openflow15(format_group(group)) == theirs
    assert parse_group(format_group(group)) == group


@pytest.mark.parametrize("text", lines_of("meters.txt"))
def test_meters_are_read_back(text: str) -> None:
    meter = parse_meter(text)
    assert parse_meter(format_meter(meter)) == meter
