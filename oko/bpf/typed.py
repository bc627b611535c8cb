"""Keys and values of maps as people write them, and back.

A map holds bytes. On command lines, in map files and in dumps they appear as typed text:

    ip:10.0.0.1   ip6:2001:db8::1   mac:02:00:00:00:00:01     addresses, as on the wire
    u8: u16: u32: u64:   s8: s16: s32: s64:                   integers, little-endian (programs')
    be16: be32: be64:                                         integers, big-endian (packets')
    lpm:10.0.0.0/8   lpm:2001:db8::/32                        a key of an LPM trie
    hex:0a000001   str:text   zero:3                          bytes, text, padding
    17   0x11   -1                                            an integer of the field's own size

Several joined by "+" stand one after another: `ip:10.0.0.1+ip:10.0.0.2+be16:53`. Where BTF tells
the fields, `{src=ip:10.0.0.1, port=be16:53}` names them, and `[1, 2]` is an array. From Python and
in JSON, an int, bytes, a list (joined) or a dict work as well. Without a prefix the field's type
decides, so "10.0.0.1" is refused: nothing is guessed.

The other way, a Layout from BTF turns bytes into ints, dicts and typed text; without one they stay
hex. What is printed as text can be read back.

Pure functions; every fault is one TypedValueError that shows the offending text.
"""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import TypedValueError
from .btf import Layout
from .spec import MapSpec, MapType

Value = int | str | bytes | Sequence[Any] | Mapping[str, Any]
"""What is accepted for a key or a value."""

# typedef names of the source that tell more than their size: Linux's, and oko_bpf.h's.
_MEANING = {
    "__be16": "be16",
    "__be32": "be32",
    "__be64": "be64",
    "in_addr_t": "ip",
    "oko_ip4": "ip",
    "oko_ip6": "ip6",
    "oko_mac": "mac",
    "oko_be16": "be16",
    "oko_be32": "be32",
    "oko_be64": "be64",
}
_INTEGER = re.compile(r"(u|s|be)(8|16|32|64)\Z")
_SIZES = {"ip": 4, "ip6": 16, "mac": 6}


# ---------------------------------------------------------------- text -> bytes


def parse(value: Value, size: int, layout: Layout | None = None, what: str = "value") -> bytes:
    """The size bytes that value stands for; what names it in errors ("key of map 'blocked'")."""
    raw = _encode(value, size, layout, what)
    if len(raw) != size:
        raise TypedValueError(f"{what}: {_shown(value)} is {len(raw)} bytes, not {size}")
    return raw


def _encode(value: Value, size: int | None, layout: Layout | None, what: str) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, bool):
        return _integer(int(value), size, layout, what)
    if isinstance(value, int):
        return _integer(value, size, layout, what)
    if isinstance(value, str):
        text = value.strip()
        if text[:1] == "{" and text[-1:] == "}":
            return _fields(_named(text[1:-1], what), layout, what)
        if text[:1] == "[" and text[-1:] == "]":
            return _parts(split_commas(text[1:-1]), size, layout, what)
        return _parts(value.split("+"), size, layout, what)
    if isinstance(value, Mapping):
        return _fields(value, layout, what)
    if isinstance(value, Sequence):
        return _parts(value, size, layout, what)
    raise TypedValueError(f"{what}: cannot make bytes of {_shown(value)}")


def split_commas(text: str) -> list[str]:
    """The parts of a list; commas inside of {} and [] do not count."""
    parts, depth, start = [], 0, 0
    for at, c in enumerate(text):
        if c in "{[":
            depth += 1
        elif c in "}]":
            depth -= 1
        elif c == "," and not depth:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _named(text: str, what: str) -> dict[str, str]:
    """a=1, b=ip:10.0.0.1"""
    found: dict[str, str] = {}
    for part in split_commas(text) if text.strip() else []:
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not name:
            raise TypedValueError(
                f"{what}: cannot read {part.strip()!r}", "fields are written {name=value, ..}"
            )
        if name in found:
            raise TypedValueError(f"{what}: field {name!r} is given twice")
        found[name] = value.strip()
    return found


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _parts(parts: Sequence[Value], size: int | None, layout: Layout | None, what: str) -> bytes:
    if len(parts) == 1:
        part = parts[0]
        inner = layout
        if layout is not None and layout.kind == "struct" and len(layout.fields) == 1:
            inner = layout.fields[0][2]
        if isinstance(part, str):
            return _text(part.strip(), size, inner, what)
        return _encode(part, size, layout if isinstance(part, Mapping) else inner, what)
    # One part for each field or element: each has its place, padding is zero.
    slots = _slots(layout, len(parts))
    if slots is not None and layout is not None:
        pieces = [
            _encode(part, slot.size, slot, what)
            for part, (_, slot) in zip(parts, slots, strict=True)
        ]
        if all(len(raw) == slot.size for raw, (_, slot) in zip(pieces, slots, strict=True)):
            out = bytearray(layout.size)
            for raw, (offset, slot) in zip(pieces, slots, strict=True):
                out[offset : offset + slot.size] = raw
            return bytes(out)
    return b"".join(_encode(part, None, None, what) for part in parts)


def _slots(layout: Layout | None, count: int) -> list[tuple[int, Layout]] | None:
    if layout is None:
        return None
    if layout.kind == "struct" and len(layout.fields) == count:
        return [(offset, inner) for _, offset, inner in layout.fields]
    element = layout.element
    if layout.kind == "array" and layout.count == count and element is not None:
        return [(i * element.size, element) for i in range(count)]
    return None


def _fields(value: Mapping[str, Any], layout: Layout | None, what: str) -> bytes:
    if layout is None or layout.kind != "struct":
        raise TypedValueError(
            f"{what}: fields are given, but the object has no struct for it",
            "compile the program with -g and define the map in .maps, or join typed parts with +",
        )
    names = [name for name, _, _ in layout.fields]
    unknown = [name for name in value if name not in names]
    missing = [name for name in names if name not in value]
    if unknown or missing:
        problem = f"unknown field {unknown[0]!r}" if unknown else f"field {missing[0]!r} is missing"
        raise TypedValueError(f"{what}: {problem}; the fields are {', '.join(names)}")
    out = bytearray(layout.size)
    for name, offset, inner in layout.fields:
        out[offset : offset + inner.size] = parse(
            value[name], inner.size, inner, f"{what}, field {name!r}"
        )
    return bytes(out)


def _text(text: str, size: int | None, layout: Layout | None, what: str) -> bytes:
    prefix, colon, rest = text.partition(":")
    integer = _INTEGER.match(prefix) if colon else None
    try:
        if integer is not None and prefix != "be8":
            order = "big" if integer[1] == "be" else "little"
            return _pack(_number(rest), int(integer[2]) // 8, order, integer[1] == "s")
        if colon and prefix in _FORMS:
            return _FORMS[prefix](rest, size)
        if layout is not None and layout.kind == "enum":
            for number, name in layout.names:
                if name == text:
                    return _pack(number, layout.size, "little", number < 0)
        number = _number(text)
    except ValueError as exc:
        reason = str(exc).removeprefix("invalid literal for int() with base 0: ")
        raise TypedValueError(f"{what}: cannot read {text!r}: {reason}", _hint(text)) from None
    return _integer(number, size, layout, what)


def _hint(text: str) -> str:
    if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", text):
        return f"write ip:{text}"
    return (
        "forms: ip: ip6: mac: u8: u16: u32: u64: s32: be16: be32: lpm: hex: str: zero:, or a number"
    )


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError("not a number") from None


def _integer(number: int, size: int | None, layout: Layout | None, what: str) -> bytes:
    if size is None:
        raise TypedValueError(
            f"{what}: the size of {number} is not known here", f"say which: u32:{number}"
        )
    meaning = _MEANING.get(layout.type_name, "") if layout is not None else ""
    scalar = layout is None or layout.kind in ("int", "bool", "char", "enum", "bytes")
    if size > 8 or not scalar:
        raise TypedValueError(
            f"{what}: {number} alone does not fill {size} bytes", "give every part: u32:1+u16:2"
        )
    try:
        return _pack(
            number,
            size,
            "big" if meaning in ("be16", "be32", "be64", "ip") else "little",
            number < 0,
        )
    except ValueError as exc:
        raise TypedValueError(f"{what}: {exc}") from None


def _pack(number: int, size: int, order: str, signed: bool) -> bytes:
    try:
        return number.to_bytes(size, "big" if order == "big" else "little", signed=signed)
    except OverflowError:
        raise ValueError(f"{number} does not fit in {size} byte{'s' * (size > 1)}") from None


def _ip(text: str, size: int | None) -> bytes:
    if "/" in text:
        raise ValueError("a prefix is written lpm:ADDRESS/LENGTH")
    return ipaddress.IPv4Address(text).packed


def _ip6(text: str, size: int | None) -> bytes:
    return ipaddress.IPv6Address(text).packed


def _mac(text: str, size: int | None) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", text):
        raise ValueError("a MAC address is six pairs of hex digits")
    return bytes.fromhex(re.sub("[:-]", "", text))


def _lpm(text: str, size: int | None) -> bytes:
    network = ipaddress.ip_network(text, strict=True)
    return network.prefixlen.to_bytes(4, "little") + network.network_address.packed


def _hex(text: str, size: int | None) -> bytes:
    try:
        return bytes.fromhex(re.sub(r"[:\s_]", "", text.removeprefix("0x")))
    except ValueError:
        raise ValueError("not pairs of hex digits") from None


def _str(text: str, size: int | None) -> bytes:
    raw = text.encode()
    return raw.ljust(size, b"\0") if size is not None else raw


def _zero(text: str, size: int | None) -> bytes:
    count = _number(text)
    if not 0 <= count <= 65536:
        raise ValueError("a number of bytes from 0 to 65536")
    return bytes(count)


_FORMS = {
    "ip": _ip,
    "ip6": _ip6,
    "mac": _mac,
    "lpm": _lpm,
    "hex": _hex,
    "str": _str,
    "zero": _zero,
}


# ---------------------------------------------------------------- bytes -> text and JSON


def to_json(raw: bytes, layout: Layout | None) -> Any:
    """raw as ints, strings, lists and dicts; "hex:.." where nothing tells what it is."""
    if layout is None or layout.size != len(raw):
        return f"hex:{raw.hex()}"
    meaning = _MEANING.get(layout.type_name, "")
    if meaning:
        return _meant(raw, meaning)
    if layout.kind in ("int", "bool", "char"):
        return int.from_bytes(raw, "little", signed=layout.signed)
    if layout.kind == "enum":
        number = int.from_bytes(raw, "little", signed=any(v < 0 for v, _ in layout.names))
        return next((name for value, name in layout.names if value == number), number)
    if layout.kind == "struct":
        return {
            name: to_json(raw[offset : offset + inner.size], inner)
            for name, offset, inner in layout.fields
        }
    element = layout.element
    if layout.kind == "array" and element is not None and element.size:
        return _array(raw, layout, element)
    return f"hex:{raw.hex()}"


def _meant(raw: bytes, meaning: str) -> str:
    if len(raw) != _SIZES.get(meaning, len(raw)):
        return f"hex:{raw.hex()}"
    if meaning == "ip":
        return f"ip:{ipaddress.IPv4Address(raw)}"
    if meaning == "ip6":
        return f"ip6:{ipaddress.IPv6Address(raw)}"
    if meaning == "mac":
        return f"mac:{raw.hex(':')}"
    return f"{meaning}:{int.from_bytes(raw, 'big')}"


def _array(raw: bytes, layout: Layout, element: Layout) -> Any:
    named = _MEANING.get(element.type_name, "")
    if element.size == 1 and not named:
        text = raw.rstrip(b"\0").decode("latin-1")
        if (
            element.type_name == "char"
            and text.isascii()
            and text.isprintable()
            and not set(text) & set("+,{}[]")
        ):
            return f"str:{text}"
        return f"hex:{raw.hex()}"
    step = element.size
    return [to_json(raw[i * step : (i + 1) * step], element) for i in range(layout.count)]


def to_text(raw: bytes, layout: Layout | None) -> str:
    """raw on one line: typed text, structs as {name=..., ...}."""
    return _one_line(to_json(raw, layout))


def _one_line(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={_one_line(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_one_line(inner) for inner in value) + "]"
    return str(value)


def value_slots(spec: MapSpec, raw: bytes) -> list[bytes]:
    """A dumped value as the values it consists of: one per worker in per-worker maps, else one."""
    if spec.type in (MapType.WORKER_ARRAY, MapType.WORKER_HASH) and spec.value_size:
        return [raw[i : i + spec.value_size] for i in range(0, len(raw), spec.value_size)]
    return [raw]


def entry_json(spec: MapSpec, key: bytes, value: bytes) -> dict[str, Any]:
    """A dumped entry: key and value in hex, and typed where BTF tells.

    Per-worker maps: value_typed is a list, one value per worker.
    """
    entry: dict[str, Any] = {"key": key.hex(), "value": value.hex()}
    if spec.type in (MapType.BLOOM, MapType.COUNT_MIN):
        return entry
    if spec.key_layout is not None:
        entry["key_typed"] = to_json(key, spec.key_layout)
    if spec.value_layout is not None:
        typed = [to_json(slot, spec.value_layout) for slot in value_slots(spec, value)]
        per_worker = spec.type in (MapType.WORKER_ARRAY, MapType.WORKER_HASH)
        entry["value_typed"] = typed if per_worker else typed[0]
    return entry


def entry_text(spec: MapSpec, key: bytes, value: bytes) -> str:
    """A dumped entry on one line: "key -> value"."""
    if spec.type in (MapType.BLOOM, MapType.COUNT_MIN):
        return f"hex:{key.hex()} -> hex:{value.hex()}"
    values = [to_text(slot, spec.value_layout) for slot in value_slots(spec, value)]
    shown = values[0] if len(values) == 1 else "[" + ", ".join(values) + "]"
    return f"{to_text(key, spec.key_layout)} -> {shown}"


# ---------------------------------------------------------------- map updates


@dataclass(frozen=True)
class MapUpdate:
    """One --update-map: entries for a map of a program, keys and values still as written."""

    prog: str
    map: str
    entries: tuple[tuple[Value, Value | None], ...]
    """(key, value); value None: an item to add to a sketch."""


def parse_update(text: str) -> MapUpdate:
    """Reads 'prog=1,map=blocked,key=ip:10.0.0.1,value=u32:1' (or 'prog=1,map=blocked,file=F').

    map is a name or a number; prog too, and may be left out where there is only one ("").
    """
    given: dict[str, str] = {}
    for part in split_commas(text):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or name not in ("prog", "map", "key", "value", "file"):
            raise TypedValueError(
                f"map update {text!r}: cannot read {part!r}",
                "write prog=1,map=NAME,key=ip:10.0.0.1,value=u32:1 or prog=1,map=NAME,file=F",
            )
        if name in given:
            raise TypedValueError(f"map update {text!r}: {name!r} is given twice")
        given[name] = value.strip()
    if "map" not in given:
        raise TypedValueError(f"map update {text!r}: 'map=' is missing")
    if ("file" in given) == ("key" in given):
        raise TypedValueError(f"map update {text!r}: give either 'key=' or 'file='")
    if "file" in given:
        if "value" in given:
            raise TypedValueError(f"map update {text!r}: 'value=' and 'file=' exclude each other")
        entries = read_map_file(given["file"])
    else:
        entries = [(given["key"], given.get("value"))]
    return MapUpdate(given.get("prog", ""), given["map"], tuple(entries))


def read_map_file(path: str) -> list[tuple[Value, Value | None]]:
    """Entries of a map file: JSON if it ends in .json, else CSV with the columns key and value.

    JSON: an object {key: value}, or a list of {"key":.., "value":..} such as --dump-maps writes
    (typed forms win over hex ones). CSV: a header "key,value" and lines that start with # are
    skipped; a missing value means an item to add to a sketch.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise TypedValueError(f"map file {path}: {reason}") from None
    return _from_json(path, text) if path.endswith(".json") else _from_csv(path, text)


def _from_csv(path: str, text: str) -> list[tuple[Value, Value | None]]:
    entries: list[tuple[Value, Value | None]] = []
    for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
        cells = [cell.strip() for cell in row]
        if not cells or not any(cells) or cells[0].startswith("#"):
            continue
        if not entries and cells in (["key", "value"], ["key"]):
            continue
        if len(cells) > 2:
            raise TypedValueError(f"map file {path}, line {number}: {len(cells)} columns, not 2")
        entries.append((cells[0], cells[1] if len(cells) > 1 and cells[1] else None))
    return entries


def _from_json(path: str, text: str) -> list[tuple[Value, Value | None]]:
    try:
        root = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise TypedValueError(f"map file {path}: not JSON: {exc}") from None
    if isinstance(root, dict) and not isinstance(root.get("entries"), list):
        return list(root.items())
    rows = root["entries"] if isinstance(root, dict) else root
    if not isinstance(rows, list):
        raise TypedValueError(f"map file {path}: neither an object nor a list")
    entries: list[tuple[Value, Value | None]] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not ("key" in row or "key_typed" in row):
            raise TypedValueError(f"map file {path}: entry {number} has no 'key'")
        entries.append((_dumped(row, "key"), _dumped(row, "value")))
    return entries


def _dumped(row: Mapping[str, Any], name: str) -> Any:
    """A key or value of a list: typed, else as given; bare hex digits are what dumps write."""
    typed = row.get(f"{name}_typed")
    if typed is not None:
        return typed
    value = row.get(name)
    if isinstance(value, str) and re.fullmatch(r"([0-9a-f]{2})+", value):
        return f"hex:{value}"
    return value
