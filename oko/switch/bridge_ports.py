"""A bridge's ports: descriptions, configuration, links, queues, counters. A part of Bridge."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from oko.datapath import Datapath
from oko.errors import OkoError
from oko.switch import ports as port
from oko.switch.config import PortConfig
from oko.switch.events import PORT_ADD, PORT_DELETE, PORT_MODIFY, BridgeEvent, PortStatus
from oko.switch.ports import Port, PortStats, QueueStats
from oko.switch.state import State
from oko.switch.values import BridgeError


class BridgePorts(ABC):
    """What a bridge knows of its ports."""

    name: str
    datapath: Datapath
    state: State | None

    def __init__(self) -> None:
        self._ports: dict[int, Port] = {}
        self._port_born: dict[int, int] = {}
        self._devices: dict[int, str] = {}

    @abstractmethod
    def _tell(self, event: BridgeEvent) -> None:
        """Hands an event to the listeners."""

    @property
    def now(self) -> int:
        """The datapath clock, ns."""
        return self.datapath.now

    def add_port(
        self,
        number: int,
        name: str,
        *,
        kind: str = "null",
        device: str = "",
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Adds a port to bridge and datapath and tells the listeners. device: for live kinds, or a
        capture; options: as in a configuration."""
        if number in self._ports:
            raise OkoError(f"bridge {self.name}: there is a port {number} already")
        if kind == "pcap":
            port.add_capture(self.datapath, number, name, device, options)
        else:
            self.datapath.add_port(number, name, kind=kind, device=device)
        added = Port(
            number=number,
            name=name,
            hw_addr=port.made_up_address(self.name, str(number)),
            kind=kind,
            state=port.LIVE,
        )
        if kind in port.DEVICE_KINDS:
            self._devices[number] = device or name
            added = port.with_liveness(port.look_at_device(added, device or name))
            self.datapath.set_port_flags(number, port.flags_of(added.config, added.state))
        self._ports[number] = added
        self._port_born[number] = time.monotonic_ns()
        self._tell(PortStatus(PORT_ADD, added))

    def open_port(self, config: PortConfig) -> None:
        """Adds the port that a configuration describes."""
        device = config.target
        if config.kind == "internal" and not device:
            device = self.name if config.number == port.LOCAL else config.name
        self.add_port(
            config.number, config.name, kind=config.kind, device=device,
            options=dict(config.options),
        )  # fmt: skip
        self.set_queues(config.number, dict(config.queues))

    def remove_port(self, number: int) -> None:
        """Removes a port; flows that name it stay, and drop."""
        gone = self._port(number)
        self.datapath.remove_port(number)
        del self._ports[number], self._port_born[number]
        self._devices.pop(number, None)
        self._tell(PortStatus(PORT_DELETE, gone))

    def ports(self) -> list[Port]:
        """All ports in rising number; the local one comes last."""
        return [self._ports[number] for number in sorted(self._ports)]

    def _port(self, number: int) -> Port:
        if number not in self._ports:
            raise BridgeError(f"there is no port {number}", "OFPPMFC_BAD_PORT")
        return self._ports[number]

    def check_port(self, number: int, hw_addr: int | None) -> Port:
        """The port that modify_port() would change; BridgeError if it would refuse."""
        found = self._port(number)
        if hw_addr and hw_addr != found.hw_addr:
            raise BridgeError(f"port {number} has another hardware address", "OFPPMFC_BAD_HW_ADDR")
        return found

    def modify_port(self, number: int, hw_addr: int | None, config: int, mask: int) -> None:
        """OFPT_PORT_MOD: sets the OFPPC_* bits in mask. hw_addr must be the port's own, 0 or None:
        not given."""
        old = self.check_port(number, hw_addr)
        mask &= port.CONFIG_BITS
        new = (old.config & ~mask) | (config & mask)
        self._change_port(replace(old, config=new))
        if self.state is not None and new != old.config:
            self.state.port_changed(number, new)

    def _change_port(self, new: Port) -> None:
        new = port.with_liveness(new)
        if new == self._ports[new.number]:
            return
        self.datapath.set_port_flags(new.number, port.flags_of(new.config, new.state))
        self._ports[new.number] = new
        self._tell(PortStatus(PORT_MODIFY, new))

    def look_at_links(self) -> None:
        """Looks whether devices went up or down, and tells the listeners."""
        for number, device in self._devices.items():
            self._change_port(port.look_at_device(self._ports[number], device))

    def port_stats(self, number: int | None = None) -> list[PortStats]:
        """Counters of one port, or (None) of all."""
        if number is not None:
            self._port(number)
        now = time.monotonic_ns()
        return [
            PortStats(
                number=p.number,
                rx_packets=p.rx_packets,
                tx_packets=p.tx_packets,
                rx_bytes=p.rx_bytes,
                tx_bytes=p.tx_bytes,
                rx_dropped=p.rx_dropped,
                tx_dropped=p.tx_dropped,
                rx_errors=0,
                tx_errors=0,
                duration=now - self._port_born[p.number],
            )
            for p in self.datapath.ports()
            if number in (None, p.number)
        ]

    def set_queues(self, number: int, queues: Mapping[int, int]) -> None:
        """Declares the queues of a port: by number, bit/s beyond which packets are dropped (0: no
        limit). Those that it has already keep their counters."""
        self._port(number)
        self.datapath.set_queues(number, queues)

    def queue_stats(self, number: int | None = None) -> list[QueueStats]:
        """Declared queues of one port, or (None) of all, with counters."""
        if number is not None:
            self._port(number)
        now = self.now
        return [
            QueueStats(
                q.port, q.id, q.tx_bytes, q.tx_packets, q.tx_errors,
                max(0, now - q.created_ns), q.max_rate,
            )
            for q in self.datapath.queues()
            if number in (None, q.port)
        ]  # fmt: skip
