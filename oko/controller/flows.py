"""Flow-mods from text, as ovs-ofctl and oko-ofctl write flows, for any version of OpenFlow.

    datapath.send_msg(oko.controller.flow_mod(datapath, "priority=10,filter_prog=1,actions=drop"))

It is the way to flows with filters in OpenFlow 1.0, where os-ken's own match has fixed fields: what
1.0 cannot say is sent as Nicira's flow-mod, which the switch has anyway. The bytes are made by
oko.openflow; to os-ken the message is one of its own.
"""

from __future__ import annotations

from typing import Any

from oko.errors import OkoError
from oko.model.flow import COMMANDS, TABLE_ALL, FlowMod
from oko.openflow.common import OF10
from oko.openflow.flows import encode_flow_mod
from oko.text.flows import parse_flow_mod


def flow_mod(datapath: Any, text: str, command: str = "add") -> Any:
    """A message for datapath.send_msg(). command: add, modify, modify_strict, delete or
    delete_strict. OkoError: the text is no flow, or this version of OpenFlow cannot say it."""
    number = COMMANDS.get(command)
    if number is None:
        raise OkoError(f"there is no command {command!r}", "one of " + ", ".join(COMMANDS))
    mod = parse_flow_mod(text, number)
    version = datapath.ofproto.OFP_VERSION
    if version == OF10 and mod.flow.table not in (0, TABLE_ALL):
        raise OkoError("a flow-mod of OpenFlow 1.0 cannot name a table", "use OpenFlow 1.3")
    encode_flow_mod(version, mod)  # what cannot be said is told here, not when it is sent
    return _message_class(datapath.ofproto_parser.MsgBase)(datapath, mod)


def _message_class(base: Any) -> Any:
    class OkoFlowMod(base):  # type: ignore[misc]
        """A flow-mod whose bytes oko makes."""

        def __init__(self, datapath: Any, mod: FlowMod) -> None:
            super().__init__(datapath)
            self.mod = mod

        def serialize(self) -> None:
            version = self.datapath.ofproto.OFP_VERSION
            self.buf = bytearray(encode_flow_mod(version, self.mod, self.xid))
            self.version, self.msg_type, self.msg_len = version, self.buf[1], len(self.buf)

    return OkoFlowMod
