"""Shared by all Python tests: where captures are, and what may be left out.

A test that cannot run says so with a reason (`pytest -rs` lists them). With OKO_STRICT=1, as in
continuous integration, nothing may be left out: a skip counts as a failure.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def traces_dir() -> Path | None:
    """The folder of large real captures: OKO_TRACES, else ../shared/traces where that exists."""
    named = os.environ.get("OKO_TRACES")
    path = Path(named) if named else ROOT.parent / "shared" / "traces"
    return path if path.is_dir() else None


@pytest.fixture(scope="session")
def traces() -> Path:
    """The folder of large real captures; the test is left out where there is none."""
    path = traces_dir()
    if path is None:
        pytest.skip("no large captures: set OKO_TRACES to the folder that has them")
    return path


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if os.environ.get("OKO_STRICT") == "1" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"left out although OKO_STRICT=1: {reason}"
