"""A real oko-switchd process for tests, ended by its pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]


class Switchd:
    """Runs until the with block ends; lines of the log are in log()."""

    def __init__(self, run_dir: Path, *arguments: str) -> None:
        self.run_dir = run_dir
        self.log_path = run_dir / "log"
        run_dir.mkdir(parents=True, exist_ok=True)
        self._log = self.log_path.open("wb")
        command = [sys.executable, "-m", "oko.switchd", "--run-dir", str(run_dir), *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stderr=self._log, env=environment)
        self.pid = self.process.pid

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

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self) -> Switchd:
        try:
            self.wait_for("ready")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.stop()
        finally:
            self._log.close()
