"""bundle: changes to flows, groups and meters, and packet-outs, of a file as one transaction.

    flow add priority=10,tcp,actions=group:1
    group add_or_mod group_id=1,type=all,bucket=output:2
    packet-out in_port=1 packet=ffffffffffff0200000000010806 actions=output:2

A line without one of these words is a flow.
"""

from __future__ import annotations

from oko.ofctl import changes
from oko.ofctl.flows import read_text
from oko.ofctl.packets import frame_of, packet_words, parse_actions
from oko.ofctl.run import Run
from oko.openflow.packets import PacketOut
from oko.text.flows import iterate_rules
from oko.text.values import Ports

_PACKET_OUT = "packet-out"


def bundle(run: Run, words: list[str]) -> None:
    """bundle SWITCH FILE"""
    name, file = words
    ports = run.ports(name)
    source = "" if file == "-" else file
    found: list[changes.Change] = []
    # Blank lines keep the places in errors right.
    rules: list[str] = []
    for line in read_text(file).splitlines():
        if line.split(None, 1)[:1] == [_PACKET_OUT]:
            found += iterate_rules("\n".join(rules), source, ports)
            rules = [""] * (len(rules) + 1)
            found.append(_packet_out(line.split("#")[0].strip()[len(_PACKET_OUT) :], ports))
        else:
            rules.append(line)
    found += iterate_rules("\n".join(rules), source, ports)
    changes.apply(run, name, found, bundle=True)


def _packet_out(text: str, ports: Ports) -> PacketOut:
    in_port, actions, (frame,) = packet_words(text, ports)
    return PacketOut(in_port, parse_actions(actions, ports), frame_of(frame))
