"""The daemon's log: one line per event, with a level; JSON on request.

    2026-11-21T04:40:01.123Z info bridge br0: port 1 (veth0) is up

Names of loggers are modules in vlog's sense: `ovs-appctl vlog/set bridge:dbg` sets one's level.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

ROOT = "oko"


def logger(module: str) -> logging.Logger:
    """The logger of a module: "bridge", "agent", "daemon", "state" ..."""
    return logging.getLogger(f"{ROOT}.{module}")


class TextFormatter(logging.Formatter):
    """One line: time, level, module, message."""

    def format(self, record: logging.LogRecord) -> str:
        module = record.name.removeprefix(f"{ROOT}.")
        text = " ".join(record.getMessage().splitlines())
        line = f"{_time(record)} {record.levelname.lower()} {module}: {text}"
        if record.exc_info:
            line += " | " + " | ".join(self.formatException(record.exc_info).splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """One object per line: time, level, module, message."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "module": record.name.removeprefix(f"{ROOT}."),
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def start(level: str, *, as_json: bool, file: Path | None) -> None:
    """Directs the log; OSError when the file cannot be opened."""
    handler: logging.Handler = (
        logging.FileHandler(file) if file is not None else logging.StreamHandler(sys.stderr)
    )
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger(ROOT)
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.propagate = False
    root.setLevel(level.upper())
