"""Changes of a map's entries that happen whole or not at all, as far as errors go.

What can be known beforehand is checked first (sizes, presence, room); if an entry fails all the
same, those before it are put back. Programs that run meanwhile may see some entries new and others
old. Sketches take items and cannot be undone: there, only the checks come first.

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


def _presence(
    found: Map, entries: Entries, old: dict[bytes, bytes], may_exist: bool, must_exist: bool
) -> None:
    if found.spec.type in ARRAYS:
        if not may_exist:
            raise OkoError(f"map {found.name!r} is an array: its entries are always there")
        return
    seen: set[bytes] = set()
    for key, _ in entries:
        there = key in old or key in seen
        if there and not may_exist:
            raise OkoError(f"map {found.name!r} has an entry {key.hex(' ')} already")
        if not there and must_exist:
            raise OkoError(f"map {found.name!r} has no entry {key.hex(' ')}")
        seen.add(key)


def update(
    found: Map,
    entries: Entries,
    *,
    may_exist: bool = True,
    must_exist: bool = False,
    replace: bool = False,
) -> list[bytes]:
    """Sets the entries; replace: and removes all others (zeroes those of arrays). Returns the keys
    removed. OkoError: nothing has changed."""
    kind = found.spec.type
    if kind in SKETCHES:
        if replace:
            found.clear()
        for item, _ in entries:
            found.add(item)
        return []
    watched = replace or not may_exist or must_exist
    old = dict(found.items()) if watched else {}
    _presence(found, entries, old, may_exist, must_exist)
    gone: list[bytes] = []
    if replace:
        new = dict(entries)
        if kind in ARRAYS:
            zero = bytes(found.spec.value_size)
            entries = [(key, new.get(key, zero)) for key in old] + [
                (key, value) for key, value in new.items() if key not in old
            ]
        else:
            gone = [key for key in old if key not in new]
    undo: list[tuple[bytes, bytes | None]] = []
    try:
        for key in gone:
            with suppress(MapError):  # an LRU map may have evicted it
                undo.append((key, old[key]))
                del found[key]
        for key, value in entries:
            undo.append((key, old.get(key) if watched else _exactly(found, key)))
            found[key] = value
    except MapError:
        _put_back(found, undo)
        raise
    return gone


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
