"""oko-bpf: compile, verify, disassemble and try filter programs.

    oko-bpf compile FILTER.c            an object, with whichever compiler is there
    oko-bpf verify FILTER               would a switch load it, at what cost
    oko-bpf disasm FILTER               instructions with source lines, maps and data
    oko-bpf maps FILTER                 its maps
    oko-bpf run FILTER CAPTURE          how many packets match (bpftool_run.py)

FILTER is an object (.o) or C source (.c), compiled on the fly. Exit status: 0 done (verify:
accepted), 1 refused or failed, 2 wrong usage. Errors are one line, "oko-bpf: ...", and a hint.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .bpf import toolchain
from .bpf.disasm import caret, listing, place
from .bpf.spec import MapSpec, ProgramSpec
from .errors import LoadError, OkoError, ToolchainError


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = args.function
    try:
        status = command(args)
        sys.stdout.flush()
        return status
    except OkoError as exc:
        report_error(exc)
        return 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130


def report_error(exc: OkoError) -> None:
    """One line "oko-bpf: ...", the source line where there is one, and the hint.

    A compiler's own messages, which show the place, come first.
    """
    output = exc.output.rstrip() if isinstance(exc, ToolchainError) else ""
    if output:
        print(output, file=sys.stderr)
    print(exc.report("oko-bpf"), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oko-bpf", description="Compile, verify, disassemble and try filter programs."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(
        name: str, function: Callable[[argparse.Namespace], int], words: str
    ) -> argparse.ArgumentParser:
        found = commands.add_parser(
            name, help=words, description=words[0].upper() + words[1:] + "."
        )
        found.set_defaults(function=function)
        return found

    add = command("compile", compile_command, "compile a C filter to an object")
    add.add_argument("source", metavar="FILTER.c", nargs="?", help="the source")
    add.add_argument("-o", "--output", metavar="FILE", help="default: FILTER.o beside the source")
    add.add_argument("-D", dest="defines", action="append", default=[], metavar="NAME[=VALUE]")
    add.add_argument("--list", action="store_true", help="list the compilers that were found")
    _compiler_options(add)

    add = command(
        "verify", verify_command, "say whether a switch would load a filter, and its cost"
    )
    _filter_argument(add)
    add.add_argument(
        "--max-insns",
        type=_count,
        default=0,
        metavar="N",
        help="most instructions a packet may cost (default 1,000,000)",
    )
    add.add_argument("--json", action="store_true", help="one JSON object")

    add = command(
        "disasm", disasm_command, "list a filter's instructions with source lines and maps"
    )
    _filter_argument(add)
    add.add_argument("--raw", action="store_true", help="with the bytes of each instruction")

    add = command("maps", maps_command, "list a filter's maps")
    _filter_argument(add)
    add.add_argument("--json", action="store_true", help="one JSON object")

    add = command("run", _run_command, "run a filter over a capture and count what matches")
    _filter_argument(add)
    add.add_argument("capture", metavar="CAPTURE", help="pcap or pcapng, also gzip or zstd")
    add.add_argument("--matched", metavar="OUT.pcap", help="write the packets that match")
    add.add_argument("--unmatched", metavar="OUT.pcap", help="write those that do not")
    add.add_argument(
        "--update-map",
        action="append",
        default=[],
        metavar="SPEC",
        help="beforehand: map=NAME,key=ip:10.0.0.1,value=u32:1 or map=NAME,file=F (.json, .csv)",
    )
    add.add_argument("--dump-maps", action="store_true", help="show the maps' contents afterwards")
    add.add_argument("--in-port", type=_count, default=1, metavar="N", help="oko_meta.in_port")
    add.add_argument("--guarded", action="store_true", help="check at run time what is not proved")
    add.add_argument("--interpret", action="store_true", help="interpreter instead of machine code")
    add.add_argument(
        "--profile", action="store_true", help="count per instruction and source line (interpreter)"
    )
    add.add_argument("--watch", action="store_true", help="run again whenever the filter changes")
    add.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def _filter_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("filter", metavar="FILTER", help="an object (.o) or C source (.c)")
    _compiler_options(parser)


def _compiler_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for C source")
    group.add_argument("-O", dest="level", choices=toolchain.LEVELS, default="2", help="default 2")
    group.add_argument("--cpu", choices=toolchain.CPUS, default="v3", help="default v3")
    group.add_argument("--cc", default="", metavar="NAME", help="clang-14, zig, gcc; default: any")


def _count(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 4294967295")
    return value


def read_filter(args: argparse.Namespace) -> ProgramSpec:
    """The program that FILTER names; warnings go to standard error."""
    compiler = toolchain.choose(args.cc) if args.cc else None
    spec = toolchain.read_filter(args.filter, level=args.level, cpu=args.cpu, compiler=compiler)
    for warning in spec.warnings:
        print(f"oko-bpf: {args.filter}: {warning}", file=sys.stderr)
    return spec


# ---------------------------------------------------------------- compile


def compile_command(args: argparse.Namespace) -> int:
    """Writes an object."""
    if args.list:
        for found in toolchain.compilers():
            print(f"{found.label}: -mcpu {' '.join(found.cpus())}")
        if not toolchain.compilers():
            toolchain.choose()
        return 0
    if args.source is None:
        raise OkoError("which FILTER.c is to be compiled?")
    compiler = toolchain.choose(args.cc)
    data = toolchain.compile_source(
        args.source,
        level=args.level,
        cpu=args.cpu,
        compiler=compiler,
        defines=tuple(args.defines),
    )
    target = Path(args.output) if args.output else Path(args.source).with_suffix(".o")
    try:
        target.write_bytes(data)
    except OSError as exc:
        raise OkoError(f"{target}: {exc.strerror}") from None
    print(f"{target}: {len(data):,} bytes, {compiler.label}, -O{args.level}, -mcpu={args.cpu}")
    return 0


# ---------------------------------------------------------------- verify


def verify_command(args: argparse.Namespace) -> int:
    """Loads the program into a VM of its own and tells what came of it."""
    from ._binding import Vm

    spec = read_filter(args)
    report: dict[str, Any] = {
        "schema": "oko-bpf-verify/1",
        "filter": args.filter,
        "instructions": spec.n_insns,
        "functions": [func.name for func in spec.funcs],
        "maps": [map_json(number, found) for number, found in enumerate(spec.maps)],
        "data": [{"name": d.name, "size": d.size, "writable": d.writable} for d in spec.data],
    }
    with Vm() as vm:
        try:
            with vm.load(spec, max_worst_case=args.max_insns) as program:
                report["accepted"] = True
                report |= _facts(program.info)
        except LoadError as exc:
            report["accepted"] = False
            report["error"] = error_json(exc)
            report["guards"] = _guards(vm, spec, args.max_insns)
            error = exc
    if args.json:
        print(json.dumps(report, indent=2))
    elif report["accepted"]:
        _print_accepted(spec, report)
    else:
        print(f"{args.filter}: refused")
        hint = [f"hint: {error.hint}"] if error.hint else []
        for line in [str(error), *source_context(spec, error), *hint]:
            print(f"  {line}")
        _print_guards(spec, report["guards"])
    return 0 if report["accepted"] else 1


def _facts(info: Any) -> dict[str, Any]:
    return {
        "worst_case": info.worst_case,
        "class": "stateful" if info.stateful else "pure",
        "reads_meta": bool(info.reads_meta),
        "memory": info.memory,
        "jit_bytes": info.jit_bytes,
        "verify_ns": info.verify_ns,
        "verify_work": info.verify_work,
        "jit_ns": info.jit_ns,
    }


def _guards(vm: Any, spec: ProgramSpec, max_insns: int) -> dict[str, Any]:
    """What guarded loading would have to check, or why even that is refused."""
    try:
        with vm.load(spec, guarded=True, max_worst_case=max_insns) as program:
            return {"accepted": True, "instructions": program.guards()}
    except LoadError as exc:
        return {"accepted": False, "error": error_json(exc)}


def error_json(exc: LoadError) -> dict[str, Any]:
    """A refusal as JSON."""
    return {
        "reason": exc.reason,
        "hint": exc.hint,
        "instruction": exc.insn if exc.insn >= 0 else None,
        "text": exc.text,
        "file": exc.file,
        "line": exc.line or None,
        "column": exc.column or None,
        "source": exc.source,
    }


def source_context(spec: ProgramSpec, exc: LoadError) -> list[str]:
    """The source line of a refusal with a mark below its column; [] without debug information."""
    record = spec.line_at(exc.insn) if exc.insn >= 0 else None
    return caret(record, _local_text(record.file, record.line)) if record is not None else []


def _local_text(file: str, line: int) -> str:
    """A source line from the user's own disk, for objects that do not carry it."""
    try:
        with open(file, encoding="utf-8", errors="replace") as source:
            for number, text in enumerate(source, 1):
                if number == line:
                    return text.rstrip()
    except OSError:
        pass
    return ""


def _print_accepted(spec: ProgramSpec, report: dict[str, Any]) -> None:
    stateful = "stateful: writes maps, data or the log, so it runs in arrival order"
    pure = "pure: may run ahead on a whole burst"
    rows = [
        ("instructions", f"{spec.n_insns:,} in {_plural(len(spec.funcs), 'function')}"),
        ("worst case", f"{report['worst_case']:,} executed per packet"),
        ("class", stateful if report["class"] == "stateful" else pure),
        ("metadata", "read" if report["reads_meta"] else "not read"),
        *[("map", map_text(number, found)) for number, found in enumerate(spec.maps)],
        *[("data", f"{d.name}, {_plural(d.size, 'byte')}") for d in spec.data],
        ("memory", f"{report['memory']:,} bytes"),
        ("machine code", f"{report['jit_bytes']:,} bytes" if report["jit_bytes"] else "none"),
        ("verified in", f"{report['verify_ns'] / 1e6:.2f} ms"),
    ]
    print(f"{report['filter']}: accepted")
    for name, value in rows:
        print(f"  {name:<13} {value}")


def _print_guards(spec: ProgramSpec, guards: dict[str, Any]) -> None:
    from ._binding import disassemble_all

    if not guards["accepted"]:
        error = guards["error"]
        where = f"instruction {error['instruction']}: " if error["instruction"] is not None else ""
        print(f"  guarded loading would not help: {where}{error['reason']}")
        return
    needed = guards["instructions"]
    print(f"  guarded loading (--guarded) would check {_plural(len(needed), 'instruction')}:")
    for insn, text in zip(needed, disassemble_all(spec, needed), strict=True):
        record = spec.line_at(insn)
        print(f"  {insn:>6}: {text}" + (f"  ; {place(record)}" if record else ""))


# ---------------------------------------------------------------- disasm, maps


def disasm_command(args: argparse.Namespace) -> int:
    """Prints the listing."""
    from ._binding import disassemble_all

    spec = read_filter(args)
    indices = [index for index, _ in spec.decoded()]
    texts = dict(zip(indices, disassemble_all(spec, indices), strict=True))
    for line in listing(spec, texts, raw=args.raw):
        print(line)
    return 0


def maps_command(args: argparse.Namespace) -> int:
    """Prints the maps."""
    spec = read_filter(args)
    if args.json:
        maps = [map_json(number, found) for number, found in enumerate(spec.maps)]
        print(json.dumps({"schema": "oko-bpf-maps/1", "maps": maps}, indent=2))
        return 0
    for number, found in enumerate(spec.maps):
        print(map_text(number, found))
    if not spec.maps:
        print(f"{args.filter}: no maps")
    return 0


def map_json(number: int, spec: MapSpec) -> dict[str, Any]:
    """A map definition as JSON."""
    return {
        "id": number,
        "name": spec.name,
        "type": spec.type_label,
        "key_size": spec.key_size,
        "value_size": spec.value_size,
        "max_entries": spec.max_entries,
        "n_hashes": spec.n_hashes,
    }


def map_text(number: int, spec: MapSpec) -> str:
    """A map definition on one line."""
    if spec.type == 2:
        size = f"{spec.max_entries:,} bits, {_plural(spec.n_hashes, 'hash function')}"
    elif spec.type == 3:
        size = f"{spec.max_entries:,} x {spec.n_hashes} counters"
    else:
        size = f"{spec.max_entries:,} entries"
    sizes = f"key {spec.key_size} B, value {spec.value_size} B"
    return f"{number} {spec.name}: {spec.type_label}, {sizes}, {size}"


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("s" if count != 1 else "")


def _run_command(args: argparse.Namespace) -> int:
    from .bpftool_run import run_command

    return run_command(args)


if __name__ == "__main__":
    sys.exit(main())
