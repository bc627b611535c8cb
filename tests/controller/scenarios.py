"""An os-ken application that uses oko.controller in every way and logs what came of it.

It runs inside of oko-controller, against a real oko-switchd whose port 1 replays a SYN flood for
ever and whose port 2 takes everything. test_programs.py starts it and judges the results. Each
scenario begins with an empty switch.
"""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import Any

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_0, ofproto_v1_3, ofproto_v1_4, ofproto_v1_5

import oko.controller
from oko.controller import FilterPrograms, NoAnswer, Refused
from oko.errors import OkoError

VERSION = os.environ.get("SCENARIO_VERSION", "1.3")
ROOT = Path(__file__).resolve().parents[2]
FILTERS = ROOT / "examples/bpf"


class Scenarios(app_manager.OSKenApp):
    OFP_VERSIONS = [  # noqa: RUF012
        {"1.0": ofproto_v1_0, "1.3": ofproto_v1_3, "1.4": ofproto_v1_4, "1.5": ofproto_v1_5}[
            VERSION
        ].OFP_VERSION
    ]

    def __init__(self, *args: Any, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.inbox: Any = hub.Queue()

    @set_ev_cls(ofp_event.EventOFPStateChange, MAIN_DISPATCHER)
    def connected(self, event: Any) -> None:
        hub.spawn(self.run_all, event.datapath)

    @set_ev_cls(
        [
            oko.controller.EventOkoSendMaps,
            oko.controller.EventOkoProgramLoaded,
            oko.controller.EventOkoProgramRefused,
            oko.controller.EventOkoErrorText,
            ofp_event.EventOFPErrorMsg,
            ofp_event.EventOFPFlowStatsReply,
            ofp_event.EventOFPFlowDescStatsReply,
        ],
        MAIN_DISPATCHER,
    )
    def heard(self, event: Any) -> None:
        self.inbox.put(event)

    def next(self, kind: type, seconds: float = 5.0) -> Any:
        """The next event of this kind; others are left out."""
        while True:
            event = self.inbox.get(timeout=seconds)
            if isinstance(event, kind):
                return event

    def run_all(self, datapath: Any) -> None:
        programs = FilterPrograms(datapath, 5.0)
        for name in (n for n in dir(self) if n.startswith("scenario_")):
            try:
                self.clear(datapath, programs)
                result = {"value": getattr(self, name)(datapath, programs)}
            except BaseException:
                result = {"error": traceback.format_exc()}
            self.logger.info("RESULT %s", json.dumps({"name": name[9:]} | result))
        self.logger.info("FINISHED")

    def clear(self, datapath: Any, programs: FilterPrograms) -> None:
        delete_flows(datapath)
        programs.unsubscribe()
        for shown in programs.programs():
            programs.unsubscribe(shown.number)
            programs.unload(shown.number, force=True)
        while not self.inbox.empty():
            self.inbox.get()

    # ---------------------------------------------------------------- scenarios

    def scenario_load_show_unload(self, datapath: Any, programs: FilterPrograms) -> Any:
        first = programs.load(FILTERS / "syn_flood.o")
        second = programs.load((FILTERS / "port_scan.o").read_bytes(), 7)
        shown = [(p.number, p.name, [m.name for m in p.maps]) for p in programs.programs()]
        one = programs.programs(7)
        programs.unload(first)
        return {
            "numbers": [first, second],
            "shown": shown,
            "one": [p.number for p in one],
            "size": one[0].size,
            "left": [p.number for p in programs.programs()],
        }

    def scenario_load_source(self, datapath: Any, programs: FilterPrograms) -> Any:
        return programs.load(str(FILTERS / "port_scan.c"), 3)

    def scenario_create_only(self, datapath: Any, programs: FilterPrograms) -> Any:
        programs.load(FILTERS / "syn_flood.o", 5)
        return refused(lambda: programs.load(FILTERS / "syn_flood.o", 5, create_only=True))

    def scenario_replace(self, datapath: Any, programs: FilterPrograms) -> Any:
        programs.load(FILTERS / "syn_flood.o", 5)
        programs.load(FILTERS / "port_scan.o", 5)
        return [p.sha256.hex() for p in programs.programs()]

    def scenario_broken_program(self, datapath: Any, programs: FilterPrograms) -> Any:
        first = refused(lambda: programs.load(b"\x7fELF" + bytes(200)))
        source = Path(os.environ["SCENARIO_DIR"]) / "wild.c"
        source.write_text(
            '#include "oko_bpf.h"\n'
            "uint64_t entry(const void *pkt, uint64_t len)\n"
            "{\n"
            "    return ((const uint8_t *)pkt)[100];\n"
            "}\n"
        )
        return {
            "elf": first,
            "verifier": refused(lambda: programs.load(source)),
            "missing": refused(lambda: programs.load("no/such/file.o")),
            "syntax": refused(lambda: programs.load(__file__.replace(".py", ".c"))),
        }

    def scenario_large_program(self, datapath: Any, programs: FilterPrograms) -> Any:
        """An object of more than 64 KB takes several messages."""
        elf = (FILTERS / "syn_flood.o").read_bytes() + bytes(150_000)
        programs.load(elf, 2)
        return programs.programs(2)[0].size - len(elf)

    def scenario_start_load(self, datapath: Any, programs: FilterPrograms) -> Any:
        good = programs.start_load(FILTERS / "syn_flood.o", 4)
        loaded = self.next(oko.controller.EventOkoProgramLoaded)
        bad = programs.start_load(b"no ELF at all")
        told = self.next(oko.controller.EventOkoProgramRefused)
        return {
            "loaded": [loaded.xid == good, loaded.program, loaded.datapath is datapath],
            "refused": [told.xid == bad, told.error, told.text],
        }

    def scenario_structs(self, datapath: Any, programs: FilterPrograms) -> Any:
        number = programs.load(FILTERS / "syn_flood.o")
        server = {"addr": "ip:10.0.0.1", "port": 53, "zero": 0}
        service = {"since_ns": 5, "half_open": 7, "pad": 0}
        programs.update(number, "services", [(server, service)])
        written = programs.dump(number, "services")
        programs.delete(number, "services", ["{addr=ip:10.0.0.1, port=be16:53, zero=0}"])
        return {
            "written": {k.hex(): v.hex() for k, v in written.items()},
            "left": len(programs.dump(number, "services")),
            "unknown": refused(lambda: programs.update(number, "services", [({"x": 1}, service)])),
        }

    def scenario_maps(self, datapath: Any, programs: FilterPrograms) -> Any:
        number = programs.load(FILTERS / "stateless_firewall.o")
        shown = {m.name: m.number for m in programs.programs(number)[0].maps}
        hosts = next(n for n in shown if n == "blocked")
        n = programs.update(number, hosts, {"ip:10.0.0.1": "u32:1", "ip:10.0.0.2": 2})
        n += programs.update(number, shown[hosts], {bytes([10, 0, 0, 3]): bytes(4)})
        before = programs.dump(number, hosts)
        deleted = programs.delete(number, hosts, ["ip:10.0.0.1"])
        after = programs.dump(number, shown[hosts])
        programs.update(number, hosts, {"ip:10.0.0.77": 7}, replace=True)
        last = programs.dump(number, hosts)
        programs.update(number, hosts, {}, replace=True)
        return {
            "written": n,
            "before": {k.hex(): v.hex() for k, v in sorted(before.items())},
            "deleted": deleted,
            "after": sorted(k.hex() for k in after),
            "replaced": sorted(k.hex() for k in last),
            "emptied": len(programs.dump(number, hosts)),
            "exists": refused(
                lambda: (
                    programs.update(number, hosts, {"ip:10.0.0.77": 1}),
                    programs.update(number, hosts, {"ip:10.0.0.77": 1}, may_exist=False),
                )
            ),
            "unknown": refused(
                lambda: programs.delete(number, hosts, ["ip:10.0.0.77", "ip:10.9.9.9"])
            ),
            "absent": refused(
                lambda: programs.update(number, hosts, {"ip:10.0.0.78": 1}, must_exist=True)
            ),
            "map": refused(lambda: programs.dump(number, "nonesuch")),
            "typed": refused(lambda: programs.update(number, "nonesuch", {"ip:10.0.0.1": 1})),
            "program": refused(lambda: programs.dump(99, 0)),
            "sizes": refused(lambda: programs.update(number, hosts, {b"12345": b"1"})),
            "mixed": refused(lambda: programs.update(number, hosts, {b"1234": b"1", b"1": b"1"})),
        }

    def scenario_large_map(self, datapath: Any, programs: FilterPrograms) -> Any:
        """More entries than one message holds, both ways."""
        number = programs.load(FILTERS / "syn_flood.o")
        entries = {i.to_bytes(12, "big"): i.to_bytes(8, "little") for i in range(20_000)}
        written = programs.update(number, "pending", entries)
        found = programs.dump(number, "pending")
        deleted = programs.delete(number, "pending", list(entries)[:15_000])
        return [written, found == entries, deleted, len(programs.dump(number, "pending"))]

    def scenario_flow(self, datapath: Any, programs: FilterPrograms) -> Any:
        """A flow with a filter is installed, shown with it, and matches packets."""
        number = programs.load(FILTERS / "syn_flood.o")
        programs.update(number, "limit", {0: "u32:5"})
        add_flow(datapath, 10, {"in_port": 1, "filter_prog": number}, [])
        output = datapath.ofproto_parser.OFPActionOutput(2)
        add_flow(datapath, 1, {"in_port": 1}, [output])
        matched = wait_until(lambda: programs.programs(number)[0].matches > 100)
        return {"matched": matched, "flows": sorted(flow_stats(self, datapath))}

    def scenario_flow_text(self, datapath: Any, programs: FilterPrograms) -> Any:
        """Flows with filters in every version of OpenFlow: as text."""
        number = programs.load(FILTERS / "syn_flood.o")
        programs.update(number, "limit", {0: "u32:5"})
        texts = [f"priority=10,in_port=1,filter_prog={number},actions=send_maps({number})",
                 "priority=1,in_port=1,actions=output:2"]  # fmt: skip
        for text in texts:
            datapath.send_msg(oko.controller.flow_mod(datapath, text))
        matched = wait_until(lambda: programs.programs(number)[0].matches > 100)
        used = programs.programs(number)[0].n_flows
        delete = oko.controller.flow_mod(datapath, f"filter_prog={number}", "delete")
        datapath.send_msg(delete)
        programs.unload(number)  # refused while a flow uses it
        wrong = oko.controller.flow_mod(datapath, "filter_prog=4321,actions=drop")
        datapath.send_msg(wrong)
        told = self.next(oko.controller.EventOkoErrorText)
        return {
            "matched": matched, "used": used, "told": [told.xid == wrong.xid, told.text],
            "command": refused(lambda: oko.controller.flow_mod(datapath, "tcp", "remove")),
            "text": refused(lambda: oko.controller.flow_mod(datapath, "tpc,actions=drop")),
            "table": VERSION != "1.0" or refused(
                lambda: oko.controller.flow_mod(datapath, "table=1,actions=drop")
            ),
        }  # fmt: skip

    def scenario_flow_without_program(self, datapath: Any, programs: FilterPrograms) -> Any:
        xid = add_flow(datapath, 10, {"filter_prog": 1234}, [])
        told = self.next(oko.controller.EventOkoErrorText)
        error = self.next(ofp_event.EventOFPErrorMsg)
        return {"text": told.text, "same": [told.xid == xid, error.msg.xid == xid]}

    def scenario_send_maps(self, datapath: Any, programs: FilterPrograms) -> Any:
        number = programs.load(FILTERS / "syn_flood.o")
        programs.update(number, "limit", {0: "u32:5"})
        programs.subscribe(number)
        parser = datapath.ofproto_parser
        actions = [parser.OFPActionOkoSendMaps(number, interval=50), parser.OFPActionOutput(2)]
        add_flow(datapath, 10, {"in_port": 1, "filter_prog": number}, actions, cookie=0xC0)
        add_flow(datapath, 1, {"in_port": 1}, [])
        heard = {}
        for _ in range(8):
            event = self.next(oko.controller.EventOkoSendMaps)
            heard[event.name] = event
        cause = {(e.program == number, e.table, e.priority, e.cookie) for e in heard.values()}
        programs.unsubscribe(number)
        return {
            "maps": sorted(heard),
            "cause": sorted(cause),
            "refused": int.from_bytes(next(iter(heard["refused"].entries.values())), "little") > 0,
            "services": len(heard["services"].entries),
            "time": heard["refused"].ns > 0,
        }

    def scenario_periodic(self, datapath: Any, programs: FilterPrograms) -> Any:
        number = programs.load(FILTERS / "syn_flood.o")
        entries = {i.to_bytes(12, "big"): bytes(8) for i in range(5_000)}
        programs.update(number, "pending", entries)
        programs.subscribe(number, [0, 2], interval=0.05)
        heard = [self.next(oko.controller.EventOkoSendMaps) for _ in range(6)]
        programs.unsubscribe(number)
        hub.sleep(0.2)
        while not self.inbox.empty():
            self.inbox.get()
        hub.sleep(0.3)
        return {
            "maps": sorted({event.map for event in heard}),
            "whole": {len(e.entries) for e in heard if e.name == "pending"} == {5_000},
            "quiet": self.inbox.empty(),
            "wrong": refused(lambda: programs.subscribe(99)),
            "interval": refused(lambda: programs.subscribe(interval=0.001)),
        }

    def scenario_many_at_once(self, datapath: Any, programs: FilterPrograms) -> Any:
        """Replies find their way to whoever asked."""
        number = programs.load(FILTERS / "stateless_firewall.o")
        name = next(m.name for m in programs.programs(number)[0].maps if m.name == "blocked")
        done: Any = hub.Queue()

        def worker(i: int) -> None:
            try:
                for j in range(20):
                    key = bytes([10, i, j, 1])
                    assert programs.update(number, name, {key: bytes([i, 0, 0, 0])}) == 1
                    assert programs.dump(number, name)[key] == bytes([i, 0, 0, 0])
                done.put("")
            except Exception:
                done.put(traceback.format_exc())

        for i in range(8):
            hub.spawn(worker, i)
        failures = [done.get(timeout=60) for _ in range(8)]
        return {"failures": "".join(failures), "entries": len(programs.dump(number, name))}

    def scenario_numbers(self, datapath: Any, programs: FilterPrograms) -> Any:
        return {
            "load": refused(lambda: programs.load(b"x", 70_000)),
            "unload": refused(lambda: programs.unload(77)),
            "show": refused(lambda: programs.programs(77)),
            "nothing": [programs.update(1, 0, {}), programs.delete(1, 0, [])],
        }


def refused(function: Any) -> Any:
    """[class, name of the OpenFlow error, text] of what it raises; None: nothing."""
    try:
        function()
    except OkoError as exc:
        assert type(exc) in (Refused, NoAnswer) or not hasattr(exc, "name")
        return [type(exc).__name__, getattr(exc, "name", ""), str(exc)]
    return None


def wait_until(function: Any) -> bool:
    """As waiting.wait_until(), but other green threads go on."""
    for _ in range(1200):
        if function():
            return True
        hub.sleep(0.05)
    return False


def add_flow(
    datapath: Any, priority: int, match: dict[str, Any], actions: list[Any], cookie: int = 0
) -> int:
    parser, ofproto = datapath.ofproto_parser, datapath.ofproto
    apply = parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, actions)
    mod = parser.OFPFlowMod(
        datapath,
        priority=priority,
        cookie=cookie,
        match=parser.OFPMatch(**match),
        instructions=[apply],
    )
    datapath.send_msg(mod)
    return int(mod.xid)


def delete_flows(datapath: Any) -> None:
    parser, ofproto = datapath.ofproto_parser, datapath.ofproto
    if VERSION == "1.0":
        mod = parser.OFPFlowMod(datapath, parser.OFPMatch(), 0, ofproto.OFPFC_DELETE,
                                out_port=ofproto.OFPP_NONE)  # fmt: skip
    else:
        mod = parser.OFPFlowMod(
            datapath,
            command=ofproto.OFPFC_DELETE,
            table_id=ofproto.OFPTT_ALL,
            out_port=ofproto.OFPP_ANY,
            out_group=ofproto.OFPG_ANY,
            match=parser.OFPMatch(),
        )
    datapath.send_msg(mod)


def flow_stats(app: Scenarios, datapath: Any) -> list[list[Any]]:
    kind = "OFPFlowDescStats" if VERSION == "1.5" else "OFPFlowStats"
    datapath.send_msg(getattr(datapath.ofproto_parser, f"{kind}Request")(datapath))
    reply = app.next(getattr(ofp_event, f"Event{kind}Reply"))
    return [[flow.priority, dict(flow.match.items())] for flow in reply.msg.body]


if VERSION == "1.0":  # without OXM there are no flows with filters
    for _name in ("flow", "flow_without_program", "send_maps"):
        delattr(Scenarios, f"scenario_{_name}")
