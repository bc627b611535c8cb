"""Faucet with filter programs: an ACL can say `filter_prog: 1`.

    OKO_FAUCET_PROGRAMS=1=/etc/faucet/port_scan.o faucet --ryu-app-lists oko.controller.faucet

    acls:
      guard:
        - rule: {filter_prog: 1, actions: {allow: False}}
        - rule: {actions: {allow: True}}

Faucet accepts the match fields of one table, to which this module adds filter_prog when it is
imported. OKO_FAUCET_PROGRAMS (number=path, separated by commas; objects, or C source) names the
programs that switches need. They are sent to each switch that connects, from the thread that
receives and before Faucet has seen the switch: its flows come after them on the same connection,
and the switch carries out one message after another.

Programs that something else loads (oko-ofctl, the switch's state) need no entry there. A reload
keeps the contents of maps. Runs under Faucet's own command and under oko-controller.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from faucet import valve_of
from faucet.conf import test_config_condition

from oko.errors import OkoError

from . import framework
from .codec import register
from .events import EventOkoProgramLoaded, EventOkoProgramRefused
from .programs import FilterPrograms, read_program

register()

VARIABLE = "OKO_FAUCET_PROGRAMS"
_app_manager = framework.module("base.app_manager")
_handler = framework.module("controller.handler")
_ofp_event = framework.module("controller.ofp_event")


def _program(value: Any) -> int:
    """What an ACL says for filter_prog."""
    text = str(value)
    test_config_condition(
        not text.isdecimal() or not 1 <= int(text) <= 0xFFFF,
        f"filter_prog: {text} is not a number from 1 to 65535",
    )
    return int(text)


valve_of.MATCH_FIELDS["filter_prog"] = _program


def programs_of(text: str) -> dict[int, Path]:
    """Number and path of each program in OKO_FAUCET_PROGRAMS; OkoError: it makes no sense."""
    found = {}
    for item in filter(None, (word.strip() for word in text.split(","))):
        number, _, path = item.partition("=")
        if not number.isdecimal() or not 1 <= int(number) <= 0xFFFF or not path:
            raise OkoError(f"{VARIABLE}: {item!r} is not NUMBER=PATH, such as 1=port_scan.o")
        found[int(number)] = Path(path)
    return found


class OkoFaucet(_app_manager.OSKenApp):  # type: ignore[misc, name-defined]
    """Sends the programs to every switch that connects, and logs what came of it."""

    def __init__(self, *args: Any, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.paths = programs_of(os.environ.get(VARIABLE, ""))
        self.objects = {number: read_program(path) for number, path in self.paths.items()}
        self.loads: dict[int, int] = {}  # by xid: the number of the program

    def start(self) -> None:
        """Called by os-ken when all applications are there."""
        super().start()
        # In the receiving thread, before any application sees the event: a handler of this one
        # would be in a race with Faucet's.
        framework.receive(
            _app_manager.lookup_service_brick("ofp_event"),
            _ofp_event.EventOFPSwitchFeatures,
            [_handler.CONFIG_DISPATCHER],
            self._switch_features,
        )

    def _switch_features(self, event: Any) -> None:
        programs = FilterPrograms(event.msg.datapath)
        for number, elf in self.objects.items():
            try:
                self.loads[programs.start_load(elf, number)] = number
            except OkoError as exc:
                self.logger.error("program %d: %s", number, exc)

    @_handler.set_ev_cls(EventOkoProgramLoaded)  # type: ignore[untyped-decorator, unused-ignore]
    def loaded(self, event: Any) -> None:
        """A switch took it."""
        number = self.loads.pop(event.xid, None)
        if number is not None:
            self.logger.info(
                "switch %#x: program %d is %s", event.datapath.id, number, self.paths[number]
            )

    @_handler.set_ev_cls(EventOkoProgramRefused)  # type: ignore[untyped-decorator, unused-ignore]
    def refused(self, event: Any) -> None:
        """A switch did not; Faucet's flows that name it will be refused as well."""
        number = self.loads.pop(event.xid, None)
        if number is not None:
            self.logger.error(
                "switch %#x refuses program %d (%s): %s",
                event.datapath.id, number, self.paths[number], event.text,
            )  # fmt: skip
