"""A connection of a tool or controller made for the 2018 prototype Oko (oko/openflow/oko2018.py).

All that Oko left as it was is the usual session's. Programs and maps are addressed by number; loads
and updates are answered only when they fail, with the one error that Oko knew. What it did not
promise it gets all the same: a reload replaces the program atomically, all entries of an update are
set or none.

Thread-safety: the asyncio loop's.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Any

from oko.agent.session import Reply, Session, xid_of
from oko.openflow import oko2018
from oko.openflow.common import NICIRA, OpenFlowError
from oko.openflow.flow_stats import FlowRequest
from oko.openflow.flows import FlowModMessage
from oko.openflow.oko2018 import DumpedMap, DumpRequest, Encoder2018, Load, Update

EPERM = "OFPBRC_EPERM"
_MESSAGES = {
    NICIRA.to_bytes(4, "big") + kind.to_bytes(4, "big")
    for kind in (oko2018.LOAD, oko2018.UPDATE, oko2018.DUMP_REQUEST, oko2018.DUMP_REPLY)
}


class Session2018(Session):
    """A connection whose peer speaks Oko's dialect."""

    versions = oko2018.VERSIONS
    packs = False

    def read_flow_mod(self, msg: bytes) -> FlowModMessage:
        """The filter stands in the structure, not in the match."""
        standard, program = oko2018.standard_flow_mod(self.version, msg)
        decoded = super().read_flow_mod(standard)
        flow = replace(decoded.mod.flow, filter_prog=program)
        return replace(
            decoded,
            mod=replace(decoded.mod, flow=flow),
            record=replace(decoded.record, filter_prog=program),
        )

    def stats_encoder(self, request: FlowRequest) -> Encoder2018:
        """Entries with the filter in their midst."""
        return Encoder2018(self.version, nxm=request.nxm)

    def error_name(self, exc: Exception) -> str:
        """Unknown programs and maps are "not permitted" in Oko."""
        name = super().error_name(exc)
        return EPERM if name == "OFPBMC_BAD_VALUE" else name

    def _experimenter(self, msg: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        if msg[8:16] not in _MESSAGES:
            return super()._experimenter(msg)
        asked = oko2018.decode(msg)
        match asked:
            case Load():
                return self._load(asked)
            case Update():
                return self._update(asked)
            case DumpRequest():
                return self._dump(asked, xid_of(msg))

    async def _load(self, asked: Load) -> Iterable[bytes]:
        self.need_write()
        if not asked.program:
            raise OpenFlowError(EPERM, "program 0 means no program")
        await self.bridge.load_program(asked.program, asked.elf, owner=self.peer)
        return []

    def _update(self, asked: Update) -> Reply:
        self.need_write()
        sizes = (asked.key_size, asked.value_size)
        self.bridge.update_map(asked.program, asked.map, asked.entries, sizes)
        return []

    def _dump(self, asked: DumpRequest, xid: int) -> Reply:
        dumped = []
        for number in asked.maps:
            found = self.bridge.map(asked.program, number)
            dumped.append(DumpedMap(found.number, *found.entry_sizes, tuple(found.items())))
        return [oko2018.encode_dump_reply(self.version, xid, asked.program, dumped)]
