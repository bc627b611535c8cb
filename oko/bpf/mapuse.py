"""Which symbols of data sections are maps: a small dataflow over the text.

Oko's sources define maps as plain initialised globals, `struct ubpf_map_def m = {...}`, that land
in .data beside true variables. Nothing in the object marks them, but their use does: a map is
handed to helpers 1-4 as first argument and never loaded from or stored to.

The analysis follows addresses of data symbols ("places") through registers, spills to the stack
and arguments of sub-functions. A set of places is an int used as bit set, so that joins are `|`.
It over-approximates paths; where it is wrong, the verifier refuses the program later.

Pure functions. Instructions must have been checked to stay inside their function (elf.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .spec import CALL, LDDW, PSEUDO_LOCAL, Insn

_EXIT = 0x95
_CALLX = 0x8D
_STACK_SLOTS = 64

# Which arguments of a helper are memory that it reads: r1 of map helpers is the map itself.
_MAP_HELPERS = {1: (2,), 2: (2, 3), 3: (2,), 4: (2,)}
_OTHER_HELPERS: dict[int, tuple[int, ...]] = {5: (), 6: (1,), 7: (1,)}

State = list[int]
"""Places per register r0-r10, then per 8-byte stack slot (slot 0 = fp-8)."""


def find_maps(
    functions: Sequence[Sequence[Insn]],
    places: Mapping[tuple[int, int], int],
    calls: Mapping[tuple[int, int], int],
) -> int:
    """The bit set of places that are maps.

    functions: instructions of each, the entry first. places: (function, instruction) of each
    64-bit load of a place's address -> the place's bit number. calls: (function, instruction) of
    each local call -> the called function.
    """
    walk = _Walk(functions, places, calls)
    return walk.run()


class _Walk:
    def __init__(
        self,
        functions: Sequence[Sequence[Insn]],
        places: Mapping[tuple[int, int], int],
        calls: Mapping[tuple[int, int], int],
    ) -> None:
        self.functions = functions
        self.places = places
        self.calls = calls
        self.arguments = [[0] * 6 for _ in functions]  # r1-r5 at each function's entry
        self.used = 0  # first argument of a map helper
        self.accessed = 0  # loaded from, stored to, or escaped

    def run(self) -> int:
        pending = set(range(len(self.functions)))
        while pending:
            pending |= self._function(pending.pop())
        return self.used & ~self.accessed

    def _function(self, number: int) -> set[int]:
        """Walks one function to a fixed point; returns the functions whose arguments grew."""
        insns = self.functions[number]
        start = self.arguments[number] + [0] * (5 + _STACK_SLOTS)
        states: dict[int, State] = {0: start}
        pending = [0]
        grown: set[int] = set()
        while pending:
            at = pending.pop()
            state = list(states[at])
            # Follow straight-line code until it ends or runs into a known state.
            while True:
                grown |= self._step(number, at, insns[at], state)
                follow = _successors(at, insns[at])
                fall = None
                for target in follow:
                    if target >= len(insns):
                        continue  # falls off the end: the decoder check refuses it
                    if len(follow) == 1 and target == at + 1 and target not in states:
                        fall = target
                    elif _join(states, target, state):
                        pending.append(target)
                if fall is None:
                    break
                at = fall
        return grown

    def _step(self, number: int, at: int, insn: Insn, state: State) -> set[int]:
        code, dst, src = insn.code, min(insn.dst, 10), min(insn.src, 10)
        kind = code & 7
        slot = -insn.off // 8 - 1 + 11 if insn.off % 8 == 0 and -512 <= insn.off < 0 else None
        if code == LDDW:
            place = self.places.get((number, at))
            state[dst] = 0 if place is None else 1 << place
        elif kind in (4, 7):
            self._alu(code, dst, src, insn, state)
        elif kind == 1:
            if src != 10:
                self.accessed |= state[src]
            spilled = code == 0x79 and src == 10 and slot is not None
            state[dst] = state[slot] if spilled and slot is not None else 0
        elif kind in (2, 3):
            self._store(code, dst, src, slot, state)
        elif code in (CALL, _CALLX):
            return self._call(number, at, insn, state)
        elif kind == 0:  # legacy packet loads call into the kernel of the VM: r0-r5 are lost
            state[0:6] = [0] * 6
        return set()

    def _alu(self, code: int, dst: int, src: int, insn: Insn, state: State) -> None:
        if code == 0xBF and insn.off == 0:
            state[dst] = state[src]
        elif code in (0x07, 0x17):
            pass  # a constant added to an address still points into the same place
        elif code in (0x0F, 0x1F):
            state[dst] |= state[src]
        else:
            state[dst] = 0

    def _store(self, code: int, dst: int, src: int, slot: int | None, state: State) -> None:
        if dst != 10:
            self.accessed |= state[dst]
        value = state[src] if code & 7 == 3 else 0
        if dst == 10 and slot is not None and code in (0x7A, 0x7B):
            state[slot] = value
            return
        self.accessed |= value  # the address itself is stored somewhere: give up on it
        if code & 0xE7 == 0xC3:  # atomic: may fetch into src or r0
            state[src] = 0
            state[0] = 0

    def _call(self, number: int, at: int, insn: Insn, state: State) -> set[int]:
        grown = set()
        if insn.code == CALL and insn.src == PSEUDO_LOCAL:
            callee = self.calls[number, at]
            known = self.arguments[callee]
            for reg in range(1, 6):
                if state[reg] & ~known[reg]:
                    known[reg] |= state[reg]
                    grown.add(callee)
        else:
            if insn.imm in _MAP_HELPERS:
                self.used |= state[1]
            read = _MAP_HELPERS.get(insn.imm) or _OTHER_HELPERS.get(insn.imm, (1, 2, 3, 4, 5))
            for reg in read:
                self.accessed |= state[reg]
        state[0:6] = [0] * 6
        return grown


def _successors(at: int, insn: Insn) -> tuple[int, ...]:
    code = insn.code
    if code == LDDW:
        return (at + 2,)
    if code & 7 not in (5, 6) or code in (CALL, _CALLX):
        return (at + 1,)
    if code == _EXIT:
        return ()
    if code == 0x05:
        return (at + 1 + insn.off,)
    if code == 0x06:
        return (at + 1 + insn.imm,)
    return (at + 1, at + 1 + insn.off)


def _join(states: dict[int, State], target: int, state: State) -> bool:
    known = states.get(target)
    if known is None:
        states[target] = list(state)
        return True
    changed = False
    for i, value in enumerate(state):
        if value & ~known[i]:
            known[i] |= value
            changed = True
    return changed
