"""Makes well-formed programs out of a string of bytes, as assembler text.

Every byte string is a program, and a shorter or smaller one is a simpler program, so that
hypothesis shrinks what fails to something a person can read. The programs are correct by
construction (what is read was written, accesses lie inside their object, loops end, helpers get
what they ask for) and use everything a filter may use: all ALU operations, branches, loops, packet
loads with constant and variable offsets, stack buffers written in pieces, every kind of map, data
sections, atomics, sub-functions, legacy packet loads.

Registers: r6 packet, r7 length, r8 loop counter, r9 and r0, r2-r5 numbers. Stack: fp-8 the meta
pointer, fp-16 a spilled packet pointer, fp-80..fp-16 numbers, fp-96..fp-80 a key, fp-112..fp-96 a
value.
"""

from __future__ import annotations

from dataclasses import dataclass

from oko.bpf.asm import assemble
from oko.bpf.spec import DataSpec, FuncSpec, MapSpec, MapType, ProgramSpec

MAPS = (
    MapSpec("array", MapType.ARRAY, 4, 16, 5),
    MapSpec("hash", MapType.HASH, 8, 16, 6),
    MapSpec("hash13", MapType.HASH, 13, 8, 7),
    MapSpec("lru", MapType.LRU_HASH, 4, 8, 4),
    MapSpec("lpm", MapType.LPM_TRIE, 8, 8, 8),
    MapSpec("worker_array", MapType.WORKER_ARRAY, 4, 8, 3),
    MapSpec("worker_hash", MapType.WORKER_HASH, 12, 8, 5),
    MapSpec("bloom", MapType.BLOOM, 6, 0, 256, 3),
    MapSpec("count_min", MapType.COUNT_MIN, 4, 0, 16, 2),
)
DATA = (
    DataSpec(".rodata", 64, bytes((i * 37 + 11) & 255 for i in range(64)), False),
    DataSpec(".data", 32, bytes((i * 91 + 7) & 255 for i in range(32)), True),
    DataSpec(".bss", 32, None, True),
)

NUMBERS = ("%r0", "%r2", "%r3", "%r4", "%r5", "%r9")
ALU = ("add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "mod", "xor", "mov", "arsh")
SIGNED = ("sdiv", "smod")
JUMPS = ("jeq", "jne", "jgt", "jge", "jlt", "jle", "jsgt", "jsge", "jslt", "jsle", "jset")
CONSTANTS = (0, 1, -1, 2, 7, 31, 32, 63, 255, 0xFFFF, 0x7FFFFFFF, -0x80000000, 0x12345678)
WIDE = (0, 1, 0xFFFFFFFF, 0x100000000, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 0x0123456789ABCDEF)
SIZES = (("b", 1), ("h", 2), ("w", 4), ("dw", 8))


class Choices:
    """Decisions taken from bytes; 0, the simplest, when they are used up."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def spent(self) -> bool:
        return self.at >= len(self.data)

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1 (at most 256)."""
        if self.spent:
            return 0
        self.at += 1
        return self.data[self.at - 1] % limit

    def of(self, options):  # type: ignore[no-untyped-def]
        return options[self.below(len(options))]


@dataclass(frozen=True)
class Program:
    """A made program, and its text for a person who wants to see it."""

    spec: ProgramSpec
    text: str


class Maker:
    """Writes one program."""

    def __init__(self, data: bytes, unproved: bool) -> None:
        self.choose = Choices(data)
        self.unproved = unproved
        self.lines: list[str] = []
        self.functions: list[list[str]] = []
        self.labels = 0
        self.in_loop = False
        self.in_function = False
        self.least = 0  # bytes of the packet that are known to be there

    def emit(self, *lines: str) -> None:
        self.lines += lines

    def label(self) -> str:
        self.labels += 1
        return f"l{self.labels}"

    def number(self) -> str:
        return self.choose.of(NUMBERS)

    def imm(self) -> int:
        return self.choose.of(CONSTANTS)

    # -- the frame of a program

    def program(self) -> Program:
        self.least = self.choose.of((64, 60, 34, 14, 1, 0))
        self.emit("mov %r6, %r1", "mov %r7, %r2", "stxdw [%r10-8], %r3", "stxdw [%r10-16], %r1")
        self.emit("mov %r0, 5")
        if self.least:
            self.emit(f"jlt %r7, {self.least}, done")
        self.emit("mov %r0, %r7", "mov %r9, 0")
        for slot in range(24, 88, 8):
            self.emit(f"stdw [%r10-{slot}], {slot}")
        self.refill()
        while not self.choose.spent:
            self.statement(0)
        if self.choose.below(2) == 0:
            self.emit(
                "xor %r0, %r2", "add %r0, %r3", "xor %r0, %r4", "sub %r0, %r5", "xor %r0, %r9"
            )
        self.emit("ldxdw %r1, [%r10-24]", "xor %r0, %r1")
        # Low bits, so that 1, the match, is common.
        self.emit("and %r0, 3", "done:", "exit")
        starts = [0]
        for number, body in enumerate(self.functions):
            starts.append(_size(self.lines))
            self.emit(f"f{number}:", *body)
        text = "\n".join(self.lines)
        names = ("entry", *(f"f{i}" for i in range(len(self.functions))))
        funcs = tuple(FuncSpec(n, at) for n, at in zip(names, starts, strict=True))
        return Program(ProgramSpec("made", assemble(text), funcs, MAPS, DATA), text)

    def refill(self) -> None:
        """Gives r2-r5 values again: at the start, and after calls."""
        for i, reg in enumerate(("%r2", "%r3", "%r4", "%r5")):
            kind = self.choose.below(3)
            if kind == 0:
                self.emit(f"mov {reg}, {i + 1}")
            elif kind == 1:
                self.emit(f"lddw {reg}, {self.choose.of(WIDE)}")
            elif self.in_function:
                self.emit(f"mov {reg}, %r0")
            else:
                self.emit(f"ldxdw {reg}, [%r10-{24 + 8 * self.choose.below(7)}]")

    # -- statements

    def statement(self, depth: int) -> None:
        kinds = [self.alu, self.alu, self.unary, self.wide, self.legacy]
        if not self.in_function:
            kinds += [
                self.stack_store,
                self.stack_load,
                self.packet_load,
                self.packet_variable,
                self.packet_checked,
                self.meta,
                self.data,
                self.atomic,
                self.map_lookup,
                self.map_update,
                self.map_delete,
                self.map_add,
                self.hash,
                self.clock,
                self.call,
                self.spilled,
            ]
        if depth < 3:
            kinds += [self.branch]
            if not self.in_loop:
                kinds += [self.loop]
        kind = self.choose.of(kinds)
        if kind in (self.branch, self.loop):
            kind(depth)
        else:
            kind()

    def block(self, depth: int) -> None:
        for _ in range(1 + self.choose.below(3)):
            self.statement(depth + 1)

    def alu(self) -> None:
        wide = self.choose.of(("", "32"))
        name = self.choose.of(ALU + SIGNED)
        operand = self.number() if self.choose.below(2) else str(self.imm())
        self.emit(f"{name}{wide} {self.number()}, {operand}")

    def unary(self) -> None:
        forms = ("neg", "neg32", "be16", "be32", "be64", "le16", "le32", "bswap16", "bswap32")
        forms += ("bswap64", "movsx832", "movsx864", "movsx1632", "movsx1664", "movsx3264")
        name = self.choose.of(forms)
        other = f", {self.number()}" if name.startswith("movsx") else ""
        self.emit(f"{name} {self.number()}{other}")

    def wide(self) -> None:
        self.emit(f"lddw {self.number()}, {self.choose.of(WIDE)}")

    def branch(self, depth: int) -> None:
        wide = self.choose.of(("", "32"))
        other = self.number() if self.choose.below(2) else str(self.imm())
        otherwise, end = self.label(), self.label()
        self.emit(f"{self.choose.of(JUMPS)}{wide} {self.number()}, {other}, {otherwise}")
        self.block(depth)
        if self.choose.below(2):
            self.emit(f"ja {end}", f"{otherwise}:")
            self.block(depth)
            self.emit(f"{end}:")
        else:
            self.emit(f"{otherwise}:")

    def loop(self, depth: int) -> None:
        again = self.label()
        self.in_loop = True
        self.emit(f"mov %r8, {1 + self.choose.below(5)}", f"{again}:")
        self.block(depth)
        if self.unproved and self.choose.below(3) == 0:
            self.emit(f"and %r8, {self.number()}")  # may never reach 0
        self.emit("sub %r8, 1", f"jne %r8, 0, {again}")
        self.in_loop = False

    def stack_store(self) -> None:
        size, width = self.choose.of(SIZES)
        at = 80 - self.choose.below(64 - width + 1)
        if self.choose.below(2):
            self.emit(f"st{size} [%r10-{at}], {self.imm()}")
        else:
            self.emit(f"stx{size} [%r10-{at}], {self.number()}")

    def stack_load(self) -> None:
        size, width = self.choose.of((*SIZES, ("sb", 1), ("sh", 2), ("sw", 4)))
        self.emit(f"ldx{size} {self.number()}, [%r10-{80 - self.choose.below(64 - width + 1)}]")

    def packet_load(self) -> None:
        size, width = self.choose.of((*SIZES, ("sb", 1), ("sh", 2), ("sw", 4)))
        if self.unproved:
            self.emit(f"ldx{size} {self.number()}, [%r6+{self.choose.below(80)}]")
        elif self.least >= width:
            at = self.choose.below(self.least - width + 1)
            self.emit(f"ldx{size} {self.number()}, [%r6+{at}]")

    def packet_variable(self) -> None:
        size, width = self.choose.of(SIZES)
        mask = self.choose.of((31, 15, 7, 3))
        if self.least < mask + width and not self.unproved:
            return
        source, target = self.number(), self.number()
        at = self.choose.below(60 if self.unproved else self.least - mask - width + 1)
        self.emit(f"mov %r1, {source}", f"and %r1, {mask}", "add %r1, %r6")
        self.emit(f"ldx{size} {target}, [%r1+{at}]")

    def packet_checked(self) -> None:
        """An offset from the packet itself, compared with the length."""
        size, width = self.choose.of(SIZES)
        skip, target = self.label(), self.choose.of(("%r2", "%r4", "%r9"))
        self.emit(f"mov %r1, {self.number()}", f"and %r1, {self.choose.of((63, 255, 0xFFFF))}")
        self.emit("mov %r3, %r1", f"add %r3, {width}", f"jgt %r3, %r7, {skip}", "add %r1, %r6")
        self.emit(f"ldx{size} {target}, [%r1]", f"{skip}:", "mov %r1, 0")

    def spilled(self) -> None:
        if self.least:
            self.emit("ldxdw %r1, [%r10-16]")
            self.emit(f"ldxb {self.number()}, [%r1+{self.choose.below(self.least)}]")

    def meta(self) -> None:
        size, at = self.choose.of(
            (("dw", 0), ("dw", 8), ("w", 16), ("w", 20), ("w", 24), ("h", 24))
        )
        self.emit("ldxdw %r1, [%r10-8]", f"ldx{size} {self.number()}, [%r1+{at}]")

    def data(self) -> None:
        section = self.choose.below(3)
        size, width = self.choose.of(SIZES)
        at = self.choose.below(DATA[section].size - width + 1)
        self.emit(f"lddw %r1, data {section}+{at}")
        if section and self.choose.below(2):
            self.emit(f"stx{size} [%r1], {self.number()}")
        else:
            self.emit(f"ldx{size} {self.number()}, [%r1]")

    def atomic(self) -> None:
        width = self.choose.of((8, 4))
        if self.choose.below(2):
            place = f"[%r10-{80 - width * self.choose.below(56 // width)}]"
        else:
            at = width * self.choose.below(32 // width)
            self.emit(f"lddw %r1, data {1 + self.choose.below(2)}+{at}")
            place = "[%r1]"
        self.atomic_at(place, width)

    def atomic_at(self, place: str, width: int) -> None:
        names = ("add", "or", "and", "xor", "fetch add", "fetch or", "fetch and", "fetch xor")
        name = self.choose.of((*names, "xchg", "cmpxchg"))
        wide = "32" if width == 4 else ""
        self.emit(f"lock {name}{wide} {place}, {self.choose.of(('%r2', '%r4', '%r9'))}")

    # -- helpers

    def buffer(self, start: int, size: int, small: bool) -> None:
        """Writes size bytes at fp - start, in pieces of chosen widths."""
        at = 0
        while at < size:
            fitting = [(s, w) for s, w in SIZES if w <= size - at]
            piece, width = fitting[-1 - self.choose.below(len(fitting))]
            if self.choose.below(2):
                value = self.choose.below(4) if small else self.imm()
                self.emit(f"st{piece} [%r10-{start - at}], {value}")
            else:
                source = self.number()
                if small:
                    self.emit(f"mov %r1, {source}", "and %r1, 3")
                    source = "%r1"
                self.emit(f"stx{piece} [%r10-{start - at}], {source}")
            at += width

    def key(self, spec: MapSpec) -> None:
        size = spec.key_size
        if spec.type == MapType.LPM_TRIE:
            self.emit(f"stw [%r10-96], {8 * self.choose.below(5)}")
            self.buffer(92, 4, small=True)
        else:
            self.buffer(96, size, small=True)
        self.emit("mov %r2, %r10", "add %r2, -96")

    def after_call(self) -> None:
        self.emit("mov %r1, 0")
        self.refill()

    def map_lookup(self) -> None:
        number = self.choose.below(len(MAPS))
        spec = MAPS[number]
        sketch = spec.type in (MapType.BLOOM, MapType.COUNT_MIN)
        self.key(spec)
        absent = self.label()
        self.emit(f"lddw %r1, map {number}", "call 1", f"jeq %r0, 0, {absent}")
        self.emit("mov %r1, %r0", "mov %r0, 0", "mov %r2, 3", "mov %r4, 4")
        if sketch:
            self.emit("ldxw %r9, [%r1]")
        for _ in range(0 if sketch else 1 + self.choose.below(3)):
            size, width = self.choose.of(SIZES)
            at = self.choose.below(spec.value_size - width + 1)
            kind = self.choose.below(4)
            if kind == 0:
                self.emit(f"ldx{size} %r9, [%r1+{at}]")
            elif kind == 1:
                self.emit(f"stx{size} [%r1+{at}], %r9")
            elif kind == 2:
                self.emit(f"st{size} [%r1+{at}], {self.imm()}")
            else:
                width = self.choose.of((8, 4))
                place = f"[%r1+{width * self.choose.below(spec.value_size // width)}]"
                self.atomic_at(place, width)
        self.emit(f"{absent}:", "mov %r0, 1")
        self.after_call()

    def map_update(self) -> None:
        plain = [n for n, m in enumerate(MAPS) if m.type not in (MapType.BLOOM, MapType.COUNT_MIN)]
        number = self.choose.of(plain)
        self.buffer(112, MAPS[number].value_size, small=False)
        self.key(MAPS[number])
        self.emit("mov %r3, %r10", "add %r3, -112", f"lddw %r1, map {number}", "call 2")
        self.after_call()

    def map_delete(self) -> None:
        number = self.choose.of((1, 2, 3, 4, 6))
        self.key(MAPS[number])
        self.emit(f"lddw %r1, map {number}", "call 3")
        self.after_call()

    def map_add(self) -> None:
        number = self.choose.of((7, 8))
        self.key(MAPS[number])
        self.emit(f"lddw %r1, map {number}", "call 4")
        self.after_call()

    def hash(self) -> None:
        self.emit("mov %r1, %r10", "add %r1, -80", f"mov %r2, {self.choose.below(57)}", "call 6")
        self.after_call()

    def clock(self) -> None:
        self.emit("call 5")
        self.after_call()

    def legacy(self) -> None:
        size, _ = self.choose.of(SIZES[:3])
        if self.choose.below(2):
            self.emit(f"ldabs{size} {self.choose.of((0, 12, 13, 23, 60, 63))}")
        else:
            reg = self.number()
            self.emit(f"and {reg}, 63", f"ldind{size} {reg}, {self.choose.of((0, 1, 14))}")
        self.after_call()

    def call(self) -> None:
        """A sub-function of two numbers, or one that gets packet and length."""
        if len(self.functions) < 4 and self.choose.below(3) == 0:
            self.functions.append(self.function())
        if not self.functions:
            return
        number = self.choose.below(len(self.functions))
        if self.functions[number][0] == "# packet":
            self.emit("mov %r1, %r6", "mov %r2, %r7")
        else:
            self.emit(f"mov %r1, {self.number()}", f"mov %r2, {self.number()}")
        self.emit(f"call local f{number}")
        self.after_call()

    def function(self) -> list[str]:
        outer, self.lines = self.lines, []
        looping, self.in_loop, self.in_function = self.in_loop, False, True
        if self.choose.below(2):
            at = self.choose.below(40)
            self.emit(
                "# packet", "mov %r0, 9", f"jle %r2, {at}, +1", f"ldxb %r0, [%r1+{at}]", "exit"
            )
        else:
            self.emit("# numbers", "mov %r0, %r1", "mov %r9, %r2", "stxdw [%r10-24], %r1")
            self.refill()
            self.block(1)
            self.emit("add %r0, %r9", "exit")
        body, self.lines = self.lines, outer
        self.in_loop, self.in_function = looping, False
        return body


def _size(lines: list[str]) -> int:
    """Slots that lines take; labels and comments take none."""
    plain = [line for line in lines if not line.endswith(":") and not line.startswith("#")]
    return sum(2 if line.startswith("lddw") else 1 for line in plain)


def make_program(data: bytes, unproved: bool = False) -> Program:
    """The program that data stands for.

    unproved: some packet reads and loops lack their proof, as guarded loading allows.
    """
    return Maker(data, unproved).program()
