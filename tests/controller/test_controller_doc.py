"""docs/controller.md says what is so: its application runs, its tables are complete."""

from __future__ import annotations

import inspect
import os
import re
import time
from pathlib import Path

import pytest
from controller_process import ROOT, Controller
from test_apps import sources_of, switch_with

import oko.controller
from oko.controller import events, launcher
from oko.controller.programs import FilterPrograms

DOC = (ROOT / "docs" / "controller.md").read_text()


def test_the_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = re.findall(r"```python\n(.*?)```", DOC, re.S)
    app = tmp_path / "scan_guard.py"
    app.write_text(text)
    monkeypatch.chdir(ROOT)
    with Controller(app) as controller:
        with switch_with("scan.pcap", controller, tmp_path) as switch:
            controller.wait_for("guarded by program 1")
            controller.wait_for("10.0.0.11 tried")
            time.sleep(1)
            since = time.time()
            time.sleep(2)
            assert switch.stop() == 0
        assert controller.stop() == 0
    assert set(sources_of(tmp_path / "out.pcap", since)) <= {"10.0.0.1"}
    assert "10.0.0.11" in sources_of(tmp_path / "out.pcap")
    assert "Traceback" not in "\n".join(controller.log())


def test_the_tables() -> None:
    for name, method in inspect.getmembers(FilterPrograms, inspect.isfunction):
        if name.startswith("_"):
            continue
        row = re.search(rf"^\| `{name}\((.*?)\)` \|", DOC, re.M)
        assert row, name
        if row[1] == "...":
            continue
        for parameter in list(inspect.signature(method).parameters.values())[1:]:
            written = parameter.name
            if parameter.default is not parameter.empty:
                written += f"={parameter.default!r}"
            assert written in row[1], (name, written)
    for event in events.EVENTS:
        assert f"`{event.__name__}`" in DOC and event.__name__ in oko.controller.__all__
    for name in ("EventOkoProgramLoaded", "EventOkoProgramRefused", "EventOkoErrorText"):
        row = re.search(rf"^\| `{name}` \| (.*) \|$", DOC, re.M)
        assert row
        wanted = list(inspect.signature(getattr(oko.controller, name)).parameters)
        assert re.findall(r"`(\w+)`", row[1])[: len(wanted)] == wanted


def test_options_and_limits() -> None:
    for action in launcher.parser()._actions:
        for option in action.option_strings:
            if option.startswith("--") and option not in ("--help", "--ofp-tcp-listen-port"):
                assert option in DOC, option
    assert f"{launcher.DEFAULT_HOST}:{launcher.DEFAULT_PORT}" in DOC
    assert f"after {launcher.CLOSE_SECONDS:g} s" in DOC
    tested = (Path(__file__).with_name("test_environments.py")).read_text()
    for release in re.findall(r"os-ken (\d[.\d]*)", DOC):
        assert release in ("4", *re.findall(r'"(\d[.\d]+)"', tested))
    assert os.path.exists(ROOT / "examples/apps/README.md")
