"""Layouts of keys and values as JSON: how a switch tells controllers what the types of a map are.

    {"kind": "struct", "size": 8, "type": "flow", "fields": [["src", 0, {"kind": "int", ...}], ..]}
    {"kind": "array", "size": 4, "type": "", "count": 4, "element": {...}}
    {"kind": "enum", "size": 4, "type": "state", "names": [[0, "NEW"], [1, "OLD"]]}

What comes from a switch is checked like any bytes from outside: parts lie within the whole, depth
and number of fields are bounded; any fault is one BtfError.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ..errors import BtfError
from .btf import MAX_DEPTH, MAX_FIELDS, Layout

_KINDS = frozenset(("int", "bool", "char", "enum", "struct", "array", "bytes"))
_MAX_SIZE = 1 << 20


def to_json(layout: Layout | None) -> dict[str, Any] | None:
    """A layout as an object; from_json() is the inverse."""
    if layout is None:
        return None
    told: dict[str, Any] = {"kind": layout.kind, "size": layout.size, "type": layout.type_name}
    if layout.signed:
        told["signed"] = True
    if layout.kind == "struct":
        told["fields"] = [[name, at, to_json(inner)] for name, at, inner in layout.fields]
    if layout.element is not None:
        told |= {"count": layout.count, "element": to_json(layout.element)}
    if layout.names:
        told["names"] = [list(pair) for pair in layout.names]
    return told


def encode(key: Layout | None, value: Layout | None) -> bytes:
    """The layouts of a map's key and value as UTF-8 text."""
    told = {"key": to_json(key), "value": to_json(value)}
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes, key_size: int, value_size: int) -> tuple[Layout | None, Layout | None]:
    """The layouts of key and value; a map that has other sizes is a BtfError, too."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        _fail("not JSON")
    if not isinstance(told, dict):
        _fail("not an object")
    found = from_json(told.get("key")), from_json(told.get("value"))
    for layout, size, what in zip(found, (key_size, value_size), ("key", "value"), strict=True):
        if layout is not None and layout.size != size:
            _fail(f"a {what} has {layout.size} bytes there, {size} in the map")
    return found


def from_json(told: Any) -> Layout | None:
    """The layout that an object tells of; None for null."""
    return None if told is None else _Reader().layout(told, MAX_DEPTH + 1)


def _fail(what: str) -> NoReturn:
    raise BtfError(f"type information of a map: {what}")


class _Reader:
    """Reads one layout; counts its fields."""

    def __init__(self) -> None:
        self.left = MAX_FIELDS

    def layout(self, told: Any, depth: int) -> Layout:
        if not isinstance(told, dict) or not depth:
            _fail("no layout where one should be" if depth else "nested too deeply")
        kind, name = told.get("kind"), told.get("type", "")
        size = _number(told.get("size"), _MAX_SIZE)
        if not isinstance(kind, str) or kind not in _KINDS or not isinstance(name, str):
            _fail(f"there is no kind {kind!r}")
        if kind in ("int", "bool", "char", "enum") and size not in (1, 2, 4, 8, 16):
            _fail(f"{kind} of {size} bytes")
        if kind == "struct":
            return Layout(kind, size, name, fields=self._fields(told.get("fields"), size, depth))
        if kind == "array":
            count = _number(told.get("count"), _MAX_SIZE)
            element = self.layout(told.get("element"), depth - 1)
            if element.size * count != size:
                _fail(f"{count} elements of {element.size} bytes are not {size}")
            return Layout(kind, size, name, count=count, element=element)
        names = self._names(told.get("names", []))
        return Layout(kind, size, name, signed=told.get("signed") is True, names=names)

    def _some(self, told: Any, length: int) -> list[Any]:
        """A list of lists of that length, counted."""
        if not isinstance(told, list):
            _fail("no list where one should be")
        self.left -= len(told)
        if self.left < 0:
            _fail(f"more than {MAX_FIELDS} fields")
        if not all(isinstance(row, list) and len(row) == length for row in told):
            _fail("a field is not complete")
        return told

    def _fields(self, told: Any, size: int, depth: int) -> tuple[tuple[str, int, Layout], ...]:
        found = []
        for name, at, inner in self._some(told, 3):
            layout = self.layout(inner, depth - 1)
            if not isinstance(name, str) or _number(at, size) + layout.size > size:
                _fail(f"field {name!r} lies outside of its struct")
            found.append((name, at, layout))
        return tuple(found)

    def _names(self, told: Any) -> tuple[tuple[int, str], ...]:
        rows = self._some(told, 2)
        if not all(type(value) is int and isinstance(name, str) for value, name in rows):
            _fail("an enumerator is not complete")
        return tuple((value, name) for value, name in rows)


def _number(told: Any, most: int) -> int:
    if type(told) is not int or not 0 <= told <= most:
        _fail(f"{told!r} is not a number of bytes")
    return told
