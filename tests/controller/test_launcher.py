"""oko-controller, run as a process."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from controller_process import Controller, free_port, run_controller
from switchd_process import Switchd
from waiting import wait_until

APP = """
from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import HANDSHAKE_DISPATCHER, set_ev_cls

class App(app_manager.OSKenApp):
    @set_ev_cls(ofp_event.EventOFPHello, HANDSHAKE_DISPATCHER)
    def hello(self, ev):
        self.logger.info("a switch says hello in version %d", ev.msg.version)

    def close(self):
        self.logger.info("closed")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "greeter.py"
    path.write_text(APP)
    return path


@pytest.mark.parametrize("hub", ("native", "eventlet"))
@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
def test_runs_an_app_until_a_signal(app: Path, hub: str, number: signal.Signals) -> None:
    with Controller(app, hub=hub) as controller:
        with socket.create_connection(("127.0.0.1", controller.port), 5) as switch:
            switch.sendall(bytes.fromhex("0400000800000001"))
            controller.wait_for("hello in version 4")
        assert controller.stop(number) == 0
    assert any("closed" in line for line in controller.log())
    assert "Traceback" not in "\n".join(controller.log())


SLOW = """
import time
from os_ken.controller import controller

listen = controller.StreamServer

def slowly(*arguments, **options):
    time.sleep(0.5)
    return listen(*arguments, **options)

controller.StreamServer = slowly
"""


@pytest.mark.parametrize("hub", ("native", "eventlet"))
def test_does_not_say_that_it_listens_before_it_does(app: Path, hub: str) -> None:
    app.write_text(SLOW + APP)
    with (
        Controller(app, hub=hub) as controller,
        socket.create_connection(("127.0.0.1", controller.port), 5),
    ):
        assert controller.stop() == 0


def test_ends_while_a_switch_is_connected(app: Path) -> None:
    with (
        Controller(app) as controller,
        socket.create_connection(("127.0.0.1", controller.port), 5) as switch,
    ):
        switch.sendall(bytes.fromhex("0400000800000001"))
        controller.wait_for("hello in version 4")
        assert controller.stop() == 0


@pytest.mark.parametrize("hub", ("native", "eventlet"))
def test_apps_hear_that_a_connection_ended(hub: str, tmp_path: Path) -> None:
    app = tmp_path / "mourner.py"
    app.write_text(
        APP.replace("EventOFPHello, HANDSHAKE", "EventOFPStateChange, DEAD")
        .replace("import HANDSHAKE_", "import DEAD_")
        .replace('"a switch says hello in version %d", ev.msg.version', '"gone: %s", ev.state')
    )
    with Controller(app, hub=hub) as controller:
        for n in range(1, 4):
            with Switchd(
                tmp_path / "run", "--bridge", "br0", "--controller",
                f"tcp:127.0.0.1:{controller.port}",
            ) as switch:  # fmt: skip
                switch.wait_for("connected to tcp")
                time.sleep(0.2)
                switch.signal(signal.SIGKILL)
                wait_until(lambda n=n: sum("gone: dead" in line for line in controller.log()) >= n)
        assert controller.stop() == 0
    assert "Traceback" not in "\n".join(controller.log())


def test_two_apps_and_a_module_name(app: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.py"
    second.write_text(APP.replace("class App", "class Second").replace("hello in", "hello 2 in"))
    with Controller(app, second, "os_ken.app.ofctl.service") as controller:
        with socket.create_connection(("127.0.0.1", controller.port), 5) as switch:
            switch.sendall(bytes.fromhex("0400000800000001"))
            controller.wait_for("hello in version 4")
            controller.wait_for("hello 2 in version 4")
        assert controller.stop() == 0


def test_busy_app_does_not_hold_the_end_up(tmp_path: Path) -> None:
    path = tmp_path / "busy.py"
    path.write_text(APP.replace('"a switch', 'time.sleep(60) or "a switch') + "\nimport time\n")
    with (
        Controller(path) as controller,
        socket.create_connection(("127.0.0.1", controller.port), 5) as switch,
    ):
        switch.sendall(bytes.fromhex("0400000800000001"))
        assert switch.recv(8)
        time.sleep(0.3)
        assert controller.stop() == 0
    assert any("still busy" in line for line in controller.log())


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("import nonesuch", "No module named 'nonesuch'"),
        ("x = 1", "no subclass of OSKenApp"),
        ("x = 1 / 0", "division by zero"),
        ("def (", "SyntaxError"),
    ),
)
def test_says_what_is_wrong_with_an_app(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    status, errors = run_controller(str(path))
    assert status == 1 and words in errors and "broken.py" in errors
    assert "Traceback" not in errors and len(errors.splitlines()) == 1


def test_says_what_is_wrong_with_arguments(app: Path) -> None:
    for words, text in (
        (["no.such.app"], "there is no such module"),
        ([str(app.parent / "none.py")], "no such file or directory"),
        ([str(app), "--ofp-listen-host", "203.0.113.1"], "cannot listen"),
    ):
        status, errors = run_controller(*words)
        assert status == 1 and text in errors and len(errors.splitlines()) == 1
    for words in ([], [str(app), "--ofp-listen-port", "70000"], [str(app), "--nonsense"]):
        assert run_controller(*words)[0] == 2


def test_address_in_use(app: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, errors = run_controller(str(app), "--ofp-listen-port", str(port))
    assert status == 1 and f"127.0.0.1:{port}" in errors and "in use" in errors


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls(tmp_path: Path) -> None:
    app = tmp_path / "greeter.py"
    app.write_text(
        APP.replace("EventOFPHello, HANDSHAKE", "EventOFPSwitchFeatures, CONFIG").replace(
            "import HANDSHAKE_", "import CONFIG_"
        )
    )
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=oko",
         "-days", "2", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    options = ["--", "--ctl-privkey", str(key), "--ctl-cert", str(certificate)]
    options += ["--ca-certs", str(certificate)]
    with Controller(app, arguments=options) as controller:
        with Switchd(
            tmp_path / "run", "--bridge", "br0", "--controller", f"ssl:127.0.0.1:{controller.port}",
            "--private-key", str(key), "--certificate", str(certificate),
            "--ca-cert", str(certificate),
        ):  # fmt: skip
            controller.wait_for("a switch says hello")
        assert controller.stop() == 0


def test_options_of_os_ken_follow_two_dashes(app: Path) -> None:
    option = ["--", "--ofp-switch-connect-interval", "2"]
    with Controller(app, port=free_port(), arguments=option) as controller:
        assert controller.stop() == 0
    port = ["--ofp-listen-port", str(free_port())]
    assert run_controller(str(app), *port, "--", "--no-such-option")[0] == 2
