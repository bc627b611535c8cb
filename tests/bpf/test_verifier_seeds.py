"""The seeds of the verifier's fuzz target hold the programs that they were made of."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"


@pytest.fixture(scope="module")
def maker():
    sys.path.insert(0, str(FUZZ))
    import verify_seeds

    return verify_seeds


def read_back(seed: bytes) -> tuple[list[bytes], list[int], bytes]:
    """Data sections, functions and instructions, as fuzz_verify.c reads them."""
    n_maps, n_data, n_funcs, _, n_insns = struct.unpack_from("<BBBBH", seed)
    at, data, funcs = 6 + 8 * n_maps, [], []
    for _ in range(n_data):
        size, writable = struct.unpack_from("<HB", seed, at)
        assert writable in (0, 1)
        data.append(seed[at + 3 : at + 3 + size])
        at += 3 + size
    for _ in range(n_funcs):
        funcs.append(*struct.unpack_from("<H", seed, at))
        at += 2
    return data, funcs, seed[at : at + 8 * n_insns]


def test_seeds_hold_their_programs(maker) -> None:
    left_out = 0
    for spec in maker.programs():
        seed = maker.seed(spec, False)
        if seed is None:
            left_out += 1
            continue
        data, funcs, insns = read_back(seed)
        assert insns == spec.insns
        assert funcs == [function.insn for function in spec.funcs]
        assert data == [d.contents if d.contents is not None else bytes(d.size) for d in spec.data]
    assert left_out < 10
    assert len(maker.seeds()) > 300
