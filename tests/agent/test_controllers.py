"""Controllers that know nothing of oko drive oko-switchd; hosts ping through what they learn."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ofctl import Ofctl, needs_ovs_ofctl
from switchd_process import ROOT, Switchd
from waiting import wait_until

pytest.importorskip("namespaces")
from namespaces import hosts

SIMPLE_SWITCH = '''
"""A learning switch as os-ken's own tutorial has it, in 1.0 and 1.3."""

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_0, ofproto_v1_3


class SimpleSwitch(app_manager.OSKenApp):
    OFP_VERSIONS = [VERSION.OFP_VERSION]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ports = {}

    def add_flow(self, datapath, priority, match, actions):
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        if ofproto.OFP_VERSION == 1:
            mod = parser.OFPFlowMod(datapath=datapath, match=match, cookie=0,
                                    command=ofproto.OFPFC_ADD, priority=priority, actions=actions)
        else:
            doing = [parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, actions)]
            mod = parser.OFPFlowMod(datapath=datapath, priority=priority, match=match,
                                    instructions=doing)
        datapath.send_msg(mod)

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def features(self, ev):
        datapath = ev.msg.datapath
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        if ofproto.OFP_VERSION > 1:  # in 1.0 misses come unasked
            output = parser.OFPActionOutput(ofproto.OFPP_CONTROLLER, ofproto.OFPCML_NO_BUFFER)
            self.add_flow(datapath, 0, parser.OFPMatch(), [output])
        self.logger.info("a switch: %016x", datapath.id)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, ev):
        msg = ev.msg
        datapath = msg.datapath
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        old = ofproto.OFP_VERSION == 1
        in_port = msg.in_port if old else msg.match["in_port"]
        eth = packet.Packet(msg.data).get_protocols(ethernet.ethernet)[0]
        self.ports[eth.src] = in_port
        out_port = self.ports.get(eth.dst, ofproto.OFPP_FLOOD)
        actions = [parser.OFPActionOutput(out_port)]
        if out_port != ofproto.OFPP_FLOOD:
            if old:
                match = parser.OFPMatch(in_port=in_port, dl_dst=eth.dst)
            else:
                match = parser.OFPMatch(in_port=in_port, eth_dst=eth.dst)
            self.add_flow(datapath, 1, match, actions)
        datapath.send_msg(parser.OFPPacketOut(
            datapath=datapath, buffer_id=msg.buffer_id, in_port=in_port, actions=actions,
            data=msg.data))
'''


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def process(*command: str, log: Path, **environment: str) -> Iterator[subprocess.Popen]:
    """A controller, ended by its pid."""
    with log.open("wb") as out:
        started = subprocess.Popen(
            command, stdout=out, stderr=out, env=os.environ | environment, cwd=log.parent
        )
        try:
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(60)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


@contextmanager
def switch_of_two_hosts(tmp_path: Path, *arguments: str):
    """oko-switchd between two hosts in namespaces."""
    with hosts("10.0.0.1/24", "10.0.0.2/24") as (left, right):
        ports = [f"--port={i}=afpacket:{h.device}" for i, h in enumerate((left, right), 1)]
        with Switchd(tmp_path / "run", "--bridge", "br0", *ports, *arguments) as there:
            yield left, right, there


@pytest.mark.parametrize(("version", "name"), [("ofproto_v1_0", "OpenFlow10"),
                                               ("ofproto_v1_3", "OpenFlow13")])  # fmt: skip
@needs_ovs_ofctl
def test_os_ken_simple_switch(tmp_path, version, name):
    pytest.importorskip("os_ken", reason="os-ken is not installed")
    app = tmp_path / "simple_switch.py"
    app.write_text(SIMPLE_SWITCH.replace("VERSION.", f"{version}."))
    port = free_port()
    launch = (sys.executable, "-m", "oko.controller.launcher", str(app), "--ofp-listen-port")
    with (
        process(*launch, str(port), log=tmp_path / "app.log", PYTHONPATH=str(ROOT)),
        switch_of_two_hosts(tmp_path, "--controller", f"tcp:127.0.0.1:{port}") as (one, two, there),
    ):
        there.wait_for("connected to tcp:127.0.0.1")
        time.sleep(0.5)
        assert one.ping(two.address, n=5), (tmp_path / "app.log").read_text()
        learned = [line for line in Ofctl(there.run_dir, name).flows() if "dl_dst=" in line]
        assert len(learned) == 2, learned
        assert not [line for line in there.log() if " error " in line]


@needs_ovs_ofctl
@pytest.mark.skipif(
    shutil.which("ovs-testcontroller") is None,
    reason="ovs-testcontroller (openvswitch-testcontroller) is not installed",
)
@pytest.mark.parametrize(
    "versions", ["OpenFlow10", "OpenFlow13", "OpenFlow10,OpenFlow13,OpenFlow14"]
)
def test_ovs_testcontroller(tmp_path, versions):
    port = free_port()
    command = ("ovs-testcontroller", f"ptcp:{port}:127.0.0.1")
    with (
        process(*command, log=tmp_path / "controller.log", OVS_RUNDIR=str(tmp_path)),
        switch_of_two_hosts(
            tmp_path, "--controller", f"tcp:127.0.0.1:{port}", "--protocols", versions
        ) as (one, two, there),
    ):
        there.wait_for("connected to tcp:127.0.0.1")
        time.sleep(0.5)
        assert one.ping(two.address, n=5), (tmp_path / "controller.log").read_text()
        newest = versions.rpartition(",")[2]
        learned = [
            line for line in Ofctl(there.run_dir, newest).flows() if "idle_timeout=60" in line
        ]
        assert len(learned) >= 2
        assert not [line for line in there.log() if " error " in line]


# ---------------------------------------------------------------- keeping a connection


class Controller:
    """Listens, and takes what comes."""

    def __init__(self, port: int = 0) -> None:
        self.server = socket.create_server(("127.0.0.1", port))
        self.server.settimeout(60)
        self.port = self.server.getsockname()[1]

    def accept(self) -> socket.socket:
        there, _ = self.server.accept()
        there.settimeout(60)
        there.sendall(bytes.fromhex("0400000800000001"))
        assert there.recv(16)[1] == 0
        return there


def test_comes_back_within_a_second(tmp_path):
    controller = Controller()
    target = f"tcp:127.0.0.1:{controller.port}"
    with Switchd(tmp_path / "run", "--bridge", "br0", "--port", "1=null", "--controller", target):
        controller.accept().close()
        controller.accept().close()
        controller.server.close()
        time.sleep(3)  # doubled without an end, the pause would go on for seconds now
        again = Controller(controller.port)
        began = time.monotonic()
        again.accept().close()
        assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("ptcp:99999", "'99999' is no port"),
        ("ptcp:22x", "'22x' is no port"),
        ("punix:/no/such/directory/socket", "No such file"),
        ("pssl:7777", "ssl needs --private-key"),
    ],
)
def test_listeners_that_cannot_be(tmp_path, target, why):
    command = (sys.executable, "-m", "oko.switchd", "--run-dir", str(tmp_path))
    done = subprocess.run(
        [*command, "--bridge", "br0", "--listen", target],
        capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert why in done.stderr and "Traceback" not in done.stderr


def test_an_unreachable_controller_is_told_once(tmp_path):
    targets = ("tcp:127.0.0.1:1", "ssl:127.0.0.1:1", "tcp:127.0.0.1:77777")
    controllers = [word for target in targets for word in ("--controller", target)]
    with Switchd(tmp_path / "run", "--bridge", "br0", "--port", "1=null", *controllers) as there:
        time.sleep(1)
        for target in targets:
            assert len([line for line in there.log() if f" {target}: " in line]) == 1, there.log()
        assert there.wait_for(f"{targets[0]}: ").endswith(": Connection refused")
        assert not [line for line in there.log() if "Errno" in line]


@needs_ovs_ofctl
def test_standalone_until_a_controller_comes(tmp_path):
    controller = Controller()
    controller.server.close()
    target = f"tcp:127.0.0.1:{controller.port}"
    with Switchd(
        tmp_path / "run", "--bridge", "br0", "--port", "1=null", "--controller", target,
        "--fail-mode", "standalone",
    ) as there:  # fmt: skip
        ofctl = Ofctl(there.run_dir)
        assert ofctl.flows() == ["table=0, priority=0 actions=NORMAL"]
        connected = Controller(controller.port).accept()
        there.wait_for("connected to")
        wait_until(lambda: ofctl.flows() == [])
        connected.close()
        wait_until(ofctl.flows)
        assert ofctl.flows() == ["table=0, priority=0 actions=NORMAL"]


# ---------------------------------------------------------------- hostile and slow peers


class Raw:
    """A connection that says what it likes."""

    def __init__(self, path: Path, hello: bytes = bytes.fromhex("0400000800000001")) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.socket.sendall(hello)


@needs_ovs_ofctl
def test_hostile_peers_stop_nobody(tmp_path):
    with Switchd(tmp_path / "run", "--bridge", "br0", "--port", "1=null", "--port", "2=null") as s:
        path = s.run_dir / "br0.mgmt"
        ofctl = Ofctl(s.run_dir, "OpenFlow13")
        flows = tmp_path / "flows"
        flows.write_text("".join(f"priority={i + 1},ip,actions=drop\n" for i in range(20000)))
        ofctl("--bundle", "add-flows", "br0", str(flows))

        half = [Raw(path, bytes.fromhex(text)) for text in ("04", "040000", "04000008000000")]
        cut = Raw(path)
        cut.socket.sendall(bytes.fromhex("040e00600000"))
        short = Raw(path, bytes.fromhex("0400000400000001"))
        garbage = Raw(path, b"\x04\xff\xff\xff" + os.urandom(65536))
        no_hello = Raw(path, bytes.fromhex("0402000800000001"))
        unreading = [Raw(path) for _ in range(3)]  # asks for dumps, takes none
        dump = bytes.fromhex("041200380000000700010000 00000000 ff000000 ffffffff ffffffff 00000000"
                             "0000000000000000 0000000000000000 0001000400000000")  # fmt: skip
        for peer in unreading:
            peer.socket.sendall(dump * 200)
        flooder = Raw(path)
        flooding = threading.Event()

        def flood() -> None:
            echo = bytes.fromhex("0402000800000002") * 500
            out = bytes.fromhex("040d002800000003ffffffff fffffffd 0010 000000000000"
                                "0000001000000002ffff000000000000") * 200  # fmt: skip
            flooder.socket.settimeout(0.2)
            while not flooding.is_set():
                try:
                    flooder.socket.sendall(echo + out)
                    flooder.socket.recv(1 << 20)
                except TimeoutError:
                    pass
                except OSError:
                    return

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            time.sleep(0.5)
            slowest = 0.0
            for _ in range(5):
                began = time.monotonic()
                assert "1 ports" in ofctl("dump-ports", "br0", "1")
                ofctl("add-flow", "br0", "priority=50000,in_port=2,actions=drop")
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < 30, slowest
            assert len(ofctl.flows()) == 20001
        finally:
            flooding.set()
            thread.join()
        for closed in (short, garbage, no_hello):
            closed.socket.settimeout(60)
            while closed.socket.recv(4096):
                pass
        rss = int((Path("/proc") / str(s.pid) / "statm").read_text().split()[1]) * 4096
        assert rss < 400 << 20
        assert len(half) == 3 and not [line for line in s.log() if " error " in line]


# ---------------------------------------------------------------- TLS


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A CA in ca.pem, and a key and certificate of it for both ends: key.pem, cert.pem."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-keyout", f"{name}-key.pem", "-out", f"{name}.pem", "-days", "2",
                "-subj", f"/CN={name}")  # fmt: skip
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=oko")  # fmt: skip
    openssl("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
            "-CAcreateserial", "-out", "cert.pem", "-days", "2")  # fmt: skip
    return tmp_path


@needs_ovs_ofctl
def test_tls_both_ways(keys):
    port = free_port()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(keys / "cert.pem", keys / "key.pem")
    server.load_verify_locations(keys / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)
    target = f"ssl:127.0.0.1:{listener.getsockname()[1]}"
    names = {"private-key": "key.pem", "certificate": "cert.pem", "ca-cert": "ca.pem"}
    files = [f"--{option}={keys / name}" for option, name in names.items()]
    with Switchd(
        keys / "run", "--bridge", "br0", "--port", "1=null", "--controller", target,
        "--listen", f"pssl:{port}", *files,
    ) as there:  # fmt: skip
        plain, _ = listener.accept()
        with server.wrap_socket(plain, server_side=True) as controller:
            controller.sendall(bytes.fromhex("0400000800000001"))
            assert controller.recv(16)[1] == 0
            controller.sendall(bytes.fromhex("0402000800000009"))
            assert controller.recv(16).hex() == "0403000800000009"
        ofctl = ("ovs-ofctl", "-p", str(keys / "key.pem"), "-c", str(keys / "cert.pem"), "show")
        done = subprocess.run(
            [*ofctl, "-C", str(keys / "ca.pem"), f"ssl:127.0.0.1:{port}"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert " 1(port1)" in done.stdout, done.stderr
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        stranger.check_hostname = False
        stranger.load_verify_locations(keys / "ca.pem")
        with (
            pytest.raises((ssl.SSLError, ConnectionError)),
            socket.create_connection(("127.0.0.1", port), 10) as tcp,
            stranger.wrap_socket(tcp) as tls,
        ):
            tls.sendall(bytes.fromhex("0400000800000001"))
            if not tls.recv(16):
                raise ConnectionError("closed")
        assert not [line for line in there.log() if " error " in line]
