"""tools/mutants: every fault still names a place that is there and a test that exists.

That each turns its test red is what `make test-mutants` finds out; this one is quick, so that a
change which moves code tells at once which faults have to move along.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = """
import json, dataclasses
from faults import FAULTS
print(json.dumps([dataclasses.asdict(fault) for fault in FAULTS]))
"""


def faults() -> list[dict[str, str]]:
    """The faults as an interpreter of their own reads them: their modules' names are common."""
    command = [sys.executable, "-c", LIST]
    done = subprocess.run(command, cwd=ROOT / "tools" / "mutants", capture_output=True, check=True)
    return list(json.loads(done.stdout))


def test_every_fault_has_its_place_and_its_test() -> None:
    known = faults()
    assert len({fault["name"] for fault in known}) == len(known) > 100
    wrong = []
    for fault in known:
        places = (ROOT / fault["file"]).read_text().count(fault["old"])
        if places != 1:
            wrong.append(f"{fault['name']}: {places} places in {fault['file']}")
        test = fault["red"].split("::")[0]
        if not (ROOT / test).exists() and not (ROOT / "tests" / "c" / f"{test}.c").exists():
            wrong.append(f"{fault['name']}: no test {test}")
    assert not wrong
