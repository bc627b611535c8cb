"""intrusion_filter: gives each host that appears a filter of its own that stops its port scans.

    oko-controller examples/apps/intrusion_filter.py -- --scan-threshold 20

The switch forwards by itself (NORMAL). Packets of hosts without flows come here as well: then the
application loads the filter port_scan for this host alone and adds two flows for what it sends.
What the filter matches is dropped, and its maps are sent here; the rest is forwarded. When the host
was silent for a while its flow goes, and the program with it. Each program has maps of its own, so
that what one host does never hides what another one does.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3

from oko.controller import EventOkoSendMaps, FilterPrograms
from oko.errors import OkoError

FILTER = Path(__file__).parents[1] / "bpf" / "port_scan.o"
WATCH, KNOWN, UNKNOWN = 20, 10, 0  # priorities

cfg.CONF.register_cli_opts(
    [
        cfg.IntOpt("scan-threshold", default=20, help="services that a host may try"),
        cfg.IntOpt("host-seconds", default=300, help="silence after which a host is forgotten"),
    ]
)


class IntrusionFilter(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]  # noqa: RUF012 - os-ken's own form

    def __init__(self, *args, **rest):
        super().__init__(*args, **rest)
        self.elf = FILTER.read_bytes()
        self.hosts = {}  # (datapath id, port, MAC) -> program, None while it is being loaded
        self.told = set()

    @set_ev_cls(ofp_event.EventOFPStateChange, MAIN_DISPATCHER)
    def connected(self, event):
        datapath = event.datapath
        self.hosts = {key: n for key, n in self.hosts.items() if key[0] != datapath.id}
        hub.spawn(self.prepare, datapath)

    def prepare(self, datapath):
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        programs = FilterPrograms(datapath)
        try:
            programs.subscribe()
        except OkoError as exc:
            self.logger.error("switch %016x: %s", datapath.id, exc)
            return
        self.add_flow(
            datapath,
            UNKNOWN,
            {},
            [
                parser.OFPActionOutput(ofproto.OFPP_NORMAL),
                parser.OFPActionOutput(ofproto.OFPP_CONTROLLER, 64),
            ],
        )

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, event):
        msg = event.msg
        mac = packet.Packet(msg.data).get_protocol(ethernet.ethernet).src
        key = (msg.datapath.id, msg.match["in_port"], mac)
        if key in self.hosts:
            return
        self.hosts[key] = None
        hub.spawn(self.watch, msg.datapath, key)  # loading waits; more packets come meanwhile

    def watch(self, datapath, key):
        """Loads the host's program and adds its flows."""
        _, port, mac = key
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        programs = FilterPrograms(datapath)
        try:
            number = programs.load(self.elf)
            programs.update(number, "threshold", {0: self.CONF.scan_threshold})
        except OkoError as exc:
            self.logger.error("%s at port %d: %s", mac, port, exc)
            self.hosts.pop(key, None)
            return
        self.hosts[key] = number
        host = {"in_port": port, "eth_src": mac}
        report = parser.OFPActionOkoSendMaps(number, interval=1000)
        self.add_flow(datapath, WATCH, host | {"filter_prog": number}, [report], cookie=number)
        self.add_flow(
            datapath,
            KNOWN,
            host,
            [parser.OFPActionOutput(ofproto.OFPP_NORMAL)],
            cookie=number,
            idle_timeout=self.CONF.host_seconds,
            flags=ofproto.OFPFF_SEND_FLOW_REM,
        )
        self.logger.info("%s at port %d is watched by program %d", mac, port, number)

    @set_ev_cls(ofp_event.EventOFPFlowRemoved, MAIN_DISPATCHER)
    def silent(self, event):
        msg = event.msg
        key = (msg.datapath.id, msg.match["in_port"], msg.match["eth_src"])
        if self.hosts.get(key) == msg.cookie:
            hub.spawn(self.forget, msg.datapath, key, msg.cookie)

    def forget(self, datapath, key, number):
        try:
            FilterPrograms(datapath).unload(number, force=True)  # its other flow goes, too
        except OkoError as exc:
            self.logger.error("program %d: %s", number, exc)
        self.hosts.pop(key, None)
        self.told = {alarm for alarm in self.told if alarm[0] != number}
        self.logger.info("%s at port %d is forgotten", key[2], key[1])

    @set_ev_cls(EventOkoSendMaps, MAIN_DISPATCHER)
    def scan(self, event):
        if event.name != "scanners":
            return
        mac = next((key[2] for key, n in self.hosts.items() if n == event.program), "?")
        for source, n in event.entries.items():
            tried = int.from_bytes(n, "little")
            alarm = (event.program, source)
            if tried > self.CONF.scan_threshold and alarm not in self.told:
                self.told.add(alarm)
                text = ipaddress.IPv4Address(source)
                self.logger.warning("%s (%s) scans: %d services tried", text, mac, tried)

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
