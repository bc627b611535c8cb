"""Network namespaces for tests: hosts that really talk. Needs root; everything goes at the end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import pytest
from waiting import wait_until

_numbers = count()


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check)


def why_not() -> str:
    """Why there can be no namespaces here; "" if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        probe = run("ip", "netns", "add", f"oko-probe-{os.getpid()}", check=False)
    except FileNotFoundError:
        return "there is no ip command (iproute2)"
    if probe.returncode:
        return f"no network namespaces here: {probe.stderr.strip()}"
    run("ip", "netns", "del", f"oko-probe-{os.getpid()}", check=False)
    return ""


@dataclass(frozen=True)
class Host:
    """A namespace with one veth device; device is its end in ours."""

    space: str
    device: str
    address: str
    mac: str

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("ip", "netns", "exec", self.space, *command, check=check)

    def popen(self, *command: str, **rest) -> subprocess.Popen:
        return subprocess.Popen(["ip", "netns", "exec", self.space, *command], **rest)

    def ping(self, address: str, *, n: int = 3, wait: int = 2) -> bool:
        """Do all of n echo requests get an answer?"""
        done = self.run(
            "ping", "-q", "-c", str(n), "-i", "0.05", "-W", str(wait), address, check=False
        )
        answered = done.returncode == 0 and " 0% packet loss" in done.stdout
        if not answered:
            print(done.stdout, done.stderr, self.run("ip", "-s", "neigh").stdout)
        return answered


def wait_for_links(shown: Callable[[], Sequence[str]]) -> None:
    """The kernel brings links up about once a second when many change; before that they drop.
    shown: what ip says of each."""
    wait_until(
        lambda: all("state UP" in text for text in shown()), lambda: f"links stay down: {shown()}"
    )


def wait_until_up(host: Host) -> None:
    """Both ends of its device."""
    wait_for_links(
        lambda: (
            run("ip", "-o", "link", "show", host.device).stdout,
            host.run("ip", "-o", "link", "show", "eth0").stdout,
        )
    )


@contextmanager
def hosts(*addresses: str) -> Iterator[list[Host]]:
    """One host per address ("10.0.0.1/24")."""
    if reason := why_not():
        pytest.skip(reason)
    made: list[Host] = []
    try:
        for i, address in enumerate(addresses):
            tag = f"{os.getpid() % 100000}x{next(_numbers)}"
            mac = f"02:00:00:00:{i:02x}:01"
            host = Host(f"oko-{tag}", f"ov{tag}", address.split("/")[0], mac)
            run("ip", "netns", "add", host.space)
            made.append(host)
            run("ip", "link", "add", host.device, "type", "veth", "peer", "name", "eth0",
                "address", mac, "netns", host.space)  # fmt: skip
            host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
            host.run("ip", "addr", "add", address, "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
            host.run("ip", "link", "set", "lo", "up")
            run("ip", "link", "set", host.device, "up")
        for host in made:
            wait_until_up(host)
        yield made
    finally:
        for host in made:
            run("ip", "netns", "del", host.space, check=False)
            run("ip", "link", "del", host.device, check=False)
