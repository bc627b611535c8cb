"""Changes of a map's entries that happen whole or not at all, as far as errors go.

What can be known beforehand is checked first (sizes, presence, room); if an entry fails all the
same, those before it are put back. Programs that run meanwhile may see some entries new and others
old, unless all of a map's entries are replaced (Datapath.replace_map). Sketches take items and
cannot be undone: there, only the checks come first.

Thread-safety: maps are safe to change while programs run; two changes at once are the caller's to
prevent.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from oko.errors import MapError, OkoError
from oko.filters import Map

ARRAY, BLOOM, COUNT_MIN, WORKER_ARRAY, WORKER_HASH = 1, 2, 3, 7, 8
SKETCHES = (BLOOM, COUNT_MIN)
ARRAYS = (ARRAY, WORKER_ARRAY)

Entries = Sequence[tuple[bytes, bytes]]


def check_sizes(found: Map, entries: Entries, key_size: int, value_size: int | None) -> None:
    """OkoError unless these are the map's sizes. value_size None: keys only."""
    want_key = found.key_bytes
    want_value = 0 if found.spec.type in SKETCHES else found.spec.value_size
    wrong_value = value_size is not None and value_size != want_value
    if (entries or key_size) and (key_size != want_key or wrong_value):
        have = f"{want_key} bytes" if value_size is None else f"{want_key} and {want_value} bytes"
        raise OkoError(f"map {found.name!r} has keys (and values) of {have}")


def check_presence(found: Map, entries: Entries, *, may_exist: bool, must_exist: bool) -> None:
    """OkoError if an entry is there that may not exist (one of these that comes before it counts),
    or is not there that must."""
    kind = found.spec.type
    if kind in SKETCHES or (may_exist and not must_exist):
        return
    if kind in ARRAYS:
        if not may_exist:
            raise OkoError(f"map {found.name!r} is an array: its entries are always there")
        return
    old = dict(found.items())
    seen: set[bytes] = set()
    for key, _ in entries:
        there = key in old or key in seen
        if there and not may_exist:
            raise OkoError(f"map {found.name!r} has an entry {key.hex(' ')} already")
        if not there and must_exist:
            raise OkoError(f"map {found.name!r} has no entry {key.hex(' ')}")
        seen.add(key)


def update(found: Map, entries: Entries) -> None:
    """Sets the entries, or adds the items. OkoError: nothing has changed."""
    if found.spec.type in SKETCHES:
        for item, _ in entries:
            found.add(item)
        return
    undo: list[tuple[bytes, bytes | None]] = []
    try:
        for key, value in entries:
            undo.append((key, _exactly(found, key)))
            found[key] = value
    except MapError:
        _put_back(found, undo)
        raise


def delete(found: Map, keys: Sequence[bytes]) -> None:
    """Removes the entries. OkoError (one is not there): nothing has changed."""
    undo: list[tuple[bytes, bytes | None]] = []
    try:
        for key in keys:
            old = _exactly(found, key)
            del found[key]
            undo.append((key, old))
    except MapError:
        _put_back(found, undo)
        raise


def _exactly(found: Map, key: bytes) -> bytes | None:
    """The value under this key: of an LPM trie, get() gives that of the longest match."""
    if found.spec.type != 6:
        return found.get(key)
    return next((value for there, value in found.items() if there == key), None)


def _put_back(found: Map, undo: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in reversed(undo):
        with suppress(MapError):
            if value is None:
                del found[key]
            else:
                found[key] = value[: found.spec.value_size]
