"""os-ken, or Ryu where os-ken is not installed: their modules by name.

Both have the same modules under different names. os-ken's controller must be imported in one order
(its application manager first: the two import one another), which is why nothing else in this
package imports it directly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def receive(
    brick: Any, event_class: Any, states: Sequence[str], function: Callable[[Any], None]
) -> None:
    """Calls function(event) in the thread that receives, while the connection is in these states.

    brick: os-ken's OpenFlow application; what it handles itself is handled there, while events for
    other applications wait in their queues. os-ken looks for the states in an attribute of the
    handler, which a method cannot have.
    """

    def handle(event: Any) -> None:
        function(event)

    handle.__name__ = function.__name__
    decorate = module("controller.handler").set_ev_handler(event_class, list(states))
    brick.register_handler(event_class, decorate(handle))
