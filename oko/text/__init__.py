"""The ovs-ofctl grammar: text to `oko.model` values and back.

    >>> from oko.text import parse_flow, format_flow
    >>> format_flow(parse_flow("priority=7, ip, nw_src=10.0.0.1/8, actions=2"))
    'priority=7,ip,nw_src=10.0.0.0/8 actions=output:2'

Layers, bottom up: scan (words with their places), values (fields), match, actions, groups, flows;
action_format is the way back of actions. Everything public is here; it is imported when first used,
because commands that only print a port start in a fraction of the time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oko.text.flows import (
        FlowStats,
        dump_flow,
        format_flow,
        format_match_part,
        iterate_rules,
        parse_flow,
        parse_flow_mod,
        parse_flows,
        parse_rules,
    )
    from oko.text.groups import format_group, format_meter, parse_group, parse_meter
    from oko.text.scan import FlowSyntaxError

__all__ = [
    "FlowStats",
    "FlowSyntaxError",
    "dump_flow",
    "format_flow",
    "format_group",
    "format_match_part",
    "format_meter",
    "iterate_rules",
    "parse_flow",
    "parse_flow_mod",
    "parse_flows",
    "parse_group",
    "parse_meter",
    "parse_rules",
]

_GROUPS = ("format_group", "format_meter", "parse_group", "parse_meter")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'oko.text' has no attribute {name!r}")
    home = "groups" if name in _GROUPS else "scan" if name == "FlowSyntaxError" else "flows"
    value = getattr(import_module(f"oko.text.{home}"), name)
    globals()[name] = value
    return value
