"""Configuration: one value from command line and file; every mistake has a place and a remedy."""

from __future__ import annotations

import pytest

from oko.switch import config
from oko.switch.config import BridgeConfig, ConfigError, PortConfig, load

FILE = """
run_dir = "/tmp/somewhere"
log_level = "debug"
metrics = "9090"

[[bridge]]
name = "br0"
dpid = "00:00:00:00:00:00:00:2a"
ports = ["1=null", "2=pcap:in.pcap,write=out.pcap,name=cap"]
controllers = ["tcp:127.0.0.1:6653"]
protocols = ["OpenFlow13"]
max_map_bytes = "512M"

[[bridge]]
name = "br1"
"""


def test_command_line():
    line = """--bridge a --port 1=null --port LOCAL=internal --controller tcp:[::1]:6653
        --listen ptcp: --dpid 2a --busy-poll --bridge b --fail-mode standalone
        --run-dir /x --log-json"""
    made = load(line.split())
    assert made.bridges == (
        BridgeConfig(
            name="a",
            dpid=0x2A,
            ports=(
                PortConfig(1, "null", "port1"),
                PortConfig(0xFFFFFFFE, "internal", "LOCAL"),
            ),
            controllers=("tcp:[::1]:6653",),
            listeners=("ptcp:",),
            busy_poll=True,
        ),
        BridgeConfig(name="b", fail_mode="standalone"),
    )
    assert (str(made.run_dir), made.log_json, made.metrics) == ("/x", True, "")


def test_file_and_command_line(tmp_path):
    path = tmp_path / "oko.toml"
    path.write_text(FILE)
    made = load(["-c", str(path), "--log-level", "error", "--bridge", "br0", "--port", "3=mem"])
    br0, br1 = made.bridges
    assert [p.number for p in br0.ports] == [1, 2, 3]
    assert br0.ports[1] == PortConfig(2, "pcap", "cap", "in.pcap", (("write", "out.pcap"),))
    assert (br0.dpid, br0.protocols, br0.max_map_bytes) == (42, (4,), 512 << 20)
    assert br1 == BridgeConfig(name="br1")
    assert (made.log_level, made.metrics) == ("error", "127.0.0.1:9090")


def test_run_dir_of_open_vswitch(monkeypatch):
    monkeypatch.setenv("OVS_RUNDIR", "/from/there")
    assert str(load(["--bridge", "a"]).run_dir) == "/from/there"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no bridge to run"),
        ("--bridge a/b", "no bridge name"),
        ("--bridge a --port 1", "NUMBER=KIND"),
        ("--bridge a --port 0=null", "'0' is no port number"),
        ("--bridge a --port 1=afpacket", "afpacket of what"),
        ("--bridge a --port 1=null,color=red", "null has no option 'color'"),
        ("--bridge a --port 1=null --port 1=mem", r"port 1 \(port1\) twice"),
        ("--bridge a --port 1=null,name=" + "x" * 32, "longer than 31"),
        ("--bridge a --controller ptcp:1", "'ptcp:1' is no address"),
        ("--bridge a --listen tcp:1", "'tcp:1' is no address"),
        ("--bridge a --dpid 0", "not in 1"),
        ("--bridge a --dpid xyz", "hexadecimal"),
        ("--bridge a --protocols OpenFlow12", "no protocol 'OpenFlow12'"),
        ("--bridge a --workers 0", r"not a number in 1\.\.63"),
        ("--bridge a --max-map-bytes 1X", "no size"),
        ("--bridge a --fail-mode x", "not one of secure, standalone"),
        ("--bridge a --log-level loud", "command line: log_level"),
        ("--bridge a --metrics here", "PORT is wanted"),
        ("-c /nonexistent.toml", "No such file"),
    ],
)
def test_mistakes_on_the_command_line(line, message):
    with pytest.raises(ConfigError, match=message):
        load(line.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [", "at end of document"),
        ("colour = 1", "there is no option 'colour'"),
        ("bridge = 1", "tables are wanted"),
        ("[[bridge]]\nnam = 'x'", "without a name"),
        ("[[bridge]]\nname = 'x'\nport = []", "bridge x has no option 'port'"),
        ("[[bridge]]\nname = 'x'\nports = '1=null'", "a list is wanted"),
        ("[[bridge]]\nname = 'x'\nports = [1]", "cannot be"),
        ("[[bridge]]\nname = 'x'\nbusy_poll = 1", "neither true nor false"),
        ("[[bridge]]\nname = 'x'\n[[bridge]]\nname = 'x'", "twice"),
        ("run_dir = 1\n[[bridge]]\nname = 'x'", "run_dir: 1 cannot be"),
    ],
)
def test_mistakes_in_the_file(tmp_path, text, message):
    path = tmp_path / "oko.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load(["-c", str(path)])
    assert str(path) in str(error.value)


def test_an_option_without_its_bridge(capsys):
    with pytest.raises(SystemExit) as ended:
        load(["--port", "1=null"])
    assert ended.value.code == 2
    assert "belongs behind a --bridge" in capsys.readouterr().err


def test_every_option_is_there_twice():
    """What the file knows the command line knows, and the other way round."""
    dests = {action.dest for action in config.parser()._actions}
    known = {*config.OPTIONS, *config.BRIDGE_OPTIONS, "bridge", "config", "help", "version"}
    assert dests == known
