"""Values of fields as text, both ways: numbers, addresses, ports, flags, sub-fields.

Parsing follows Open vSwitch's mf_parse(): `value` or `value/mask`; a value's bits outside its mask
are dropped. Formatting gives the form that `ovs-ofctl dump-flows` prints.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping

from oko.model.actions import Subfield
from oko.model.fields import (
    BY_NAME,
    IN_PORT,
    IN_PORT_16,
    PORT_ANY,
    PORT_IN_PORT,
    PORT_MAX,
    PORT_NAMES,
    UNSUPPORTED,
    Field,
)
from oko.text.scan import Span, did_you_mean, number

Ports = Mapping[str, int]
"""Port names that may stand for numbers."""

_RESERVED = {name: value for value, name in PORT_NAMES.items()} | {"NONE": PORT_ANY}

TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns")
_TCP_FLAG_BITS = {name: 1 << i for i, name in enumerate(TCP_FLAGS)} | {
    "[200]": 0x200,
    "[400]": 0x400,
    "[800]": 0x800,
}
_TCP_BIT_NAMES = {bit: name for name, bit in _TCP_FLAG_BITS.items()}

# ip_frag: bit 0 any fragment, bit 1 not the first: (value, mask)
FRAGS: dict[str, tuple[int, int]] = {
    "no": (0, 3),
    "yes": (1, 1),
    "first": (1, 3),
    "later": (3, 3),
    "not_later": (0, 2),
}


# ---------------------------------------------------------------- parsing


def parse_port(span: Span, ports: Ports | None = None) -> int:
    """A port number, a reserved port's name (any case) or a known port's name."""
    text = span.text
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    elif text.upper() in _RESERVED:
        return _RESERVED[text.upper()]
    if ports is not None and text in ports:
        return ports[text]
    if not text[:1].isdigit():
        span.fail(f'unknown port "{span.text}"', "a number, or one of " + ", ".join(_RESERVED))
    value = number(span, 32, "port number")
    if 0xFFF8 <= value <= 0xFFFF:
        return value | 0xFFFF0000  # OpenFlow 1.0's reserved numbers
    if not value < PORT_MAX and not value >= PORT_IN_PORT:
        span.fail(f"port number {span.text} is out of range", f"0 to {PORT_MAX - 1:#x}")
    return value


def parse_mac(span: Span) -> int:
    """Six hexadecimal bytes with colons, of one or two digits each."""
    if not re.fullmatch(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}", span.text):
        span.fail(f'"{span}" is not an Ethernet address', "like 00:1b:21:0a:0b:0c")
    return int("".join(byte.rjust(2, "0") for byte in span.text.split(":")), 16)


def parse_ipv4(span: Span) -> int:
    """Dotted quad."""
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET, span.text), "big")
    except (OSError, ValueError):
        span.fail(f'"{span}" is not an IPv4 address', "like 10.0.0.1 or 10.0.0.0/8")


def parse_ipv6(span: Span) -> int:
    """RFC 4291 text form, without a zone."""
    try:
        if "%" in span.text:
            raise ValueError
        return int(ipaddress.IPv6Address(span.text))
    except ValueError:
        span.fail(f'"{span}" is not an IPv6 address', "like fe80::1 or 2001:db8::/32")


def _parse_tcp_flags(span: Span) -> tuple[int, int]:
    """Numbers, "syn|ack" (exactly these) or "+syn-ack" (these set and cleared, others free)."""
    text = span.text
    if text[:1].isdigit():
        value, mask = span.split_at("/")
        return (
            number(value, 12, "TCP flags"),
            0xFFF if mask is None else number(mask, 12, "mask of TCP flags"),
        )
    names = "fin syn rst psh ack urg ece cwr ns"
    if text[:1] in "+-" and text:
        bits = mask_bits = 0
        at = 0
        while at < len(text):
            sign = text[at]
            end = at + 1
            while end < len(text) and text[end] not in "+-":
                end += 1
            piece = span.cut(at, end)
            bit = _TCP_FLAG_BITS.get(text[at + 1 : end])
            if sign not in "+-" or bit is None:
                piece.fail(f'unknown TCP flag "{piece}"', f"one of {names}, with + or -")
            if mask_bits & bit:
                piece.fail(f'TCP flag "{text[at + 1 : end]}" is given twice')
            mask_bits |= bit
            bits |= bit if sign == "+" else 0
            at = end
        return bits, mask_bits
    bits = at = 0
    for word in text.split("|"):
        bit = _TCP_FLAG_BITS.get(word)
        if bit is None:
            span.cut(at, at + len(word)).fail(
                f'unknown TCP flag "{word}"', f"one of {names}, joined with |"
            )
        bits |= bit
        at += len(word) + 1
    return bits, 0xFFF


def parse_field(
    field: Field, span: Span, ports: Ports | None = None, any_mask: bool = False
) -> tuple[int, int]:
    """value or value/mask of a field; returns (value, mask), value inside mask; mask 0 for "*".

    any_mask: also for fields that matches cannot mask (set_field can).
    """
    if not span:
        span.fail(f"{field.name} needs a value")
    if span.text == "*":
        return 0, 0
    if field.format == "tcp_flags":
        value, mask = _parse_tcp_flags(span)
        return value & mask, mask
    if field.format == "frag" and span.text in FRAGS:
        return FRAGS[span.text]
    value_span, mask_span = span.split_at("/")
    mask = field.all_ones
    if mask_span is not None:
        mask = _parse_mask(field, mask_span)
        if not any_mask and not field.maskable and mask not in (0, field.all_ones):
            mask_span.fail(f"{field.name} takes no mask")
    value = parse_value(field, value_span, ports)
    return value & mask, mask


def parse_value(field: Field, span: Span, ports: Ports | None = None) -> int:
    """A value without mask."""
    if field.format == "mac":
        return parse_mac(span)
    if field.format == "ipv4":
        return parse_ipv4(span)
    if field.format == "ipv6":
        return parse_ipv6(span)
    if field.format == "port":
        return parse_port(span, ports)
    if field.format == "frag" and not span.text[:1].isdigit():
        span.fail(f'unknown fragment kind "{span}"', "one of " + ", ".join(FRAGS))
    return number(span, field.bits, field.name)


def _parse_mask(field: Field, span: Span) -> int:
    if field.format == "mac":
        return parse_mac(span)
    if field.format in ("ipv4", "ipv6"):
        if span.text.isdigit():
            prefix = number(span, 8, "prefix length", 0, field.bits)
            return field.all_ones >> prefix ^ field.all_ones
        return parse_ipv4(span) if field.format == "ipv4" else parse_ipv6(span)
    return number(span, field.bits, f"mask of {field.name}")


def field_named(span: Span, others: Iterable[str] = ()) -> Field:
    """The field of this name; the error tells what is unknown from what is not supported.

    others: what else could stand here, for the hint when the name is unknown.
    """
    found = BY_NAME.get(span.text)
    if found is not None:
        return found
    if span.text in UNSUPPORTED:
        span.fail(f"field {span} is not supported yet")
    if span.text in ("dl_vlan", "dl_vlan_pcp", "tp_src", "tp_dst"):
        span.fail(f"{span} is a word for matches only", "vlan_vid, vlan_pcp, tcp_src, udp_dst...")
    span.fail(f'unknown field "{span}"', did_you_mean(span.text, [*BY_NAME, *others]))


def parse_subfield(span: Span) -> Subfield:
    """NAME, NAME[], NAME[bit] or NAME[first..last]."""
    match = re.fullmatch(r"([A-Za-z0-9_]+)(?:\[(?:(\d+)(?:\.\.(\d+))?)?\])?", span.text)
    if match is None:
        span.fail(f'"{span}" is not a part of a field', "like reg0[], reg0[3] or reg0[0..15]")
    name = span.cut(0, match.end(1))
    field = IN_PORT_16 if name.text == "in_port" else field_named(name)
    if name.text in ("in_port_oxm", "OXM_OF_IN_PORT"):
        field = IN_PORT
    if match[2] is None:
        return Subfield(field, 0, field.width)
    first = int(match[2])
    last = first if match[3] is None else int(match[3])
    if first > last:
        span.fail(f"first bit {first} is after last bit {last}")
    if last >= field.bits:
        span.fail(f"{name} has only {field.width} bits, 0 to {field.width - 1}")
    return Subfield(field, first, last - first + 1)


# ---------------------------------------------------------------- formatting


def format_port(port: int) -> str:
    return PORT_NAMES.get(port, str(port))


def format_mac(value: int) -> str:
    return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))


def _prefix_length(mask: int, bits: int) -> int | None:
    ones = mask.bit_count()
    return ones if mask == ((1 << bits) - 1) ^ ((1 << bits - ones) - 1) else None


def format_address(value: int, mask: int, bits: int) -> str:
    """An IPv4 or IPv6 address, with /prefix or /mask when it is not exact."""

    def address(number: int) -> str:
        if bits == 32:
            return str(ipaddress.IPv4Address(number))
        mapped = ipaddress.IPv6Address(number)
        return _ipv6_text(mapped)

    if mask == (1 << bits) - 1:
        return address(value)
    prefix = _prefix_length(mask, bits)
    return f"{address(value)}/{address(mask) if prefix is None else prefix}"


def _ipv6_text(address: ipaddress.IPv6Address) -> str:
    """As inet_ntop() writes it: IPv4-mapped and -compatible addresses end in a dotted quad."""
    number = int(address)
    low = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if number >> 32 == 0xFFFF:
        return f"::ffff:{low}"
    if number >> 32 == 0 and number >> 16:
        return f"::{low}"
    return str(address)


def format_tcp_flags(value: int, mask: int) -> str:
    """ "syn|ack" when all flags are matched, else "+syn-ack"."""
    bits = [1 << i for i in range(12)]
    if mask == 0xFFF:
        return "|".join(_TCP_BIT_NAMES[bit] for bit in bits if value & bit) or "0"
    return "".join(
        ("+" if value & bit else "-") + _TCP_BIT_NAMES[bit] for bit in bits if mask & bit
    )


def format_field(field: Field, value: int, mask: int) -> str:
    """A value with its mask, as in set_field and learn (Open vSwitch's mf_format())."""
    exact = mask == field.all_ones
    if field.format == "mac":
        return format_mac(value) if exact else f"{format_mac(value)}/{format_mac(mask)}"
    if field.format in ("ipv4", "ipv6"):
        return format_address(value, mask, field.bits)
    if field.format == "port":
        return format_port(value) if exact else f"{value}/{mask:#x}"
    if field.format == "tcp_flags":
        return format_tcp_flags(value, mask)
    if field.format == "frag":
        return next(
            (name for name, known in FRAGS.items() if known == (value, mask)),
            f"{value:#x}/{mask:#x}",
        )
    shown = (f"{value:#x}" if value else "0") if field.format == "hex" else str(value)
    return shown if exact else f"{shown}/{mask:#x}"


def format_subfield(sub: Subfield) -> str:
    """With the NXM name where there is one, else OXM's."""
    name = sub.field.wire_names[0] if sub.field.wire_names else sub.field.name
    if sub.ofs == 0 and sub.n_bits == sub.field.width:
        return f"{name}[]"
    if sub.n_bits == 1:
        return f"{name}[{sub.ofs}]"
    return f"{name}[{sub.ofs}..{sub.ofs + sub.n_bits - 1}]"
