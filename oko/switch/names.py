"""The OpenFlow name of what the datapath refused (OpenFlow 1.3.5, 7.4.4; as Open vSwitch)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oko.errors import CoreError
from oko.model.flow import FlowMod, GroupMod

if TYPE_CHECKING:
    from oko.switch.bridge import Change

# enum oko_err
NOMEM, INVAL, NOT_FOUND, EXISTS, LIMIT = -1, -2, -3, -4, -5

# By the first words of the core's reason, most special first.
_FLOW_NOT_FOUND = (
    ("flow: program", "OFPBMC_BAD_VALUE"),
    ("flow: there is no group", "OFPBAC_BAD_OUT_GROUP"),
    ("flow: there is no meter", "OFPMMFC_INVALID_METER"),
)
_FLOW_INVALID = (
    ("flow: table", "OFPFMFC_BAD_TABLE_ID"),
    ("conjunction:", "NXBAC_BAD_CONJUNCTION"),
    ("flow: a flow with conjunction", "OFPBMC_BAD_FIELD"),
    ("flow: there is no command", "OFPFMFC_BAD_COMMAND"),
    ("flow: there is no program", "OFPBMC_BAD_VALUE"),
    ("match:", "OFPBMC_BAD_VALUE"),
    ("goto_table:", "OFPBIC_BAD_TABLE_ID"),
    ("output:", "OFPBAC_BAD_OUT_PORT"),
    ("resubmit:", "OFPBAC_BAD_ARGUMENT"),
    ("set_field:", "OFPBAC_BAD_SET_ARGUMENT"),
)


def _by_reason(table: tuple[tuple[str, str], ...], reason: str, otherwise: str) -> str:
    return next((name for start, name in table if reason.startswith(start)), otherwise)


def action_error_name(error: CoreError) -> str:
    """The name for an action list of a packet-out that was refused."""
    if error.code == NOT_FOUND:
        return "OFPBAC_BAD_OUT_GROUP"
    return _by_reason(_FLOW_INVALID, str(error), "OFPBAC_BAD_ARGUMENT")


def error_name(change: Change, error: CoreError) -> str:
    """The name of the error that answers a change that the datapath refused."""
    reason, code = str(error), error.code
    if isinstance(change, FlowMod):
        if code in (LIMIT, NOMEM):
            return "OFPFMFC_TABLE_FULL"
        if code == EXISTS:
            return "OFPFMFC_OVERLAP"
        if code == NOT_FOUND:
            return _by_reason(_FLOW_NOT_FOUND, reason, "OFPFMFC_UNKNOWN")
        return _by_reason(_FLOW_INVALID, reason, "OFPBAC_BAD_ARGUMENT")
    if isinstance(change, GroupMod):
        return {
            EXISTS: "OFPGMFC_GROUP_EXISTS",
            NOT_FOUND: "OFPGMFC_UNKNOWN_GROUP",
            LIMIT: "OFPGMFC_OUT_OF_GROUPS",
            NOMEM: "OFPGMFC_OUT_OF_GROUPS",
        }.get(code, "OFPGMFC_INVALID_GROUP")
    return {
        EXISTS: "OFPMMFC_METER_EXISTS",
        NOT_FOUND: "OFPMMFC_UNKNOWN_METER",
        LIMIT: "OFPMMFC_OUT_OF_BANDS",
        NOMEM: "OFPMMFC_OUT_OF_METERS",
    }.get(code, "OFPMMFC_INVALID_METER" if "meter number" in reason else "OFPMMFC_BAD_BAND")
