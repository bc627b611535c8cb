"""ddos_guard: keeps SYN floods away from servers, and blocks the networks that they come from.

    oko-switchd --bridge br0 --port 1=afpacket:veth0 --port 2=afpacket:veth1 \\
        --controller tcp:127.0.0.1:6653
    oko-controller examples/apps/ddos_guard.py -- --guard-limit 64 --guard-seconds 60

The filter syn_flood counts half-open connections of every service in the switch and drops what is
too much; nothing of that passes through the controller. Each drop lets the switch send the filter's
maps here, at most twice a second. The table of pending connections then shows where they come from:
a /24 network that holds too many gets a flow that drops its packets for a while.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections import defaultdict
from pathlib import Path

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_3

from oko.controller import EventOkoSendMaps, FilterPrograms
from oko.errors import OkoError

FILTER = Path(__file__).parents[1] / "bpf" / "syn_flood.o"
BLOCK, GUARD, FORWARD = 30, 20, 0  # priorities

cfg.CONF.register_cli_opts(
    [
        cfg.IntOpt("guard-limit", default=64, help="half-open connections that a server may have"),
        cfg.IntOpt("guard-sources", default=20, help="those that a /24 network may have"),
        cfg.IntOpt("guard-seconds", default=60, help="how long a network is blocked"),
    ]
)


class DdosGuard(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]  # noqa: RUF012 - os-ken's own form

    @set_ev_cls(ofp_event.EventOFPStateChange, MAIN_DISPATCHER)
    def connected(self, event):
        hub.spawn(self.guard, event.datapath)  # it waits for answers: not in the handler

    def guard(self, datapath):
        programs = FilterPrograms(datapath)
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        try:
            number = programs.load(FILTER)
            programs.update(number, "limit", {0: self.CONF.guard_limit})
            programs.subscribe(number)
        except OkoError as exc:
            self.logger.error("switch %016x: %s", datapath.id, exc)
            return
        self.add_flow(datapath, FORWARD, {}, [parser.OFPActionOutput(ofproto.OFPP_NORMAL)])
        self.add_flow(
            datapath,
            GUARD,
            {"filter_prog": number},
            [parser.OFPActionOkoSendMaps(number, interval=500)],  # and no output: dropped
        )
        self.logger.info("switch %016x: guarded by program %d", datapath.id, number)

    @set_ev_cls(EventOkoSendMaps, MAIN_DISPATCHER)
    def maps(self, event):
        if event.name == "refused":
            n = int.from_bytes(event.entries[bytes(4)], "little")
            self.logger.info("switch %016x: %d SYNs dropped so far", event.datapath.id, n)
        if event.name != "pending":
            return
        networks = defaultdict(list)
        for connection in event.entries:
            networks[connection[:3]].append(connection)  # it begins with the source address
        for prefix, connections in networks.items():
            if len(connections) > self.CONF.guard_sources:
                self.block(event, ipaddress.IPv4Network((prefix + bytes(1), 24)), connections)

    def block(self, event, network, connections):
        """Drops what comes from there for a while, and forgets its connections."""
        address, mask = str(network.network_address), str(network.netmask)
        self.add_flow(
            event.datapath,
            BLOCK,
            {"eth_type": 0x0800, "ipv4_src": (address, mask)},
            [],
            hard_timeout=self.CONF.guard_seconds,
        )
        self.logger.info("blocked %s: %d half-open connections", network, len(connections))
        with contextlib.suppress(OkoError):  # one was completed meanwhile: the next maps will tell
            FilterPrograms(event.datapath).delete(event.program, event.map, connections)

    def add_flow(self, datapath, priority, match, actions, **rest):
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        apply = parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, actions)
        datapath.send_msg(
            parser.OFPFlowMod(
                datapath,
                priority=priority,
                match=parser.OFPMatch(**match),
                instructions=[apply],
                **rest,
            )
        )
