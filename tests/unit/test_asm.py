"""The assembler: each form against the encoding of RFC 9669, and its errors."""

from __future__ import annotations

import pytest

from oko.bpf.asm import assemble
from oko.bpf.spec import unpack
from oko.errors import AsmError


@pytest.mark.parametrize(
    ("text", "code", "dst", "src", "off", "imm"),
    [
        ("mov %r1, 2", 0xB7, 1, 0, 0, 2),
        ("mov r1, r2", 0xBF, 1, 2, 0, 0),
        ("mov32 %r1, -1", 0xB4, 1, 0, 0, -1),
        ("add %r1, 0xffffffff", 0x07, 1, 0, 0, -1),
        ("sub32 %r3, %r4", 0x1C, 3, 4, 0, 0),
        ("mul %r1, 3", 0x27, 1, 0, 0, 3),
        ("div %r1, %r2", 0x3F, 1, 2, 0, 0),
        ("sdiv %r1, %r2", 0x3F, 1, 2, 1, 0),
        ("smod32 %r1, -3", 0x94, 1, 0, 1, -3),
        ("arsh %r1, 3", 0xC7, 1, 0, 0, 3),
        ("neg %r5", 0x87, 5, 0, 0, 0),
        ("neg32 %r5", 0x84, 5, 0, 0, 0),
        ("movsx832 %r0, %r1", 0xBC, 0, 1, 8, 0),
        ("movsx1664 %r0, %r1", 0xBF, 0, 1, 16, 0),
        ("movsx3264 %r0, %r1", 0xBF, 0, 1, 32, 0),
        ("le16 %r2", 0xD4, 2, 0, 0, 16),
        ("be64 %r2", 0xDC, 2, 0, 0, 64),
        ("bswap32 %r2", 0xD7, 2, 0, 0, 32),
        ("swap32 %r2", 0xD7, 2, 0, 0, 32),
        ("ldxb %r1, [%r2+3]", 0x71, 1, 2, 3, 0),
        ("ldxh %r1, [%r2]", 0x69, 1, 2, 0, 0),
        ("ldxw %r1, [%r10-8]", 0x61, 1, 10, -8, 0),
        ("ldxdw %r1, [ %r10 - 0x10 ]", 0x79, 1, 10, -16, 0),
        ("ldxsb %r1, [%r2]", 0x91, 1, 2, 0, 0),
        ("ldxsh %r1, [%r2]", 0x89, 1, 2, 0, 0),
        ("ldxsw %r1, [%r2]", 0x81, 1, 2, 0, 0),
        ("stb [%r1+2], 5", 0x72, 1, 0, 2, 5),
        ("stdw [%r1], -5", 0x7A, 1, 0, 0, -5),
        ("stxh [%r1-2], %r3", 0x6B, 1, 3, -2, 0),
        ("stxw [%r1], %r3", 0x63, 1, 3, 0, 0),
        ("lock add [%r1+8], %r2", 0xDB, 1, 2, 8, 0),
        ("lock or32 [%r1], %r2", 0xC3, 1, 2, 0, 0x40),
        ("lock fetch and [%r1], %r2", 0xDB, 1, 2, 0, 0x51),
        ("lock fetch_xor32 [%r1], %r2", 0xC3, 1, 2, 0, 0xA1),
        ("lock xchg [%r1], %r2", 0xDB, 1, 2, 0, 0xE1),
        ("lock cmpxchg32 [%r1], %r2", 0xC3, 1, 2, 0, 0xF1),
        ("ldabsb 14", 0x30, 0, 0, 0, 14),
        ("ldabsh 14", 0x28, 0, 0, 0, 14),
        ("ldabsw 14", 0x20, 0, 0, 0, 14),
        ("ldindb %r3, 2", 0x50, 0, 3, 0, 2),
        ("ja +3", 0x05, 0, 0, 3, 0),
        ("ja32 -3", 0x06, 0, 0, 0, -3),
        ("jeq %r1, 5, +2", 0x15, 1, 0, 2, 5),
        ("jset32 %r1, %r2, -2", 0x4E, 1, 2, -2, 0),
        ("jsle %r1, -5, +0", 0xD5, 1, 0, 0, -5),
        ("call 6", 0x85, 0, 0, 0, 6),
        ("call helper 6", 0x85, 0, 0, 0, 6),
        ("call local +6", 0x85, 0, 1, 0, 6),
        ("call runtime 6", 0x85, 0, 2, 0, 6),
        ("call %r7", 0x8D, 7, 0, 0, 0),
        ("exit", 0x95, 0, 0, 0, 0),
        (".word 0x0000000500030021", 0x21, 0, 0, 3, 5),
        ("MOV".lower() + " %r15, 1", 0xB7, 15, 0, 0, 1),
    ],
)
def test_encoding(text: str, code: int, dst: int, src: int, off: int, imm: int) -> None:
    assert unpack(assemble(text)) == [(code, dst, src, off, imm)]


def test_wide_loads() -> None:
    assert unpack(assemble("lddw %r1, 0x8877665544332211")) == [
        (0x18, 1, 0, 0, 0x44332211),
        (0, 0, 0, 0, 0x88776655 - (1 << 32)),
    ]
    assert unpack(assemble("lddw %r1, -1"))[1].imm == -1
    assert [i[2:] for i in unpack(assemble("lddw %r1, map 3"))] == [(1, 0, 3), (0, 0, 0)]
    assert [i[2:] for i in unpack(assemble("lddw %r1, data 2+16"))] == [(2, 0, 2), (0, 0, 16)]


def test_labels_and_comments() -> None:
    code = assemble(
        """
        # comment
        start: mov %r0, 1   ; another
        jeq %r0, 1, end     // and another
        lddw %r1, 5
        ja start
        call local start
        end:
        exit
        """
    )
    found = unpack(code)
    assert (found[1].off, found[4].off, found[5].imm) == (4, -5, -6)


def test_exit_is_a_label() -> None:
    found = unpack(assemble("jeq %r0, 1, exit\nmov %r0, 2\nexit\nexit\njeq %r0, 1, exit"))
    assert (found[0].off, found[4].off) == (1, -3)
    own = unpack(assemble("jeq %r0, 1, exit\nexit: mov %r0, 1\nexit"))
    assert own[0].off == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\nfrob %r1, 2", "line 2: unknown instruction 'frob'"),
        ("mov %r1", "mov takes 2 operands, not 1"),
        ("exit 1", "exit takes 0 operands, not 1"),
        ("mov %r16, 1", "'%r16' is not a register"),
        ("mov 1, 1", "'1' is not a register"),
        ("mov %r1, x", "'x' is not a number"),
        ("mov %r1, 0x100000000", "does not fit in 32 bits"),
        ("mov %r1, -2147483649", "does not fit in 32 bits"),
        ("lddw %r1, 0x10000000000000000", "does not fit in 64 bits"),
        ("ldxb %r1, %r2", "is not a memory operand"),
        ("ldxb %r1, [%r2+70000]", "does not fit in 16 bits"),
        ("ja nowhere", "there is no label 'nowhere'"),
        ("ja +70000", "does not fit in 16 bits"),
        ("ja 5", "'5' is not a label"),
        ("a:\na:", "line 2: label 'a' is there already"),
        ("lock sub [%r1], %r2", "is not an atomic operation"),
        ("lock fetch add %r1, %r2", "is not an atomic operation"),
        ("call far 5", "cannot call"),
        (".word 0x10000000000000000", "does not fit in 64 bits"),
        ("movsx3232 %r1, %r2\nmovsx64 %r1, %r2", "line 2: unknown instruction"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    with pytest.raises(AsmError, match=words):
        assemble(text)
