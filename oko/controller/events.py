"""What an application can handle, as os-ken's own events:

    @set_ev_cls(EventOkoSendMaps, MAIN_DISPATCHER)
    def maps(self, ev): ...

They come from os-ken's OpenFlow handler, like those of os_ken.controller.ofp_event, and only for
switches for which the application (or another one) made a FilterPrograms.
"""

from __future__ import annotations

from typing import Any

from . import framework

_event = framework.module("controller.event")
_ofp_handler = framework.module("controller.ofp_handler")


class EventOkoSendMaps(_event.EventBase):  # type: ignore[misc, name-defined]
    """The contents of a map, whole, because a packet hit a flow with send_maps or periodically.

    program, map: numbers; name: the map's; entries: {key: value}, bytes as in the map.
    table, priority, cookie: the flow; ns: when the packet came, since 1970 (all 0: periodic).
    """

    def __init__(
        self,
        datapath: Any,
        program: int,
        map: int,
        name: str,
        entries: dict[bytes, bytes],
        table: int = 0,
        priority: int = 0,
        cookie: int = 0,
        ns: int = 0,
    ) -> None:
        super().__init__()
        self.datapath = datapath
        self.program = program
        self.map = map
        self.name = name
        self.entries = entries
        self.table = table
        self.priority = priority
        self.cookie = cookie
        self.ns = ns


class EventOkoProgramLoaded(_event.EventBase):  # type: ignore[misc, name-defined]
    """A load succeeded. xid: as start_load() returned it; program: its number."""

    def __init__(self, datapath: Any, xid: int, program: int) -> None:
        super().__init__()
        self.datapath = datapath
        self.xid = xid
        self.program = program


class EventOkoProgramRefused(_event.EventBase):  # type: ignore[misc, name-defined]
    """A load failed. error: name of the OpenFlow error; text: the switch's words."""

    def __init__(self, datapath: Any, xid: int, error: str, text: str) -> None:
        super().__init__()
        self.datapath = datapath
        self.xid = xid
        self.error = error
        self.text = text


class EventOkoErrorText(_event.EventBase):  # type: ignore[misc, name-defined]
    """Why the switch refuses a message of this application's own (a flow-mod), in words; the
    OpenFlow error with the same xid follows."""

    def __init__(self, datapath: Any, xid: int, text: str) -> None:
        super().__init__()
        self.datapath = datapath
        self.xid = xid
        self.text = text


# Who sends these events: an application that handles one makes os-ken load its OpenFlow handler,
# and the handler learns who wants to hear of them.
_SERVICE_NAME = _ofp_handler.__name__
EVENTS = (
    EventOkoSendMaps,
    EventOkoProgramLoaded,
    EventOkoProgramRefused,
    EventOkoErrorText,
)
_ofp_handler.OFPHandler._EVENTS = [*_ofp_handler.OFPHandler._EVENTS, *EVENTS]
