"""The commands of docs/oko-bpf.md do what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from oko.bpf import toolchain
from oko.bpftool import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "oko-bpf.md"


def examples() -> list[tuple[str, str]]:
    """(command, expected output) of each indented `$ oko-bpf ..`."""
    found: list[tuple[str, list[str]]] = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("    $ oko-bpf "):
            found.append((line.removeprefix("    $ oko-bpf "), []))
        elif line.startswith("    ") and found:
            found[-1][1].append(line[4:])
    return [(command, "\n".join(lines)) for command, lines in found]


@pytest.mark.parametrize(("command", "expected"), examples(), ids=lambda text: text[:40])
def test_example(
    command: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if command.startswith("compile") and not toolchain.compilers():
        pytest.skip("no compiler for BPF is installed")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)) == 0
    shown = capsys.readouterr().out.rstrip("\n")
    pattern = re.escape(expected).replace(re.escape("..."), ".*")
    assert re.fullmatch(pattern, shown, re.S), shown


def test_the_page_names_every_command_and_option() -> None:
    page = PAGE.read_text()
    source = (ROOT / "oko" / "bpftool.py").read_text()
    options = set(re.findall(r'"(--[a-z-]+)"', source))
    commands = set(re.findall(r'command\(\s*"([a-z]+)"', source))
    assert commands == {"compile", "verify", "disasm", "maps", "run"}
    missing = {option for option in options if option not in page}
    assert missing == {"--output", "--in-port"}  # -o is shown; in_port is rarely wanted
