"""Assembler for the tests' .data files, in the syntax that uBPF and bpf_conformance use.

    mov %r0, 1            mov32 %r0, %r1      movsx864 %r0, %r1   (from 8 to 64 bits)
    add %r0, -5           sdiv32 %r0, %r1     neg %r0             be16 %r0    bswap64 %r0
    lddw %r1, 0x1122334455667788              lddw %r1, map 0     lddw %r1, data 0+8
    ldxw %r2, [%r1+4]     ldxsh %r2, [%r1]    stb [%r10-1], 7     stxdw [%r10-8], %r1
    lock add [%r1+8], %r2       lock fetch add32 [%r1], %r2       lock cmpxchg [%r1], %r2
    ldabsh 12             ldindb %r3, 14
    jeq %r0, 0, done      jlt32 %r1, %r2, +3  ja done             ja32 done
    call 1                call helper 1       call local sub      call %r2      exit
    done:                 # comment           .word 0x95          (one raw 8-byte slot)

`exit` is also a label: the first such instruction, unless the text defines another before.
Numbers are decimal or 0x..; an unsigned 32-bit value such as 0xffffffff may stand for a negative
immediate. Jump and call targets are labels, or +n/-n relative to the next instruction.
What may be written is generous (registers up to %r15, any offset), so that tests can write what
must be refused; legality is the core's business.

Pure function; a fault is one AsmError that begins with "line N:".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ..errors import AsmError
from .spec import CALL, LDDW, PSEUDO_DATA, PSEUDO_LOCAL, PSEUDO_MAP, Insn

ALU = {
    "add": 0x00,
    "sub": 0x10,
    "mul": 0x20,
    "div": 0x30,
    "or": 0x40,
    "and": 0x50,
    "lsh": 0x60,
    "rsh": 0x70,
    "mod": 0x90,
    "xor": 0xA0,
    "mov": 0xB0,
    "arsh": 0xC0,
}
SIGNED = {"sdiv": 0x30, "smod": 0x90}
JUMPS = {
    "jeq": 0x10,
    "jgt": 0x20,
    "jge": 0x30,
    "jset": 0x40,
    "jne": 0x50,
    "jsgt": 0x60,
    "jsge": 0x70,
    "jlt": 0xA0,
    "jle": 0xB0,
    "jslt": 0xC0,
    "jsle": 0xD0,
}
SIZES = {"w": 0x00, "h": 0x08, "b": 0x10, "dw": 0x18}
ATOMICS = {"add": 0x00, "or": 0x40, "and": 0x50, "xor": 0xA0, "xchg": 0xE1, "cmpxchg": 0xF1}
SWAPS = {"le": 0xD4, "be": 0xDC, "bswap": 0xD7, "swap": 0xD7}

_MEMORY = re.compile(r"\[\s*(%r\d+)\s*([+-]\s*\w+)?\s*\]\Z")


class _Fixup(NamedTuple):
    """A label that stands in off or imm of the slot."""

    slot: int
    label: str
    field: str
    line: int


class _Assembler:
    def __init__(self) -> None:
        self.slots: list[Insn] = []
        self.labels: dict[str, int] = {}
        self.fixups: list[_Fixup] = []
        self.line = 0

    def error(self, message: str) -> AsmError:
        return AsmError(f"line {self.line}: {message}")

    def run(self, text: str) -> bytes:
        for self.line, raw in enumerate(text.splitlines(), 1):
            line = re.split(r"#|;|//", raw, maxsplit=1)[0].strip()
            match = re.match(r"([A-Za-z_.]\w*):\s*", line)
            if match:
                if match[1] in self.labels:
                    raise self.error(f"label {match[1]!r} is there already")
                self.labels[match[1]] = len(self.slots)
                line = line[match.end() :]
            if line == "exit":
                self.labels.setdefault("exit", len(self.slots))
            if line:
                self.statement(line)
        for fixup in self.fixups:
            self.line = fixup.line
            if fixup.label not in self.labels:
                raise self.error(f"there is no label {fixup.label!r}")
            distance = self.labels[fixup.label] - (fixup.slot + 1)
            old = self.slots[fixup.slot]
            self.slots[fixup.slot] = (
                old._replace(off=self.fits(distance, 16))
                if fixup.field == "off"
                else old._replace(imm=distance)
            )
        return b"".join(slot.pack() for slot in self.slots)

    def statement(self, line: str) -> None:
        mnemonic, _, rest = line.partition(" ")
        operands = [part.strip() for part in rest.split(",")] if rest.strip() else []
        encode, count = self.find(mnemonic)
        if encode is None:
            raise self.error(f"unknown instruction {mnemonic!r}")
        if len(operands) != count:
            raise self.error(f"{mnemonic} takes {count} operands, not {len(operands)}")
        encode(mnemonic, operands)

    def find(self, name: str) -> tuple[Callable[[str, list[str]], None] | None, int]:
        """The encoder for a mnemonic, and how many operands it takes."""
        base = name.removesuffix("32")
        if base in ALU or base in SIGNED:
            return self.alu, 2
        if re.fullmatch(r"movsx(8|16|32)(32|64)", name):
            return self.movsx, 2
        if base == "neg":
            return self.neg, 1
        if re.fullmatch(r"(le|be|bswap|swap)(16|32|64)", name):
            return self.swap, 1
        if base in JUMPS:
            return self.jump, 3
        if re.fullmatch(r"ldxs?(b|h|w|dw)", name):
            return self.load, 2
        if re.fullmatch(r"stx?(b|h|w|dw)", name):
            return self.store, 2
        if re.fullmatch(r"ldabs(b|h|w|dw)", name):
            return self.load_packet, 1
        if re.fullmatch(r"ldind(b|h|w|dw)", name):
            return self.load_packet, 2
        table: dict[str, tuple[Callable[[str, list[str]], None], int]] = {
            "lddw": (self.lddw, 2),
            "lock": (self.atomic, 2),
            "ja": (self.always, 1),
            "ja32": (self.always, 1),
            "call": (self.call, 1),
            "exit": (self.exit, 0),
            ".word": (self.word, 1),
        }
        return table.get(name, (None, 0))

    # -- operands

    def emit(self, code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> None:
        self.slots.append(Insn(code, dst, src, off, imm))

    def reg(self, text: str) -> int:
        match = re.fullmatch(r"%?r(\d+)", text)
        if not match or int(match[1]) > 15:
            raise self.error(f"{text!r} is not a register")
        return int(match[1])

    def number(self, text: str) -> int:
        try:
            return int(text.replace(" ", ""), 0)
        except ValueError:
            raise self.error(f"{text!r} is not a number") from None

    def fits(self, value: int, bits: int) -> int:
        """value as a signed field of that many bits; unsigned spelling is accepted."""
        if not -(1 << bits - 1) <= value < 1 << bits:
            raise self.error(f"{value} does not fit in {bits} bits")
        return value - (1 << bits) if value >= 1 << bits - 1 else value

    def imm(self, text: str) -> int:
        return self.fits(self.number(text), 32)

    def memory(self, text: str) -> tuple[int, int]:
        match = _MEMORY.fullmatch(text)
        if not match:
            raise self.error(f"{text!r} is not a memory operand such as [%r1+4]")
        return self.reg(match[1]), self.fits(self.number(match[2]) if match[2] else 0, 16)

    def target(self, text: str, field: str) -> int:
        if text[:1] in "+-":
            return self.fits(self.number(text), 16 if field == "off" else 32)
        if not re.fullmatch(r"[A-Za-z_.]\w*", text):
            raise self.error(f"{text!r} is not a label")
        self.fixups.append(_Fixup(len(self.slots), text, field, self.line))
        return 0

    # -- instructions

    def alu(self, name: str, operands: list[str]) -> None:
        base = name.removesuffix("32")
        code = ALU.get(base, SIGNED.get(base, 0)) | (4 if name != base else 7)
        dst, off = self.reg(operands[0]), int(base in SIGNED)
        if operands[1].startswith(("%", "r")):
            self.emit(code | 8, dst, self.reg(operands[1]), off)
        else:
            self.emit(code, dst, 0, off, self.imm(operands[1]))

    def movsx(self, name: str, operands: list[str]) -> None:
        width, form = int(name[5:-2]), name[-2:]
        code = 0xBF if form == "64" else 0xBC
        self.emit(code, self.reg(operands[0]), self.reg(operands[1]), width)

    def neg(self, name: str, operands: list[str]) -> None:
        self.emit(0x84 if name == "neg32" else 0x87, self.reg(operands[0]))

    def swap(self, name: str, operands: list[str]) -> None:
        self.emit(SWAPS[name[:-2]], self.reg(operands[0]), imm=int(name[-2:]))

    def jump(self, name: str, operands: list[str]) -> None:
        base = name.removesuffix("32")
        code = JUMPS[base] | (6 if name != base else 5)
        dst, off = self.reg(operands[0]), self.target(operands[2], "off")
        if operands[1].startswith(("%", "r")):
            self.emit(code | 8, dst, self.reg(operands[1]), off)
        else:
            self.emit(code, dst, 0, off, self.imm(operands[1]))

    def always(self, name: str, operands: list[str]) -> None:
        if name == "ja":
            self.emit(0x05, off=self.target(operands[0], "off"))
        else:
            self.emit(0x06, imm=self.target(operands[0], "imm"))

    def load(self, name: str, operands: list[str]) -> None:
        signed = name.startswith("ldxs")
        size = SIZES[name[4 if signed else 3 :]]
        src, off = self.memory(operands[1])
        self.emit((0x81 if signed else 0x61) | size, self.reg(operands[0]), src, off)

    def store(self, name: str, operands: list[str]) -> None:
        dst, off = self.memory(operands[0])
        if name.startswith("stx"):
            self.emit(0x63 | SIZES[name[3:]], dst, self.reg(operands[1]), off)
        else:
            self.emit(0x62 | SIZES[name[2:]], dst, 0, off, self.imm(operands[1]))

    def load_packet(self, name: str, operands: list[str]) -> None:
        size = SIZES[name[5:]]
        if name.startswith("ldabs"):
            self.emit(0x20 | size, imm=self.imm(operands[0]))
        else:
            self.emit(0x40 | size, 0, self.reg(operands[0]), 0, self.imm(operands[1]))

    def atomic(self, name: str, operands: list[str]) -> None:
        match = re.fullmatch(r"(fetch[ _])?([a-z]+?)(32)?\s+(\[.*\])", operands[0])
        if not match or match[2] not in ATOMICS:
            raise self.error(f"{operands[0]!r} is not an atomic operation such as add [%r1+8]")
        dst, off = self.memory(match[4])
        operation = ATOMICS[match[2]] | (1 if match[1] else 0)
        self.emit(0xC3 if match[3] else 0xDB, dst, self.reg(operands[1]), off, operation)

    def lddw(self, name: str, operands: list[str]) -> None:
        dst = self.reg(operands[0])
        words = operands[1].split()
        if words[0] in ("map", "data") and len(words) == 2:
            index, _, offset = words[1].partition("+")
            source = PSEUDO_MAP if words[0] == "map" else PSEUDO_DATA
            self.emit(LDDW, dst, source, 0, self.imm(index))
            self.emit(0, imm=self.imm(offset or "0"))
            return
        value = self.number(operands[1])
        if not -(1 << 63) <= value < 1 << 64:
            raise self.error(f"{value} does not fit in 64 bits")
        self.emit(LDDW, dst, imm=self.fits(value & 0xFFFFFFFF, 32))
        self.emit(0, imm=self.fits(value >> 32 & 0xFFFFFFFF, 32))

    def call(self, name: str, operands: list[str]) -> None:
        kind, _, what = operands[0].rpartition(" ")
        if kind == "local":
            self.emit(CALL, 0, PSEUDO_LOCAL, 0, self.target(what.strip(), "imm"))
        elif kind == "runtime":
            self.emit(CALL, 0, 2, 0, self.imm(what))
        elif what.startswith("%"):
            self.emit(0x8D, self.reg(what))
        elif kind in ("", "helper"):
            self.emit(CALL, imm=self.imm(what))
        else:
            raise self.error(f"cannot call {operands[0]!r}")

    def exit(self, name: str, operands: list[str]) -> None:
        self.emit(0x95)

    def word(self, name: str, operands: list[str]) -> None:
        value = self.number(operands[0])
        if not 0 <= value < 1 << 64:
            raise self.error(f"{value} does not fit in 64 bits")
        raw = value.to_bytes(8, "little")
        signed = int.from_bytes(raw[2:4], "little", signed=True)
        imm = int.from_bytes(raw[4:], "little", signed=True)
        self.emit(raw[0], raw[1] & 15, raw[1] >> 4, signed, imm)


def assemble(text: str) -> bytes:
    """The instructions of assembler text as 8-byte slots. Raises AsmError."""
    return _Assembler().run(text)
