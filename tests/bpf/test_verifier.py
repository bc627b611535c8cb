"""What the verifier refuses, word for word, and what it accepts: the cases of verifier/*.data.

Every reason that its source contains must come from one of these cases (or from the few listed in
NOT_FROM_A_PROGRAM): a new reason without a test fails here.
"""

from __future__ import annotations

import re

import pytest
from verifier_files import Case, all_cases
from verifier_messages import sharpest, verifier_messages
from verifier_programs import made_cases

from oko._binding import Vm
from oko.errors import LoadError

CASES = [*all_cases(), *made_cases()]
REFUSED = [case for case in CASES if case.error]
ACCEPTED = [case for case in CASES if not case.error]

NOT_FROM_A_PROGRAM = {
    "no memory to verify the program": "malloc fails",
    "there is no helper number %d": "the decoder has refused it (refused.data)",
    "this instruction is not for filter programs": "the decoder has refused it",
    "map %.63s has no lookup": "every type of map has one",
    "calls are nested too deep": "the call graph has been measured before",
}
"""format: why no program makes the verifier say it."""

DECODED = {"unknown opcode 0x8d"}
"""Reasons in the cases that are not the verifier's."""


def by_name(case: Case) -> str:
    return case.name


def refusal(case: Case) -> LoadError:
    """Why the case's program is refused."""
    with Vm() as vm, pytest.raises(LoadError) as caught:
        vm.load(case.spec, **case.options)  # type: ignore[arg-type]
    return caught.value


def same(expected: str, words: str) -> bool:
    """Whether words are those expected, in which "..." stands for anything without a space."""
    pattern = re.escape(expected).replace(r"\.\.\.", r".*" if expected == "..." else r"\S+")
    return re.fullmatch(pattern, words) is not None


@pytest.mark.parametrize("case", REFUSED, ids=by_name)
def test_refused(case: Case) -> None:
    error = refusal(case)
    assert same(case.error, error.reason), error.reason
    assert same(case.at, error.text), error.text
    assert case.hint in error.hint
    # The line for a person names the place by number and text.
    place = f"instruction {error.insn} ({error.text}): " if error.insn >= 0 else ""
    assert str(error) == place + error.reason


@pytest.mark.parametrize("case", ACCEPTED, ids=by_name)
def test_accepted(case: Case) -> None:
    with Vm() as vm, vm.load(case.spec, **case.options) as program:  # type: ignore[arg-type]
        info = program.info
        assert {name: getattr(info, name) for name in case.info} == case.info


def test_every_reason_has_a_case() -> None:
    found = verifier_messages()
    assert len(found) > 60
    # A few come from the decoder, which goes first.
    reasons = {refusal(case).reason for case in REFUSED} - DECODED
    tested = {sharpest(found, reason) for reason in reasons}
    assert {message.format for message in found} - tested == NOT_FROM_A_PROGRAM.keys()


def test_reasons_are_found_in_the_source() -> None:
    """The reader of the source knows how formats are written there."""
    formats = {message.format for message in verifier_messages()}
    assert "the program writes to the packet" in formats
    assert "a part of %s is stored" in formats  # one branch of a choice
    assert "%s needs %d bytes of packet, but here it has %d to %d" in formats  # with macros


def test_eleven_named_programs() -> None:
    """One at least for each hole (a) to (k) of the 2018 verifier."""
    named = {case.name.split()[1] for case in CASES if case.name.startswith("oko2018: ")}
    assert named == {f"{letter}:" for letter in "abcdefghijk"}
