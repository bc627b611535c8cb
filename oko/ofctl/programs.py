"""Filter programs: load, unload, show."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from oko.bpf.spec import MapType
from oko.errors import OkoError
from oko.ofctl.commandline import UsageError
from oko.ofctl.run import Run
from oko.openflow import extension
from oko.openflow.client import Connection, RefusedError
from oko.openflow.extension import MapEntry, ProgramEntry

_NOT_OKO = ("OFPBRC_BAD_VENDOR", "OFPBRC_BAD_EXPERIMENTER", "OFPBRC_BAD_STAT", "OFPBRC_BAD_TYPE")


def not_oko(exc: RefusedError) -> OkoError:
    """The refusal in other words, where the switch does not know programs at all."""
    if exc.name not in _NOT_OKO:
        return exc
    return OkoError(f"the switch does not know filter programs ({exc.name})", "is it oko-switchd?")


def program_number(text: str, *, least: int = 1) -> int:
    """A program's number."""
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not least <= number <= 65535:
        raise UsageError(f"{text}: a program's number is {least} to 65535")
    return number


def read_elf(name: str) -> bytes:
    """The object in a file (.o, or .c to be compiled); "-" is standard input."""
    if name == "-":
        import sys

        return sys.stdin.buffer.read()
    if name.endswith(".c"):
        from pathlib import Path

        from oko.bpf import toolchain

        return toolchain.compile_source(Path(name))
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError as exc:
        raise OkoError(f"{name}: open failed ({exc.strerror})") from None


def load(run: Run, words: list[str]) -> None:
    """load-filter-prog SWITCH ID FILE"""
    name, number_text, file = words
    number = program_number(number_text, least=0)
    elf = read_elf(file)
    if not elf.startswith(b"\x7fELF"):
        raise OkoError(f"{file}: not an ELF object", "compile it with oko-bpf compile")
    flags = extension.CREATE_ONLY if run.line.has("create_only") else 0
    switch = run.connect(name, aware=True)
    chunks = extension.load_chunks(number, elf, flags)
    answer = ask(switch, *chunks)
    if not isinstance(answer, extension.Loaded):
        raise OkoError(f"{name}: an unexpected answer to load-filter-prog")
    if run.json:
        run.print_json({"program": answer.program})
    elif number == 0:
        print(f"program {answer.program}")


def ask(switch: Connection, *messages: extension.Message) -> extension.Message:
    """Sends the chunks of a message of oko's; the answer. OkoError, RefusedError."""
    chunks = [extension.encode(switch.version, message) for message in messages]
    try:
        return extension.decode(switch.transact(*chunks))
    except RefusedError as exc:
        raise not_oko(exc) from None


def unload(run: Run, words: list[str]) -> None:
    """unload-filter-prog SWITCH ID"""
    name, number = words
    flags = extension.FORCE if run.line.has("force") else 0
    switch = run.connect(name, aware=True)
    try:
        ask(switch, extension.UnloadProgram(program_number(number), flags))
    except RefusedError as exc:
        if "is used by" in exc.reason and not flags:
            exc.hint = "--force deletes the flows that use it, too"
        raise


def entries(switch: Connection, number: int = 0) -> list[ProgramEntry]:
    """The programs that a switch has; number: only this one."""
    request = extension.encode_show_request(switch.version, number)
    try:
        return [
            entry
            for reply in switch.multipart(request)
            for entry in extension.decode_programs(switch.version, reply)
        ]
    except RefusedError as exc:
        raise not_oko(exc) from None


def show(run: Run, words: list[str]) -> None:
    """show-filter-prog SWITCH [ID]"""
    number = program_number(words[1]) if len(words) > 1 else 0
    switch = run.connect(words[0], aware=True)
    found = entries(switch, number)
    if number and not found:
        raise OkoError(f"{words[0]}: program {number} is not loaded")
    if run.json:
        run.print_json({"programs": [program_json(entry) for entry in found]})
        return
    for entry in found:
        print("\n".join(program_lines(entry)))


def program_json(entry: ProgramEntry) -> dict[str, Any]:
    """A program as an object."""
    result = asdict(entry)
    result["sha256"] = entry.sha256.hex()
    result["loaded_at"] = entry.loaded_at / 1e9
    for shown, own in zip(result["maps"], entry.maps, strict=True):
        shown["type"] = type_label(own.type)
    return result


def type_label(number: int) -> str:
    """The name of a map's type."""
    try:
        return MapType(number).label
    except ValueError:
        return f"type {number}"


def _bytes(n: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1024  # type: ignore[assignment]  # only printed from here on
    return f"{n:.1f} GiB"


def program_lines(entry: ProgramEntry) -> list[str]:
    """A program as show-filter-prog prints it."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.loaded_at / 1e9))
    owner = f" by {entry.owner}" if entry.owner else ""
    name = f" {entry.name}" if entry.name else ""
    faults = f", {entry.faults} faults" if entry.faults else ""
    lines = [
        f"program {entry.number}{name}: loaded {when}{owner}",
        f"  {entry.size} bytes, {entry.n_insns} instructions, sha256 {entry.sha256.hex()[:16]}",
        f"  {entry.n_flows} flows, {entry.runs} runs, {entry.matches} matches{faults}",
    ]
    return lines + [map_line(found) for found in entry.maps]


def map_line(found: MapEntry) -> str:
    """A map as show-filter-prog prints it."""
    return (
        f"  map {found.number} {found.name}: {type_label(found.type)}, key {found.key_size}, "
        f"value {found.value_size} bytes, {found.n_entries} of {found.max_entries} entries, "
        f"{_bytes(found.memory)}"
    )
