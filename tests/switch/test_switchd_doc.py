"""docs/switchd.md and the systemd unit say what is so."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from switchd_process import ROOT, Switchd

from oko.switch import config
from oko.switch.appctl_commands import Commands

DOC = (ROOT / "docs" / "switchd.md").read_text()
UNIT = ROOT / "packaging" / "oko-switchd.service"


def test_every_option_and_command_is_there():
    for action in config.parser()._actions:
        for option in action.option_strings:
            if option.startswith("--") and option not in ("--help", "--version"):
                assert option in DOC, option
    for command in Commands(None).table():
        assert f"`{command}" in DOC or f"`{command}`" in DOC or command in DOC, command
    for kind in config.KINDS:
        assert f"`{kind}" in DOC, kind


def test_the_file_is_one(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", DOC, re.S)
    path = tmp_path / "oko.toml"
    path.write_text(text)
    (bridge,) = config.load(["-c", str(path)]).bridges
    assert (bridge.name, len(bridge.ports), bridge.workers) == ("br0", 3, 2)


def test_command_lines_parse():
    lines = re.findall(r"^    (oko-switchd (?:[^\n\\]|\\\n)*)", DOC, re.M)
    assert len(lines) >= 2
    for line in lines:
        assert config.load(shlex.split(line.replace("\\\n", " "))[1:]).bridges


def test_the_unit():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNIT)
    words = shlex.split(unit["Service"]["ExecStart"])
    known = {option for a in config.parser()._actions for option in a.option_strings}
    assert {word for word in words[1:] if word.startswith("-")} <= known
    assert unit["Service"]["Type"] == "notify"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_likes_the_unit(tmp_path):
    text = UNIT.read_text().replace("/usr/local/bin/oko-switchd", "/bin/true")
    path = tmp_path / "oko-switchd.service"
    path.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60
    )
    assert "oko-switchd.service" not in done.stderr


def test_systemd_is_told(tmp_path, monkeypatch):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(60)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with Switchd(Path(tmp_path) / "run", "--bridge", "br0") as switch:
        assert listener.recv(100) == b"READY=1"
        assert switch.stop() == 0
        assert listener.recv(100) == b"STOPPING=1"
    listener.close()
