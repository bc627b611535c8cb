"""Flows: add, modify, delete, dump, sum up."""

from __future__ import annotations

import sys

from oko.errors import OkoError
from oko.model.flow import (
    ADD,
    DELETE,
    DELETE_STRICT,
    MODIFY,
    MODIFY_STRICT,
)
from oko.ofctl import changes
from oko.ofctl.run import Run
from oko.text.flows import parse_flow_mod, parse_flows


def read_text(name: str) -> str:
    """A file's text; "-" is standard input."""
    try:
        if name == "-":
            return sys.stdin.read()
        with open(name, encoding="utf-8") as file:
            return file.read()
    except OSError as exc:
        raise OkoError(f"{name}: open failed ({exc.strerror})") from None
    except UnicodeDecodeError:
        raise OkoError(f"{name}: not a text") from None


# ---------------------------------------------------------------- changes


def add(run: Run, words: list[str]) -> None:
    """add-flow SWITCH FLOW"""
    _change(run, words, ADD)


def modify(run: Run, words: list[str]) -> None:
    """mod-flows SWITCH FLOW"""
    _change(run, words, MODIFY_STRICT if run.line.has("strict") else MODIFY)


def delete(run: Run, words: list[str]) -> None:
    """del-flows SWITCH [FLOW]"""
    _change(run, [*words, ""][:2], DELETE_STRICT if run.line.has("strict") else DELETE)


def _change(run: Run, words: list[str], command: int) -> None:
    name, text = words
    if text == "-":
        mods = [
            parse_flow_mod(line, command, run.ports(name))
            for line in read_text("-").splitlines()
            if line.split("#")[0].strip()
        ]
    else:
        mods = [parse_flow_mod(text, command, run.ports(name))]
    changes.apply(run, name, mods)


def add_file(run: Run, words: list[str]) -> None:
    """add-flows SWITCH FILE"""
    name, file = words
    mods = parse_flows(read_text(file), "" if file == "-" else file, run.ports(name))
    changes.apply(run, name, mods)
