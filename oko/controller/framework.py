"""os-ken, or Ryu where os-ken is not installed: their modules by name.

Both have the same modules under different names. os-ken's controller must be imported in one order
(its application manager first: the two import one another), which is why nothing else in this
package imports it directly.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

PACKAGES = ("os_ken", "ryu")


@cache
def package() -> str:
    """The framework's package, the first of PACKAGES that is installed; ImportError: none is."""
    for name in PACKAGES:
        if find_spec(name) is not None:
            return name
    raise ImportError("oko.controller needs os-ken (pip install os-ken)", name=PACKAGES[0])


def module(name: str) -> Any:
    """A module of the framework, such as "ofproto.ofproto_v1_3"."""
    if name.startswith("controller."):
        import_module(f"{package()}.base.app_manager")
    return import_module(f"{package()}.{name}")
