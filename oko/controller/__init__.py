"""What an os-ken application needs to use oko's extension: filter programs from a controller.

    import oko.controller                                   # os-ken now knows the extension

    match = parser.OFPMatch(in_port=1, filter_prog=1)
    actions = [parser.OFPActionOkoSendMaps(1), parser.OFPActionOutput(2)]

    programs = oko.controller.FilterPrograms(datapath)
    number = programs.load("syn_flood.c")                   # Refused: the switch's words

codec.py teaches os-ken's parsers the match field and the action, flows.py makes flow-mods of
text, programs.py has oko's own
messages as calls (exchange.py carries them), events.py what an application can handle, launcher.py
is `oko-controller`. The wire format is in oko/openflow/extension.py and stays there.

Importing this package imports os-ken's codecs, but neither its hub (eventlet or threads) nor its
controller; those come with FilterPrograms and the events. The compiled extension is never needed: a
controller runs where there is no switch.

Ryu, from which os-ken descends, is served by name where os-ken is not installed; untested, because
Ryu no longer installs on the Pythons that oko supports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .codec import register

if TYPE_CHECKING:
    from .events import (
        EventOkoErrorText,
        EventOkoProgramLoaded,
        EventOkoProgramRefused,
        EventOkoSendMaps,
    )
    from .flows import flow_mod
    from .programs import FilterPrograms, NoAnswer, Refused

register()

_HOME = {
    "EventOkoErrorText": "events",
    "EventOkoProgramLoaded": "events",
    "EventOkoProgramRefused": "events",
    "EventOkoSendMaps": "events",
    "FilterPrograms": "programs",
    "NoAnswer": "programs",
    "Refused": "programs",
    "flow_mod": "flows",
}

__all__ = [
    "EventOkoErrorText",
    "EventOkoProgramLoaded",
    "EventOkoProgramRefused",
    "EventOkoSendMaps",
    "FilterPrograms",
    "NoAnswer",
    "Refused",
    "flow_mod",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'oko.controller' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
