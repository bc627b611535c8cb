"""Checks the layer rule: who may import or include whom.

Python: `openflow`, `bpf`, `model`, `text` and `controller` never import `datapath` or anything
above it; only the `_binding` modules import the compiled extension. C: `csrc/base` and `csrc/bpf`
include nothing above themselves. Prints each violation and exits 1.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOW_PACKAGES = ("openflow", "bpf", "model", "text", "controller")
HIGH_MODULES = (
    "datapath",
    "replayer",
    "replay_report",
    "replaytool",
    "bench",
    "switch",
    "switchd",
    "agent",
    "ofctl",
)
# The VM stands on these files of csrc/ only.
BPF_MAY_INCLUDE = {"oko.h", "qsbr.h", "counter.h"}


def imported(path: Path) -> set[str]:
    """Dotted names of every module that a Python file imports, relative ones resolved."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def check_python() -> list[str]:
    problems = []
    for path in sorted((ROOT / "oko").rglob("*.py")):
        where = path.relative_to(ROOT)
        names = imported(path)
        if "oko._oko" in names and not path.name.startswith("_binding"):
            problems.append(f"{where}: only oko/_binding*.py may import the compiled extension")
        if len(where.parts) > 2 and where.parts[1] in LOW_PACKAGES:
            for high in HIGH_MODULES:
                if any(n == f"oko.{high}" or n.startswith(f"oko.{high}.") for n in names):
                    problems.append(f"{where}: {where.parts[1]} may not import oko.{high}")
    return problems


def check_c() -> list[str]:
    problems = []
    csrc = ROOT / "csrc"
    for path in sorted([*csrc.glob("base/*.[ch]"), *csrc.glob("bpf/**/*.[ch]")]):
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M):
            target = (path.parent / name).resolve()
            if target.parent == csrc and target.name not in BPF_MAY_INCLUDE:
                problems.append(f"{path.relative_to(ROOT)}: may not include {target.name}")
    return problems


def main() -> int:
    problems = check_python() + check_c()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
