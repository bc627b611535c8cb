"""FilterPrograms in an os-ken application, against a real oko-switchd with traffic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scenario_run import NAMES, judge, run_scenarios


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_scenarios(tmp_path_factory.mktemp("scenarios"))


@pytest.mark.parametrize("name", NAMES)
def test_threads(results: dict[str, Any], name: str) -> None:
    judge(results, name)


@pytest.mark.long
def test_eventlet(tmp_path: Path) -> None:
    results = run_scenarios(tmp_path, hub="eventlet")
    for name in NAMES:
        judge(results, name)


@pytest.mark.long
@pytest.mark.parametrize("version", ("1.0", "1.4", "1.5"))
def test_other_versions(tmp_path: Path, version: str) -> None:
    results = run_scenarios(tmp_path, version=version)
    for name in results:
        judge(results, name)
    assert len(results) >= len(NAMES) - 3
