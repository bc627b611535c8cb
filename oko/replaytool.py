"""oko-replay: captures through flow rules with filter programs, from the command line.

    oko-replay scan.pcap --load-filter-prog 1=port_scan.o \\
        -f 'priority=10,filter_prog=1,actions=drop' -f 'actions=output:2' --write 2=clean.pcap

Exit status: 0 done; 1 an input is wrong, a capture breaks off (after the results), a file cannot be
written; 2 wrong usage; 130 interrupted (after the results so far). Errors are one line each,
"oko-replay: ...", and a hint. docs/replay.md has the whole story.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import OkoError, ToolchainError

if TYPE_CHECKING:
    from .replayer import Progress

EXAMPLES = """\
examples:
  oko-replay scan.pcap -f 'tcp,actions=output:2' -f 'actions=drop' --write 2=tcp.pcap
  oko-replay scan.pcap --flows rules.txt --load-filter-prog 1=filter.c --dump-maps \\
      --update-map map=blocked,key=ip:10.0.0.1,value=1
  oko-replay mix.pcap.gz --flows rules.txt --preload --duration 5
  oko-replay scan.pcap --flows rules.txt --trace 17
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(_join_realtime(arguments))
    try:
        status = _run(args)
        sys.stdout.flush()
        return status
    except OkoError as exc:
        if isinstance(exc, ToolchainError) and exc.output:
            print(exc.output.rstrip(), file=sys.stderr)
        print(exc.report("oko-replay"), file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace) -> int:
    from .replay_report import as_json, print_report, trace_lines
    from .replayer import Replayer

    bar = _Bar() if sys.stderr.isatty() and not args.no_progress else None
    with Replayer(args.captures, progress=bar, **_options(args)) as replayer:
        try:
            replayer.run()
        except KeyboardInterrupt:
            pass
        finally:
            if bar is not None:
                bar.clear()
        result = replayer.result()
    if args.json:
        report = as_json(result, args.captures)
        if args.trace:
            report["trace"] = list(trace_lines(result, args.trace))
        print(json.dumps(report, indent=2))
    elif args.trace:
        for line in trace_lines(result, args.trace):
            print(line)
    else:
        print_report(result, sys.stdout, dump_maps=args.dump_maps, color=sys.stdout.isatty())
    if args.trace and not result.trace:
        return 1
    for error in result.errors:
        print(f"oko-replay: {error}", file=sys.stderr)
    if result.interrupted:
        print("oko-replay: interrupted", file=sys.stderr)
        return 130
    return 1 if result.errors else 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Replayer's options."""
    return {
        "flows": args.flows,
        "programs": _pairs(args.load_filter_prog, "--load-filter-prog", "1=FILTER.o"),
        "map_updates": args.update_map,
        "in_ports": args.in_port,
        "ports": args.ports,
        "write": _pairs(args.write, "--write", "2=OUT.pcap"),
        "workers": args.workers,
        "spread": args.spread,
        "loop": args.loop,
        "duration": args.duration,
        "pps": args.pps,
        "mbit": args.mbit,
        "realtime": args.realtime,
        "preload": args.preload,
        "trace": args.trace,
        "cache": not args.no_cache,
        "burst": args.burst,
        "interpret": args.interpret,
        "guarded": args.guarded,
        "dump_maps": args.dump_maps,
    }


def _pairs(given: list[tuple[int, str]], option: str, example: str) -> dict[int, str]:
    pairs: dict[int, str] = {}
    for number, value in given:
        if number in pairs:
            raise OkoError(f"{option}: {number} is given twice", f"for example {option} {example}")
        pairs[number] = value
    return pairs


# ---------------------------------------------------------------- progress


class _Bar:
    """One line on standard error, from the first second on, ten times a second."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown = 0.0

    def __call__(self, progress: Progress) -> None:
        from .replay_report import rate_text

        now = time.monotonic()
        if now - self._began < 1 or now - self._shown < 0.1:
            return
        self._shown = now
        words = [f"{progress.packets:,} packets" + (" loaded" if progress.loading else "")]
        if progress.fraction is not None:
            filled = int(20 * progress.fraction)
            bar = "#" * filled + "." * (20 - filled)
            words.insert(0, f"[{bar}] {100 * progress.fraction:3.0f} %")
            if 0 < progress.fraction < 1 and not progress.loading:
                left = progress.seconds * (1 - progress.fraction) / progress.fraction
                words.append(f"{left:.0f} s left")
        if progress.seconds and not progress.loading:
            words.insert(
                -1 if len(words) > 2 else len(words), rate_text(progress.packets / progress.seconds)
            )
        print("\r\x1b[K" + "  ".join(words), end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Takes the line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- arguments


def _join_realtime(argv: list[str]) -> list[str]:
    """--realtime takes an optional speed: x10 or 10 after it, but not the name of a capture."""
    out: list[str] = []
    for word in argv:
        if out and out[-1] == "--realtime" and re.fullmatch(r"x?[0-9]+(\.[0-9]+)?", word):
            out[-1] = f"--realtime={word}"
        else:
            out.append(word)
    return [f"{word}=x1" if word == "--realtime" else word for word in out]


def _speed(text: str) -> float:
    try:
        speed = float(text.removeprefix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no speed such as x10")
    return speed


def _rate(text: str) -> float:
    """A number, perhaps with k, M or G."""
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    unit = units.get(text[-1:], 1.0)
    try:
        rate = float(text.rstrip("kMG") if unit != 1.0 else text) * unit
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e15:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate such as 1000, 10k or 1.5M")
    return rate


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _number(low: int, high: int) -> Any:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
        return int(text)

    return parse


def _number_is(text: str) -> tuple[int, str]:
    number, equals, value = text.partition("=")
    if not equals or not number.strip().isdecimal() or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NUMBER=FILE")
    return int(number), value


def _port_list(text: str) -> list[int]:
    """1,3-5"""
    ports: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,10})\s*(?:-\s*([0-9]{1,10})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or last - first > 65535:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of ports such as 1,3-5")
        ports += range(first, last + 1)
    return ports


class _Ports(argparse.Action):
    """Collects port lists of all occurrences."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
        option_string: str | None = None,
    ) -> None:  # fmt: skip
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *values])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oko-replay",
        description="Replay captures through flow rules with BPF filter programs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "captures",
        nargs="+",
        metavar="CAPTURE",
        help="pcap or pcapng, also gzip or zstd; - is standard input; several merge by time",
    )

    group = parser.add_argument_group("rules")
    group.add_argument(
        "-f", "--flow", dest="flows", action="append", default=[], metavar="FLOW",
        help="a rule in ovs-ofctl's grammar, e.g. 'priority=9,filter_prog=1,actions=output:2'",
    )  # fmt: skip
    group.add_argument(
        "--flows", dest="flows", action="append", type=Path, metavar="FILE",
        help="a file of rules, one a line",
    )  # fmt: skip
    group.add_argument(
        "--load-filter-prog", action="append", type=_number_is, default=[], metavar="N=FILE",
        help="load a filter program under number N: an object, or C to be compiled",
    )  # fmt: skip
    group.add_argument(
        "--update-map", action="append", default=[], metavar="SPEC",
        help="beforehand: prog=1,map=NAME,key=ip:10.0.0.1,value=u32:1 or prog=1,map=NAME,file=F",
    )  # fmt: skip
    group.add_argument(
        "--guarded", action="store_true", help="check at run time what the verifier cannot prove"
    )

    group = parser.add_argument_group("ports")
    group.add_argument(
        "--in-port", action=_Ports, type=_port_list, default=[], metavar="N,..",
        help="where the captures come in (default: 1, 2, .. in the order of the arguments)",
    )  # fmt: skip
    group.add_argument(
        "--ports", action=_Ports, type=_port_list, default=[], metavar="N,..",
        help="further ports, e.g. 5,7-9 (those that rules name are there anyway)",
    )  # fmt: skip
    group.add_argument(
        "--write", action="append", type=_number_is, default=[], metavar="PORT=OUT.pcap",
        help="write what leaves through a port",
    )  # fmt: skip

    group = parser.add_argument_group("how often, how fast")
    often = group.add_mutually_exclusive_group()
    often.add_argument(
        "--loop", type=_number(1, 2**40), default=1, metavar="N", help="rounds over the captures"
    )
    often.add_argument("--duration", type=_seconds, metavar="S", help="rounds for so many seconds")
    pace = group.add_mutually_exclusive_group()
    pace.add_argument("--max", action="store_true", help="as fast as it goes (default)")
    pace.add_argument("--pps", type=_rate, metavar="N", help="packets per second")
    pace.add_argument("--mbit", type=_rate, metavar="N", help="megabits of wire length per second")
    pace.add_argument(
        "--realtime", type=_speed, metavar="xN", help="as captured, or N times as fast"
    )
    group.add_argument(
        "--preload", action="store_true", help="read everything into memory first (for benchmarks)"
    )
    group.add_argument(
        "--workers", type=_number(1, 64), default=1, metavar="N", help="forwarding threads"
    )
    group.add_argument(
        "--spread", choices=("addr", "5tuple", "src", "dst", "port"), default="addr",
        help="what sends a packet to a worker (default: the two addresses)",
    )  # fmt: skip

    group = parser.add_argument_group("what is shown")
    group.add_argument("--dump-maps", action="store_true", help="the maps' contents at the end")
    group.add_argument("--json", action="store_true", help="one JSON object (docs/replay.md)")
    group.add_argument(
        "--trace", type=_number(1, 2**40), default=0, metavar="N",
        help="packet N's way through tables and programs, in words; ends after it",
    )  # fmt: skip
    group.add_argument("--no-progress", action="store_true", help="no progress line")

    group = parser.add_argument_group("for tests and the curious (none changes a result)")
    group.add_argument("--no-cache", action="store_true", help="look every packet up anew")
    group.add_argument(
        "--burst", type=_number(1, 32), default=32, metavar="N", help="packets handled together"
    )
    group.add_argument("--interpret", action="store_true", help="interpreter, no machine code")
    return parser


if __name__ == "__main__":
    sys.exit(main())
