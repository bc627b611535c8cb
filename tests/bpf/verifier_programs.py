"""Programs too long to write down: for the verifier's budgets, and for reasons that need size."""

from __future__ import annotations

from verifier_files import Case, make_spec


def diamonds(n: int, slots: int = 0) -> str:
    """n times if/else on a byte of the packet, a sum that differs on all 2^n paths.

    slots: also keeps the sum in so many variables, unknown numbers at first.
    """
    lines = ["mov %r6, %r1", "mov %r0, 0", f"jlt %r2, {n}, done"]
    for k in range(slots):
        lines += [f"ldxb %r3, [%r6+{k % n}]", f"stxdw [%r10-{8 * k + 8}], %r3"]
    for i in range(n):
        lines += [f"ldxb %r3, [%r6+{i}]", f"jeq %r3, {i + 1}, a{i}", "add %r0, 1", f"ja b{i}"]
        lines += [f"a{i}:", "mul %r0, 3", "xor %r0, 5", f"b{i}:"]
        if slots:
            lines.append(f"stxdw [%r10-{8 * (i % slots) + 8}], %r0")
    return "\n".join([*lines, "and %r0, 1", "done:", "exit"])


def flags(n: int) -> str:
    """n variables that are 0 or 1, each by a test of its own, and then their sum."""
    lines = ["mov %r6, %r1", "mov %r0, 0", f"jlt %r2, {n}, done"]
    lines += [f"stdw [%r10-{8 * i + 8}], 0" for i in range(n)]
    for i in range(n):
        lines += [f"ldxb %r3, [%r6+{i}]", f"jne %r3, {i}, a{i}"]
        lines += [f"stdw [%r10-{8 * i + 8}], 1", f"a{i}:"]
    for i in range(n):
        lines += [f"ldxdw %r3, [%r10-{8 * i + 8}]", "add %r0, %r3"]
    return "\n".join([*lines, "and %r0, 1", "done:", "exit"])


def endless_nest(n: int) -> str:
    """n loops in one another, each of which goes on while the clock shows its number."""
    lines = ["mov %r0, 0"]
    for i in range(n):
        lines += [f"l{i}:", "mov %r1, 0"]
    for i in reversed(range(n)):
        lines += ["call 5", f"jeq %r0, {i}, l{i}"]
    return "\n".join([*lines, "exit"])


def _case(name: str, text: str, error: str, at: str, hint: str, **options: int) -> Case:
    return Case(f"made: {name}", make_spec(text), error, at, hint, options, {})


def made_cases() -> list[Case]:
    """Refusals, as in verifier/*.data."""
    return [
        _case(
            "more memory than allowed",
            diamonds(64, slots=60),
            "the program is too complex: verifying it takes more than 1 MiB",
            "...",
            "split the program, or simplify its branches",
            verify_memory=1 << 20,
        ),
        _case(
            "loops 49 deep",
            endless_nest(49),
            "loops are nested more than 48 deep",
            "r0 = 0",
            "one loop of several",
            guarded=True,
        ),
    ]
