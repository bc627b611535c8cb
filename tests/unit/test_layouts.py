"""Layouts as JSON: there and back, and what a hostile switch might send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oko.bpf import layouts
from oko.bpf.btf import Layout
from oko.bpf.elf import read_object
from oko.errors import BtfError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "bpf"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.o")), ids=lambda path: path.stem)
def test_maps_of_the_examples(path):
    maps = read_object(path.read_bytes(), path.name).maps
    assert maps
    for spec in maps:
        text = layouts.encode(spec.key_layout, spec.value_layout)
        assert layouts.decode(text, spec.key_size, spec.value_size) == (
            spec.key_layout, spec.value_layout,
        )  # fmt: skip


INT = st.builds(
    Layout, st.sampled_from(["int", "bool", "char"]), st.sampled_from([1, 2, 4, 8]), st.text(),
    signed=st.booleans(),
)  # fmt: skip
ENUM = st.builds(
    Layout, st.just("enum"), st.just(4), st.text(),
    names=st.lists(st.tuples(st.integers(0, 9), st.text()), max_size=3).map(tuple),
)  # fmt: skip


def compound(inner):
    def struct(members):
        fields, at = [], 0
        for name, layout in members:
            fields.append((name, at, layout))
            at += layout.size
        return Layout("struct", at, "s", fields=tuple(fields))

    def array(pair):
        layout, count = pair
        return Layout("array", layout.size * count, count=count, element=layout)

    members = st.lists(st.tuples(st.text(), inner), max_size=4)
    return members.map(struct) | st.tuples(inner, st.integers(0, 5)).map(array)


@settings(max_examples=200)
@given(st.recursive(INT | ENUM, compound, max_leaves=8))
def test_there_and_back(layout):
    try:
        found = layouts.decode(layouts.encode(layout, None), layout.size, 4)
    except BtfError as exc:
        assert "nested" in str(exc)
        return
    assert found == (layout, None)


LEAF = {"kind": "int", "size": 4, "type": ""}


def deep(n):
    return LEAF if not n else {"kind": "array", "size": 4, "count": 1, "element": deep(n - 1)}


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (7, "no layout"), ({"kind": "int"}, "not a number of bytes"),
        ({"kind": "int", "size": 3}, "int of 3 bytes"), ({"kind": "int", "size": True}, "True"),
        ({"kind": "none", "size": 4}, "no kind 'none'"), ({"kind": [], "size": 4}, "no kind"),
        (LEAF | {"size": 8}, "a key has 8 bytes there, 4 in the map"),
        (LEAF | {"type": 5}, "no kind"), ({"kind": "struct", "size": 4}, "no list"),
        ({"kind": "struct", "size": 4, "fields": [["a", 1, LEAF]]}, "outside of its struct"),
        ({"kind": "struct", "size": 4, "fields": [["a", -1, LEAF]]}, "not a number"),
        ({"kind": "struct", "size": 4, "fields": [[1, 0, LEAF]]}, "outside of its struct"),
        ({"kind": "struct", "size": 4, "fields": ["a"]}, "not complete"),
        ({"kind": "struct", "size": 4, "fields": [["a", 0, LEAF]] * 513}, "more than 512"),
        ({"kind": "array", "size": 4, "count": 2, "element": LEAF}, "2 elements of 4 bytes"),
        ({"kind": "array", "size": 4, "count": 1}, "no layout"),
        ({"kind": "enum", "size": 4, "names": [["a", 1]]}, "an enumerator"), (deep(99), "deeply"),
        ({"kind": "bytes", "size": 1 << 40}, "not a number of bytes"),
    ],
)  # fmt: skip
def test_what_is_no_layout(told, reason):
    with pytest.raises(BtfError, match="type information of a map: ") as caught:
        layouts.decode(json.dumps({"key": told, "value": None}).encode(), 4, 4)
    assert reason in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"7", b"\xff", b"[" * 100_000])
def test_what_is_no_json(data):
    with pytest.raises(BtfError):
        layouts.decode(data, 4, 4)
