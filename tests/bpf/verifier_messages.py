"""Every reason for a refusal that the core's sources contain, as regular expressions.

Finds the calls of the functions that make refusals and takes their format argument: a string of
adjacent literals and PRI macros, or a choice (c ? "a" : "b") of two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CSRC = Path(__file__).resolve().parents[2] / "csrc"

MAKERS = {"oko_refuse": 2, "oko_refuse_at": 3, "oko_err": 2, "oko_err_at": 3, "spec_error": 2}
"""function: which of its arguments is the format, counted from 0."""

_CALL = re.compile(r"(?<![\w*])(" + "|".join(MAKERS) + r")\(")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
_CONVERSION = re.compile(r"%[-+ 0]*(?:\d+)?(?:\.\d+)?(?:ll|l|h|z)?([diuxXscp%])")


@dataclass(frozen=True)
class Message:
    """A reason's format and where the source has it."""

    file: str
    line: int
    format: str

    def matches(self, reason: str) -> bool:
        """Whether the reason can come from this format; see sharpest()."""
        pattern, at = "", 0
        for found in _CONVERSION.finditer(self.format):
            pattern += re.escape(self.format[at : found.start()])
            kind = found[1]
            pattern += {"s": ".*", "c": ".", "%": "%", "x": "[0-9a-f]+"}.get(kind, r"[-+]?\d+")
            at = found.end()
        return re.fullmatch(pattern + re.escape(self.format[at:]), reason) is not None

    @property
    def shown(self) -> str:
        """The format for readers: "…" for what varies."""
        return _CONVERSION.sub("…", self.format)

    @property
    def fixed(self) -> int:
        """How many characters do not vary."""
        return len(_CONVERSION.sub("", self.format))


def sharpest(found: list[Message], reason: str) -> str:
    """The format that a reason comes from: of those that fit, the one that says most."""
    fitting = [message for message in found if message.matches(reason)]
    assert fitting, reason
    return max(fitting, key=lambda message: message.fixed).format


def _arguments(text: str, start: int) -> list[str]:
    """The arguments of a call whose parenthesis opens before start."""
    found, depth, begin, at = [], 0, start, start
    while True:
        char = text[at]
        if char == '"':
            literal = _LITERAL.match(text, at)
            assert literal is not None
            at = literal.end()
            continue
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        if depth < 0 or (char == "," and depth == 0):
            found.append(text[begin:at])
            begin = at + 1
        if depth < 0:
            return found
        at += 1


def _formats(argument: str) -> Iterator[str]:
    """The literals of a format argument: one, or those of a choice."""
    plain = re.sub(r"\bPRI([diux])\d+\b", r'"\1"', argument)
    for part in re.split(r"[?:](?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", plain):
        text = "".join(_LITERAL.findall(part))
        if text:
            yield text.replace('\\"', '"')


def messages(*files: Path) -> list[Message]:
    """All formats of refusals in these files."""
    made = []
    for file in files:
        text = re.sub(
            r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), file.read_text(), flags=re.S
        )
        for call in _CALL.finditer(text):
            arguments = _arguments(text, call.end())
            if len(arguments) <= MAKERS[call[1]] or "(" in arguments[0]:
                continue
            line = text.count("\n", 0, call.start()) + 1
            name = str(file.relative_to(CSRC))
            formats = _formats(arguments[MAKERS[call[1]]])
            made += [Message(name, line, f) for f in formats if f != "%s"]  # passed on
    return made


def verifier_messages() -> list[Message]:
    """Those of the verifier, but for the checking interpreter's complaints about it; printf's."""
    files = sorted((CSRC / "bpf" / "verify").glob("*.c"))
    return messages(*(f for f in files if f.name != "check.c"), CSRC / "bpf" / "helper.c")
