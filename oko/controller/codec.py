"""Teaches os-ken's parsers oko's extension: the match field filter_prog and the action send_maps.

The field is an experimenter OXM, for which os-ken has tables: it is added to those of OpenFlow 1.3,
1.4 and 1.5, and works in OFPMatch, in flow-mods and in whatever a switch sends, in text and in JSON
as any other. Experimenter actions have no table, so the parser of that one action type is wrapped:
oko's come out as OFPActionOkoSendMaps, which every parser module gets (1.0 too), others as before.
Experimenter multiparts are wrapped too, because os-ken takes the body of a reply for many bodies of
16 bytes and fails on what is left over; those of oko's are one.

The bytes are made and read by oko.openflow; nothing of the wire format is repeated here.
OpenFlow 1.0 has no OXM outside of Nicira's messages: flows.py has what to do there.
os-ken's handler of errors asks for a constant that its module for 1.0 lacks, and closes the
connection at the first error; the constant is supplied.

Fails safely: an action of oko's that cannot be decoded stays os-ken's OFPActionExperimenterUnknown.
Thread-safety: register() changes os-ken's modules; call it before connections exist, as importing
the package does. Calling it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oko.errors import OkoError
from oko.model.actions import SendMaps
from oko.openflow.common import OF10, OKO
from oko.openflow.nicira import HEAD, SEND_MAPS, decode_own, encode_send_maps
from oko.openflow.oxm import BY_EXPERIMENTER, FILTER_PROG

from . import framework

ACTION_NAME = "OFPActionOkoSendMaps"  # os-ken's JSON knows classes by the prefix OFP
_OXM_VERSIONS = ("v1_3", "v1_4", "v1_5")
_ACTION_VERSIONS = ("v1_0", *_OXM_VERSIONS)


def register() -> None:
    """Makes `OFPMatch(filter_prog=1)` and `parser.OFPActionOkoSendMaps(1)` work."""
    for version in _OXM_VERSIONS:
        _register_field(framework.module(f"ofproto.ofproto_{version}"))
    ofproto_10 = framework.module("ofproto.ofproto_v1_0")
    if not hasattr(ofproto_10, "OFPET_EXPERIMENTER"):
        ofproto_10.OFPET_EXPERIMENTER = -1  # no error of 1.0 has that type
    for version in _ACTION_VERSIONS:
        parser = framework.module(f"ofproto.ofproto_{version}_parser")
        if not hasattr(parser, ACTION_NAME):
            _register_action(parser)
            if hasattr(parser, "OFPExperimenterMultipart"):
                _register_multipart(parser.OFPExperimenterMultipart)


def _register_field(ofproto: Any) -> None:
    name = FILTER_PROG.name
    if any(known.name == name for known in ofproto.oxm_types):
        return
    oxm_fields = framework.module("ofproto.oxm_fields")
    type_desc = framework.module("lib.type_desc")
    number = next(key[1] for key, field in BY_EXPERIMENTER.items() if field is FILTER_PROG)
    field_class = type("OkoExperimenter", (oxm_fields._Experimenter,), {"experimenter_id": OKO})
    field = field_class(name, number, type_desc.Int2)
    ofproto.oxm_types = [*ofproto.oxm_types, field]
    oxm_fields.generate(ofproto.__name__)


def _register_action(parser: Any) -> None:
    is_10 = parser.ofproto.OFP_VERSION == OF10
    base = parser.OFPActionVendor if is_10 else parser.OFPActionExperimenter
    send_maps = _action_class(base, "vendor" if is_10 else "experimenter")
    send_maps.__module__ = parser.__name__  # where os-ken looks for the classes that JSON names
    setattr(parser, ACTION_NAME, send_maps)
    others = base.parser.__func__

    def parse(cls: Any, buf: Any, offset: int) -> Any:
        return send_maps.read(bytes(buf[offset:])) or others(cls, buf, offset)

    base.parser = classmethod(parse)


def _register_multipart(body: Any) -> None:
    others = body.parser.__func__

    def parse(cls: Any, buf: Any, offset: int) -> Any:
        found = others(cls, buf, offset)
        if found.experimenter == OKO:
            found.length = len(buf) - offset
        return found

    body.parser = classmethod(parse)


def _action_class(base: Any, id_name: str) -> Any:
    """The action for one version of OpenFlow; base: its experimenter action."""

    class OFPActionOkoSendMaps(base):  # type: ignore[misc]
        """Sends maps of a program to the controllers that subscribed.

        maps: their numbers, none: all. interval: at most once per so many ms (10 at least).
        """

        def __init__(
            self,
            program: int,
            maps: Sequence[int] = (),
            interval: int = 1000,
            type_: int | None = None,
            len_: int | None = None,
            **ids: int,
        ) -> None:
            super().__init__(OKO)
            self.program = program
            self.maps = list(maps)
            self.interval = interval
            if ids.keys() - {id_name}:
                raise TypeError(f"send_maps has no {', '.join(sorted(ids))}")
            self.len = len_ or len(self._encoded())

        def _encoded(self) -> bytes:
            return encode_send_maps(SendMaps(self.program, tuple(self.maps), self.interval))

        @classmethod
        def read(cls, data: bytes) -> OFPActionOkoSendMaps | None:
            """The action at the start of these bytes; None: it is another, or broken."""
            if len(data) < HEAD.size:
                return None
            _, size, experimenter, kind = HEAD.unpack_from(data)
            if (experimenter, kind) != (OKO, SEND_MAPS):
                return None
            try:
                found = decode_own(kind, data[:size])
            except OkoError:
                return None
            assert isinstance(found, SendMaps)
            return cls(found.program, found.maps, found.interval)

        def serialize(self, buf: bytearray, offset: int) -> None:
            data = self._encoded()
            self.len = len(data)
            if len(buf) < offset:
                buf += bytes(offset - len(buf))
            buf[offset : offset + len(data)] = data

    return OFPActionOkoSendMaps
