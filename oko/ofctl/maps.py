"""Maps of filter programs: write, delete, dump, subscribe.

Two ways to say what is meant. Oko's, in bytes:

    update-map br0 1 0 key 14 0 16 172 value 1 0 0 0
    dump-map br0 1 0 hex

and by names and types (oko.bpf.typed has the grammar, the same as oko-replay's --update-map):

    update-map br0 1 map=blocked key=ip:172.16.0.14 value=u32:1
    update-map br0 1 map=blocked file=blocked.csv --replace

The switch tells the C types of keys and values where the program was compiled with them (-g), so
that structs are shown and written by field; --object=FILE.o says them where it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from oko.bpf import layouts, typed
from oko.bpf.btf import Layout
from oko.bpf.spec import MapSpec, MapType
from oko.errors import OkoError
from oko.ofctl.commandline import UsageError
from oko.ofctl.printing import title
from oko.ofctl.programs import ask, entries, not_oko, program_number, read_elf
from oko.ofctl.run import Run
from oko.openflow import extension
from oko.openflow.client import Connection, RefusedError
from oko.openflow.common import OKO
from oko.openflow.extension import BY_NAME, MapEntry, MapName

_SKETCHES = (MapType.BLOOM, MapType.COUNT_MIN)


# ---------------------------------------------------------------- which map


def map_name(program: int, text: str) -> MapName:
    """A map by number or name."""
    if text.isdecimal():
        number = int(text)
        if number >= BY_NAME:
            raise UsageError(f"{text}: a map's number is 0 to {BY_NAME - 1}")
        return MapName(program, number)
    return MapName(program, BY_NAME, text)


def find_map(switch: Connection, name: MapName, run: Run) -> MapSpec:
    """What the switch (or --object) tells of a map."""
    found = entries(switch, name.program)
    if not found:
        raise OkoError(f"program {name.program} is not loaded")
    maps = found[0].maps
    for entry in maps:
        if name.label in (entry.number, entry.name):
            return _spec(switch, MapName(name.program, entry.number), entry, run)
    have = ", ".join(f"{entry.number} {entry.name}" for entry in maps) or "none"
    raise OkoError(f"program {name.program} has no map {name.label}; its maps: {have}")


def _spec(switch: Connection, name: MapName, entry: MapEntry, run: Run) -> MapSpec:
    spec = MapSpec(entry.name, entry.type, entry.key_size, entry.value_size, entry.max_entries)
    file = run.line.get("object")
    if not file:
        key, value = read_types(switch, name, entry.key_size, entry.value_size)
        return replace(spec, key_layout=key, value_layout=value)
    from oko.bpf.elf import read_object

    for own in read_object(read_elf(file), file).maps:
        same = (own.name, own.key_size, own.value_size) == (
            spec.name, spec.key_size, spec.value_size,
        )  # fmt: skip
        if same:
            return own
    raise OkoError(f"{file}: has no map {entry.name} like the one that is loaded")


def read_types(
    switch: Connection, name: MapName, key_size: int, value_size: int
) -> tuple[Layout | None, Layout | None]:
    """The types of a map's keys and values; (None, None) from a switch that does not tell them."""
    request = extension.encode_types_request(switch.version, name)
    try:
        parts = [
            extension.decode_types(switch.version, reply) for reply in switch.multipart(request)
        ]
    except RefusedError as exc:
        if exc.name != "OFPBRC_BAD_SUBTYPE":
            raise not_oko(exc) from None
        return None, None
    return layouts.decode(b"".join(parts), key_size, value_size)


# ---------------------------------------------------------------- what stands on the command line


def parse_bytes(words: Sequence[str], names: Sequence[str]) -> list[bytes]:
    """ "key 14 0 16 172 value 1 0 0 0": the bytes behind each of the names. Decimal, or 0x.."""
    found: dict[str, bytearray] = {}
    current: bytearray | None = None
    for word in words:
        if word in names:
            if word in found:
                raise UsageError(f"'{word}' is given twice")
            current = found[word] = bytearray()
            continue
        if current is None:
            raise UsageError(
                f"'{word}': expected '{names[0]}' before the first byte",
                f"write {' '.join(f'{name} BYTE...' for name in names)}, or typed: "
                "map=M key=ip:10.0.0.1 value=u32:1",
            )
        current.append(_byte(word))
    for name in names:
        if not found.get(name):
            raise UsageError(f"'{name}' with its bytes is missing")
    return [bytes(found[name]) for name in names]


def _byte(word: str) -> int:
    try:
        value = int(word, 0) if word[:2].lower() == "0x" else int(word, 10)
    except ValueError:
        value = -1
    if not 0 <= value <= 255:
        raise UsageError(f"'{word}' is not a byte (0 to 255, or 0x0 to 0xff)")
    return value


def is_typed(words: Sequence[str]) -> bool:
    """Whether these words are the typed form (map=.. key=..)."""
    return any(word.split("=")[0] in ("map", "key", "value", "file") and "=" in word
               for word in words)  # fmt: skip


# ---------------------------------------------------------------- update, delete


def update(run: Run, words: list[str]) -> None:
    """update-map SWITCH PROG MAP key BYTE... value BYTE..., or typed"""
    name, program, *rest = words
    number = program_number(program)
    flags = _flags(run)
    if is_typed(rest):
        _update_typed(run, name, number, rest, flags)
        return
    target = map_name(number, rest[0])
    key, value = parse_bytes(rest[1:], ("key", "value"))
    switch = run.connect(name, aware=True)
    send_entries(switch, target, len(key), len(value), [(key, value)], flags)


def _flags(run: Run) -> int:
    line = run.line
    if line.has("noexist") and line.has("exist"):
        raise UsageError("--noexist and --exist exclude each other")
    flags = extension.REPLACE if line.has("replace") else extension.ANY
    if line.has("noexist"):
        return flags | extension.NO_EXIST
    return flags | (extension.EXIST if line.has("exist") else 0)


def _update_typed(run: Run, name: str, program: int, words: list[str], flags: int) -> None:
    change = typed.parse_update(",".join([f"prog={program}", *_map_first(words)]))
    switch = run.connect(name, aware=True)
    target = map_name(program, change.map)
    spec = find_map(switch, target, run)
    what = f"of map '{spec.name}'"
    made = []
    for key, value in change.entries:
        raw = typed.parse(key, spec.key_size, spec.key_layout, f"key {what}")
        if value is None and spec.type not in _SKETCHES:
            raise OkoError(f"the value for key {key!r} {what} is missing")
        empty = b"" if value is None else None
        made.append(
            (raw, empty if empty is not None
             else typed.parse(value or b"", spec.value_size, spec.value_layout, f"value {what}"))
        )  # fmt: skip
    value_size = 0 if spec.type in _SKETCHES else spec.value_size
    send_entries(switch, target, spec.key_size, value_size, made, flags)


def _map_first(words: list[str]) -> list[str]:
    """A bare first word is the map: "blocked key=.." is "map=blocked key=.."."""
    return [f"map={words[0]}", *words[1:]] if "=" not in words[0] else words


def send_entries(
    switch: Connection,
    target: MapName,
    key_size: int,
    value_size: int,
    made: Sequence[tuple[bytes, bytes]],
    flags: int,
) -> None:
    """Writes entries, in as many messages as they need; one answer."""
    chunks = extension.update_chunks(target, key_size, value_size, made, flags)
    ask(switch, *chunks)


def delete(run: Run, words: list[str]) -> None:
    """delete-map SWITCH PROG MAP key BYTE..., or typed"""
    name, program, *rest = words
    number = program_number(program)
    if is_typed(rest):
        change = typed.parse_update(",".join([f"prog={number}", *_map_first(rest)]))
        switch = run.connect(name, aware=True)
        target = map_name(number, change.map)
        spec = find_map(switch, target, run)
        what = f"key of map '{spec.name}'"
        keys = [typed.parse(key, spec.key_size, spec.key_layout, what) for key, _ in change.entries]
    else:
        target = map_name(number, rest[0])
        keys = parse_bytes(rest[1:], ("key",))
        switch = run.connect(name, aware=True)
    ask(switch, extension.DeleteKeys(target, len(keys[0]) if keys else 0, tuple(keys)))


# ---------------------------------------------------------------- dump


def dump(run: Run, words: list[str]) -> None:
    """dump-map SWITCH PROG MAP [hex]"""
    name, program, map_text, *form = words
    if form and form != ["hex"]:
        raise UsageError(f"'{form[0]}': only 'hex' may follow the map")
    target = map_name(program_number(program), map_text.removeprefix("map="))
    switch = run.connect(name, aware=True)
    typed_form = run.json or run.line.has("object") or run.line.has("typed")
    spec = find_map(switch, target, run) if typed_form else None
    found: list[tuple[bytes, bytes]] = []
    xid = switch.coming_xid
    try:
        for reply in switch.multipart(extension.encode_dump_request(switch.version, target)):
            found += extension.decode_dump(switch.version, reply).entries
    except RefusedError as exc:
        raise not_oko(exc) from None
    if run.json and spec is not None:
        run.print_json(dump_json(target.program, spec, found))
        return
    if spec is not None:
        for key, value in found:
            print(typed.entry_text(spec, key, value))
        return
    print(title("OKO_DUMP_MAP reply", switch.version, xid))
    print("\n".join(dump_lines(found, as_hex=bool(form))))


def dump_lines(found: Sequence[tuple[bytes, bytes]], *, as_hex: bool) -> list[str]:
    """A map's contents as Oko printed them: bytes in decimal, or hex."""

    def shown(data: bytes) -> str:
        return " ".join(f"{byte:02x}" if as_hex else str(byte) for byte in data)

    lines = [f"The map contains {len(found)} element(s)"]
    for key, value in found:
        lines += [f"Key: {shown(key)}", f"Value: {shown(value)}"]
    return lines


def dump_json(program: int, spec: MapSpec, found: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
    """A map's contents as an object; update-map's file= reads it."""
    return {
        "program": program,
        "map": spec.name,
        "type": spec.type_label,
        "entries": [typed.entry_json(spec, key, value) for key, value in found],
    }


# ---------------------------------------------------------------- send_maps


def send_maps(run: Run, words: list[str]) -> None:
    """send-maps SWITCH PROG [MAP...]"""
    name, program, *map_words = words
    number = 0 if program == "any" else program_number(program)
    interval = run.number("interval", "a number of seconds") or 0
    most = run.number("count", "a number")
    switch = run.connect(name, aware=True)
    numbers = tuple(_number_of(switch, map_name(number, word)) for word in map_words)
    subscription = extension.Subscribe(number, int(interval * 1000), numbers)
    switch.send(extension.encode(switch.version, subscription))
    try:
        switch.finish()
    except RefusedError as exc:
        raise not_oko(exc) from None
    seen = 0
    while most is None or seen < most:
        msg = switch.wait(None)
        if msg is None or msg[8:16] != _SEND_MAPS_HEAD:
            continue
        contents = extension.decode(msg)
        if isinstance(contents, extension.MapContents):
            seen += 1
            _print_contents(run, contents)


_SEND_MAPS_HEAD = OKO.to_bytes(4, "big") + extension.SEND_MAPS.to_bytes(4, "big")


def _number_of(switch: Connection, name: MapName) -> int:
    if name.number != BY_NAME:
        return name.number
    for entry in entries(switch, name.program):
        for own in entry.maps:
            if own.name == name.name:
                return own.number
    raise OkoError(f"program {name.program} has no map {name.name}")


def _print_contents(run: Run, contents: extension.MapContents) -> None:
    name = contents.map
    if run.json:
        import json

        shown = {
            "program": name.program,
            "map": name.number,
            "name": name.name,
            "table": contents.table,
            "priority": contents.priority,
            "cookie": contents.cookie,
            "time": contents.ns / 1e9,
            "more": bool(contents.flags & extension.MORE),
            "entries": [{"key": k.hex(), "value": v.hex()} for k, v in contents.entries],
        }
        print(json.dumps(shown), flush=True)
        return
    cause = f"table={contents.table} priority={contents.priority} cookie={contents.cookie:#x}"
    print(f"OKO_SEND_MAPS: program {name.program} map {name.number} {name.name} {cause}")
    print("\n".join(dump_lines(contents.entries, as_hex=True)), flush=True)
