"""Matches by form, the fast way, against entry by entry, the naive way."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from twin.generate import Options, flow_of

from oko.errors import OkoError
from oko.model.compile import compile_match
from oko.model.flow import Match
from oko.openflow import oxm
from oko.openflow.common import OF10, OF13, OF14, OF15
from oko.openflow.match_forms import MatchEncoder

OPTIONS = Options(text_only=True)


def outcome(decode, data: bytes):
    try:
        return decode(data)
    except OkoError as exc:
        return str(exc)


def again(match: Match, seed: int) -> Match:
    """A match of mostly the same form, with other values."""
    return Match(
        tuple((f, (value ^ seed * 0x9E3779B97F4A7C15) & mask, mask) for f, value, mask in match)
    )


def flows(n: int) -> Iterator[tuple[Random, Match, int]]:
    """Random matches, each with a program number or 0, and a generator to go on with."""
    for seed in range(n):
        rng = Random(seed)
        yield rng, flow_of(rng, OPTIONS).match, rng.choice((0, 0, 1, 2))


@pytest.mark.parametrize("version", [OF10, OF13, OF15])
def test_decoding_by_form(version):
    for rng, match, program in flows(400):
        for seed in (0, 1, 2):
            wire = oxm.encode_match(version, again(match, seed), program)
            assert outcome(oxm.decode_match, wire) == outcome(oxm.decode_naively, wire)
            if not wire:
                continue
            at = rng.randrange(len(wire))
            broken = wire[:at] + bytes([wire[at] ^ 1 << rng.randrange(8)]) + wire[at + 1 :]
            assert outcome(oxm.decode_match, broken) == outcome(oxm.decode_naively, broken)
            assert outcome(oxm.decode_match, wire[:at]) == outcome(oxm.decode_naively, wire[:at])


@pytest.mark.parametrize(
    ("version", "nxm"), [(OF10, True), (OF10, False), (OF13, False), (OF14, False), (OF15, False)]
)
def test_encoding_by_form(version, nxm):
    encoder = MatchEncoder(version, nxm=nxm)
    for _, match, program in flows(400):
        for seed in (0, 1, 2):
            record = compile_match(again(match, seed))
            assert encoder.encode(record, program) == encoder._naively(record, program)
    assert len(encoder._forms) > 20 or not encoder._by_form


def test_forms_are_used():
    oxm._forms.clear()
    one = bytes.fromhex("8000 0a02 0800 8000 1804 0a000001".replace(" ", ""))
    two = one[:-1] + b"\x99"
    assert oxm.decode_match(one).match != oxm.decode_match(two).match
    assert sum(map(len, oxm._forms.values())) == 1
