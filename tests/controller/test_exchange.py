"""How FilterPrograms waits, and what it does when the other side is odd: a switch in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from os_ken.base import app_manager  # noqa: F401 - first: os-ken's modules import one another
from os_ken.controller import handler
from os_ken.ofproto import ofproto_parser, ofproto_protocol
from waiting import PATIENCE

from oko.controller import events
from oko.controller.programs import FilterPrograms, NoAnswer, Refused
from oko.errors import OkoError
from oko.openflow import common, extension
from oko.openflow.common import OF13
from oko.openflow.extension import Hello, Loaded, LoadProgram, MapContents, MapName


class Brick:
    """What is used of os-ken's OpenFlow application."""

    def __init__(self) -> None:
        self.handlers: list[tuple[type, Any]] = []
        self.told: list[Any] = []

    def register_handler(self, event_class: type, function: Any) -> None:
        assert event_class in function.callers
        self.handlers.append((event_class, function))

    def send_event_to_observers(self, event: Any, state: str) -> None:
        assert state == handler.MAIN_DISPATCHER
        self.told.append(event)


class Socket:
    def __init__(self) -> None:
        self.number = 3

    def fileno(self) -> int:
        return self.number


class Switch(ofproto_protocol.ProtocolDesc):
    """os-ken's Datapath with a switch behind it: answer(message) gives the replies."""

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        super().__init__(version=OF13)
        self.ofp_brick = Brick()
        self.socket = Socket()
        self.state = handler.MAIN_DISPATCHER
        self.xid = 17
        self.sent: list[bytes] = []
        self._answer = answer

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        for reply in self._answer(data):
            self.receive(reply)
        return True

    def receive(self, data: bytes) -> None:
        """As os-ken's receiving thread."""
        xid = int.from_bytes(data[4:8], "big")
        msg = ofproto_parser.msg(self, OF13, data[1], len(data), xid, data)
        name = f"Event{type(msg).__name__}"
        for event_class, function in self.ofp_brick.handlers:
            if event_class.__name__ == name:
                function(event_class(msg))


def xid_of(data: bytes) -> int:
    return int.from_bytes(data[4:8], "big")


def polite(data: bytes) -> list[bytes]:
    """A switch that knows the extension."""
    if data[1] == common.TYPES[OF13]["BARRIER_REQUEST"]:
        return [common.message(OF13, common.TYPES[OF13]["BARRIER_REPLY"], xid_of(data))]
    said = extension.decode(data)
    if isinstance(said, Hello):
        return [extension.encode(OF13, Hello(7), xid_of(data))]
    if isinstance(said, LoadProgram) and said.last:
        return [extension.encode(OF13, Loaded(said.program or 42), xid_of(data))]
    return []


def error(data: bytes, name: str = "OFPBRC_EPERM", text: str = "") -> list[bytes]:
    told = [extension.encode(OF13, extension.ErrorText(text), xid_of(data))] if text else []
    return [*told, common.encode_error(OF13, xid_of(data), name, data[:64])]


def test_a_switch_without_the_extension() -> None:
    switch = Switch(lambda data: error(data, "OFPBRC_BAD_EXPERIMENTER"))
    programs = FilterPrograms(switch, timeout=1)
    for call in (lambda: programs.load(b"x"), lambda: programs.programs(), programs.subscribe):
        with pytest.raises(Refused, match="does not know oko's extension") as caught:
            call()
        assert caught.value.name == "OFPBRC_BAD_VENDOR" and caught.value.hint
    assert len(switch.sent) == 3, "nothing but greetings was sent"


def test_greets_once() -> None:
    switch = Switch(polite)
    assert FilterPrograms(switch).load(b"x") == 42
    assert FilterPrograms(switch).load(b"y", 5) == 5
    kinds = [type(extension.decode(data)).__name__ for data in switch.sent]
    assert kinds == ["Hello", "LoadProgram", "LoadProgram"]
    assert len({xid_of(data) for data in switch.sent}) == 3
    assert len(switch.ofp_brick.handlers) == 6, "handlers are registered once"
    assert [event.program for event in switch.ofp_brick.told] == [42, 5]


def test_a_silent_switch() -> None:
    programs = FilterPrograms(Switch(lambda data: []), timeout=0.3)
    start = time.monotonic()
    with pytest.raises(NoAnswer, match=r"within 0.3 s") as caught:
        programs.load(b"x")
    assert time.monotonic() - start > 0.2 and "hub.spawn" in caught.value.hint


@pytest.mark.parametrize("how", ("socket", "state"))
def test_the_connection_ends_meanwhile(how: str) -> None:
    switch = Switch(lambda data: [])
    programs = FilterPrograms(switch, timeout=PATIENCE)

    def end() -> None:
        if how == "socket":
            switch.socket.number = -1
        else:
            switch.state = handler.DEAD_DISPATCHER

    threading.Timer(0.1, end).start()
    with pytest.raises(NoAnswer, match="ended before"):  # and not: no answer within
        programs.load(b"x")
    with pytest.raises(NoAnswer, match="is closed"):
        programs.load(b"x")


def test_os_ken_takes_no_more() -> None:
    switch = Switch(polite)
    switch.send = lambda data: False  # type: ignore[method-assign]
    with pytest.raises(NoAnswer, match="is closed"):
        FilterPrograms(switch).load(b"x")


def test_the_switchs_words() -> None:
    def answer(data: bytes) -> list[bytes]:
        greeting = isinstance(extension.decode(data), Hello)
        return polite(data) if greeting else error(data, text="line 3: reads too far")

    switch = Switch(answer)
    with pytest.raises(Refused) as caught:
        FilterPrograms(switch).load(b"x")
    assert (str(caught.value), caught.value.name) == ("line 3: reads too far", "OFPBRC_EPERM")
    (told,) = switch.ofp_brick.told
    assert isinstance(told, events.EventOkoProgramRefused) and told.text == str(caught.value)


def test_an_error_without_words_and_errors_of_others() -> None:
    switch = Switch(polite)
    programs = FilterPrograms(switch)
    programs.load(b"x")
    switch.ofp_brick.told.clear()
    for reply in error(common.message(OF13, common.FLOW_MOD, 99), text="no such program"):
        switch.receive(reply)
    (told,) = switch.ofp_brick.told
    assert isinstance(told, events.EventOkoErrorText) and (told.xid, told.text) == (
        99, "no such program",
    )  # fmt: skip
    switch._answer = error
    with pytest.raises(Refused, match="the switch answers OFPBRC_EPERM"):
        programs.load(b"x")


def test_chunks_of_maps_are_put_together() -> None:
    switch = Switch(polite)
    FilterPrograms(switch)
    parts = [
        (1, ((b"a", b"1"),), extension.MORE),
        (2, ((b"x", b"9"),), 0),
        (1, ((b"b", b"2"),), extension.MORE),
        (1, ((b"c", b"3"),), 0),
        (1, ((b"d", b"4"),), 0),
    ]
    for program, entries, flags in parts:
        part = MapContents(MapName(program, 0, "hosts"), 1, 1, entries, 2, 3, 4, 5, flags)
        switch.receive(extension.encode(OF13, part))
    found = [(e.program, e.entries) for e in switch.ofp_brick.told]
    assert found == [
        (2, {b"x": b"9"}),
        (1, {b"a": b"1", b"b": b"2", b"c": b"3"}),
        (1, {b"d": b"4"}),
    ]
    event = switch.ofp_brick.told[0]
    assert (event.map, event.name, event.table, event.priority) == (0, "hosts", 2, 3)
    assert (event.cookie, event.ns) == (4, 5)


@pytest.mark.parametrize(
    "noise",
    (
        common.experimenter_message(OF13, 5, common.OKO, 77, b"no such message"),
        common.experimenter_message(OF13, 5, common.OKO, extension.SEND_MAPS, b"short"),
        common.experimenter_message(OF13, 5, common.NICIRA, 3, b"not ours"),
        extension.encode(OF13, Loaded(3), 12345),
        extension.encode(OF13, LoadProgram(1, 4, 0, b"what"), 12345),
        common.encode_error(OF13, 12345, "OFPBRC_EPERM", b""),
        common.message(OF13, common.TYPES[OF13]["BARRIER_REPLY"], 12345),
    ),
)
def test_noise_disturbs_nobody(noise: bytes) -> None:
    switch = Switch(polite)
    programs = FilterPrograms(switch)
    switch.receive(noise)
    assert programs.load(b"x") == 42
    assert [type(event).__name__ for event in switch.ofp_brick.told] == ["EventOkoProgramLoaded"]


def test_answers_of_the_wrong_kind() -> None:
    def answer(data: bytes) -> list[bytes]:
        return [common.message(OF13, common.TYPES[OF13]["BARRIER_REPLY"], xid_of(data))]

    with pytest.raises(NoAnswer, match="oddly"):
        FilterPrograms(Switch(answer)).load(b"x")

    def hello(data: bytes) -> list[bytes]:
        return [extension.encode(OF13, Hello(7), xid_of(data))]

    with pytest.raises(NoAnswer, match="oddly"):
        FilterPrograms(Switch(hello)).programs()


def test_what_makes_no_sense_is_not_sent() -> None:
    switch = Switch(polite)
    programs = FilterPrograms(switch)
    for call, words in (
        (lambda: programs.load(b"x", -1), "from 1 to 65535"),
        (lambda: programs.load("no/such.o"), "no/such.o"),
        (lambda: programs.subscribe(interval=0.005), "0.01 s"),
        (lambda: programs.subscribe(interval=-1.0), "0.01 s"),
        (lambda: programs.update(1, 0, {b"a": b"1"}, may_exist=False, must_exist=True), "exist"),
    ):
        with pytest.raises(OkoError, match=words):
            call()
    assert switch.sent == []


def test_nothing_is_left_behind() -> None:
    """Whatever happens to a call, the tables of the exchange are empty afterwards."""
    silent = Switch(lambda data: [])
    programs = FilterPrograms(silent, timeout=0.05)
    with pytest.raises(NoAnswer):
        programs.load(b"x")
    polite_one = Switch(polite)
    other = FilterPrograms(polite_one)
    other.load(b"x")
    other.start_load(b"x")
    other.subscribe(7)
    for exchange in (programs._exchange, other._exchange):
        assert not exchange._waiting and not exchange._loads and not exchange._texts
