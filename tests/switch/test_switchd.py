"""oko-switchd as a process: start, signals, reload, a clean end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from switchd_process import ROOT, Switchd


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "oko.switchd", *arguments],
        capture_output=True, text=True, timeout=60, cwd=ROOT,
    )  # fmt: skip


def test_starts_and_ends_cleanly(tmp_path):
    with Switchd(tmp_path, "--bridge", "br0", "--port", "1=null") as switch:
        assert (tmp_path / "oko-switchd.pid").read_text() == f"{switch.pid}\n"
        assert switch.stop() == 0
    assert not (tmp_path / "oko-switchd.pid").exists()
    assert "bridge br0: gone" in switch.log()[-1]


def test_one_directory_one_daemon(tmp_path):
    with Switchd(tmp_path, "--bridge", "br0") as switch:
        second = run("--run-dir", str(tmp_path), "--bridge", "br1")
        assert second.returncode == 1
        assert f"another oko-switchd runs here (pid {switch.pid})" in second.stderr
        assert (tmp_path / "oko-switchd.pid").exists()


def test_killed_it_can_start_again(tmp_path):
    with Switchd(tmp_path, "--bridge", "br0") as switch:
        switch.process.kill()
        switch.process.wait()
    with Switchd(tmp_path, "--bridge", "br0") as again:
        assert again.stop() == 0


def test_mistakes_are_one_line(tmp_path):
    wrong = run("--run-dir", str(tmp_path), "--bridge", "br0", "--port", "1=nothing")
    assert wrong.returncode == 1
    assert wrong.stderr.splitlines()[0].endswith("there is no kind 'nothing'")
    nowhere = run("--run-dir", "/proc/nothing", "--bridge", "br0")
    assert nowhere.returncode == 1 and "Traceback" not in nowhere.stderr
    flows = tmp_path / "flows"
    flows.write_text("actions=nonsense\n")
    wrong = run("--run-dir", str(tmp_path), "--bridge", "br0", "--flows", str(flows))
    assert wrong.returncode == 1
    assert f"{flows}:1" in wrong.stderr and "Traceback" not in wrong.stderr


def test_sighup_goes_on_after_what_it_cannot_do(tmp_path):
    """Each is logged, the rest is done, and the next SIGHUP tries again."""
    path = tmp_path / "oko.toml"
    text = '[[bridge]]\nname = "a"\nports = [{}]\nlisteners = [{}]\n'
    path.write_text(text.format('"1=null"', ""))
    with Switchd(tmp_path / "run", "-c", str(path)) as switch:
        capture, socket = tmp_path / "not.pcap", tmp_path / "no" / "socket"
        config = text.format(
            f'"1=null","LOCAL=pcap:{capture}","3=pcap:{capture}","4=null"', f'"punix:{socket}"'
        )
        path.write_text(f'metrics = "9999"\n{config}busy_poll = true\n')
        for _ in range(2):
            n = len(switch.log())
            switch.signal(signal.SIGHUP)
            switch.wait_for("configuration read again", after=n)
            text = "\n".join(switch.log()[n:])
            assert text.count(f"error daemon: bridge a: {capture}") == 2
            assert "metrics changes at the next start" in text
            assert "punix:" in text and "error daemon: bridge a: " in text.split("punix:")[0]
        assert any("port 4 (port4) is null" in line for line in switch.log())
        capture.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
        socket.parent.mkdir()
        n = len(switch.log())
        switch.signal(signal.SIGHUP)
        switch.wait_for("configuration read again", after=n)
        text = "\n".join(switch.log()[n:])
        assert "port LOCAL (LOCAL) is pcap" in text and "port 3 (port3) is pcap" in text
        assert "error" not in text and socket.exists()
        assert switch.stop() == 0


def test_sighup_applies_the_difference(tmp_path):
    path = tmp_path / "oko.toml"
    path.write_text('[[bridge]]\nname = "a"\nports = ["1=null"]\n[[bridge]]\nname = "b"\n')
    with Switchd(tmp_path / "run", "-c", str(path)) as switch:
        n = len(switch.log())
        path.write_text(
            'log_json = true\n[[bridge]]\nname = "a"\nports = ["2=mem"]\n[[bridge]]\nname = "c"\n'
        )
        switch.signal(signal.SIGHUP)
        entry = json.loads(switch.wait_for("configuration read again", after=n))
        assert (entry["level"], entry["module"]) == ("info", "daemon")
        text = "\n".join(switch.log()[n:])
        assert "bridge b: gone" in text and "bridge c: dpid" in text
        assert "bridge a: port 2 (port2) is mem" in text and "bridge a: gone" not in text
        n = len(switch.log())
        path.write_text("nonsense")
        switch.signal(signal.SIGHUP)
        switch.wait_for("configuration not read again", after=n)
        assert switch.stop() == 0
