"""oko: a userspace OpenFlow switch whose flows can match with BPF filter programs.

Everything public is here; it is imported when first used, so that `import oko` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._binding import Engine, Meta, features
    from .datapath import Datapath, Frame
    from .errors import OkoError
    from .filters import FilterProgram, Map
    from .replayer import Replayer, ReplayResult, replay

_HOME = {
    "Datapath": "datapath",
    "Engine": "_binding",
    "FilterProgram": "filters",
    "Frame": "datapath",
    "Map": "filters",
    "Meta": "_binding",
    "OkoError": "errors",
    "ReplayResult": "replayer",
    "Replayer": "replayer",
    "features": "_binding",
    "replay": "replayer",
}

__all__ = [
    "Datapath",
    "Engine",
    "FilterProgram",
    "Frame",
    "Map",
    "Meta",
    "OkoError",
    "ReplayResult",
    "Replayer",
    "features",
    "replay",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'oko' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
