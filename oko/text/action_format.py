"""Actions and instructions as text: the form that actions.py reads back.

The form printed is the one that ovs-ofctl uses for OpenFlow 1.5, where set_field has a mask;
mod_vlan_*, mod_nw_* and mod_tp_* keep OpenFlow 1.0's names, because they also do their work where
set_field is refused for want of a prerequisite in the match.

With a version (the byte in an OpenFlow header) the form is the one in which ovs-ofctl shows what
that version carries: mod_dl_src, load and strip_vlan in 1.0, set_field on whole fields from 1.3 on.
"""

from __future__ import annotations

from collections.abc import Callable

from oko.model import actions as act
from oko.model.actions import Action, Subfield
from oko.model.fields import (
    IP_DSCP,
    IP_ECN,
    PORT_CONTROLLER,
    PORT_IN_PORT,
    PORT_NAMES,
    VLAN_PRESENT,
    VLAN_TCI,
    field,
)
from oko.model.flow import PRIORITY_DEFAULT, Instructions
from oko.text.values import format_field, format_port, format_subfield

_OF10, _OF15 = 1, 6


def format_instructions(instructions: Instructions, version: int = 0) -> str:
    """What stands after actions=: "drop" when nothing is done."""
    words: list[str] = []
    if instructions.meter:
        words.append(f"meter:{instructions.meter}")
    words += _words(instructions.apply, version)
    if instructions.clear:
        words.append("clear_actions")
    if instructions.write:
        words.append(f"write_actions({format_actions(instructions.write, version)})")
    if instructions.metadata is not None:
        value, mask = instructions.metadata
        shown = f"{value:#x}" if value else "0"
        words.append(f"write_metadata:{shown}" + ("" if mask == (1 << 64) - 1 else f"/{mask:#x}"))
    if instructions.goto is not None:
        words.append(f"goto_table:{instructions.goto}")
    return ",".join(words) or "drop"


def format_actions(actions: tuple[Action, ...], version: int = 0) -> str:
    """An action list; "drop" when it is empty."""
    return ",".join(_words(actions, version)) or "drop"


def _words(actions: tuple[Action, ...], version: int) -> list[str]:
    if version != _OF10:
        return [format_action(action, version) for action in actions]
    words = []
    at = 0
    while at < len(actions):
        action = actions[at]
        if isinstance(action, act.SetQueue) and at + 2 < len(actions):
            output = actions[at + 1]
            if isinstance(output, act.Output) and isinstance(actions[at + 2], act.PopQueue):
                words.append(f"enqueue:{format_port(output.port)}:{action.queue}")
                at += 3
                continue
        words.append(format_action(action, version))
        at += 1
    return words


def format_action(action: Action, version: int = 0) -> str:
    """One action as ovs-ofctl prints it."""
    if isinstance(action, act.Output):
        if action.port == PORT_CONTROLLER:
            return f"CONTROLLER:{action.max_len}"
        if action.port in PORT_NAMES:
            return PORT_NAMES[action.port]
        return f"output:{action.port}"
    if isinstance(action, act.SetField):
        return _format_wire_set(action, version) if version else _format_set(action)
    if isinstance(action, act.Clone):
        return f"clone({format_actions(action.actions, version)})"
    if version == _OF10 and isinstance(action, act.PopVlan):
        return "strip_vlan"
    formatter = _FORMATTERS[type(action)]
    return formatter(action)


_OLD_NAMES = {
    field("ipv4_src"): "mod_nw_src",
    field("ipv4_dst"): "mod_nw_dst",
    IP_DSCP: "mod_nw_tos",
    IP_ECN: "mod_nw_ecn",
}


def _format_set(action: act.SetField) -> str:
    if action.field is VLAN_TCI and action.mask == 0x1FFF and action.value & VLAN_PRESENT:
        return f"mod_vlan_vid:{action.value & 0xFFF}"
    if action.field is VLAN_TCI and action.mask == 0xF000 and action.value & VLAN_PRESENT:
        return f"mod_vlan_pcp:{action.value >> 13}"
    value = format_field(action.field, action.value, action.mask)
    if action.mask == action.field.all_ones and action.field in _OLD_NAMES:
        # Unlike set_field these may stand where the match does not say "ip".
        if action.field is IP_DSCP:
            return f"mod_nw_tos:{action.value << 2}"
        return f"{_OLD_NAMES[action.field]}:{value}"
    return f"set_field:{value}->{action.field.label}"


def _format_wire_set(action: act.SetField, version: int) -> str:
    f, value, mask = action.field, action.value, action.mask
    whole = mask == f.all_ones
    if version == _OF10:
        if f is VLAN_TCI and mask in (0x1FFF, 0xF000) and value & VLAN_PRESENT:
            return _format_set(action)
        if whole and f.name in ("eth_src", "eth_dst"):
            return f"mod_dl_{f.name[4:]}:{format_field(f, value, mask)}"
        if whole and f in _OLD_NAMES and f is not IP_ECN:
            return _format_set(action)
    elif version >= _OF15 or (whole and f is not VLAN_TCI):
        return f"set_field:{format_field(f, value, mask)}->{f.label}"
    return ",".join(_loads(action))


def _loads(action: act.SetField) -> list[str]:
    """load:.. for each run of bits, 64 at most (NXAST_REG_LOAD)."""
    words = []
    at, bits = 0, action.field.bits
    while at < bits:
        if not action.mask >> at & 1:
            at += 1
            continue
        end = at
        while end < bits and end - at < 64 and action.mask >> end & 1:
            end += 1
        value = action.value >> at & (1 << end - at) - 1
        shown = f"{value:#x}" if value else "0"
        words.append(f"load:{shown}->{format_subfield(Subfield(action.field, at, end - at))}")
        at = end
    return words


def _format_controller(action: act.Controller) -> str:
    words = []
    if action.reason != act.REASONS["action"]:
        words.append("reason=" + next(k for k, v in act.REASONS.items() if v == action.reason))
    if action.max_len != act.MAX_LEN_ALL:
        words.append(f"max_len={action.max_len}")
    if action.id:
        words.append(f"id={action.id}")
    return f"controller({','.join(words)})"


def _format_resubmit(action: act.Resubmit) -> str:
    port = "" if action.in_port == PORT_IN_PORT else format_port(action.in_port)
    if action.table == act.TABLE_CURRENT:
        return f"resubmit:{port or 'IN_PORT'}"
    return f"resubmit({port},{action.table})"


def _format_fin_timeout(action: act.FinTimeout) -> str:
    words = []
    if action.idle_timeout:
        words.append(f"idle_timeout={action.idle_timeout}")
    if action.hard_timeout:
        words.append(f"hard_timeout={action.hard_timeout}")
    return f"fin_timeout({','.join(words)})"


def _format_send_maps(action: act.SendMaps) -> str:
    words = [f"prog={action.program}", *(f"map={number_}" for number_ in action.maps)]
    if action.interval != 1000:
        whole = action.interval % 1000 == 0
        shown = f"{action.interval // 1000}s" if whole else f"{action.interval}ms"
        words.append(f"interval={shown}")
    return f"send_maps({','.join(words)})"


def _format_learn(action: act.Learn) -> str:
    words = [f"table={action.table}"]
    for name in ("idle_timeout", "hard_timeout", "fin_idle_timeout", "fin_hard_timeout"):
        value = getattr(action, name)
        if value:
            words.append(f"{name}={value}")
    if action.priority != PRIORITY_DEFAULT:
        words.append(f"priority={action.priority}")
    if action.send_flow_rem:
        words.append("send_flow_rem")
    if action.delete_learned:
        words.append("delete_learned")
    if action.cookie:
        words.append(f"cookie={action.cookie:#x}")
    if action.limit:
        words.append(f"limit={action.limit}")
    if action.result is not None:
        words.append(f"result_dst={format_subfield(action.result)}")
    words += [_format_learn_spec(spec) for spec in action.specs]
    return f"learn({','.join(words)})"


def _format_learn_spec(spec: act.LearnSpec) -> str:
    if isinstance(spec, act.LearnOutput):
        return f"output:{format_subfield(spec.source)}"
    target = format_subfield(spec.target)
    if isinstance(spec, act.LearnLoad):
        shown = (
            f"{spec.source:#x}" if isinstance(spec.source, int) else format_subfield(spec.source)
        )
        return f"load:{shown}->{target}"
    if isinstance(spec.source, Subfield):
        source = format_subfield(spec.source)
        return target if source == target else f"{target}={source}"
    whole = spec.target.field
    if spec.target.ofs == 0 and spec.target.n_bits in (whole.width, whole.bits):
        return f"{whole.label}={format_field(whole, spec.source, whole.all_ones)}"
    return f"{target}={spec.source:#x}"


def _name(text: str) -> Callable[[Action], str]:
    return lambda action: text


_FORMATTERS: dict[type, Callable[..., str]] = {
    act.OutputTrunc: lambda a: f"output(port={format_port(a.port)},max_len={a.max_len})",
    act.OutputReg: lambda a: f"output:{format_subfield(a.source)}",
    act.Controller: _format_controller,
    act.ToGroup: lambda a: f"group:{a.group}",
    act.SetQueue: lambda a: f"set_queue:{a.queue}",
    act.PopQueue: _name("pop_queue"),
    act.SetTransport: lambda a: f"mod_tp_{'dst' if a.destination else 'src'}:{a.port}",
    act.Move: lambda a: f"move:{format_subfield(a.source)}->{format_subfield(a.target)}",
    act.PushBits: lambda a: f"push:{format_subfield(a.source)}",
    act.PopBits: lambda a: f"pop:{format_subfield(a.target)}",
    act.PushVlan: lambda a: f"push_vlan:0x{a.tpid:04x}",
    act.PopVlan: _name("pop_vlan"),
    act.PushMpls: lambda a: f"push_mpls:0x{a.eth_type:04x}",
    act.PopMpls: lambda a: f"pop_mpls:0x{a.eth_type:04x}",
    act.PushPbb: lambda a: f"push_pbb:0x{a.eth_type:04x}",
    act.PopPbb: _name("pop_pbb"),
    act.SetMplsTtl: lambda a: f"set_mpls_ttl({a.ttl})",
    act.DecMplsTtl: _name("dec_mpls_ttl"),
    act.SetTtl: lambda a: f"mod_nw_ttl:{a.ttl}",
    act.DecTtl: lambda a: (
        f"dec_ttl({','.join(map(str, a.controllers))})" if a.controllers else "dec_ttl"
    ),
    act.CopyTtlOut: _name("copy_ttl_out"),
    act.CopyTtlIn: _name("copy_ttl_in"),
    act.Resubmit: _format_resubmit,
    act.Learn: _format_learn,
    act.Note: lambda a: "note:" + ".".join(f"{byte:02x}" for byte in a.data),
    act.Conjunction: lambda a: f"conjunction({a.id},{a.dimension}/{a.dimensions})",
    act.Exit: _name("exit"),
    act.FinTimeout: _format_fin_timeout,
    act.SendMaps: _format_send_maps,
}
