"""A traced packet's way in words, a step a line: what oko-replay --trace, ofproto/trace and
oko-ofctl trace print.

Pure functions over the steps that the core recorded (struct oko_trace_step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from ._binding_replay import drop_name
from .bpf.disasm import place
from .bpf.spec import ProgramSpec
from .datapath import TraceStep
from .model.fields import FIELDS
from .model.flow import Match
from .text.match import format_match
from .text.values import format_port

Flows: TypeAlias = Callable[[int], tuple[str, str] | None]
"""Match and actions of a flow by its id, as text; None: not known any more."""

OP_NAMES = {
    1: "meter", 2: "apply_actions", 3: "clear_actions", 4: "write_actions", 5: "write_metadata",
    6: "goto_table", 16: "output", 17: "group", 18: "set_queue", 19: "set_field", 20: "move",
    21: "push_vlan", 22: "pop_vlan", 23: "push_mpls", 24: "pop_mpls", 25: "push_pbb",
    26: "pop_pbb", 27: "set_mpls_ttl", 28: "dec_mpls_ttl", 29: "set_ttl", 30: "dec_ttl",
    31: "copy_ttl_out", 32: "copy_ttl_in", 33: "resubmit", 34: "learn", 35: "clone",
    36: "controller", 37: "note", 38: "exit", 39: "push", 40: "pop", 41: "fin_timeout",
    42: "dec_ttl", 43: "output_reg", 44: "send_maps", 45: "set_vlan_tci", 46: "conjunction",
}  # fmt: skip


KINDS = {
    1: "packet", 2: "lookup", 3: "filter", 4: "flow", 5: "miss", 6: "action", 7: "output",
    8: "controller", 9: "bucket", 10: "action_set", 11: "drop", 12: "conjunction",
}  # fmt: skip
"""enum oko_trace_kind."""


def match_text(match: Match, filter_prog: int) -> str:
    """Match and filter of a flow on one line."""
    words = [f"filter_prog={filter_prog}"] if filter_prog else []
    text = format_match(match)
    return ",".join([*words, text] if text else words) or "(all)"


def tell(
    steps: Sequence[TraceStep],
    packet: str,
    flows: Flows,
    names: Mapping[int, str],
    specs: Mapping[int, ProgramSpec] | None = None,
) -> Iterator[str]:
    """The lines, indented by table and nesting. packet: what to call it; names: of programs;
    specs: the programs, for the source lines at which they returned."""
    for step in steps:
        indent = "  " * INDENT.get(step.kind, step.depth + 2)
        yield indent + _step(step, packet, flows, names)
        spec = (specs or {}).get(step.arg)
        if step.kind == _FILTER and spec is not None:
            for word, where in source_lines(step, spec).items():
                yield f"{indent}  {word} at {where}"


def source_lines(step: TraceStep, spec: ProgramSpec) -> dict[str, str]:
    """The condition that decided ("decided") and where the program returned ("returned"), as source
    lines; what the object does not tell is left out, and so is a return that all paths share."""
    found = {}
    for word, insn in (("decided", step.branch), ("returned", step.insn)):
        record = spec.line_at(insn) if insn < spec.n_insns else None
        if record is None or not record.line:
            continue
        text = record.text.strip()
        if text != "}":
            found[word] = place(record) + (f": {text}" if text else "")
    return found


_FILTER = 3


INDENT = {1: 0, 2: 1, 10: 1, 11: 1}
"""Of steps that stand outside a table."""


def _step(step: TraceStep, packet: str, flows: Flows, names: Mapping[int, str]) -> str:
    """enum oko_trace_kind in words."""
    match, told = flows(step.flow_id) or ("", "")
    rule = f"priority {step.priority}" + (f" {match}" if match else "")
    actions = f", actions={told}" if told else ""
    name = names.get(step.arg, "?")
    named = f" ({name})" if name else ""
    verdict = "match" if step.value == 1 else "no match"
    words = {
        1: f"{packet}: {step.value:,} bytes, came in at port {format_port(step.arg)}",
        2: f"table {step.table}:",
        3: f"{rule}: program {step.arg}{named} says {verdict}",
        4: f"{rule}: chosen{actions}",
        5: f"no flow matches in table {step.table}",
        6: _operation(step),
        7: f"left through port {format_port(step.arg)}",
        8: f"sent to the controller, {step.arg:,} bytes",
        9: f"group {step.arg}, bucket {step.value}",
        10: "the action set is executed",
        11: f"dropped: {drop_name(step.arg)}",
        12: f"conjunction {step.arg} is complete",
    }
    return words.get(step.kind, f"step {step.kind}")


def _operation(step: TraceStep) -> str:
    """An instruction or action, with its main argument."""
    name = OP_NAMES.get(step.arg, f"operation {step.arg}")
    if name == "set_field" and step.value < len(FIELDS):
        return f"{name} {FIELDS[step.value].name}"
    if name in ("output", "resubmit"):
        return f"{name}:{format_port(step.value)}" if name == "output" else f"{name}(,{step.value})"
    if name in WITHOUT_ARGUMENT:
        return name
    return f"{name}:{step.value:#x}" if name.startswith(("push", "pop")) else f"{name}:{step.value}"


WITHOUT_ARGUMENT = frozenset(
    ["apply_actions", "clear_actions", "write_actions", "write_metadata", "pop_vlan", "pop_pbb",
     "dec_mpls_ttl", "dec_ttl", "copy_ttl_out", "copy_ttl_in", "clone", "note", "exit", "learn",
     "fin_timeout", "set_vlan_tci", "controller"]
)  # fmt: skip
