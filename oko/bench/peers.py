"""The forwarding peers that `oko-bench --against` runs: Open vSwitch with DPDK, and testpmd.

Both get the same captures through DPDK's net_pcap, which keeps the capture in memory and copies
each frame into a buffer of its own, and send to net_null. Both poll, so they would take the core
from everybody: outside of its samples a peer is stopped with SIGSTOP. A sample is packets received
over time that the polling thread really ran (its `schedstat`, from which Linux leaves out what the
hypervisor stole), so neither waiting for the core nor being stopped counts.

Nothing is installed, and nothing is set on the machine: what is missing raises Unavailable with
the remedy. Every process is a child in a folder of its own and is ended by close().
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from oko.bench.registry import Sample, Unavailable

HUGE_PAGES = 640
"""Pages of 2 MiB that one peer needs: 1 GiB of buffers and what DPDK needs itself."""
MBUFS = 262_144
"""Buffers of a peer as a rule: Open vSwitch's default, and the same for testpmd."""
MANY_MBUFS = 1_089_536
"""For a capture that does not fit into MBUFS, all of which net_pcap keeps in buffers. (Open vSwitch
counts its buffers by queues and descriptors: 260 x 4,096 make this number.)"""
MANY_QUEUES = ("options:n_rxq=260", "options:n_rxq_desc=4096")
MANY_HUGE_PAGES = {"testpmd": 1_300, "ovs-dpdk": 2_100}
"""Pages that each then needs."""
START_SECONDS = 30.0


class Forwarder(Protocol):
    """A switch that can be given a capture and rules, and asked for its rate."""

    def prepare(self, capture: Path, rules: Path) -> str:
        """Gets ready; what came up while doing so, one line, or ""."""

    def sample(self, seconds: float) -> Sample:
        """Packets forwarded, and how long the forwarding thread ran meanwhile."""

    def close(self) -> None:
        """Ends it."""


def _fits(capture: Path) -> bool:
    """Whether MBUFS buffers hold a capture, judged by its size: a record takes 76 bytes or more."""
    return capture.stat().st_size // 76 < MBUFS * 3 // 4


def _huge_pages(needed: int) -> None:
    free = 0
    with contextlib.suppress(OSError), open("/proc/meminfo") as meminfo:
        for line in meminfo:
            if line.startswith("HugePages_Free:"):
                free = int(line.split()[1])
    if free < needed:
        setting = 2048 if needed == HUGE_PAGES else 3600
        raise Unavailable(
            f"{free} of {needed} huge pages are free: run `sysctl vm.nr_hugepages={setting}`"
        )


def _program(name: str, package: str, variable: str = "", *places: str) -> str:
    named = os.environ.get(variable, "") if variable else ""
    for candidate in (named, name, *places):
        found = shutil.which(candidate) if candidate else None
        if found:
            return found
    raise Unavailable(f"no {name}: it is in Debian's {package}")


def _until(what: str, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise Unavailable(f"{what} was not ready after {seconds:.0f} s")
        time.sleep(0.05)


class _Polling:
    """A child process with one polling thread."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._schedstat: Path | None = None

    def find_thread(self, name: str) -> bool:
        """The polling thread, by a part of its name."""
        assert self.process
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                if name in (task / "comm").read_text():
                    self._schedstat = task / "schedstat"
                    return True
        return False

    def ran(self) -> float:
        """Seconds that the polling thread has run."""
        assert self._schedstat
        return int(self._schedstat.read_text().split()[0]) * 1e-9

    def stop(self) -> None:
        """Leaves the core to others."""
        if self.process:
            self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Polls again."""
        if self.process:
            self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Ends the child."""
        if self.process:
            self.go_on()
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def _measure(polling: _Polling, received: Callable[[], int], seconds: float) -> Sample:
    """A sample, after a pause that lets caches warm up again."""
    polling.go_on()
    try:
        time.sleep(0.15)
        packets, ran = received(), polling.ran()
        time.sleep(seconds)
        return Sample(received() - packets, polling.ran() - ran)
    finally:
        polling.stop()


class Testpmd:
    """DPDK's own forwarder in `io` mode, which looks at nothing: the limit of the framework."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._binary = _program("dpdk-testpmd", "dpdk-dev")
        _huge_pages(HUGE_PAGES)
        self._polling = _Polling()

    def prepare(self, capture: Path, rules: Path) -> str:
        """Starts it anew: it cannot exchange its input. The rules are not for it."""
        self._polling.end()
        fits = _fits(capture)
        _huge_pages(HUGE_PAGES if fits else MANY_HUGE_PAGES["testpmd"])
        control = min(os.sched_getaffinity(0) - {self._core}, default=self._core)
        self._polling.process = subprocess.Popen(
            [
                *("stdbuf", "-o0", self._binary, "-l", f"{control},{self._core}", "--no-pci"),
                *("--in-memory", "--no-telemetry", f"--main-lcore={control}"),
                *("--vdev", f"net_pcap0,rx_pcap={capture},infinite_rx=1"),
                *("--vdev", "net_null0,no-rx=1", "--", "-i", "--nb-cores=1"),
                f"--total-num-mbufs={MBUFS if fits else MANY_MBUFS}",
                *("--forward-mode=io", "--no-lsc-interrupt"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._until_prompt()
        self._command("start")
        _until("testpmd", lambda: self._polling.find_thread("-worker"))
        self._polling.stop()
        return ""

    def _until_prompt(self) -> str:
        assert self._polling.process and self._polling.process.stdout
        stdout = self._polling.process.stdout.fileno()
        said = b""
        while not said.endswith(b"testpmd> "):
            chunk = os.read(stdout, 65536)
            if not chunk:
                last = said.decode(errors="replace").strip().splitlines()[-1:]
                raise Unavailable(f"testpmd ended: {' '.join(last)}")
            said += chunk
        return said.decode()

    def _command(self, text: str) -> str:
        assert self._polling.process and self._polling.process.stdin
        self._polling.process.stdin.write(text.encode() + b"\n")
        self._polling.process.stdin.flush()
        return self._until_prompt()

    def _received(self) -> int:
        found = re.search(r"RX-packets:\s*(\d+)", self._command("show port stats 0"))
        if not found:
            raise Unavailable("testpmd does not tell what port 0 received")
        return int(found[1])

    def sample(self, seconds: float) -> Sample:
        """See Forwarder."""
        return _measure(self._polling, self._received, seconds)

    def close(self) -> None:
        """See Forwarder."""
        self._polling.end()


class OvsDpdk:
    """Open vSwitch's userspace datapath on DPDK, settings as they come; tuned(): in another form.

    OKO_OVS_DPDK names the binary where it is not at its place (a package that is unpacked only).
    """

    WARM_SECONDS = 30.0
    """Time at most to fill its flow caches; more is said in the result."""

    def __init__(self, core: int) -> None:
        self._core = core
        package = "openvswitch-switch-dpdk"
        self._binary = _program(
            "ovs-vswitchd-dpdk", package, "OKO_OVS_DPDK", f"/usr/lib/{package}/ovs-vswitchd-dpdk"
        )
        self._server = _program("ovsdb-server", "openvswitch-switch", "", "/usr/sbin/ovsdb-server")
        for tool in ("ovsdb-tool", "ovs-vsctl", "ovs-ofctl", "ovs-appctl"):
            _program(tool, "openvswitch-common")
        _huge_pages(HUGE_PAGES)
        self._folder = Path(tempfile.mkdtemp(prefix="oko-ovs-")) / "run"
        self._polling = _Polling()
        self._database: subprocess.Popen[bytes] | None = None
        self._number = 0
        self._many = False
        self._note = ""
        try:
            self._start(many=False)
        except BaseException:
            self.close()
            raise

    def _run(self, *command: str) -> str:
        environment = {**os.environ, "OVS_RUNDIR": str(self._folder)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"{command[0]}: {done.stderr.strip()[:300]}")
        return done.stdout

    def _vsctl(self, *arguments: str) -> None:
        self._run("ovs-vsctl", f"--db=unix:{self._folder}/db.sock", *arguments)

    def _appctl(self, *arguments: str) -> str:
        return self._run("ovs-appctl", "-t", f"{self._folder}/switch.ctl", *arguments)

    def _start(self, many: bool) -> None:
        """Both processes and a bridge; many: buffers for a capture that does not fit into MBUFS."""
        self._many, self._number = many, 0
        self._folder.mkdir()
        self._run("ovsdb-tool", "create", f"{self._folder}/conf.db")
        environment = {**os.environ, "OVS_RUNDIR": str(self._folder)}
        with open(self._folder / "log", "wb") as log:
            self._database = subprocess.Popen(
                [
                    *(self._server, f"{self._folder}/conf.db"),
                    *(f"--remote=punix:{self._folder}/db.sock", "--unixctl=none"),
                ],
                env=environment,
                stdout=log,
                stderr=log,
            )
            _until("ovsdb-server", (self._folder / "db.sock").exists)
            self._vsctl("--no-wait", "init")
            self._vsctl(
                *("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true"),
                *("other_config:dpdk-socket-mem=1024",),
                f"other_config:per-port-memory={str(many).lower()}",
                f"other_config:pmd-cpu-mask={hex(1 << self._core)}",
                "other_config:dpdk-extra=--no-pci --in-memory --no-telemetry",
            )
            self._polling.process = subprocess.Popen(
                [
                    *(self._binary, f"unix:{self._folder}/db.sock"),
                    f"--unixctl={self._folder}/switch.ctl",
                ],
                env=environment,
                stdout=log,
                stderr=log,
            )
        _until("ovs-vswitchd", (self._folder / "switch.ctl").exists)
        self._vsctl(
            *("--timeout=30", "add-br", "br0", "--", "set", "bridge", "br0"),
            *("datapath_type=netdev", "fail-mode=secure"),
        )
        self._vsctl(
            *("--timeout=30", "add-port", "br0", "p2", "--", "set", "interface", "p2"),
            *("type=dpdk", "ofport_request=2", "options:dpdk-devargs=net_null0,no-rx=1"),
        )

    def prepare(self, capture: Path, rules: Path) -> str:
        """Exchanges the input port and the rules, and waits until hardly any packet goes to the
        slow path."""
        self._note = "not ready"
        self._polling.go_on()
        fits = _fits(capture)
        if not fits or self._many:  # it gives buffers back late
            self._stop()
            _huge_pages(HUGE_PAGES if fits else MANY_HUGE_PAGES["ovs-dpdk"])
            self._start(many=not fits)
        if self._number:
            self._vsctl("--timeout=30", "--if-exists", "del-port", "br0", "p1")
            with contextlib.suppress(Unavailable):  # not needed where the port's going did it
                self._appctl("netdev-dpdk/detach", f"net_pcap{self._number}")
        self._number += 1
        self._run("ovs-ofctl", "del-flows", f"unix:{self._folder}/br0.mgmt")
        self._run("ovs-ofctl", "add-flows", f"unix:{self._folder}/br0.mgmt", str(rules))
        time.sleep(1.0)  # flows of the rules before would spoil the simple path
        self._vsctl(
            *("--timeout=30", "add-port", "br0", "p1", "--", "set", "interface", "p1"),
            *("type=dpdk", "ofport_request=1"),
            f"options:dpdk-devargs=net_pcap{self._number},rx_pcap={capture},infinite_rx=1",
            *(() if fits else MANY_QUEUES),
        )
        if "normal" in rules.name:
            self._appctl("fdb/add", "br0", "p2", "0", "02:00:00:00:00:02")
        _until("a PMD thread", lambda: self._polling.find_thread("pmd-"))
        _until("the input", lambda: self._count("packets received") > 0)
        end = time.monotonic() + self.WARM_SECONDS
        while True:
            before = self._upcalls()
            time.sleep(0.5)
            rate = (self._upcalls() - before) / 0.5
            if rate < 200 or time.monotonic() > end:
                break
        self._polling.stop()
        self._note = f"{rate:,.0f} upcalls/s while measured" if rate >= 200 else ""
        return self._note

    def _count(self, what: str) -> int:
        shown = self._appctl("dpif-netdev/pmd-stats-show")
        polling = shown.split("pmd thread", 1)[-1].split("main thread", 1)[0]
        found = re.search(rf"{what}: (\d+)", polling)
        return int(found[1]) if found else 0

    def _upcalls(self) -> int:
        return self._count("miss with success upcall") + self._count("miss with failed upcall")

    def sample(self, seconds: float) -> Sample:
        """See Forwarder."""
        return _measure(self._polling, lambda: self._count("packets received"), seconds)

    def tuned(self) -> OvsTuned:
        """The same switch, with the same flows, in the settings that suit many flows best."""
        return OvsTuned(self)

    def set(self, *settings: str) -> None:
        """Sets "name=value" of its configuration, or takes back "name"; while it polls."""
        for setting in settings:
            command = "set" if "=" in setting else "remove"
            words = [f"other_config:{setting}"] if "=" in setting else ["other_config", setting]
            self._vsctl("--timeout=30", command, "Open_vSwitch", ".", *words)

    @contextlib.contextmanager
    def polling(self) -> Iterator[None]:
        """It has the core meanwhile."""
        self._polling.go_on()
        try:
            yield
        finally:
            self._polling.stop()

    @property
    def note(self) -> str:
        """What prepare() said last."""
        return self._note

    def _stop(self) -> None:
        self._polling.end()
        if self._database:
            self._database.terminate()
            self._database.wait()
            self._database = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """See Forwarder."""
        self._stop()
        shutil.rmtree(self._folder.parent, ignore_errors=True)


class OvsTuned:
    """OvsDpdk with its signature match cache instead of the exact match cache, which holds 8,192
    flows only: what suits it best where there are more. Settings change before and after a sample,
    so both forms have the same flows; the cache fills again before it is measured."""

    SETTINGS = ("emc-insert-inv-prob=0", "smc-enable=true")
    WARM_SECONDS = 0.4

    def __init__(self, switch: OvsDpdk) -> None:
        self._switch = switch

    def prepare(self, capture: Path, rules: Path) -> str:
        """See Forwarder. The other form has just been prepared."""
        if self._switch.note == "not ready":
            raise Unavailable("as ovs-dpdk")
        return ""

    def sample(self, seconds: float) -> Sample:
        """See Forwarder."""
        with self._switch.polling():
            self._switch.set(*self.SETTINGS)
            time.sleep(self.WARM_SECONDS)
        try:
            return self._switch.sample(seconds)
        finally:
            with self._switch.polling():
                self._switch.set(*(setting.split("=")[0] for setting in self.SETTINGS))

    def close(self) -> None:
        """See Forwarder. The other form's affair."""
