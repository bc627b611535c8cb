"""heavy_hitters: who sends most, on the terminal, as it happens.

    oko-controller examples/apps/heavy_hitters.py -- --hitters-threshold 1000

The filter heavy_hitter counts the packets of all sources in the switch, in a sketch of fixed size,
and lists those that sent more than their share. It changes nothing: what it matches is forwarded as
the rest is. The switch sends the list once a second; on a terminal it is a table that is renewed,
elsewhere a line for each source.
"""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_3
from rich.console import Console
from rich.live import Live
from rich.table import Table

from oko.controller import EventOkoSendMaps, FilterPrograms
from oko.errors import OkoError

FILTER = Path(__file__).parents[1] / "bpf" / "heavy_hitter.o"
ROWS = 20

cfg.CONF.register_cli_opts(
    [
        cfg.IntOpt("hitters-threshold", default=100, help="packets from which on a source counts"),
        cfg.FloatOpt("hitters-interval", default=1.0, help="seconds between two tables"),
    ]
)


class HeavyHitters(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]  # noqa: RUF012 - os-ken's own form

    def __init__(self, *args, **rest):
        super().__init__(*args, **rest)
        self.console = Console()
        self.live = Live(console=self.console) if self.console.is_terminal else None
        self.before = {}  # by switch: (time, {source: packets})

    def close(self):
        if self.live is not None:
            self.live.stop()

    @set_ev_cls(ofp_event.EventOFPStateChange, MAIN_DISPATCHER)
    def connected(self, event):
        hub.spawn(self.watch, event.datapath)  # it waits for answers: not in the handler

    def watch(self, datapath):
        programs = FilterPrograms(datapath)
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        try:
            number = programs.load(FILTER)
            programs.update(number, "threshold", {0: self.CONF.hitters_threshold})
            hitters = next(
                m.number for m in programs.programs(number)[0].maps if m.name == "hitters"
            )
            programs.subscribe(number, [hitters], interval=self.CONF.hitters_interval)
        except OkoError as exc:
            self.logger.error("switch %016x: %s", datapath.id, exc)
            return
        for priority, match in ((10, {"filter_prog": number}), (0, {})):
            forward = [parser.OFPActionOutput(ofproto.OFPP_NORMAL)]
            apply = parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, forward)
            datapath.send_msg(
                parser.OFPFlowMod(
                    datapath,
                    priority=priority,
                    match=parser.OFPMatch(**match),
                    instructions=[apply],
                )
            )
        if self.live is not None:
            self.live.start()

    @set_ev_cls(EventOkoSendMaps, MAIN_DISPATCHER)
    def hitters(self, event):
        now = time.monotonic()
        counts = {source: int.from_bytes(n, "little") for source, n in event.entries.items()}
        then, old = self.before.get(event.datapath.id, (now, {}))
        self.before[event.datapath.id] = (now, counts)
        seconds = max(now - then, 0.001)
        rows = [
            (address(source), n, (n - old.get(source, 0)) / seconds if old else 0.0)
            for source, n in sorted(counts.items(), key=lambda item: -item[1])[:ROWS]
        ]
        if self.live is not None:
            self.live.update(table(event.datapath.id, len(counts), rows))
            return
        for source, n, rate in rows:
            self.console.print(f"{source} {n} packets, {rate:.0f}/s", highlight=False)


def address(source):
    """As people write it; IPv4 sources are mapped into IPv6."""
    found = ipaddress.IPv6Address(source)
    return str(found.ipv4_mapped or found)


def table(dpid, n, rows):
    made = Table(title=f"Heavy hitters of switch {dpid:016x}", caption=f"{n} sources in all")
    made.add_column("source", style="bold")
    made.add_column("packets over the threshold", justify="right")
    made.add_column("per second", justify="right")
    for source, count, rate in rows:
        made.add_row(source, f"{count:,}", f"{rate:,.0f}")
    return made
