"""A real oko-controller process for tests, ended by its pid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "switch"))
COMMAND = [sys.executable, "-m", "oko.controller.launcher"]


def free_port() -> int:
    """A TCP port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def environment(hub: str = "native") -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OSKEN_HUB_TYPE": hub}


def run_controller(*arguments: str) -> tuple[int, str]:
    """Exit status and standard error of one that ends by itself."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env=environment()
    )
    return done.returncode, done.stderr


class Controller:
    """Runs until the with block ends."""

    def __init__(
        self,
        *apps: Path | str,
        hub: str = "native",
        port: int = 0,
        arguments: Sequence[str] = (),
        command: Sequence[str] = COMMAND,
        env: dict[str, str] | None = None,
        stdout: int | None = None,
        plain: bool = False,  # the command is another controller, complete
    ) -> None:
        self._plain = plain
        self.port = port or free_port()
        self._log = tempfile.NamedTemporaryFile(prefix="oko-controller-")  # noqa: SIM115
        words = [*command, *map(str, apps)]
        if not plain:
            words += ["--ofp-listen-port", str(self.port), *arguments]
        self.process = subprocess.Popen(
            words,
            stdout=self._log if stdout is None else stdout,
            stderr=self._log,
            env=environment(hub) | (env or {}),
        )

    def log(self) -> list[str]:
        """What it logged so far."""
        return Path(self._log.name).read_text().splitlines()

    def wait_for(self, text: str) -> str:
        """The first line of the log that contains text."""

        def found() -> list[str]:
            return [line for line in self.log() if text in line]

        def say() -> str:
            return f"no {text!r} in the log:\n" + "\n".join(self.log())

        wait_until(lambda: found() or self.process.poll() is not None, say)
        assert found(), say()
        return found()[0]

    def _wait_until_listening(self) -> None:
        def listens() -> bool:
            assert self.process.poll() is None, "it ended:\n" + "\n".join(self.log())
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return True
            return False

        wait_until(listens, lambda: "nobody listens:\n" + "\n".join(self.log()), every=0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self) -> Controller:
        try:
            self._wait_until_listening() if self._plain else self.wait_for("listening at")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
