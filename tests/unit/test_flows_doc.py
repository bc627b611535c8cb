"""docs/flows.md: its examples are understood, its table of fields is the table in the code."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from oko.model.fields import FIELDS, Field
from oko.text import FlowSyntaxError, format_flow, parse_flow, parse_rules
from oko.text.actions import UNSUPPORTED

TEXT = (ROOT / "docs" / "flows.md").read_text()
BLOCKS = re.findall(r"^```flows\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)

FORMATS = {
    "dec": "number",
    "hex": "hexadecimal number",
    "mac": "MAC",
    "ipv4": "IPv4 address",
    "ipv6": "IPv6 address",
    "port": "port",
    "frag": "see below",
    "tcp_flags": "see below",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_examples(block: str) -> None:
    assert parse_rules(block, "docs/flows.md")


def row(field: Field) -> str:
    """A field's line in the table; registers share one."""
    base = re.sub(r"\d+$", "", field.name)
    name, also = f"`{field.label}`", ""
    if base in ("reg", "xreg", "xxreg"):
        last = max(int(f.name[len(base) :]) for f in FIELDS if re.fullmatch(rf"{base}\d+", f.name))
        name = f"`{base}0` ... `{base}{last}`"
    else:
        also = " ".join(f"`{n}`" for n in (field.name, *field.aliases) if n != field.label)
    bits = f"{field.bits} bit" + ("s" if field.bits > 1 else "")
    cells = [name, also, f"{FORMATS[field.format]}, {bits}", "yes" if field.maskable else "no"]
    return "".join(f"| {cell} " if cell else "| " for cell in [*cells, field.needs]) + "|"


def test_table_of_fields() -> None:
    lines = TEXT.splitlines()
    for field in FIELDS:
        assert row(field) in lines


def test_what_is_said_to_be_unsupported_is_refused_by_name() -> None:
    listed = set(re.findall(r"`(\w+)`", TEXT[TEXT.index("Not supported yet") :]))
    assert UNSUPPORTED - {"dec_nsh_ttl", "debug_recirc", "debug_slow", "unroll_xlate"} <= listed
    for name in UNSUPPORTED:
        with pytest.raises(FlowSyntaxError, match=f"action {name} is not supported yet"):
            parse_flow(f"actions={name}()")


def test_example_in_the_package_docstring() -> None:
    assert format_flow(parse_flow("priority=7, ip, nw_src=10.0.0.1/8, actions=2")) == (
        "priority=7,ip,nw_src=10.0.0.0/8 actions=output:2"
    )


def test_error_shown_in_the_page() -> None:
    with pytest.raises(FlowSyntaxError) as caught:
        parse_rules("\n\nip,nw_srx=1.2.3.4,actions=drop", "rules.txt")
    shown = f"{caught.value}\n{caught.value.excerpt}"
    assert f"```\n{shown}\n```" in TEXT
