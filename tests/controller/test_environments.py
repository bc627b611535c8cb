"""The controller kit with other versions of os-ken, each in an environment of its own.

Only os-ken is installed there: oko.controller needs neither the compiled extension nor anything
else of what the switch needs. 3.1.0 is what Faucet pins, and runs on eventlet.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from controller_process import ROOT, environment
from environments import environment_with
from scenario_run import NAMES, judge, run_scenarios

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("release", "hub"), (("3.1.0", "eventlet"), ("4.2.2", "native"), ("4.2.2", "eventlet"))
)
def test_os_ken(tmp_path: Path, release: str, hub: str) -> None:
    python = environment_with(
        tmp_path / "environment", f"os-ken=={release}", "pytest", "hypothesis"
    )
    command = [str(python), "-m", "oko.controller.launcher"]
    results = run_scenarios(tmp_path, hub=hub, command=command)
    for name in NAMES:
        judge(results, name)
    codec = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not long"]
    codec += ["tests/controller/test_extension.py"]
    done = subprocess.run(
        codec, cwd=ROOT, env=environment(hub), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:]
