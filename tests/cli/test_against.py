"""oko-bench --against, and tools/compare: who takes part, in which order, and what is made of it.

Nothing is asserted about times. The peers themselves run in the long form, where they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oko.bench import against, against_report, main, peers
from oko.bench.against import Comparison, Figure
from oko.bench.registry import Sample, Unavailable

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _workloads(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OKO_WORKLOADS", str(tmp_path_factory.getbasetemp() / "workloads"))


class Fake:
    """A peer that forwards a packet per 100 ns, and says when it is asked."""

    def __init__(self, core: int) -> None:
        self.calls: list[str] = []

    def prepare(self, capture: Path, rules: Path) -> str:
        assert capture.exists() and rules.exists()
        self.calls.append(f"prepare {rules.stem} {capture.stem}")
        return "a note"

    def sample(self, seconds: float) -> Sample:
        self.calls.append("sample")
        return Sample(10, 10 * 100e-9)

    def close(self) -> None:
        self.calls.append("close")


def test_every_case_prepares_warms_and_samples_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Fake] = []

    def make(core: int) -> Fake:
        made.append(Fake(core))
        return made[-1]

    monkeypatch.setattr(against, "FORWARDING_PEERS", {"fake": make})
    result = Comparison("", "", {}, "")
    cases = [("forward", "udp64_f1"), ("exact", "udp64_f1")]
    core = max(os.sched_getaffinity(0))
    against.compare_forwarding(["fake"], core, 2, 0.01, cases, result)
    (fake,) = made
    assert fake.calls == [
        *("prepare forward udp64_f1", "sample", "sample", "sample"),
        *("prepare exact udp64_f1", "sample", "sample", "sample", "close"),
    ]
    rows = {(f.what, f.who): f for f in result.forwarding}
    assert rows["forward/udp64_f1", "fake"].record() == {
        "what": "forward/udp64_f1",
        "who": "fake",
        "ns_median": 100.0,
        "ns_min": 100.0,
        "ns_max": 100.0,
        "mpps": 10.0,
        "samples": 2,
        "note": "a note",
    }
    assert len(rows["exact/udp64_f1", "oko"].ns) == 2


def test_peer_that_cannot_start_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(core: int) -> Fake:
        raise Unavailable("no such switch: it is in Debian's some-package")

    monkeypatch.setattr(against, "FORWARDING_PEERS", {"fake": make})
    result = Comparison("", "", {}, "")
    against.compare_forwarding(["fake"], 0, 1, 0.01, [], result)
    assert result.left_out == {"fake": "no such switch: it is in Debian's some-package"}


@pytest.mark.parametrize(
    ("peer", "package"),
    [(peers.Testpmd, "dpdk-dev"), (peers.OvsDpdk, "openvswitch-switch-dpdk")],
)
def test_missing_program_names_its_package(
    peer: type, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match=f"Debian's {package}"):
        peer(0)


def test_huge_pages_are_asked_for_not_set() -> None:
    with pytest.raises(Unavailable, match=r"sysctl vm\.nr_hugepages"):
        peers._huge_pages(10**9)


def test_ratios_are_to_the_best_form_of_a_peer() -> None:
    result = Comparison("", "", {}, "")
    for who, ns in {"jit": 6.0, "jit-batch": 5.0, "kernel": 20.0, "dpdk": 9.0}.items():
        result.filters.append(Figure("d_flow", who, [ns]))
    result.filters.append(Figure("d_flow", "dpdk-burst", [15.0]))
    result.filters.append(Figure("g_payload", "jit-batch", [5.0]))
    result.filters.append(Figure("g_payload", "dpdk", note="refused: loops"))
    head, flow, payload = against_report.filter_rows(result)
    assert dict(zip(head, flow, strict=True))["kernel/oko"] == "4.00x"
    assert dict(zip(head, flow, strict=True))["dpdk/oko"] == "1.80x"
    assert dict(zip(head, flow, strict=True))["beside JITs"] == "2x **missed**"
    assert dict(zip(head, payload, strict=True))["dpdk"] == "refused"
    assert dict(zip(head, payload, strict=True))["beside JITs"] == ""

    for who, ns in {"oko": 40.0, "testpmd": 20.0, "ovs-dpdk": 100.0}.items():
        result.forwarding.append(Figure("exact/udp64_f1k", who, [ns]))
    assert against_report.forwarding_rows(result)[1] == [
        *("exact/udp64_f1k", "25.00", "50.00", "10.00", "-", "2.50x", "2.00x", "25 met", ""),
    ]
    result.forwarding.append(Figure("exact/udp64_f1k", "ovs-dpdk-tuned", [80.0], "a note"))
    assert against_report.forwarding_rows(result)[1][4:] == [
        *("12.50", "2.00x", "1.50x", "25 met", "ovs-dpdk-tuned: a note"),
    ]
    many = "exact100k/udp64_f100k"
    result.forwarding = [Figure(many, "oko", [50.0]), Figure(many, "ovs-dpdk", [190.0])]
    assert against_report.forwarding_rows(result)[1][5:8] == ["3.80x", "-", "4x **missed**"]
    assert against_report.markdown([["a", "b"], ["c", "1"]]) == (
        "| a | b |\n| --- | ---: |\n| c | 1 |\n"
    )


@pytest.mark.parametrize(
    ("what", "native", "ours", "verdict"),
    [
        ("c_counter", 2.0, 2.5, "1.25x the time, of 1.25x: met"),
        ("c_counter", 2.0, 2.6, "1.30x the time, of 1.25x: **missed**"),
        ("d_flow", 15.0, 6.0, "2.50x as fast, of 2.5x: met"),
        ("d_flow_100k", 30.0, 20.0, "1.50x as fast, of 1.8x: **missed**"),
        ("f_firewall", 20.0, 5.5, "5.5 ns, of 5.6: met"),
        ("h_sketch", 20.0, 8.3, "8.3 ns, of 8.2: **missed**"),
        ("a_trivial", 1.0, 2.0, ""),
    ],
)
def test_goals_beside_native_are_judged(
    what: str, native: float, ours: float, verdict: str
) -> None:
    result = Comparison("", "", {}, "")
    result.filters = [Figure(what, "native", [native]), Figure(what, "jit-batch", [ours])]
    head, row = against_report.filter_rows(result)
    assert dict(zip(head, row, strict=True))["beside native"] == verdict


def test_every_filter_with_a_goal_is_there() -> None:
    sources = {path.stem for path in (ROOT / "tools" / "bench" / "filters").glob("?_*.c")}
    assert {name.removesuffix("_100k") for name in against_report.FILTER_GOALS} <= sources


def test_unknown_peer_and_core_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--against", "snabb"]) == 2
    assert "no peer 'snabb'" in capsys.readouterr().err
    assert main(["--against", "kernel", "--core", "9999"]) == 2
    assert "no core 9999" in capsys.readouterr().err


def test_tool_prints_its_usage() -> None:
    done = subprocess.run([ROOT / "tools" / "compare", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "PEERS" in done.stdout


@pytest.mark.long
def test_filter_peers_agree_on_every_packet(tmp_path: Path) -> None:
    """bench-vm complains where an engine matches other packets than the interpreter, and that
    leaves the peers out: so here all that are installed must take part."""
    out = tmp_path / "compare.json"
    assert main(["--against", "kernel,dpdk-bpf", "--rounds", "1", "--json", str(out)]) == 0
    record = json.loads(out.read_text())
    reasons = " ".join(record["left_out"].values())
    if "needs Debian's" in reasons or "not permitted" in reasons:
        pytest.skip(reasons)
    assert record["left_out"] == {}
    ran = {(row["what"], row["who"]) for row in record["filters"] if "ns_median" in row}
    for name in "abcdefgh":
        assert {who for what, who in ran if what[0] == name} >= {"jit-batch", "kernel", "dpdk"}


class Switch:
    """Of OvsDpdk what OvsTuned uses."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.note = ""

    @contextmanager
    def polling(self) -> Iterator[None]:
        self.calls.append("go on")
        yield
        self.calls.append("stop")

    def set(self, *settings: str) -> None:
        self.calls.append(" ".join(settings))

    def sample(self, seconds: float) -> Sample:
        self.calls.append("sample")
        raise Unavailable("died")


def test_settings_of_the_tuned_form_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch()
    monkeypatch.setattr(peers.OvsTuned, "WARM_SECONDS", 0.0)
    tuned = peers.OvsTuned(switch)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="died"):
        tuned.sample(1.0)
    assert switch.calls == [
        *("go on", "emc-insert-inv-prob=0 smc-enable=true", "stop", "sample"),
        *("go on", "emc-insert-inv-prob smc-enable", "stop"),
    ]
    switch.note = "not ready"
    with pytest.raises(Unavailable, match="as ovs-dpdk"):
        tuned.prepare(Path("x"), Path("y"))
