"""Runs scenarios.py in oko-controller against a real oko-switchd and collects the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controller_process import COMMAND, ROOT, Controller
from switchd_process import Switchd

FLOOD = ROOT / "examples" / "traces" / "syn-flood.pcap"
SCENARIOS = Path(__file__).with_name("scenarios.py")
NAMES = (
    "broken_program", "create_only", "flow", "flow_text", "flow_without_program", "large_map",
    "large_program", "load_show_unload", "load_source", "many_at_once", "maps", "numbers",
    "periodic", "replace", "send_maps", "start_load", "structs",
)  # fmt: skip


def switch_for(port: int, run_dir: Path, *arguments: str) -> Switchd:
    """A switch that connects to a controller: port 1 replays a SYN flood, port 2 takes all."""
    return Switchd(
        run_dir, "--bridge", "br0", "--port", f"1=pcap:{FLOOD},speed=10,loop", "--port", "2=null",
        "--controller", f"tcp:127.0.0.1:{port}", *arguments,
    )  # fmt: skip


def run_scenarios(
    tmp_path: Path, *, hub: str = "native", version: str = "1.3", command: Sequence[str] = COMMAND
) -> dict[str, Any]:
    """By scenario: what it returned. AssertionError: one of them raised."""
    variables = {"SCENARIO_VERSION": version, "SCENARIO_DIR": str(tmp_path)}
    with (
        Controller(SCENARIOS, hub=hub, env=variables, command=command) as controller,
        switch_for(
            controller.port, tmp_path / "run", "--protocols", "OpenFlow" + version.replace(".", "")
        ),
    ):
        controller.wait_for("FINISHED")
        assert controller.stop() == 0
        results = {}
        for line in controller.log():
            _, found, text = line.partition("RESULT ")
            if found:
                result = json.loads(text)
                results[result["name"]] = result
        log = "\n".join(line for line in controller.log() if "RESULT" not in line)
        assert "Traceback" not in log, log
    return results


def judge(results: dict[str, Any], name: str) -> None:
    """Whether a scenario came out as it should."""
    result = results[name]
    assert "error" not in result, result["error"]
    _CHECKS[name](result["value"])


def _load_show_unload(value: Any) -> None:
    first, second = value["numbers"]
    assert second == 7 and first not in (0, 7)
    assert value["shown"] == sorted(value["shown"])
    by_number = {number: maps for number, _, maps in value["shown"]}
    assert by_number.keys() == {first, second}
    assert by_number[first] == ["pending", "services", "limit", "refused"]
    assert value["one"] == [7] and value["left"] == [7]
    assert value["size"] == (ROOT / "examples/bpf/port_scan.o").stat().st_size


def _structs(value: Any) -> None:
    assert value["written"] == {"0a00000100350000": "05" + "00" * 7 + "07" + "00" * 7}
    assert value["left"] == 0
    kind, _, text = value["unknown"]
    assert kind == "TypedValueError" and "unknown field 'x'" in text


def _load_source(value: Any) -> None:
    assert value == 3


def _create_only(value: Any) -> None:
    kind, _, text = value
    assert kind == "Refused" and "5" in text


def _replace(value: Any) -> None:
    import hashlib

    elf = (ROOT / "examples/bpf/port_scan.o").read_bytes()
    assert value == [hashlib.sha256(elf).hexdigest()]


def _broken_program(value: Any) -> None:
    assert value["elf"][0] == "Refused" and value["elf"][2]
    kind, _, text = value["verifier"]
    assert kind == "Refused" and "wild.c:4" in text, "the verifier names the line of the source"
    assert value["missing"] == ["OkoError", "", "no/such/file.o: No such file or directory"]
    kind, _, text = value["syntax"]
    assert kind == "ToolchainError" and "undeclared_name" in text and "scenarios.c:5" in text


def _large_program(value: Any) -> None:
    assert value == 0


def _start_load(value: Any) -> None:
    assert value["loaded"] == [True, 4, True]
    same, error, text = value["refused"]
    assert same and error.startswith("OFP") and "ELF" in text


def _maps(value: Any) -> None:
    assert value["written"] == 3
    assert value["before"] == {"0a000001": "01000000", "0a000002": "02000000", "0a000003": "00" * 4}
    assert value["deleted"] == 1
    assert value["after"] == ["0a000002", "0a000003"]
    assert value["replaced"] == ["0a00004d"] and value["emptied"] == 0
    for name in ("exists", "unknown", "absent", "map", "program", "sizes"):
        assert value[name][0] == "Refused" and value[name][2], name
    assert value["typed"][0] == "OkoError" and "nonesuch" in value["typed"][2]
    assert value["mixed"][2] == "entry 1 has other sizes than entry 0"


def _large_map(value: Any) -> None:
    assert value == [20_000, True, 15_000, 5_000]


def _flow(value: Any) -> None:
    assert value["matched"] is True
    (low, plain), (high, filtered) = value["flows"]
    assert (low, high) == (1, 10) and plain == {"in_port": 1}
    assert filtered.keys() == {"in_port", "filter_prog"}


def _flow_text(value: Any) -> None:
    assert (value["matched"], value["used"]) == (True, 1), value
    assert value["told"][0] is True and "4321" in value["told"][1]
    assert "no command 'remove'" in value["command"][2]
    assert 'unknown field "tpc"' in value["text"][2]
    assert value["table"] is True or "cannot name a table" in value["table"][2]


def _flow_without_program(value: Any) -> None:
    assert "1234" in value["text"] and value["same"] == [True, True]


def _send_maps(value: Any) -> None:
    assert value["maps"] == ["limit", "pending", "refused", "services"]
    assert value["cause"] == [[True, 0, 10, 0xC0]]
    assert value["refused"] and value["time"] and value["services"] >= 1


def _periodic(value: Any) -> None:
    assert value["maps"] == [0, 2] and value["whole"] and value["quiet"]
    assert value["wrong"][0] == "Refused" and "99" in value["wrong"][2]
    assert value["interval"][0] == "OkoError"


def _many_at_once(value: Any) -> None:
    assert value == {"failures": "", "entries": 160}


def _numbers(value: Any) -> None:
    assert value["load"][0] == "OkoError"
    assert value["unload"][0] == "Refused" and "77" in value["unload"][2]
    assert value["show"][0] == "Refused" and "77" in value["show"][2]
    assert value["nothing"] == [0, 0]


_CHECKS = {name: globals()[f"_{name}"] for name in NAMES}
