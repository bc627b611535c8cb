"""Verifying takes bounded, deterministic work: units that do not depend on the machine."""

from __future__ import annotations

import pytest
from verifier_files import make_spec
from verifier_programs import diamonds, endless_nest, flags

from oko._binding import Vm
from oko.errors import LoadError


def work(text: str, **options: int) -> int:
    """Units of work that verifying takes."""
    spec = make_spec(text)
    with Vm() as vm, vm.load(spec, jit=False, **options) as program:  # type: ignore[arg-type]
        return program.info.verify_work


@pytest.mark.parametrize(
    ("n", "units"), [(16, 10_000), (32, 20_000), (64, 40_000)], ids=["16", "32", "64"]
)
def test_diamonds_take_linear_work(n: int, units: int) -> None:
    """2^n paths, but not 2^n states. The 2018 verifier took seconds and a gigabyte for 16."""
    assert work(diamonds(n)) < units
    assert work(diamonds(n), verify_memory=1 << 20) < units


@pytest.mark.parametrize("n", [16, 32, 60])
def test_independent_flags_take_polynomial_work(n: int) -> None:
    assert work(flags(n)) < 100 * n * n


def test_work_is_deterministic() -> None:
    for text in (diamonds(32), flags(32), diamonds(16, slots=60)):
        assert len({work(text) for _ in range(3)}) == 1


def test_the_budget_is_exact() -> None:
    """What is accepted with a budget is accepted with a larger one, and the other way round."""
    text = diamonds(16)
    need = work(text)
    # The first of three attempts may take a quarter of the budget.
    assert work(text, verify_budget=4 * need) == need
    with Vm() as vm, pytest.raises(LoadError) as caught:
        vm.load(make_spec(text), verify_budget=need // 2)
    assert caught.value.reason == (
        f"the program is too complex: verifying it takes more than {need // 2} units of work"
    )
    assert "split the program" in caught.value.hint


@pytest.mark.parametrize(
    "options", [{"verify_budget": 500}, {"verify_memory": 1 << 20}], ids=["work", "memory"]
)
def test_an_overrun_is_the_same_each_time(options: dict[str, int]) -> None:
    spec = make_spec(diamonds(64, slots=60))
    seen = set()
    for _ in range(3):
        with Vm() as vm, pytest.raises(LoadError) as caught:
            vm.load(spec, **options)  # type: ignore[arg-type]
        seen.add((caught.value.insn, caught.value.reason, caught.value.hint))
    assert len(seen) == 1
    assert "too complex" in seen.pop()[1]


def test_a_long_program_fits_the_default_budget() -> None:
    """A 1,000-instruction program without loops, and one of the largest size."""
    straight = "\n".join(["mov %r0, 0", *["add %r0, 7"] * 998, "exit"])
    assert work(straight) < 5000
    longest = "\n".join(["mov %r0, 0", *["add %r0, 7"] * 65533, "exit"])
    assert work(longest) < 300_000


def test_many_loops_side_by_side() -> None:
    text = ["mov %r0, 0"]
    for i in range(100):
        text += ["mov %r3, 0", f"l{i}:", "add %r0, 1", "add %r3, 1", f"jlt %r3, 100, l{i}"]
    assert work("\n".join([*text, "exit"])) < 100_000


def test_the_deepest_nest() -> None:
    assert work(endless_nest(48), guarded=True) < 20_000
