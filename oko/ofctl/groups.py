"""Groups and meters: add, modify, delete, dump. OpenFlow 1.3 and later have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, TypeVar

from oko.model.flow import GROUP_ALL, GROUP_TYPES, DropBand, Group, Meter, MeterMod
from oko.ofctl import changes
from oko.ofctl.flows import read_text
from oko.ofctl.printing import ACTION_NAMES, duration_text, title, with_names, xid_of
from oko.ofctl.run import SINCE_13, Run, port_names
from oko.openflow import groups as wire
from oko.openflow import meters as meter_wire
from oko.openflow.common import (
    MP_GROUP,
    MP_GROUP_DESC,
    MP_GROUP_FEATURES,
    MP_METER,
    MP_METER_CONFIG,
    MP_METER_FEATURES,
    OF15,
)
from oko.openflow.meters import METER_ALL
from oko.text.action_format import format_actions
from oko.text.flows import parse_rules
from oko.text.groups import format_group, format_meter, parse_group, parse_group_mod, parse_meter
from oko.text.scan import Span

SECOND = 1_000_000_000
T = TypeVar("T")
_KINDS = ("all", "select", "indirect", "fast failover")


# ---------------------------------------------------------------- changes


def _change_group(run: Run, words: list[str], command: str) -> None:
    name, text = [*words, ""][:2]
    lines = [text] if text != "-" else _lines(read_text("-"))
    mods = [parse_group_mod(Span.of(line), command, run.ports(name)) for line in lines]
    changes.apply(run, name, mods)


def _lines(text: str) -> list[str]:
    found = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in found if line]


def add(run: Run, words: list[str]) -> None:
    """add-group SWITCH GROUP"""
    _change_group(run, words, "add")


def modify(run: Run, words: list[str]) -> None:
    """mod-group SWITCH GROUP"""
    _change_group(run, words, "add_or_mod" if run.line.has("may_create") else "modify")


def delete(run: Run, words: list[str]) -> None:
    """del-groups SWITCH [GROUP]"""
    _change_group(run, words, "delete")


def insert_buckets(run: Run, words: list[str]) -> None:
    """insert-buckets SWITCH GROUP"""
    run.need(OF15, "insert-bucket")
    _change_group(run, words, "insert_bucket")


def remove_buckets(run: Run, words: list[str]) -> None:
    """remove-buckets SWITCH GROUP"""
    run.need(OF15, "remove-bucket")
    _change_group(run, words, "remove_bucket")


def add_file(run: Run, words: list[str]) -> None:
    """add-groups SWITCH FILE"""
    name, file = words
    text = "".join(
        line + "\n" if line.split("#")[0].split()[:1] in ([], ["group"]) else f"group {line}\n"
        for line in read_text(file).splitlines()
    )
    changes.apply(run, name, parse_rules(text, "" if file == "-" else file, run.ports(name)))


def _change_meter(run: Run, words: list[str], command: str) -> None:
    name, text = [*words, ""][:2]
    changes.apply(run, name, [MeterMod(parse_meter(text, command), command)])


def add_meter(run: Run, words: list[str]) -> None:
    """add-meter SWITCH METER"""
    _change_meter(run, words, "add")


def modify_meter(run: Run, words: list[str]) -> None:
    """mod-meter SWITCH METER"""
    _change_meter(run, words, "modify")


def delete_meters(run: Run, words: list[str]) -> None:
    """del-meters SWITCH [METER]"""
    _change_meter(run, words, "delete")


# ---------------------------------------------------------------- reading


def _ask(
    run: Run, name: str, kind: int, number: int, decode: Callable[[int, bytes], list[T]], what: str
) -> tuple[int, str, list[T]]:
    """(version, title, entries) of what the switch answers."""
    switch = run.connect(name, SINCE_13, aware=kind == MP_GROUP_DESC)
    encode = (
        wire.encode_group_request
        if kind in (MP_GROUP, MP_GROUP_DESC, MP_GROUP_FEATURES)
        else meter_wire.encode_meter_request
    )
    head = ""
    found: list[T] = []
    for reply in switch.multipart(encode(switch.version, kind, number)):
        head = head or title(f"OFPST_{what} reply", switch.version, xid_of(reply))
        found += decode(switch.version, reply)
    return switch.version, head, found


def _group_number(words: list[str]) -> int:
    if len(words) < 2 or words[1] == "all":
        return GROUP_ALL
    text = words[1] if "=" in words[1] else f"group_id={words[1]}"
    return parse_group(text, None, "delete").id


def _meter_number(words: list[str]) -> int:
    if len(words) < 2 or words[1] == "all":
        return METER_ALL
    text = words[1] if "=" in words[1] else f"meter={words[1]}"
    return parse_meter(text, "delete").id


def dump(run: Run, words: list[str]) -> None:
    """dump-groups SWITCH [GROUP]"""
    wanted = _group_number(words)
    version, head, found = _ask(
        run, words[0], MP_GROUP_DESC, wanted, wire.decode_group_desc, "GROUP_DESC"
    )
    if wanted != GROUP_ALL:
        found = [group for group in found if group.id == wanted]
    if run.json:
        run.print_json({"groups": [group_json(version, group) for group in found]})
        return
    print(head)
    names = port_names(run.connect(words[0])) if run.wants_names else {}
    for group in found:
        print(" " + with_names(format_group(group, version), names))


def group_json(version: int, group: Group) -> dict[str, Any]:
    """A group as an object."""
    return {
        "group_id": group.id,
        "type": next(name for name, value in GROUP_TYPES.items() if value == group.type),
        "selection_method": group.selection,
        "buckets": [
            {
                "actions": format_actions(bucket.actions, version),
                "weight": bucket.weight,
                "watch_port": _told(bucket.watch_port),
                "watch_group": _told(bucket.watch_group),
                "bucket_id": bucket.id,
            }
            for bucket in group.buckets
        ],
    }


def _told(number: int) -> int | None:
    return None if number == 0xFFFFFFFF else number


def stats(run: Run, words: list[str]) -> None:
    """dump-group-stats SWITCH [GROUP]"""
    _, head, found = _ask(
        run, words[0], MP_GROUP, _group_number(words), wire.decode_group_stats, "GROUP"
    )
    if run.json:
        shown = [asdict(g) | {"duration": g.duration / SECOND} for g in found]
        for one in shown:
            one["buckets"] = _pairs_json(one["buckets"])
        run.print_json({"groups": shown})
        return
    print(head)
    for g in found:
        known = g.duration != 0xFFFFFFFF * SECOND + 0xFFFFFFFF
        words_ = [f"group_id={g.id}"]
        words_ += [f"duration={duration_text(g.duration)}"] if known else []
        words_ += [f"ref_count={g.n_flows}", *_pair(g.n_packets, g.n_bytes)]
        for i, pair in enumerate(g.buckets):
            packets, octets = _pair(*pair)
            words_ += [f"bucket{i}:{packets}", octets]
        print(" " + ",".join(words_))


def _pair(n_packets: int, n_bytes: int) -> tuple[str, str]:
    return f"packet_count={n_packets}", f"byte_count={n_bytes}"


def _pairs_json(pairs: tuple[tuple[int, int], ...]) -> list[dict[str, int]]:
    return [{"n_packets": packets, "n_bytes": octets} for packets, octets in pairs]


def features(run: Run, words: list[str]) -> None:
    """dump-group-features SWITCH"""
    _, head, (found,) = _ask(
        run, words[0], MP_GROUP_FEATURES, GROUP_ALL,
        lambda version, msg: [wire.decode_group_features(version, msg)], "GROUP_FEATURES",
    )  # fmt: skip
    if run.json:
        run.print_json(asdict(found))
        return
    print(f"{head}\n Group table:\n    Types:  {found.types:#x}")
    print(f"    Capabilities:  {found.capabilities:#x}")
    for i, kind in enumerate(_KINDS):
        if found.types >> i & 1:
            print(f"    {kind} group:\n       max_groups={found.max_groups[i]:#x}")
            actions = [name for bit, name in ACTION_NAMES.items() if found.actions[i] >> bit & 1]
            print(f"       actions: {' '.join(actions)}")


# ---------------------------------------------------------------- meters


def dump_meters(run: Run, words: list[str]) -> None:
    """dump-meters SWITCH [METER]"""
    _, head, found = _ask(
        run, words[0], MP_METER_CONFIG, _meter_number(words), meter_wire.decode_meter_configs,
        "METER_CONFIG",
    )  # fmt: skip
    if run.json:
        run.print_json({"meters": [meter_json(meter) for meter in found]})
        return
    print(head)
    print("\n\n".join(format_meter(meter) for meter in found), end="\n" if found else "")


def meter_json(meter: Meter) -> dict[str, Any]:
    """A meter as an object."""
    return {
        "meter": meter.id,
        "unit": "pktps" if meter.pktps else "kbps",
        "burst": meter.burst,
        "stats": meter.stats,
        "bands": [
            {"type": "drop" if isinstance(band, DropBand) else "dscp_remark"} | asdict(band)
            for band in meter.bands
        ],
    }


def meter_stats(run: Run, words: list[str]) -> None:
    """meter-stats SWITCH [METER]"""
    _, head, found = _ask(
        run, words[0], MP_METER, _meter_number(words), meter_wire.decode_meter_stats, "METER"
    )
    if run.json:
        shown = [asdict(m) | {"duration": m.duration / SECOND} for m in found]
        for one in shown:
            one["bands"] = _pairs_json(one["bands"])
        run.print_json({"meters": shown})
        return
    print(head)
    print("\n\n".join("\n".join(_meter_lines(m)) for m in found), end="\n" if found else "")


def _meter_lines(m: meter_wire.MeterCounters) -> Iterator[str]:
    yield (
        f"meter:{m.id} flow_count:{m.n_flows} packet_in_count:{m.n_packets} "
        f"byte_in_count:{m.n_bytes} duration:{duration_text(m.duration)} bands:"
    )
    for i, (packets, octets) in enumerate(m.bands):
        yield f"{i}: packet_count:{packets} byte_count:{octets}"


def meter_features(run: Run, words: list[str]) -> None:
    """meter-features SWITCH"""
    _, head, (found,) = _ask(
        run, words[0], MP_METER_FEATURES, METER_ALL,
        lambda version, msg: [meter_wire.decode_meter_features(version, msg)], "METER_FEATURES",
    )  # fmt: skip
    bands = [name for bit, name in ((1, "drop"), (2, "dscp_remark")) if found.band_types >> bit & 1]
    names = ("kbps", "pktps", "burst", "stats")
    capabilities = [name for bit, name in enumerate(names) if found.capabilities >> bit & 1]
    if run.json:
        run.print_json(asdict(found) | {"band_types": bands, "capabilities": capabilities})
        return
    print(head)
    print(
        f"max_meter:{found.max_meters} max_bands:{found.max_bands} max_color:{found.max_color}\n"
        f"band_types: {' '.join(bands) or 0}\ncapabilities: {' '.join(capabilities)}"
    )
