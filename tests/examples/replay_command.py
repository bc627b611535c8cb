"""oko-replay as the tests of the examples call it: in this process, with its JSON result."""

from __future__ import annotations

import configparser
import importlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from filter_cases import ROOT
from filter_models import Contents, Model

SKETCHES = ("bloom", "count_min")


def replay(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Runs the function behind the command, as setup.cfg has it, and gives what --json prints."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].split()
    module, function = scripts[scripts.index("oko-replay") + 2].split(":")
    status = getattr(importlib.import_module(module), function)([*arguments, "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)  # type: ignore[no-any-return]


def in_hex(entries: Contents) -> dict[str, str]:
    return {key.hex(): value.hex() for key, value in entries.items()}


def assert_maps(result: dict[str, Any], model: Model) -> None:
    """The dumped maps (--dump-maps) are the model's; of arrays, what is not all zero counts."""
    expected = model.maps()
    assert result["maps"]
    for found in result["maps"]:
        if found["type"] in SKETCHES:
            continue
        is_array = "array" in found["type"]
        entries = {
            entry["key"]: entry["value"]
            for entry in found["entries"]
            if not is_array or entry["value"].strip("0")
        }
        assert entries == in_hex(expected.get(found["name"], {})), f"map {found['name']}"
