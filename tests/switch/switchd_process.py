"""Real processes for tests, ended by their pids: oko-switchd, and what they have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from signal import SIGTERM
from typing import TypeVar

from waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
_Own = TypeVar("_Own", bound="Logged")


class Logged:
    """A process that logs into a file; it is ready when its log says so, and ends with the with
    block."""

    ready = "ready"

    def __init__(self, log_path: Path, process: subprocess.Popen[bytes]) -> None:
        self.log_path = log_path
        self.process = process
        self.pid = process.pid

    def log(self) -> list[str]:
        """What it logged so far."""
        return self.log_path.read_text().splitlines()

    def wait_for(self, text: str, *, after: int = 0) -> str:
        """The first line of the log behind `after` lines that contains text."""

        def found() -> list[str]:
            return [line for line in self.log()[after:] if text in line]

        def say() -> str:
            return f"no {text!r} in the log:\n" + "\n".join(self.log())

        wait_until(lambda: found() or self.process.poll() is not None, say)
        assert found(), say()
        return found()[0]

    def wait_until_ready(self) -> None:
        """AssertionError with the log if it does not come to that."""
        self.wait_for(self.ready)

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def stop(self, number: int = SIGTERM) -> int:
        """Its exit status after a signal."""
        if self.process.poll() is None:
            self.signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._kill()
            raise

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self: _Own) -> _Own:
        try:
            self.wait_until_ready()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class Switchd(Logged):
    """oko-switchd."""

    def __init__(self, run_dir: Path, *arguments: str) -> None:
        self.run_dir = run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "oko.switchd", "--run-dir", str(run_dir), *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with (run_dir / "log").open("wb") as log:
            process = subprocess.Popen(command, stderr=log, env=environment)
        super().__init__(run_dir / "log", process)
