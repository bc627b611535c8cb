"""The one exception family of oko: every error a user can cause derives from OkoError.

An error is one line that says what is wrong, where, and (hint) what would make it pass; str() of
it is fit to be shown after the command's name. Nothing else may reach a user from bad input.
"""

from __future__ import annotations

import os
import re


class OkoError(Exception):
    """Base of all errors raised on purpose. str() is one line without a trailing full stop.

    hint: what to do about it, or "". excerpt: the lines of input around the place, or "".
    """

    def __init__(self, message: str, hint: str = "", excerpt: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.excerpt = excerpt

    def report(self, command: str) -> str:
        """What a command prints: its name and the error, then excerpt and hint if there are any."""
        hint = f"hint: {self.hint}" if self.hint else ""
        return "\n".join(filter(None, [f"{command}: {self}", self.excerpt, hint]))


def why(exc: OkoError | OSError | ValueError) -> str:
    """What went wrong, in the system's words and with the file's name, without Python's way to put
    it: "Connection refused", not "[Errno 111] Connect call failed ('127.0.0.1', 1)"."""
    if not isinstance(exc, OSError):
        return str(exc)
    words = exc.strerror or re.sub(r"\[Errno -?\d+\] ", "", str(exc))
    if exc.errno and words.startswith("Connect call failed"):  # asyncio's
        words = os.strerror(exc.errno)
    return f"{exc.filename}: {words}" if exc.filename else words


class ElfError(OkoError):
    """An object file is malformed or uses something that filter programs cannot have."""


class BtfError(OkoError):
    """A BTF section (type information) is malformed."""


class AsmError(OkoError):
    """A line of assembler text is wrong; the message starts with the line's number."""


class TypedValueError(OkoError):
    """A typed value such as "ip:10.0.0.1" is wrong, or does not fit its key or value."""


class ToolchainError(OkoError):
    """There is no compiler for BPF, or it refused the source (then output has its messages)."""

    def __init__(self, message: str, hint: str = "", output: str = "") -> None:
        super().__init__(message, hint)
        self.output = output


class CoreError(OkoError):
    """The C core refused a request. code is its (negative) enum oko_err.

    index: which change of a transaction failed, from 0; -1 where that has no meaning.
    """

    def __init__(self, message: str, code: int, hint: str = "", errno: int = 0) -> None:
        super().__init__(message, hint)
        self.code = code
        self.errno = errno
        self.index = -1


class LoadError(CoreError):
    """A program was refused while loading: decoder check, verifier, quota or JIT.

    insn: index of the offending instruction, or -1; text: its disassembly; file, line, column,
    source: where the C source had it, when the object has debug information (else "", 0, 0, "");
    reason: the core's own words.
    """

    def __init__(
        self,
        message: str,
        code: int,
        hint: str = "",
        errno: int = 0,
        *,
        reason: str = "",
        insn: int = -1,
        text: str = "",
        file: str = "",
        line: int = 0,
        column: int = 0,
        source: str = "",
    ) -> None:
        super().__init__(message, code, hint, errno)
        self.reason = reason
        self.insn = insn
        self.text = text
        self.file = file
        self.line = line
        self.column = column
        self.source = source


class MapError(CoreError):
    """An operation on a map failed: no such entry, full, index out of range, not supported."""


class CaptureError(OkoError):
    """A capture cannot be read: not a capture, cut off, corrupt, or of a foreign link type."""
