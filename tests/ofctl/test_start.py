"""oko-ofctl starts at once, needs no compiled extension, and has a command for every name."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from oko.ofctl.commandline import COMMANDS, OPTIONS, help_text, parse

# Each of them would take a noticeable part of the 80 ms that a command needs.
SLOW_TO_IMPORT = {
    "argparse", "asyncio", "concurrent", "email", "http", "importlib.metadata", "logging",
    "multiprocessing", "ssl", "subprocess", "tempfile",
    "cffi", "_cffi_backend", "elftools", "os_ken", "rich", "zstandard",
    "oko._binding", "oko._oko", "oko.controller", "oko.datapath", "oko.switch", "oko.agent",
}  # fmt: skip


def imports(*arguments: str) -> set[str]:
    """The modules that a Python process with these arguments imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def slow_imports(*arguments: str) -> set[str]:
    """Those of them that are slow; but not what Python itself and its site directory need."""
    return imports(*arguments) & SLOW_TO_IMPORT - imports("-c", "pass")


@pytest.mark.parametrize("modules", ["main, changes, flows", "main, dump", "main, maps, programs"])
def test_it_imports_nothing_slow(modules):
    """Nor the compiled extension."""
    assert slow_imports("-c", f"from oko.ofctl import {modules}") == set()
    assert slow_imports("-c", "import oko.datapath") >= {"oko._binding", "oko._oko"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_there(command):
    module, _, name = command.run.partition(":")
    function = getattr(import_module(f"oko.ofctl.{module}"), name)
    assert function.__doc__.startswith(command.name)
    assert f"{command.name} {command.usage}" in help_text()


def test_help_tells_of_every_option():
    text = help_text()
    for option in OPTIONS:
        assert f"--{option.name}" in text
        assert not option.short or f"-{option.short}, --{option.name}" in text


def test_options_may_stand_anywhere():
    line = parse(["-mO", "OpenFlow13", "dump-flows", "br0", "--sort=tp_dst", "--rsort", "--", "-x"])
    assert line.command is not None and line.command.name == "dump-flows"
    assert line.arguments == ["br0", "-x"]
    assert line.get("protocols") == "OpenFlow13" and line.has("more")
    assert line.sorts == [("tp_dst", False), ("priority", True)]
