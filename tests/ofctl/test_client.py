"""The blocking client and the printer against peers that misbehave."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stock import oko

from oko.ofctl.messages import describe
from oko.openflow import extension
from oko.openflow.client import (
    Connection,
    ConnectionFailed,
    NoVersionError,
    RefusedError,
    SilenceError,
    bridge_target,
    connect,
    oko_hello,
)
from oko.openflow.common import (
    ECHO_REPLY,
    ECHO_REQUEST,
    FEATURES_REQUEST,
    OF10,
    OF13,
    VERSIONS,
    encode_error,
    message,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))
from switchd_process import Switchd

HELLO_10 = bytes.fromhex("0100000800000001")
HELLO_13 = bytes.fromhex("04000010000000010001000800000012")


@contextmanager
def peer(path: Path, talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that talks so to the first who connects."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)
    failed: list[BaseException] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            try:
                talk(connection)
            except (ConnectionError, BrokenPipeError):
                pass
            except BaseException as exc:
                failed.append(exc)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"unix:{path}"
    finally:
        thread.join(10)
        server.close()
        assert not thread.is_alive() and not failed


def read(connection: socket.socket) -> bytes:
    """One message."""
    data = b""
    while len(data) < 8 or len(data) < int.from_bytes(data[2:4], "big"):
        chunk = connection.recv(1)
        if not chunk:
            raise ConnectionError
        data += chunk
    return data


def said(*messages: bytes) -> Callable[[socket.socket], None]:
    """Says this and closes."""

    def talk(connection: socket.socket) -> None:
        read(connection)
        for msg in messages:
            connection.sendall(msg)

    return talk


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        ((), ConnectionFailed, "closed the connection"),
        ((b"\x01\x00\x00\x10\x00\x00",), ConnectionFailed, "closed the connection"),
        ((b"GET / HTTP/1.1\r\n\r\n" * 4000,), ConnectionFailed, ""),
        ((b"\x01\x00\x00\x03\x00\x00\x00\x01",), ConnectionFailed, "is no OpenFlow"),
        ((bytes.fromhex("0102000800000001"),), ConnectionFailed, "is no HELLO"),
        ((bytes.fromhex("0300000800000001"),), NoVersionError, "not 1.3"),
        ((HELLO_10,), NoVersionError, "speaks OpenFlow 1.0, not 1.3"),
        (
            (encode_error(OF10, 1, "OFPHFC_INCOMPATIBLE", b"no"),),
            NoVersionError,
            "does not speak OpenFlow 1.3",
        ),
    ],
)
def test_bad_greetings(tmp_path, messages, error, text):
    with peer(tmp_path / "s", said(*messages)) as target, pytest.raises(error) as caught:
        connect(target, (OF13,), timeout=60)
    assert text in str(caught.value)


def test_the_highest_common_version(tmp_path):
    for offered, expected in (((OF10, OF13), OF13), ((OF10,), OF10), (VERSIONS, OF13)):
        path = tmp_path / str(len(offered))
        with peer(path, said(HELLO_13[:12] + struct.pack("!I", 0x12))) as target:
            assert connect(target, offered, timeout=60).version == expected


def test_silence_ends(tmp_path):
    def silent(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.recv(1000)  # until the client is gone

    with peer(tmp_path / "s", silent) as target, pytest.raises(SilenceError):
        connect(target, (OF13,), timeout=0.2)


def test_answers_are_found_among_other_messages(tmp_path):
    text = extension.encode(OF13, extension.ErrorText("because"), 5)

    def talk(connection: socket.socket) -> None:
        read(connection)
        connection.sendall(HELLO_13)
        request = read(connection)
        xid = int.from_bytes(request[4:8], "big")
        connection.sendall(message(OF13, ECHO_REQUEST, 99, b"ping"))
        assert read(connection) == message(OF13, ECHO_REPLY, 99, b"ping")
        connection.sendall(message(OF13, 12, xid, bytes(72)))  # a port's status, any xid
        connection.sendall(message(OF13, 6, xid, b"the answer"))
        again = read(connection)
        xid = int.from_bytes(again[4:8], "big")
        connection.sendall(text[:4] + again[4:8] + text[8:])
        connection.sendall(encode_error(OF13, xid, "OFPBRC_EPERM", again[:64]))

    with peer(tmp_path / "s", talk) as target, connect(target, (OF13,), timeout=60) as switch:
        heard: list[bytes] = []
        switch.listener = heard.append
        answer = switch.transact(message(OF13, FEATURES_REQUEST, 0))
        assert answer[8:] == b"the answer" and len(heard) == 1
        with pytest.raises(RefusedError) as caught:
            switch.transact(message(OF13, FEATURES_REQUEST, 0))
        assert (caught.value.name, caught.value.reason) == ("OFPBRC_EPERM", "because")


def test_a_peer_that_only_writes_does_not_stop_us(tmp_path):
    """More errors than any buffer holds are read while flows are still being sent."""
    n = 20_000
    request = message(OF13, 14, 0, bytes(92))

    def talk(connection: socket.socket) -> None:
        read(connection)
        connection.sendall(HELLO_13)
        for _ in range(n):
            msg = read_whole(connection)
            connection.sendall(encode_error(OF13, int.from_bytes(msg[4:8], "big"), "OFPFMFC_EPERM",
                                            msg))  # fmt: skip
        barrier = read_whole(connection)
        connection.sendall(message(OF13, 21, int.from_bytes(barrier[4:8], "big")))

    def read_whole(connection: socket.socket) -> bytes:
        head = connection.recv(8, socket.MSG_WAITALL)
        rest = int.from_bytes(head[2:4], "big") - 8
        return head + (connection.recv(rest, socket.MSG_WAITALL) if rest else b"")

    with peer(tmp_path / "s", talk) as target, connect(target, (OF13,), timeout=60) as switch:
        switch.send(*[request] * n)
        refused = switch.barrier()
    assert len(refused) == n and refused[0].request[8:] == request[8:]


@pytest.mark.parametrize("version", VERSIONS)
def test_oko_hello_is_the_hello_of_the_extension(version):
    assert oko_hello(version) == extension.encode(version, extension.Hello())


def test_what_a_target_is(tmp_path):
    for target in ("unix:/x", "tcp:h:1", "ssl:h"):
        assert bridge_target(target, ["/nowhere"]) == target
    with pytest.raises(ConnectionFailed, match="br0 is not a bridge or a socket"):
        bridge_target("br0", [str(tmp_path)])
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "br0.mgmt"))
    assert bridge_target("br0", ["/nowhere", str(tmp_path)]) == f"unix:{tmp_path}/br0.mgmt"
    assert bridge_target(f"{tmp_path}/br0.mgmt", []) == f"unix:{tmp_path}/br0.mgmt"
    server.close()
    for target in ("tcp:", "tcp:host:99999", "tcp:host:port"):
        with pytest.raises(ConnectionFailed, match="tcp:HOST"):
            connect(target)


def test_nothing_but_a_line_reaches_the_user(tmp_path):
    """Whatever a switch sends, the command ends with a reason and status 1."""
    for i, reply in enumerate(
        (
            message(OF10, 6, 2, b"\1"),
            message(OF10, 17, 2, b"\0\3\0\0" + bytes(5)),
            message(OF10, 17, 2, b"\xff\xff\0\0" + struct.pack("!II", 0x2320, 0) + bytes(7)),
            message(OF10, 3, 2),
        )
    ):
        for command in ("show", "dump-tables", "dump-flows", "dump-ports", "dump-aggregate"):
            path = tmp_path / f"{command}{i}"

            def talk(connection: socket.socket, reply: bytes = reply) -> None:
                read(connection)
                connection.sendall(HELLO_10)
                for _ in range(2):
                    asked = read(connection)
                    connection.sendall(reply[:4] + asked[4:8] + reply[8:])

            with peer(path, talk) as target:
                done = oko(tmp_path, command, target, "--timeout=3")
            assert done.status == 1 and done.err.count("\n") <= 3, (command, reply, done)
            assert done.err.startswith("oko-ofctl: ")


@given(
    st.sampled_from(VERSIONS), st.integers(0, 40), st.binary(max_size=120),
    st.sampled_from([b"", b"\0\0\x23\x20\0\0\0", b"OKO\0\0\0\0", b"ONF\0\0\0\x08\xfc"]),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_any_message_can_be_shown(version, kind, body, start):
    text = describe(message(version, kind, 7, start + body), more=True)
    assert "(xid=0x7)" in text


@given(st.binary(min_size=8, max_size=60))
def test_any_bytes_can_be_shown(data):
    assert describe(data)


def test_a_connection_is_closed_when_the_greeting_fails(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(socket.socket, "close", lambda self: closed.append(self))

    def fail(self, *rest):
        raise ConnectionFailed("no")

    monkeypatch.setattr(Connection, "__init__", fail)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.listen(1)
    with pytest.raises(ConnectionFailed, match="no"):
        connect(f"unix:{tmp_path}/s")
    assert closed


# ---------------------------------------------------------------- TCP and TLS


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """ca.pem, another CA in other.pem, and the first one's key.pem and cert.pem for both ends."""
    folder = tmp_path_factory.mktemp("keys")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for command in (
        *(
            ("req", "-x509", *curve, "-keyout", f"{ca}-key.pem", "-out", f"{ca}.pem", "-days", "2",
             "-subj", f"/CN={ca}")
            for ca in ("ca", "other")
        ),
        ("req", *curve, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=oko"),
        ("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
         "-CAcreateserial", "-out", "cert.pem", "-days", "2"),
    ):  # fmt: skip
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder


def test_tcp_and_tls(keys):
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    names = {"private-key": "key.pem", "certificate": "cert.pem", "ca-cert": "ca.pem"}
    files = [f"--{option}={keys / name}" for option, name in names.items()]
    listen = ("--listen", f"ptcp:{ports[0]}", "--listen", f"pssl:{ports[1]}")
    with Switchd(keys / "run", "--bridge", "br0", "--port", "1=null", *listen, *files) as daemon:
        daemon.wait_for("ready")
        tls = f"ssl:127.0.0.1:{ports[1]}"
        for target, options in (
            (f"tcp:127.0.0.1:{ports[0]}", []),
            (f"tcp:localhost:{ports[0]}", []),
            (tls, files),
            (tls, [*files[:2], "--ca-cert=none"]),
        ):
            done = oko(keys, *options, "show", target)
            assert (done.status, done.err) == (0, "") and " 1(port1)" in done.out, (target, done)
        flows = "".join(f"priority={n},actions=output:1\n" for n in range(1, 3001))
        done = oko(keys, *files, "add-flows", tls, "-", stdin=flows)
        assert (done.status, done.err) == (0, "")
        assert "flow_count=3000" in oko(keys, *files, "dump-aggregate", tls).out
        assert oko(keys, *files, "dump-flows", tls).out.count("actions=output:1") == 3000
        for options, text in (
            ([], "ssl needs --ca-cert"),
            ([*files[:2], f"--ca-cert={keys / 'other.pem'}"], "verify failed"),
            ([*files[:2], "--ca-cert=/nonexistent"], "No such file"),
        ):
            done = oko(keys, *options, "show", tls)
            assert (done.status, done.out) == (1, "") and text in done.err, done
        done = oko(keys, "--timeout=2", "show", f"tcp:127.0.0.1:{ports[1]}")  # no TLS where it is
        assert done.status == 1 and done.err.startswith("oko-ofctl: ")
