"""oko-ofctl starts at once, needs no compiled extension, and has a command for every name."""

from __future__ import annotations

import resource
import subprocess
import sys
from importlib import import_module

import pytest

from oko.ofctl.commandline import COMMANDS, OPTIONS, help_text, parse

MOST_SECONDS = 0.15


def cpu_seconds(*arguments: str) -> float:
    """CPU time of a process that runs these; the best of several, for machines are busy."""
    best = 9.0
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


@pytest.mark.parametrize("modules", ["main, changes, flows", "main, dump", "main, maps"])
def test_it_starts_in_150_ms(modules):
    # What Python itself takes (and its site directory) is not ours.
    nothing = cpu_seconds("-c", "pass")
    started = cpu_seconds("-c", f"from oko.ofctl import {modules}")
    assert started - nothing < MOST_SECONDS


def test_the_extension_is_not_needed():
    program = (
        "import sys; from oko.ofctl import main, flows, dump, maps, programs, switch\n"
        "assert not [m for m in sys.modules if '_binding' in m or m == 'oko._oko']\n"
        "assert 'argparse' not in sys.modules and 'ssl' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
