"""Waiting for what comes about by itself, for as long as a busy machine may take."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds until something that should come is given up


def wait_until(
    done: Callable[[], object], say: Callable[[], str] = str, *, every: float = 0.02
) -> None:
    """Returns once done() is true; asks every so many seconds. Fails with what say() tells."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, say()
        time.sleep(every)
