"""docs/benchmarks.md: its tables can be written, and it names what there is."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

from oko.bench import select
from oko.bench.against import PEERS, Comparison, Figure
from oko.bench.run import machine

DOCUMENT = ROOT / "docs" / "benchmarks.md"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    """tools/bench/write_doc.py."""
    path = ROOT / "tools" / "bench" / "write_doc.py"
    spec = importlib.util.spec_from_file_location("write_doc", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_written_between_their_marks(writer: ModuleType) -> None:
    compared = Comparison("command", "abc1234", machine(), "2026-11-21T06:12+00:00", 0.01)
    compared.filters = [
        Figure("d_flow", "jit-batch", [5.0]),
        Figure("d_flow", "kernel", [50.0]),
        Figure("g_payload", "dpdk", note="refused: loops"),
    ]
    compared.forwarding = [Figure("acl/x", "oko", [40.0]), Figure("acl/x", "ovs-dpdk", [100.0])]
    compared.left_out = {"testpmd": "no dpdk-testpmd: it is in Debian's dpdk-dev"}
    point = {"unit": "packet", "ns_median": 30.0, "ns_min": 29.0, "ns_max": 31.0, "mops": 33.3}
    lines = [
        {"machine": machine()},
        {"name": "forward/a/b", "group": "forwarding", **point, "goal": "20 ns", "met": False},
        {"name": "scale/masks/30", "group": "scale: masks", **point},
        {"name": "scale/attack/30", "group": "scale: masks", **point},
        {"name": "scale/flows/1000", "group": "scale: flows", **point},
    ]
    maps = [
        {"row": "hash 1k hit", "ns": 4.5},
        {"row": "rte_hash, bulk of 32, 1k hit", "ns": 9.0},
        {"row": "hash 100k delete+insert", "ns": 141.2},
        {"row": "atomic add", "threads": 1, "ns": 2.5},
        {"row": "atomic add", "threads": 4, "ns": 20.0},
    ]
    text = writer.fill(DOCUMENT.read_text(), writer.tables(compared.record(), lines, maps))
    assert "2026-11-21 06:12 UTC, commit abc1234; the hypervisor stole 1.0 %" in text
    assert re.search(r"^\| d_flow \|.*\| 50\.0 \|.*\| 10\.00x \| - \|  \| 2x met \|$", text, re.M)
    assert "- g_payload, dpdk: refused: loops\n- testpmd was left out: no dpdk-testpmd" in text
    assert "| acl/x | 25.00 | - | 10.00 | - | 2.50x |" in text
    assert "| forward/a/b | 30.0 | 29.0 - 31.0 | 33.3 | 20 ns: **missed** |" in text
    assert "| 30 | 30.0 | 30.0 |  |" in text
    assert "| 1,000 | 30.0 |\n" in text
    assert "| operation, ns | hash | rte_hash, bulk of 32 |" in text
    assert "| hit, 1k | 4.5 | 9.0 |" in text
    assert "| delete+insert, 100k | 141.2 |  |" in text
    assert "| operation, M/s | 1 thread | 4 threads |" in text
    assert "| atomic add | 400.0 | 50.0 |" in text
    assert writer.fill(text, writer.tables(compared.record(), lines, maps)) == text


def test_the_command_writes_page_and_pictures(writer: ModuleType, tmp_path: Path) -> None:
    compared = Comparison("command", "abc1234", machine(), "2026-11-21T06:12+00:00", 0.01)
    compared.forwarding = [Figure("acl/x", "oko", [40.0])]
    point = {"unit": "packet", "ns_median": 30.0, "ns_min": 29.0, "ns_max": 31.0, "mops": 33.3}
    (tmp_path / "compare.json").write_text(json.dumps(compared.record()))
    lines = [{"machine": machine()}, {"name": "scale/tables/2", "group": "scale: tables", **point}]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "maps.jsonl").write_text('{"row": "hash 1k hit", "ns": 4.5}\n')
    page = tmp_path / "page.md"
    page.write_text(DOCUMENT.read_text())
    sources = [str(tmp_path / name) for name in ("compare.json", "bench.jsonl", "maps.jsonl")]
    assert writer.main([*sources, str(page)]) == 0
    prose = [
        re.sub(r"(<!-- begin (\w+) -->\n).*?(<!-- end)", r"\1\3", text, flags=re.DOTALL)
        for text in (page.read_text(), DOCUMENT.read_text())
    ]
    assert prose[0] == prose[1] and len(prose[0]) > 5_000
    for name in re.findall(r"\]\((\w+\.svg)\)", prose[0]):
        assert "</svg>" in (tmp_path / name).read_text()
        assert (DOCUMENT.parent / name).exists()


def test_missing_marks_are_an_error(writer: ModuleType) -> None:
    with pytest.raises(ValueError, match="no marks for machine"):
        writer.fill("nothing", {"machine": "x"})


def test_the_text_names_packages_and_groups() -> None:
    text = DOCUMENT.read_text()
    for package in ("libbpf-dev", "libdpdk-dev", "dpdk-dev", "openvswitch-switch-dpdk"):
        assert f"`{package}`" in text
    assert len(PEERS) == 4
    curves = {bench.name.split("/")[1] for bench in select(["scale/*"])}
    assert curves and curves <= set(re.findall(r"`(\w+)`", text))
