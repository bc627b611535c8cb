"""Virtual environments with another os-ken than the one that is installed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def environment_with(folder: Path, *requirements: str) -> Path:
    """A new environment's python. The test is left out where pip cannot install into it."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"pip cannot install {' '.join(requirements)}: {done.stderr.strip()[-300:]}")
    return python
