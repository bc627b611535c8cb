"""The way of a hypothetical packet through a bridge, in words and as objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oko.datapath import TraceStep
from oko.text.action_format import format_instructions
from oko.trace import KINDS, match_text, source_lines, tell

if TYPE_CHECKING:
    from oko.switch.bridge import Bridge


class Trace:
    """A packet's way. steps: struct oko_trace_step; lines(): the same in words."""

    def __init__(self, bridge: Bridge, in_port: int, steps: tuple[TraceStep, ...]) -> None:
        self.in_port = in_port
        self.steps = steps
        wanted = {step.flow_id for step in steps if step.flow_id}
        self._flows = {
            flow.id: (
                match_text(flow.match, flow.filter_prog),
                format_instructions(flow.instructions),
            )
            for flow in bridge.flow_stats()
            if flow.id in wanted
        }
        self._programs = {p.number: p.name for p in bridge.datapath.programs()}
        self._specs = {number: bridge.datapath.program_spec(number) for number in self._programs}

    def lines(self) -> list[str]:
        """A line for each step, indented by table and nesting."""
        return list(tell(self.steps, "packet", self._flows.get, self._programs, self._specs))

    def _source(self, step: TraceStep) -> dict[str, str] | None:
        spec = self._specs.get(step.arg) if KINDS.get(step.kind) == "filter" else None
        return None if spec is None else source_lines(step, spec)

    def as_json(self) -> list[dict[str, object]]:
        """The steps as objects with their words."""
        words = tell(self.steps, "packet", self._flows.get, self._programs)
        return [
            {
                "kind": KINDS.get(step.kind, str(step.kind)),
                "depth": step.depth,
                "table": step.table,
                "priority": step.priority,
                "cookie": step.cookie,
                "arg": step.arg,
                "value": step.value,
                "text": line.strip(),
                "source": self._source(step),
            }
            for step, line in zip(self.steps, words, strict=True)
        ]
