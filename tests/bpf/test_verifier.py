"""What the verifier refuses, word for word, and what it accepts: the cases of verifier/*.data."""

from __future__ import annotations

import pytest
from verifier_files import Case, all_cases

from oko._binding import Vm
from oko.errors import LoadError

CASES = all_cases()
REFUSED = [case for case in CASES if case.error]
ACCEPTED = [case for case in CASES if not case.error]


def by_name(case: Case) -> str:
    return case.name


def refusal(case: Case) -> LoadError:
    """Why the case's program is refused."""
    with Vm() as vm, pytest.raises(LoadError) as caught:
        vm.load(case.spec, **case.options)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("case", REFUSED, ids=by_name)
def test_refused(case: Case) -> None:
    error = refusal(case)
    assert error.reason == case.error
    assert error.text == case.at
    assert case.hint in error.hint
    # The line for a person names the place by number and text.
    assert str(error) == f"instruction {error.insn} ({case.at}): {case.error}"
