"""Groups and meters as text, as `ovs-ofctl add-group` and `add-meter` take them, and back.

group_id=1,type=select,bucket=weight:5,actions=output:1,bucket=watch_port:2,actions=output:2
meter=1,kbps,burst,bands=type=drop,rate=1000,burst_size=100
"""

from __future__ import annotations

import re
from dataclasses import replace

from oko.model.fields import PORT_ANY
from oko.model.flow import (
    BUCKET_ALL,
    BUCKET_FIRST,
    BUCKET_LAST,
    BUCKET_MAX,
    GROUP_ALL,
    GROUP_ANY,
    GROUP_MAX,
    GROUP_TYPE_KNOWN,
    GROUP_TYPES,
    METER_MAX,
    Band,
    Bucket,
    DropBand,
    DscpBand,
    Group,
    GroupMod,
    Meter,
)
from oko.text.action_format import format_actions
from oko.text.actions import ActionParser
from oko.text.scan import Item, Span, items, number
from oko.text.values import Ports, format_port, parse_port

_TYPES = GROUP_TYPES | {"fast_failover": GROUP_TYPES["ff"]}
_BUCKET = re.compile(r"(?:^|(?<=[\s,]))buckets?\s*=")
_BAND = re.compile(r"(?:^|(?<=[\s,]))bands?\s*=")
_TYPE = re.compile(r"(?:^|(?<=[\s,]))type\s*=")
# Words of a bucket that are not actions.
_BUCKET_WORDS = ("weight", "watch_port", "watch_group", "bucket_id")

METER_ALL = 0xFFFFFFFF


def parse_group(text: str, ports: Ports | None = None, command: str = "add") -> Group:
    """One group as add-group takes it."""
    return parse_group_mod(Span.of(text), command, ports).group


def parse_group_mod(span: Span, command: str = "add", ports: Ports | None = None) -> GroupMod:
    """A change to a group. command: as GroupMod has it; for deletion only group_id is read."""
    if command.endswith("_bucket"):
        return _parse_bucket_mod(span, command, ports)
    head, parts = _cut(span, _BUCKET)
    group_id: int | None = GROUP_ALL if command == "delete" else None
    group_type: int | None = None
    selection = ""
    for item in items(head):
        if item.name == "group_id":
            value = item.required("a group number")
            if value.text == "all" and command == "delete":
                group_id = GROUP_ALL
            else:
                group_id = number(value, 32, "group_id", 0, GROUP_MAX)
        elif item.name == "type":
            value = item.required("a group type")
            group_type = _TYPES.get(value.text)
            if group_type is None:
                value.fail(f'unknown group type "{value}"', "one of " + ", ".join(_TYPES))
        elif item.name == "selection_method":
            value = item.required("a method")
            if value.text not in ("hash", "dp_hash"):
                value.fail(f'unknown selection method "{value}"', "hash or dp_hash")
            selection = value.text
        elif item.name in ("selection_method_param", "fields"):
            item.key.fail(f"{item.name} is not supported yet")
        elif item.name == "command_bucket_id":
            item.key.fail("command bucket id is not needed", "insert-buckets and remove-buckets")
        else:
            item.key.fail(f'unknown word "{item.name}"', "group_id=, type= or bucket=")
    if group_id is None:
        head.fail("a group needs group_id=")
    if command == "delete":
        return GroupMod(Group(group_id, 0), command)
    if group_type is None:
        head.fail("a group needs type=", "one of " + ", ".join(_TYPES))
    if selection and group_type != GROUP_TYPES["select"]:
        head.fail("selection_method is for groups of type select")
    buckets = tuple(_parse_bucket(part, group_type, ports) for part in parts)
    if group_type == GROUP_TYPES["indirect"] and len(buckets) != 1:
        span.fail("an indirect group has exactly one bucket")
    return GroupMod(Group(group_id, group_type, buckets, selection), command)


_PLACES = {"first": BUCKET_FIRST, "last": BUCKET_LAST, "all": BUCKET_ALL}
PLACE_NAMES = {number: name for name, number in _PLACES.items()}


def _parse_bucket_mod(span: Span, command: str, ports: Ports | None) -> GroupMod:
    """group_id=1,command_bucket_id=last,bucket=output:1"""
    head, parts = _cut(span, _BUCKET)
    inserts = command == "insert_bucket"
    group_id: int | None = None
    place = None if inserts else BUCKET_ALL
    for item in items(head):
        if item.name == "group_id":
            group_id = number(item.required("a group number"), 32, "group_id", 0, GROUP_MAX)
        elif item.name == "command_bucket_id":
            value = item.required("a bucket's number, first, last or all")
            place = _PLACES.get(value.text)
            if place is None:
                place = number(value, 32, "command_bucket_id", 0, BUCKET_MAX)
            if place == BUCKET_ALL and inserts:
                value.fail("command_bucket_id=all is not permitted")
        elif item.name in ("type", "selection_method"):
            item.key.fail(f"{item.name.replace('_', ' ')} is not needed", "the group has it")
        else:
            item.key.fail(f'unknown word "{item.name}"', "group_id=, command_bucket_id= or bucket=")
    if group_id is None:
        head.fail("must specify a group_id")
    if place is None:
        head.fail("must specify a command bucket id", "command_bucket_id=last")
    if parts and not inserts:
        parts[0].fail("bucket is not needed")
    buckets = tuple(_parse_bucket(part, GROUP_TYPE_KNOWN, ports) for part in parts)
    return GroupMod(Group(group_id, GROUP_TYPE_KNOWN, buckets), command, place)


def _cut(span: Span, where: re.Pattern[str]) -> tuple[Span, list[Span]]:
    """The span before the first occurrence of a key, and what follows each occurrence."""
    found = list(where.finditer(span.text))
    if not found:
        return span, []
    ends = [match.start() for match in found[1:]] + [len(span.text)]
    parts = [span.cut(match.end(), end).strip() for match, end in zip(found, ends, strict=True)]
    return span.cut(0, found[0].start()), parts


def _parse_bucket(span: Span, group_type: int, ports: Ports | None) -> Bucket:
    """weight:5,watch_port:1,actions=...; "actions=" may be missing."""
    bucket = Bucket(weight=1 if group_type == GROUP_TYPES["select"] else 0)
    begin: int | None = None
    for item in items(span):
        if item.name in ("actions", "action") and item.separator in ("=", ":"):
            begin = item.value.start - span.start
            break
        if item.name not in _BUCKET_WORDS:
            begin = item.key.start - span.start
            break
        bucket = _parse_bucket_word(item, bucket, group_type, ports)
    actions = () if begin is None else ActionParser(None, ports).actions(span.cut(begin))
    if (
        group_type == GROUP_TYPES["ff"]
        and bucket.watch_port == PORT_ANY
        and bucket.watch_group == GROUP_ANY
    ):
        span.fail("a bucket of a fast failover group needs watch_port or watch_group")
    return replace(bucket, actions=actions)


def _parse_bucket_word(item: Item, bucket: Bucket, group_type: int, ports: Ports | None) -> Bucket:
    value = item.required("a value")
    if item.name == "weight":
        if group_type not in (GROUP_TYPES["select"], GROUP_TYPE_KNOWN):
            item.key.fail("weight is for groups of type select")
        return replace(bucket, weight=number(value, 16, "weight"))
    if item.name == "watch_port":
        return replace(bucket, watch_port=parse_port(value, ports))
    if item.name == "watch_group":
        return replace(bucket, watch_group=number(value, 32, "group", 0, GROUP_MAX))
    return replace(bucket, id=number(value, 32, "bucket_id", 0, GROUP_MAX))


def format_group(group: Group, version: int = 0) -> str:
    """As ovs-ofctl dump-groups prints it in OpenFlow 1.3 (bucket ids only where given).

    version: of OpenFlow, as action_format has it.
    """
    words = [f"group_id={group.id}"]
    words.append("type=" + next(name for name, value in GROUP_TYPES.items() if value == group.type))
    if group.selection:
        words.append(f"selection_method={group.selection}")
    weighted = group.type == GROUP_TYPES["select"]
    for bucket in group.buckets:
        words.append("bucket=" + format_bucket(bucket, version, weighted=weighted))
    return ",".join(words)


def format_bucket(bucket: Bucket, version: int = 0, *, weighted: bool = False) -> str:
    """What stands behind "bucket=". weighted: its group is of type select."""
    words = []
    if bucket.id is not None:
        words.append(f"bucket_id:{bucket.id}")
    if weighted and bucket.weight != 1:
        words.append(f"weight:{bucket.weight}")
    if bucket.watch_port != PORT_ANY:
        words.append(f"watch_port:{format_port(bucket.watch_port)}")
    if bucket.watch_group != GROUP_ANY:
        words.append(f"watch_group:{bucket.watch_group}")
    words.append(f"actions={format_actions(bucket.actions, version)}")
    return ",".join(words)


# ---------------------------------------------------------------- meters


def parse_meter(text: str, command: str = "add") -> Meter:
    """One meter as add-meter takes it."""
    return parse_meter_span(Span.of(text), command)


def parse_meter_span(span: Span, command: str) -> Meter:
    """One meter; for deletion only its number is read."""
    head, parts = _cut(span, _BAND)
    meter_id: int | None = METER_ALL if command == "delete" else None
    unit = ""
    meter = Meter(0)
    for item in items(head):
        if item.name == "meter":
            value = item.required("a meter number")
            if value.text == "all" and command == "delete":
                meter_id = METER_ALL
            elif value.text in ("controller", "slowpath"):
                value.fail(f"the meter {value} is not supported yet")
            else:
                meter_id = number(value, 32, "meter", 1, METER_MAX)
        elif item.name in ("kbps", "pktps"):
            if unit and unit != item.name:
                item.key.fail("a meter has one unit, kbps or pktps")
            unit = item.name
            meter = replace(meter, pktps=unit == "pktps")
        elif item.name == "burst":
            meter = replace(meter, burst=True)
        elif item.name == "stats":
            meter = replace(meter, stats=True)
        else:
            item.key.fail(
                f'unknown word "{item.name}"', "meter=, kbps, pktps, burst, stats or bands="
            )
    if meter_id is None:
        head.fail("a meter needs meter=")
    if command == "delete":
        return Meter(meter_id)
    if not unit:
        head.fail("a meter needs a unit", "kbps or pktps")
    bands: list[Band] = []
    for part in parts:
        bands += _parse_bands(part, meter)
    if not bands:
        span.fail("a meter needs bands", "bands=type=drop,rate=1000")
    return replace(meter, id=meter_id, bands=tuple(bands))


def _parse_bands(span: Span, meter: Meter) -> list[Band]:
    """Each type= starts a band."""
    before, parts = _cut(span, _TYPE)
    if before or not parts:
        span.fail("a band starts with type=", "bands=type=drop,rate=1000")
    bands: list[Band] = []
    for part in parts:
        rate, burst, prec_level, kind = None, 0, None, None
        for item in items(part):
            if kind is None and not item.separator:
                kind = item.key
            elif item.name == "rate":
                rate = number(item.required("a number"), 32, "rate")
            elif item.name == "burst_size":
                if not meter.burst:
                    item.key.fail("burst_size needs the word burst in the meter")
                burst = number(item.required("a number"), 32, "burst_size")
            elif item.name == "prec_level":
                prec_level = number(item.required("a number"), 8, "prec_level")
            else:
                item.key.fail(f'unknown word "{item.name}"', "rate=, burst_size= or prec_level=")
        if kind is None or kind.text not in ("drop", "dscp_remark"):
            (kind or part).fail(f'unknown band type "{kind or ""}"', "drop or dscp_remark")
        if rate is None:
            part.fail("a band needs rate=")
        if kind.text == "drop":
            if prec_level is not None:
                part.fail("prec_level is for bands of type dscp_remark")
            bands.append(DropBand(rate, burst))
        else:
            bands.append(DscpBand(rate, burst, 1 if prec_level is None else prec_level))
    return bands


def format_meter(meter: Meter) -> str:
    """As ovs-ofctl dump-meters prints it."""
    words = [f"meter={meter.id}", "pktps" if meter.pktps else "kbps"]
    if meter.burst:
        words.append("burst")
    if meter.stats:
        words.append("stats")
    line = " ".join(words) + " bands="
    for band in meter.bands:
        kind = "drop" if isinstance(band, DropBand) else "dscp_remark"
        line += f"\ntype={kind} rate={band.rate}"
        if meter.burst:
            line += f" burst_size={band.burst}"
        if isinstance(band, DscpBand):
            line += f" prec_level={band.prec_level}"
    return line
