"""Meters on the wire: meter-mod and the multiparts about meters, OpenFlow 1.3, 1.4 and 1.5."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from oko.model.flow import METER_MAX, Band, DropBand, DscpBand, Meter, MeterMod
from oko.openflow.common import (
    MP_METER,
    MP_METER_CONFIG,
    MP_METER_FEATURES,
    TYPES,
    decode_multipart,
    encode_multipart,
    fail,
    message,
    multipart_replies,
    sized_entries,
    take,
)

COMMANDS = {"add": 0, "modify": 1, "delete": 2}
_COMMAND_NAMES = {number: name for name, number in COMMANDS.items()}
METER_ALL = 0xFFFFFFFF
KBPS, PKTPS, BURST, STATS = 1, 2, 4, 8
DROP, DSCP_REMARK, BAND_EXPERIMENTER = 1, 2, 0xFFFF
SECOND = 1_000_000_000

_MOD = struct.Struct("!HHI")
_BAND = struct.Struct("!HHIIB3x")
_REQUEST = struct.Struct("!I4x")
_CONFIG = struct.Struct("!HHI")
_STATS = struct.Struct("!IH6xIQQII")
_PAIR = struct.Struct("!QQ")
_FEATURES = struct.Struct("!IIIBB2x")


def _flags(meter: Meter) -> int:
    flags = PKTPS if meter.pktps else KBPS
    return flags | (BURST if meter.burst else 0) | (STATS if meter.stats else 0)


def _encode_bands(meter: Meter) -> bytes:
    parts = []
    for band in meter.bands:
        kind = DROP if isinstance(band, DropBand) else DSCP_REMARK
        level = 0 if isinstance(band, DropBand) else band.prec_level
        parts.append(_BAND.pack(kind, _BAND.size, band.rate, band.burst, level))
    return b"".join(parts)


def _decode_bands(data: bytes) -> tuple[Band, ...]:
    bands: list[Band] = []
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            fail("OFPBRC_BAD_LEN", "the meter ends inside of a band")
        kind, size = struct.unpack_from("!HH", data, at)
        if size > len(data) - at or size < 4:
            fail("OFPBRC_BAD_LEN", f"a band cannot have {size} bytes here")
        if kind not in (DROP, DSCP_REMARK):
            fail("OFPMMFC_BAD_BAND", f"meter bands of type {kind} are not supported")
        if size != _BAND.size:
            fail("OFPBRC_BAD_LEN", f"a band of type {kind} has {_BAND.size} bytes, not {size}")
        _, _, rate, burst, level = _BAND.unpack_from(data, at)
        bands.append(DropBand(rate, burst) if kind == DROP else DscpBand(rate, burst, level))
        at += size
    return tuple(bands)


def _meter(number: int, flags: int, bands: bytes) -> Meter:
    return Meter(
        number,
        pktps=bool(flags & PKTPS),
        burst=bool(flags & BURST),
        stats=bool(flags & STATS),
        bands=_decode_bands(bands),
    )


def decode_meter_mod(version: int, msg: bytes) -> MeterMod:
    """OFPT_METER_MOD."""
    command, flags, number = take(_MOD, msg[8:], "a meter-mod")
    name = _COMMAND_NAMES.get(command)
    if name is None:
        fail("OFPMMFC_BAD_COMMAND", f"there is no meter-mod command {command}")
    if name == "delete":
        if not 1 <= number <= METER_MAX and number != METER_ALL:
            fail("OFPMMFC_INVALID_METER", f"{number:#x} is not the number of a meter")
        return MeterMod(Meter(number), name)
    if not 1 <= number <= METER_MAX:
        fail("OFPMMFC_INVALID_METER", f"{number:#x} is not the number of a meter")
    if flags & ~15 or flags & (KBPS | PKTPS) == KBPS | PKTPS:
        fail("OFPMMFC_BAD_FLAGS", f"a meter cannot have flags {flags:#x}")
    return MeterMod(_meter(number, flags, msg[8 + _MOD.size :]), name)


def encode_meter_mod(version: int, mod: MeterMod, xid: int = 0) -> bytes:
    """OFPT_METER_MOD; OpenFlowError in 1.0, which has no meters."""
    kind = TYPES[version].get("METER_MOD")
    if kind is None:
        fail("OFPBRC_BAD_TYPE", "OpenFlow 1.0 has no meters")
    meter = mod.meter
    deleting = mod.command == "delete"
    head = _MOD.pack(COMMANDS[mod.command], 0 if deleting else _flags(meter), meter.id)
    return message(version, kind, xid, head + _encode_bands(meter))


# ---------------------------------------------------------------- multiparts


def encode_meter_request(version: int, kind: int, meter: int = METER_ALL, xid: int = 0) -> bytes:
    """A request for MP_METER, MP_METER_CONFIG or MP_METER_FEATURES."""
    body = b"" if kind == MP_METER_FEATURES else _REQUEST.pack(meter)
    return encode_multipart(version, xid, kind, body)


def decode_meter_request(version: int, msg: bytes) -> tuple[int, int]:
    """(multipart type, meter or METER_ALL) of a request about meters."""
    part = decode_multipart(version, msg[8:])
    if part.type == MP_METER_FEATURES:
        if part.body:
            fail("OFPBRC_BAD_LEN", "this request has no body")
        return part.type, METER_ALL
    (meter,) = take(_REQUEST, part.body, "a request about meters")
    return part.type, meter


def encode_meter_config(meter: Meter) -> bytes:
    """One entry of a METER_CONFIG reply."""
    bands = _encode_bands(meter)
    return _CONFIG.pack(_CONFIG.size + len(bands), _flags(meter), meter.id) + bands


def decode_meter_configs(version: int, msg: bytes) -> list[Meter]:
    """The meters of one METER_CONFIG reply."""
    result = []
    for entry in sized_entries(decode_multipart(version, msg[8:]).body, _CONFIG.size):
        _, flags, number = _CONFIG.unpack_from(entry)
        result.append(_meter(number, flags, entry[_CONFIG.size :]))
    return result


def meter_config_replies(version: int, xid: int, meters: Iterable[Meter]) -> Iterator[bytes]:
    """The replies to a METER_CONFIG request."""
    return multipart_replies(version, xid, MP_METER_CONFIG, map(encode_meter_config, meters))


@dataclass(frozen=True, slots=True)
class MeterCounters:
    """Counters of a meter; bands: (packets, bytes) each. duration in ns."""

    id: int
    n_flows: int
    n_packets: int
    n_bytes: int
    duration: int
    bands: tuple[tuple[int, int], ...]


def encode_meter_stats(counters: MeterCounters) -> bytes:
    """One entry of a METER reply."""
    head = _STATS.pack(
        counters.id, _STATS.size + _PAIR.size * len(counters.bands), counters.n_flows,
        counters.n_packets, counters.n_bytes, *divmod(counters.duration, SECOND),
    )  # fmt: skip
    return head + b"".join(_PAIR.pack(*pair) for pair in counters.bands)


def decode_meter_stats(version: int, msg: bytes) -> list[MeterCounters]:
    """The entries of one METER reply."""
    result = []
    for entry in sized_entries(decode_multipart(version, msg[8:]).body, _STATS.size, 4):
        number, _, n_flows, n_packets, n_bytes, seconds, ns = _STATS.unpack_from(entry)
        if (len(entry) - _STATS.size) % _PAIR.size:
            fail("OFPBRC_BAD_LEN", "the bands' counters are cut off")
        bands = tuple(_PAIR.iter_unpack(entry[_STATS.size :]))
        duration = seconds * SECOND + ns
        result.append(MeterCounters(number, n_flows, n_packets, n_bytes, duration, bands))
    return result


def meter_stats_replies(version: int, xid: int, meters: Iterable[MeterCounters]) -> Iterator[bytes]:
    """The replies to a METER request."""
    return multipart_replies(version, xid, MP_METER, map(encode_meter_stats, meters))


@dataclass(frozen=True, slots=True)
class MeterFeatures:
    """What meters can do. band_types: bit per band type; capabilities: bits KBPS to STATS."""

    max_meters: int
    band_types: int
    capabilities: int
    max_bands: int
    max_color: int = 0


def encode_meter_features(version: int, xid: int, features: MeterFeatures) -> bytes:
    """The reply to a METER_FEATURES request."""
    body = _FEATURES.pack(
        features.max_meters, features.band_types, features.capabilities, features.max_bands,
        features.max_color,
    )  # fmt: skip
    return encode_multipart(version, xid, MP_METER_FEATURES, body, reply=True)


def decode_meter_features(version: int, msg: bytes) -> MeterFeatures:
    """The inverse."""
    body = decode_multipart(version, msg[8:]).body
    return MeterFeatures(*take(_FEATURES, body, "meter features"))
