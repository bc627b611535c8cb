"""oko-ofctl: the command. What it can do stands in commandline.py.

Exit status: 0 done, 1 refused, failed or not understood (as ovs-ofctl), 2 the answer of diff-flows
is "they differ", 130 interrupted. Every failure says why on standard error; no traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from oko.errors import OkoError
from oko.ofctl.commandline import NAME, Line, UsageError, help_text, parse

if TYPE_CHECKING:
    from oko.ofctl.run import Run


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    try:
        line = parse(list(sys.argv[1:] if argv is None else argv))
        status = _run(line)
        sys.stdout.flush()
        return status
    except OkoError as exc:
        _report(exc)
        return 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        _forget_output()
        return 1
    except OSError as exc:
        _forget_output()
        where = f"{exc.filename}: " if exc.filename else ""
        print(f"{NAME}: {where}{exc.strerror or exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _forget_output() -> None:
    """What cannot be written is not tried again when Python ends (with status 120)."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(line: Line) -> int:
    if line.has("help"):
        print(help_text(), end="")
        return 0
    if line.has("version"):
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("oko")
        except PackageNotFoundError:
            number = "of a source tree"
        print(f"{NAME} {number}\nOpenFlow versions 0x1, 0x4:0x6")
        return 0
    command = line.command
    if command is None:
        raise UsageError("missing command name; use --help for help")
    from importlib import import_module

    from oko.ofctl.run import Run

    module, _, name = command.run.partition(":")
    function: Callable[[Run, list[str]], int | None]
    function = getattr(import_module(f"oko.ofctl.{module}"), name)
    with Run(line) as run:
        return function(run, line.arguments) or 0


def _report(exc: OkoError) -> None:
    """A refusal as ovs-ofctl prints it, anything else on one line with excerpt and hint."""
    from oko.openflow.client import RefusedError

    if isinstance(exc, RefusedError):
        from oko.ofctl.messages import refusal_lines

        print("\n".join(refusal_lines(exc, NAME)), file=sys.stderr)
        if exc.hint:
            print(f"hint: {exc.hint}", file=sys.stderr)
    else:
        print(exc.report(NAME), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
