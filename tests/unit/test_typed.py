"""Typed keys and values: text to bytes, bytes to text, map updates and map files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.bpf.btf import Layout
from oko.bpf.spec import MapSpec, MapType
from oko.bpf.typed import (
    entry_json,
    entry_text,
    parse,
    parse_update,
    read_map_file,
    to_json,
    to_text,
    value_slots,
)
from oko.errors import TypedValueError

U8 = Layout("int", 1, "unsigned char")
U16 = Layout("int", 2, "unsigned short")
U32 = Layout("int", 4, "unsigned int")
S32 = Layout("int", 4, "int", signed=True)
U64 = Layout("int", 8, "unsigned long long")
IP = Layout("int", 4, "oko_ip4")
BE16 = Layout("int", 2, "__be16")
MAC = Layout("array", 6, "oko_mac", count=6, element=U8)
NAME = Layout("array", 8, "", count=8, element=Layout("int", 1, "char", signed=True))
STATE = Layout("enum", 4, "state", names=((0, "NEW"), (5, "OPEN")))
TUPLE = Layout(
    "struct",
    16,
    "tuple",
    fields=(("src", 0, IP), ("dst", 4, IP), ("port", 8, BE16), ("proto", 12, U8)),
)
PAIRS = Layout(
    "struct",
    12,
    "pairs",
    fields=(
        ("a", 0, Layout("array", 4, count=2, element=U16)),
        ("b", 4, Layout("struct", 8, "inner", fields=(("x", 0, IP), ("y", 4, S32)))),
    ),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ip:10.0.0.1", "0a000001"),
        ("ip6:2001:db8::1", "20010db8000000000000000000000001"),
        ("mac:02:00:5e:10:00:ff", "02005e1000ff"),
        ("mac:02-00-5e-10-00-FF", "02005e1000ff"),
        ("u8:255", "ff"),
        ("u16:0x1234", "3412"),
        ("u32:1", "01000000"),
        ("u64:0xffffffffffffffff", "ff" * 8),
        ("s8:-1", "ff"),
        ("s32:-2", "feffffff"),
        ("s64:-9223372036854775808", "00" * 7 + "80"),
        ("be16:443", "01bb"),
        ("be32:1", "00000001"),
        ("be64:1", "00" * 7 + "01"),
        ("hex:0a 0b:0C_0d", "0a0b0c0d"),
        ("hex:", ""),
        ("str:abc", "616263"),
        ("zero:3", "000000"),
        ("lpm:10.1.0.0/16", "100000000a010000"),
        ("lpm:2001:db8::/32", "20000000" + "20010db8" + "00" * 12),
        ("ip:10.0.0.1+be16:53+u8:17+zero:1", "0a00000100351100"),
        (" u8:1 + u8:2 ", "0102"),
    ],
)
def test_text(text: str, expected: str) -> None:
    raw = bytes.fromhex(expected)
    assert parse(text, len(raw)) == raw


@pytest.mark.parametrize(
    ("value", "size", "layout", "expected"),
    [
        ("5", 4, None, "05000000"),
        (5, 8, None, "0500000000000000"),
        ("-1", 2, None, "ffff"),
        (-1, 2, None, "ffff"),
        (True, 1, None, "01"),
        (b"ab", 2, None, "6162"),
        ("80", 2, BE16, "0050"),
        (80, 2, BE16, "0050"),
        ("0x0a000001", 4, IP, "0a000001"),
        ("OPEN", 4, STATE, "05000000"),
        ("7", 4, STATE, "07000000"),
        ("str:ab", 8, NAME, "6162000000000000"),
        (["u8:1", 2], 3, Layout("struct", 3, fields=(("a", 0, U8), ("b", 1, U16))), "010200"),
        ([1, 2, 3], 6, Layout("array", 6, count=3, element=U16), "010002000300"),
        ("ip:1.2.3.4+ip:5.6.7.8+80+6", 16, TUPLE, "0102030405060708005000000600" + "0000"),
        (
            {"src": "ip:1.2.3.4", "dst": "ip:5.6.7.8", "port": 80, "proto": 6},
            16,
            TUPLE,
            "0102030405060708005000000600" + "0000",
        ),
        ("3", 4, Layout("struct", 4, fields=(("only", 0, U32),)), "03000000"),
    ],
)
def test_values_by_layout(value: object, size: int, layout: Layout | None, expected: str) -> None:
    assert parse(value, size, layout).hex() == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "size", "layout", "words"),
    [
        ("ip:10.0.0.1", 8, None, "is 4 bytes, not 8"),
        ("ip:10.0.0", 4, None, "cannot read 'ip:10.0.0'"),
        ("ip:10.0.0.0/8", 4, None, "lpm:ADDRESS/LENGTH"),
        ("10.0.0.1", 4, None, "cannot read '10.0.0.1': not a number"),
        ("lpm:10.0.0.1/8", 8, None, "host bits"),
        ("mac:1:2:3:4:5:6", 6, None, "six pairs"),
        ("u8:256", 1, None, "256 does not fit in 1 byte$"),
        ("u8:-1", 1, None, "-1 does not fit"),
        ("s8:128", 1, None, "128 does not fit"),
        ("u32:", 4, None, "not a number"),
        ("u24:1", 3, None, "not a number"),
        ("be8:1", 1, None, "not a number"),
        ("hex:abc", 2, None, "pairs of hex"),
        ("zero:99999999999", 4, None, "0 to 65536"),
        ("", 4, None, "not a number"),
        ("70000", 2, None, "does not fit in 2 bytes"),
        (1, 16, None, "does not fill 16 bytes"),
        (1, 16, TUPLE, "does not fill 16 bytes"),
        ("1+2", 8, None, "size of 1 is not known"),
        ({"src": 1}, 4, None, "no struct for it"),
        ({"src": 1}, 16, TUPLE, "field 'dst' is missing; the fields are src, dst, port, proto"),
        ({"sport": 1}, 16, TUPLE, "unknown field 'sport'"),
        (
            {"src": "ip:1.2.3.4", "dst": "u8:1", "port": 80, "proto": 6},
            16,
            TUPLE,
            "field 'dst': 'u8:1' is 1 bytes, not 4",
        ),
        (None, 4, None, "cannot make bytes of 'None'"),
        (1.5, 4, None, "cannot make bytes"),
        ("CLOSED", 4, STATE, "not a number"),
    ],
)
def test_mistakes(value: object, size: int, layout: Layout | None, words: str) -> None:
    with pytest.raises(TypedValueError, match=words) as caught:
        parse(value, size, layout, "key of map 'm'")  # type: ignore[arg-type]
    assert str(caught.value).startswith("key of map 'm'")


def test_a_bare_address_gets_a_hint() -> None:
    with pytest.raises(TypedValueError) as caught:
        parse("10.0.0.1", 4)
    assert caught.value.hint == "write ip:10.0.0.1"


@pytest.mark.parametrize(
    ("raw", "layout", "json_form", "text_form"),
    [
        ("0a000001", None, "hex:0a000001", "hex:0a000001"),
        ("0a000001", U64, "hex:0a000001", "hex:0a000001"),
        ("0a000001", IP, "ip:10.0.0.1", "ip:10.0.0.1"),
        ("ffffffff", U32, 4294967295, "4294967295"),
        ("ffffffff", S32, -1, "-1"),
        ("0050", BE16, "be16:80", "be16:80"),
        ("020000000001", MAC, "mac:02:00:00:00:00:01", "mac:02:00:00:00:00:01"),
        ("6162000000000000", NAME, "str:ab", "str:ab"),
        ("6162000100000000", NAME, "hex:6162000100000000", "hex:6162000100000000"),
        ("05000000", STATE, "OPEN", "OPEN"),
        ("06000000", STATE, 6, "6"),
        (
            "01020304050607080050000006000000",
            TUPLE,
            {"src": "ip:1.2.3.4", "dst": "ip:5.6.7.8", "port": "be16:80", "proto": 6},
            "{src=ip:1.2.3.4, dst=ip:5.6.7.8, port=be16:80, proto=6}",
        ),
        ("010002000300", Layout("array", 6, count=3, element=U16), [1, 2, 3], "[1, 2, 3]"),
        ("0102", Layout("bytes", 2, "u"), "hex:0102", "hex:0102"),
    ],
)
def test_showing(raw: str, layout: Layout | None, json_form: object, text_form: str) -> None:
    data = bytes.fromhex(raw)
    assert to_json(data, layout) == json_form
    assert to_text(data, layout) == text_form


@given(st.binary(min_size=16, max_size=16))
def test_what_is_shown_can_be_read_back(raw: bytes) -> None:
    clean = raw[:10] + b"\0\0" + raw[12:13] + b"\0\0\0"
    for show in (to_json, to_text):
        assert parse(show(clean, TUPLE), 16, TUPLE) == clean
        assert parse(show(raw[:12], PAIRS), 12, PAIRS) == raw[:12]
        for layout in (U64, NAME, None):
            assert parse(show(raw[:8], layout), 8, layout) == raw[:8]
        assert parse(show(raw[:4], STATE), 4, STATE) == raw[:4]
        assert parse(show(raw[:6], MAC), 6, MAC) == raw[:6]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{src=ip:1.2.3.4}", "field 'dst' is missing"),
        ("{src=ip:1.2.3.4,dst=ip:1.2.3.4,port=be16:1,proto=1,x=1}", "unknown field 'x'"),
        ("{src=ip:1.2.3.4,src=ip:1.2.3.4}", "field 'src' is given twice"),
        ("{src}", "cannot read 'src'"),
        ("{}", "field 'src' is missing"),
        ("{src=10.0.0.1,dst=ip:1.2.3.4,port=be16:1,proto=1}", "field 'src': cannot read"),
    ],
)
def test_fields_by_name_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(TypedValueError) as caught:
        parse(text, 16, TUPLE, "key of map 'm'")
    assert reason in str(caught.value)


def test_fields_by_name_in_an_update() -> None:
    key = "{src=ip:1.2.3.4, dst=ip:5.6.7.8, port=be16:80, proto=6}"
    update = parse_update(f"prog=1,map=m,key={key},value=[1, 2, 3]")
    ((got, value),) = update.entries
    assert parse(got, 16, TUPLE).hex() == "01020304050607080050000006000000"
    assert parse(value or "", 6, Layout("array", 6, count=3, element=U16)).hex() == "010002000300"


def test_entries() -> None:
    hashed = MapSpec("h", MapType.HASH, 4, 4, 10, 0, IP, U32)
    assert entry_json(hashed, b"\x0a\0\0\1", b"\7\0\0\0") == {
        "key": "0a000001",
        "value": "07000000",
        "key_typed": "ip:10.0.0.1",
        "value_typed": 7,
    }
    assert entry_text(hashed, b"\x0a\0\0\1", b"\7\0\0\0") == "ip:10.0.0.1 -> 7"
    untyped = MapSpec("u", MapType.HASH, 1, 1, 10)
    assert entry_json(untyped, b"a", b"b") == {"key": "61", "value": "62"}
    worker = MapSpec("w", MapType.WORKER_ARRAY, 4, 4, 10, 0, U32, U32)
    both = b"\1\0\0\0\2\0\0\0"
    assert value_slots(worker, both) == [both[:4], both[4:]]
    assert entry_json(worker, bytes(4), both)["value_typed"] == [1, 2]
    assert entry_text(worker, bytes(4), both) == "0 -> [1, 2]"
    sketch = MapSpec("b", MapType.BLOOM, 4, 0, 64, 2, IP, None)
    assert entry_json(sketch, bytes(8), b"\xff" * 8) == {"key": "00" * 8, "value": "ff" * 8}


def test_updates() -> None:
    update = parse_update("prog=1,map=blocked,key=ip:10.0.0.1,value=u32:1")
    assert (update.prog, update.map) == ("1", "blocked")
    assert update.entries == (("ip:10.0.0.1", "u32:1"),)
    assert parse_update("map=seen, key=u8:1").entries == (("u8:1", None),)
    assert parse_update("map=0,key=ip6:2001:db8::1,value=1").entries[0][0] == "ip6:2001:db8::1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot read ''"),
        ("key=1,value=2", "'map=' is missing"),
        ("map=m", "either 'key=' or 'file='"),
        ("map=m,key=1,file=x", "either 'key=' or 'file='"),
        ("map=m,file=x,value=1", "exclude each other"),
        ("map=m,key=1,key=2", "'key' is given twice"),
        ("map=m,keys=1", "cannot read 'keys=1'"),
        ("map=m,key=1,value", "cannot read 'value'"),
        ("map=m,file=/nonexistent/map.csv", "No such file"),
    ],
)
def test_update_mistakes(text: str, words: str) -> None:
    with pytest.raises(TypedValueError, match=words):
        parse_update(text)


def test_map_files(tmp_path: Path) -> None:
    csv = tmp_path / "m.csv"
    csv.write_text("key,value\n# comment\nip:10.0.0.1, u32:1\n\nip:10.0.0.2,2\nip:10.0.0.3\n")
    assert read_map_file(str(csv)) == [
        ("ip:10.0.0.1", "u32:1"),
        ("ip:10.0.0.2", "2"),
        ("ip:10.0.0.3", None),
    ]
    plain = tmp_path / "m.json"
    plain.write_text(json.dumps({"ip:10.0.0.1": 1, "ip:10.0.0.2": {"a": 2}}))
    assert read_map_file(str(plain)) == [("ip:10.0.0.1", 1), ("ip:10.0.0.2", {"a": 2})]
    dumped = tmp_path / "d.json"
    rows = [
        {"key": "0a000001", "value": "07000000", "key_typed": "ip:10.0.0.1", "value_typed": 7},
        {"key": "0a000002", "value": "08000000"},
        {"key": {"src": 1}},
    ]
    dumped.write_text(json.dumps({"name": "m", "entries": rows}))
    assert read_map_file(str(dumped)) == [
        ("ip:10.0.0.1", 7),
        ("hex:0a000002", "hex:08000000"),
        ({"src": 1}, None),
    ]
    dumped.write_text(json.dumps(rows))
    assert len(read_map_file(str(dumped))) == 3
    update = parse_update(f"prog=2,map=m,file={csv}")
    assert len(update.entries) == 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "5", "neither an object nor a list"),
        ("a.json", "[5]", "entry 1 has no 'key'"),
        ("a.json", '[{"key": 1}, {"value": 2}]', "entry 2 has no 'key'"),
        ("a.json", "[" * 100000, "not JSON"),
        ("a.csv", "a,b,c\n", "line 1: 3 columns"),
    ],
)
def test_map_file_mistakes(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TypedValueError, match=words):
        read_map_file(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TypedValueError, match="not UTF-8"):
        read_map_file(str(path))
