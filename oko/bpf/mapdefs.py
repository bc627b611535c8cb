"""Map definitions as objects hold them: `struct ubpf_map_def`, and BTF-style `.maps`.

- `struct ubpf_map_def {u32 type, key_size, value_size, max_entries, nb_hash_functions}` in .data
  or in a section `maps`: Oko's numbers.
- `.maps`, as libbpf has it: a variable of an anonymous struct whose members' types carry the
  attributes: `int (*type)[N]`, `K *key`, `V *value`, `key_size`, `value_size`, `max_entries`,
  `map_extra` (low four bits: hash functions, as the kernel's Bloom filter). Type numbers are the
  kernel's; ours beside them is `nb_hash_functions`, for sketches. `map_flags`, `pinning` and other
  members of libbpf's have no meaning here and are ignored.

Values are not judged here (the core checks every map it creates), only decoded.
"""

from __future__ import annotations

import struct

from ..errors import BtfError, ElfError
from .btf import Btf, BtfType, Kind
from .spec import MapSpec, MapType

UBPF_MAP_DEF = struct.Struct("<5I")

MAX_NAME = 63
"""Bytes of a map's name."""

KERNEL_TYPES = {
    1: MapType.HASH,
    2: MapType.ARRAY,
    5: MapType.WORKER_HASH,
    6: MapType.WORKER_ARRAY,
    9: MapType.LRU_HASH,
    11: MapType.LPM_TRIE,
    30: MapType.BLOOM,
    0x4F01: MapType.COUNT_MIN,
}
"""Types of `.maps` definitions: enum bpf_map_type of the kernel; count-min is Oko's own."""

DEFAULT_HASHES = {MapType.BLOOM: 5, MapType.COUNT_MIN: 4}
"""Hash functions of a sketch whose `.maps` definition does not say (5 is the kernel's)."""


def check_name(name: str) -> None:
    """ElfError for a name that the core cannot hold."""
    if len(name.encode()) > MAX_NAME:
        raise ElfError(f"the map name {name!r} is longer than {MAX_NAME} bytes")


def ubpf_map(contents: bytes, offset: int, name: str, where: str) -> MapSpec:
    """The struct ubpf_map_def at offset of a section's contents; where names the place."""
    check_name(name)
    if offset + UBPF_MAP_DEF.size > len(contents):
        raise ElfError(
            f"map {name!r} at {where}: a struct ubpf_map_def has {UBPF_MAP_DEF.size} bytes, but "
            f"its section ends after {max(0, len(contents) - offset)}"
        )
    return MapSpec(name, *UBPF_MAP_DEF.unpack_from(contents, offset))


def btf_map(btf: Btf, section: str, name: str) -> MapSpec:
    """The `.maps` definition of the variable called name."""
    check_name(name)
    try:
        variables = btf.datasec_vars(section)
        if name not in variables:
            raise ElfError(f"map {name!r} in {section!r} has no BTF type", "compile with -g")
        return _decode(btf, name, variables[name])
    except BtfError as exc:
        raise ElfError(f"map {name!r} in {section!r}: {exc}") from exc


def _decode(btf: Btf, name: str, type_id: int) -> MapSpec:
    _, found = btf.resolve(type_id)
    if found.kind is not Kind.STRUCT:
        raise ElfError(f"map {name!r} is not defined as a struct in its BTF")
    attributes: dict[str, int] = {}
    layouts = {}
    for member in btf.members(found):
        if member.name in ("key", "value"):
            target = _pointee(btf, name, member.name, member.type_id)
            attributes.setdefault(f"{member.name}_size", btf.size_of(target))
            layouts[member.name] = btf.layout(target)
        elif member.name == "values":
            raise ElfError(f"map {name!r}: maps that hold maps are not supported")
        elif member.name in (
            "type",
            "key_size",
            "value_size",
            "max_entries",
            "map_extra",
            "nb_hash_functions",
        ):
            target = _pointee(btf, name, member.name, member.type_id)
            attributes[member.name] = _array_length(btf, name, member.name, target)
    if "type" not in attributes:
        raise ElfError(f"map {name!r}: its definition has no member 'type'")
    kind = KERNEL_TYPES.get(attributes["type"])
    if kind is None:
        known = ", ".join(f"{number} {kind.label}" for number, kind in KERNEL_TYPES.items())
        raise ElfError(
            f"map {name!r}: type {attributes['type']} is not supported",
            f"types of .maps definitions: {known}",
        )
    hashes = attributes.get("nb_hash_functions") or attributes.get("map_extra", 0) & 15
    return MapSpec(
        name,
        int(kind),
        attributes.get("key_size", 0),
        attributes.get("value_size", 0),
        attributes.get("max_entries", 0),
        hashes or DEFAULT_HASHES.get(kind, 0) if kind in DEFAULT_HASHES else 0,
        layouts.get("key"),
        layouts.get("value"),
    )


def _pointee(btf: Btf, name: str, member: str, type_id: int) -> int:
    _, found = btf.resolve(type_id)
    if found.kind is not Kind.PTR:
        raise ElfError(f"map {name!r}: member {member!r} of its definition is not a pointer")
    return found.value


def _array_length(btf: Btf, name: str, member: str, type_id: int) -> int:
    found: BtfType
    _, found = btf.resolve(type_id)
    if found.kind is not Kind.ARRAY:
        raise ElfError(
            f"map {name!r}: member {member!r} of its definition is not a pointer to an array"
        )
    return btf.array(found)[1]
