"""Which flows a request covers: by their match, and by where they output (OpenFlow 1.3.5, 6.4)."""

from __future__ import annotations

from collections.abc import Callable

from oko.model import actions as act
from oko.model import compile as records
from oko.model.flow import Instructions, Match


def coverage(match: Match, strict: int | None) -> Callable[[bytes], bool] | None:
    """Tells whether a flow's match record is one that a request with this match covers."""
    if strict is not None:
        exactly = records.compile_match(match)
        return lambda record: record == exactly
    if not match:
        return None
    wanted = match.fields

    def narrower(record: bytes) -> bool:
        have = {f: (value, mask) for f, value, mask in records.parse_match(record)}
        for f, value, mask in wanted:
            own_value, own_mask = have.get(f, (0, 0))
            if mask & ~own_mask or (value ^ own_value) & mask:
                return False
        return True

    return narrower


def names_target(value: object, kind: type, number: int) -> bool:
    """Does an action among these, nested ones included, output to this port or group?"""
    if isinstance(value, Instructions):
        return names_target(value.apply, kind, number) or names_target(value.write, kind, number)
    if isinstance(value, tuple):
        return any(names_target(action, kind, number) for action in value)
    if isinstance(value, act.Clone):
        return names_target(value.actions, kind, number)
    if isinstance(value, act.ToGroup):
        return kind is act.ToGroup and value.group == number
    if isinstance(value, (act.Output, act.OutputTrunc)):
        return kind is act.Output and value.port == number
    return False
