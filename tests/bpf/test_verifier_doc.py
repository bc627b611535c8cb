"""docs/verifier.md: its programs are refused with the output it shows, its list is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_verifier import NOT_FROM_A_PROGRAM
from verifier_messages import verifier_messages

from oko.bpf import toolchain
from oko.bpftool import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "verifier.md").read_text()
EXAMPLES = re.findall(
    r"^```c (\w+\.c)\n(.*?)^```\n\n```\n\$ oko-bpf verify \1\n(.*?)^```$", PAGE, re.M | re.S
)


def without_code(output: str) -> list[str]:
    """The lines without what depends on the compiler: instructions, their numbers, columns."""
    output = re.sub(r"instruction \d+", "instruction N", output)
    output = re.sub(r"instruction N \(.*?\): (?=this|the|an)", "instruction N: ", output)
    output = re.sub(r"^ +\d+: .*; ", "  N: ", output, flags=re.M)
    return [line for line in output.splitlines() if line.strip(" |^")]


@pytest.mark.parametrize(("name", "source", "expected"), EXAMPLES, ids=[e[0] for e in EXAMPLES])
def test_example(
    name: str,
    source: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not toolchain.compilers():
        pytest.skip("no compiler for BPF is installed")
    (tmp_path / name).write_text(source)
    monkeypatch.chdir(tmp_path)
    assert main(["verify", name]) == 1
    assert without_code(capsys.readouterr().out) == without_code(expected)


def test_every_block_is_an_example() -> None:
    assert len(EXAMPLES) == len(re.findall(r"^```c", PAGE, re.M)) >= 6


def test_every_reason_is_listed() -> None:
    """And none that the verifier does not give."""
    listed = set(re.findall(r"`([^`]*)`", "".join(re.findall(r"^\|(.*?)\|", PAGE, re.M))))
    reasons = {
        message.shown
        for message in verifier_messages()
        if message.format not in NOT_FROM_A_PROGRAM and "verify/" in message.file
    }
    assert reasons - listed == set()
    assert {words for words in listed if " " in words} - reasons == set()
