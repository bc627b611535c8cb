"""Pieces of text that know where they are: the ground under every parser in this package.

A `Span` is a stretch of one line of a source; it can be cut, stripped and split, and any piece can
raise an error that shows the line with a caret under the piece. `items()` does the lexical work of
the ovs-ofctl grammar: words, `key=value`, `key:value` and `key(value)` separated by commas or white
space, where parentheses protect separators (Open vSwitch's ofputil_parse_key_value()).

Pure functions over immutable values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from oko.errors import OkoError

SEPARATORS = ", \t\r\n"


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """A hint for a word that nobody knows: the known name it looks like, or ""."""
    from difflib import get_close_matches  # only when there is an error to explain

    known = {name.lower(): name for name in names}
    found = get_close_matches(word.lower(), known, 1)
    return f'did you mean "{known[found[0]]}"?' if found else ""


class FlowSyntaxError(OkoError):
    """Text of a flow, group or meter that is not understood, with its place.

    str() is one line that starts with the place; excerpt shows the text with a caret under the
    offending piece.
    """

    def __init__(
        self,
        reason: str,
        hint: str = "",
        *,
        source: str = "",
        line: int = 1,
        column: int = 1,
        length: int = 1,
        text: str = "",
    ) -> None:
        self.reason = reason
        self.source = source  # file name, or "" for text given directly
        self.line = line  # from 1
        self.column = column  # from 1, in characters
        self.length = length
        self.text = text  # the whole line
        if source:
            place = f"{source}:{line}:{column}"
        else:
            place = f"column {column}" if line == 1 else f"line {line}, column {column}"
        super().__init__(f"{place}: {reason}", hint, self._excerpt())

    def _excerpt(self) -> str:
        """Two lines: the text, and a caret. A long line is cut around the place."""
        start = max(0, self.column - 1 - 40)
        shown = self.text[start : start + 90].replace("\t", " ").rstrip()
        pad = self.column - 1 - start
        if start:
            shown, pad = "..." + shown, pad + 3
        tildes = max(0, min(self.length, len(shown) - pad) - 1)
        return f"    {shown}\n    {' ' * pad}^{'~' * tildes}"


@dataclass(slots=True)  # never changed; frozen, it would take three times as long to make
class Span:
    """text[start:end] of a line."""

    line_text: str
    start: int
    end: int
    source: str = ""
    line: int = 1

    @classmethod
    def of(cls, text: str, source: str = "", line: int = 1) -> Span:
        """All of a line."""
        return cls(text, 0, len(text), source, line)

    @property
    def text(self) -> str:
        return self.line_text[self.start : self.end]

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return self.end > self.start

    def cut(self, start: int, end: int | None = None) -> Span:
        """The piece from start to end, counted from this span's beginning."""
        stop = self.end if end is None else self.start + end
        return Span(self.line_text, self.start + start, stop, self.source, self.line)

    def upto(self, other: Span) -> Span:
        """From this span's start to the other's end."""
        return Span(self.line_text, self.start, other.end, self.source, self.line)

    def strip(self) -> Span:
        text = self.text
        left = len(text) - len(text.lstrip())
        return self.cut(left, max(left, len(text.rstrip())))

    def split_at(self, separator: str) -> tuple[Span, Span | None]:
        """Before and after the first separator; the second is None when there is none."""
        at = self.text.find(separator)
        if at < 0:
            return self, None
        return self.cut(0, at), self.cut(at + len(separator))

    def fail(self, reason: str, hint: str = "") -> NoReturn:
        """Raises the error about this piece."""
        raise FlowSyntaxError(
            reason,
            hint,
            source=self.source,
            line=self.line,
            column=self.start + 1,
            length=self.end - self.start,
            text=self.line_text,
        )


@dataclass(slots=True)
class Item:
    """key, key=value, key:value or key(value)tail."""

    key: Span
    value: Span  # empty when there is none
    separator: str  # "", "=", ":" or "("
    tail: Span  # what follows the closing parenthesis at once; almost always empty
    name: str  # the key's text

    @property
    def whole(self) -> Span:
        return self.key.upto(self.tail)

    def required(self, what: str) -> Span:
        """The value; an error if it is missing."""
        if not self.value:
            self.key.fail(f'"{self.name}" needs {what}')
        return self.value


# What nearly all items are: a word, or key and value without parentheses.
_PLAIN = re.compile(r"([^\s,:=()]+)(?:([:=])([^\s,()]*))?(?=[\s,]|\Z)")
_GAP = re.compile(r"[,\s]*")


def items(span: Span) -> Iterator[Item]:
    """The items of a list."""
    line, at, source, number_ = span.line_text, span.start, span.source, span.line
    while True:
        at = _end(_GAP.match(line, at, span.end))
        if at == span.end:
            return
        plain = _PLAIN.match(line, at, span.end)
        if plain is None:
            item = _bracketed(span, at - span.start)
            yield item
            at = item.tail.end
            continue
        separator = plain[2] or ""
        at = plain.end()
        nothing = Span(line, at, at, source, number_)
        key = Span(line, plain.start(1), plain.end(1), source, number_)
        value = Span(line, plain.start(3), at, source, number_) if separator else nothing
        yield Item(key, value, separator, nothing, plain[1])


def _end(match: re.Match[str] | None) -> int:
    assert match is not None  # the pattern matches nothing at all, too
    return match.end()


def _bracketed(span: Span, begin: int) -> Item:
    """An item with parentheses, which protect separators inside them."""
    text = span.text
    at, n = begin, len(text)
    while at < n and text[at] not in ":=(" + SEPARATORS:
        at += 1
    key = span.cut(begin, at)
    separator = text[at] if at < n and text[at] in ":=(" else ""
    if not separator:  # a word with ")" in it
        nothing = span.cut(at, at)
        return Item(key, nothing, "", nothing, key.text)
    if not key:
        span.cut(begin, begin + 1).fail(f'expected a word before "{separator}"')
    at += 1
    begin = at
    depth = 1 if separator == "(" else 0
    while at < n:
        c = text[at]
        if c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth < 0:
                span.cut(at, at + 1).fail('unmatched ")"')
            if depth == 0 and separator == "(":
                break
        elif depth == 0 and c in SEPARATORS:
            break
        at += 1
    if depth:
        span.cut(key.start - span.start, n).fail('missing ")"')
    value = span.cut(begin, at)
    if separator == "(":
        at += 1  # the closing parenthesis
    begin = at
    while at < n and text[at] not in SEPARATORS:
        at += 1
    return Item(key, value, separator, span.cut(begin, at), key.text)


def number(span: Span, bits: int, what: str, low: int = 0, high: int | None = None) -> int:
    """A decimal, hexadecimal (0x) or octal (leading 0) number, as strtoull() with base 0."""
    limit = (1 << bits) - 1 if high is None else high
    text = span.text
    try:
        if len(text) > 1 and text[0] == "0" and text.isdigit():
            value = int(text, 8)
        elif text[:1].isdigit():
            value = int(text, 0)
        else:
            raise ValueError
    except ValueError:
        shown = f'"{text}" is not' if text else "expected"
        span.fail(f"{shown} a number ({what}: {_range(low, limit)})")
    if not low <= value <= limit:
        span.fail(f"{what} {text} is out of range: {_range(low, limit)}")
    return value


def _range(low: int, high: int) -> str:
    return f"{low} to {high}" if high < 1 << 24 else f"{low} to {high:#x}"
