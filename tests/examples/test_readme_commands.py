"""Each command in examples/bpf/README.md runs as printed and does what the filter's model says:
the flow with the filter counts the model's matches, and the maps end up the same.
"""

from __future__ import annotations

import configparser
import importlib
import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from filter_cases import FILTERS, NAMES, ROOT, read_capture
from filter_models import MODELS, Contents, u32

README = (FILTERS / "README.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n.*?^    (oko-replay .+?)$", README, re.M | re.S))

# What the --update-map options of the commands put into maps.
UPDATES: dict[str, dict[str, Contents]] = {
    "stateless_firewall": {"blocked": {bytes([10, 0, 0, 11]): u32(1)}},
    "dns_guard": {"blocked": {b"ads.test".ljust(64, b"\0"): u32(1)}},
}
SKETCHES = ("bloom", "count_min")


def replay_main() -> Callable[[list[str]], int]:
    """The function behind the command oko-replay, as setup.cfg has it."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    place = re.findall(
        r"^oko-replay = (\S+):(\S+)$", setup["options.entry_points"]["console_scripts"], re.M
    )[0]
    return getattr(importlib.import_module(place[0]), place[1])  # type: ignore[no-any-return]


def run(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    monkeypatch.chdir(ROOT)
    arguments = [*shlex.split(command)[1:], "--dump-maps", "--json"]
    assert replay_main()(arguments) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_every_filter_has_its_command() -> None:
    assert sorted(SECTIONS) == NAMES
    for name, command in SECTIONS.items():
        assert f"1=examples/bpf/{name}.o" in command
        assert ("--update-map" in command) == (name in UPDATES)


def entries(found: dict[str, Any]) -> dict[str, str]:
    """A map's entries in hex; of arrays, only what is not all zero."""
    is_array = "array" in found["type"]
    return {
        entry["key"]: entry["value"]
        for entry in found["entries"]
        if not is_array or entry["value"].strip("0")
    }


@pytest.mark.parametrize("name", NAMES)
def test_command_does_what_the_model_says(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(SECTIONS[name], monkeypatch, capsys)
    trace = shlex.split(SECTIONS[name])[-1]
    model = MODELS[name](UPDATES.get(name, {}))
    frames = list(read_capture(ROOT / trace))
    matches = sum(model.packet(frame.data, frame.now, 1) for frame in frames)

    assert result["packets"] == len(frames)
    (filtered,) = (flow for flow in result["flows"] if flow["filter_prog"])
    assert filtered["n_packets"] == matches
    (program,) = result["programs"]
    assert program["matches"] == matches and program["faults"] == 0
    assert matches > 0 or name == "dapper"

    expected = model.maps()
    for found in result["maps"]:
        if found["type"] not in SKETCHES:
            wanted = {k.hex(): v.hex() for k, v in expected.get(found["name"], {}).items()}
            assert entries(found) == wanted, f"map {found['name']}"
