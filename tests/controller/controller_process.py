"""A real oko-controller process for tests, ended by its pid."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "switch"))
from switchd_process import Logged  # noqa: E402

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


class Controller(Logged):
    """oko-controller, or another one."""

    ready = "listening at"

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
        process = subprocess.Popen(
            words,
            stdout=self._log if stdout is None else stdout,
            stderr=self._log,
            env=environment(hub) | (env or {}),
        )
        super().__init__(Path(self._log.name), process)

    def wait_until_ready(self) -> None:
        """Another controller's log does not say it: it is ready when somebody listens."""
        if not self._plain:
            super().wait_until_ready()
            return

        def listens() -> bool:
            assert self.process.poll() is None, "it ended:\n" + "\n".join(self.log())
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return True
            return False

        wait_until(listens, lambda: "nobody listens:\n" + "\n".join(self.log()), every=0.05)
