"""Each command in examples/bpf/README.md runs as printed and does what the filter's model says:
the flow with the filter counts the model's matches, and the maps end up the same.
"""

from __future__ import annotations

import re
import shlex

import pytest
from filter_cases import FILTERS, NAMES, ROOT, read_capture
from filter_models import MODELS, Contents, u32
from replay_command import assert_maps, replay

README = (FILTERS / "README.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n.*?^    (oko-replay .+?)$", README, re.M | re.S))

# What the --update-map options of the commands put into maps.
UPDATES: dict[str, dict[str, Contents]] = {
    "stateless_firewall": {"blocked": {bytes([10, 0, 0, 11]): u32(1)}},
    "dns_guard": {"blocked": {b"ads.test".ljust(64, b"\0"): u32(1)}},
}


def test_every_filter_has_its_command() -> None:
    assert sorted(SECTIONS) == NAMES
    for name, command in SECTIONS.items():
        assert f"1=examples/bpf/{name}.o" in command
        assert ("--update-map" in command) == (name in UPDATES)


@pytest.mark.parametrize("name", NAMES)
def test_command_does_what_the_model_says(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    _, *arguments, trace = shlex.split(SECTIONS[name])
    result = replay([*arguments, "--dump-maps", trace], capsys)
    model = MODELS[name](UPDATES.get(name, {}))
    frames = list(read_capture(ROOT / trace))
    matches = sum(model.packet(frame.data, frame.now, 1) for frame in frames)

    assert result["packets"] == len(frames)
    (filtered,) = (flow for flow in result["flows"] if flow["filter_prog"])
    assert filtered["n_packets"] == matches
    (program,) = result["programs"]
    assert program["matches"] == matches and program["faults"] == 0
    assert matches > 0 or name == "dapper"
    assert_maps(result, model)
