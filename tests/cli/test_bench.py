"""oko-bench as a user runs it. Nothing is asserted about times."""

from __future__ import annotations

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import dpkt
import pytest
from waiting import wait_until

from oko.bench import big, forwarding, main, select
from oko.bench.against import Comparison, Figure
from oko.bench.loading import thousand_instructions
from oko.bench.registry import REGISTRY, Goal, Sample, Unavailable, benchmark
from oko.bench.run import run
from oko.bench.scale import mask_rules
from oko.bench.workloads import workload
from oko.datapath import Datapath, FlowStats
from oko.text.flows import parse_flow_mod


@pytest.fixture(autouse=True)
def _workloads(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OKO_WORKLOADS", str(tmp_path_factory.getbasetemp() / "workloads"))


def test_list_names_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "forwarding"]) == 0
    assert "forward/exact/udp64_f1k" in capsys.readouterr().out.splitlines()


def test_json_lines_state_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "bench.jsonl"
    assert main(["--rounds", "1", "--json", str(out), "forward/forward/udp64_f1k"]) == 0
    head, record = [json.loads(line) for line in out.read_text().splitlines()]
    assert head["machine"]["cores"] >= 1
    assert record["name"] == "forward/forward/udp64_f1k"
    assert (record["rules"], record["flows"], record["programs"]) == (1, 1000, 0)
    assert record["ns_min"] <= record["ns_median"] <= record["ns_max"]


def test_plot_draws_every_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "bench.jsonl"
    assert main(["--rounds", "1", "--json", str(results), "scale/tables/2"]) == 0
    record = json.loads(results.read_text().splitlines()[1])
    more = {**record, "name": "scale/tables/50", "ns_median": 250.0}
    flow = {"name": "memory/rules/10", "group": "memory", "unit": "flow", "bytes_median": 700}
    gone = {"name": "scale/tables/5", "group": "scale: tables", "left_out": "no capture"}
    with results.open("a") as out:
        out.write("".join(json.dumps(line) + "\n" for line in (more, flow, gone)))
    assert main(["plot", str(results)]) == 0
    root = ElementTree.parse(tmp_path / "bench.svg").getroot()
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"ns per packet", "tables that each packet passes", "bytes per flow"} <= set(texts)
    assert "prefers-color-scheme:dark" in (tmp_path / "bench.svg").read_text()
    titles = [e.text for e in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [
        f"tables, 2: {record['ns_median']:,.1f}",
        "tables, 50: 250.0",
        "rules, 10: 700.0",
    ]
    headings = [e.text for e in root if e.get("class") == "title"]
    assert headings == ["tables", "memory: rules"]


def test_plot_draws_a_comparison(tmp_path: Path) -> None:
    result = Comparison("", "abc1234", {"cpu": "a CPU"}, "2026-11-21")
    result.forwarding = [
        Figure("acl/x", "oko", [50.0]),
        Figure("acl/x", "ovs-dpdk", [125.0]),
        Figure("acl/x", "testpmd", note="not here"),
    ]
    result.filters = [
        Figure("e_bucket", "jit-batch", [8.0]),
        Figure("e_bucket", "kernel", [80.0]),
        Figure("e_bucket", "kernel-given-clock", [40.0]),
        Figure("g_payload", "native", [20.0]),  # nothing to compare with
    ]
    source = tmp_path / "compare.json"
    source.write_text(json.dumps(result.record(), indent=1))
    assert main(["plot", str(source)]) == 0
    root = ElementTree.parse(tmp_path / "compare.svg").getroot()
    titles = [e.text for e in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [
        *("acl/x, oko: 20", "acl/x, ovs-dpdk: 8"),
        *("e_bucket, oko: 1", "e_bucket, kernel: 5"),
    ]
    source.write_text(json.dumps(Comparison("", "", {"cpu": ""}, "").record()))
    assert main(["plot", str(source)]) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no curves"),
        ("not json\n", "not a file that oko-bench"),
        ("[1]\n", "not records"),
        ('{"name": "scale/x/y", "ns_median": 1}\n', "no curves"),
        (None, "No such file"),
    ],
)
def test_plot_says_what_is_wrong(
    text: str | None, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "bench.jsonl"
    if text is not None:
        results.write_text(text)
    assert main(["plot", str(results)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("oko-bench: ") and complaint in error and error.count("\n") == 1
    assert main(["plot"]) == 2


def test_unknown_pattern_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-benchmark"]) == 2
    assert "no benchmark matches" in capsys.readouterr().err


def test_unwritable_output_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--json", "/nonexistent/x", "forward/forward/udp64_f1k"]) == 1
    assert capsys.readouterr().err.startswith("oko-bench: /nonexistent/x: ")


def test_unavailable_is_left_out_with_its_reason() -> None:
    @benchmark("test/unavailable", "test")
    def body():  # type: ignore[no-untyped-def]
        raise Unavailable("no such machine")
        yield

    try:
        (result,) = run([REGISTRY["test/unavailable"]], 1)
    finally:
        del REGISTRY["test/unavailable"]
    assert result.record()["left_out"] == "no such machine"


def test_samples_are_interleaved_and_cleaned_up() -> None:
    calls: list[str] = []
    names = ("test/a", "test/b")
    for name in names:

        @benchmark(name, "test")
        def body(name: str = name):  # type: ignore[no-untyped-def]
            yield lambda: calls.append(name) or Sample(1, 1e-9)
            calls.append(f"end {name}")

    try:
        results = run([REGISTRY[name] for name in names], 2)
    finally:
        for name in names:
            del REGISTRY[name]
    a, b = names
    assert calls == [a, b, a, b, b, a, f"end {b}", f"end {a}"]
    assert [result.median for result in results] == [1.0, 1.0]


def test_goals_are_judged_by_medians() -> None:
    goals = {
        "test/slow": (30.0, None),
        "test/met": (10.0, Goal(ns=10)),
        "test/missed": (10.1, Goal(ns=10)),
        "test/three-times": (10.0, Goal(times=3, of="test/slow")),
        "test/not-four-times": (10.0, Goal(times=4, of="test/slow")),
        "test/alone": (10.0, Goal(times=2, of="test/not-there")),
    }
    for name, (ns, goal) in goals.items():

        @benchmark(name, "test", goal=goal)
        def body(ns: float = ns):  # type: ignore[no-untyped-def]
            samples = iter([ns, ns, ns, 1000 * ns])  # the first one does not count
            yield lambda: Sample(1, next(samples) * 1e-9)

    try:
        results = run([REGISTRY[name] for name in goals], 3)
    finally:
        for name in goals:
            del REGISTRY[name]
    assert [result.met for result in results] == [None, True, False, True, False, None]
    assert results[1].record()["goal"] == "10 ns"
    assert results[3].record()["met"] is True
    assert str(Goal(ns=5e7)) == "50 ms"


def test_the_long_program_has_a_thousand_instructions() -> None:
    assert thousand_instructions().n_insns == 1000


@pytest.mark.parametrize(
    "pattern", ["load/1000", "load/d_flow", "filter/trivial/udp64_f1k/added", "workers/forward/*"]
)
def test_benchmarks_with_goals_run(pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--json", "-", pattern]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()[1:]]
    (judged,) = [r for r in records if "goal" in r or "left_out" in r]
    assert "left_out" in judged or isinstance(judged["met"], bool)


@pytest.mark.parametrize(
    "name", ["scale/tables/2", "scale/programs/16", "scale/rules/10", "scale/commits/10"]
)
def test_points_of_curves_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--json", "-", name]) == 0
    (record,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()[1:]]
    assert record["ns_median"] > 0


def test_mask_rules_have_as_many_masks() -> None:
    for n in (1, 30, 300):
        rules = [parse_flow_mod(rule) for rule in mask_rules(n)]
        masks = {tuple((f.name, m) for f, _, m in rule.flow.match.fields) for rule in rules}
        assert len(masks) == n + 1


def test_every_packet_is_found_in_the_flow_map() -> None:
    try:
        program = forwarding.flow_map(1_024)
    except Unavailable as error:
        pytest.skip(str(error))  # no compiler for BPF
    filled: list[Datapath] = []

    def fill(datapath: Datapath) -> None:
        forwarding._fill_flow_map("udp64_f1k", datapath)
        filled.append(datapath)

    body = forwarding.replaying("udp64_f1k", forwarding.FILTERED, program, fill=fill)
    next(body)()
    (datapath,) = filled
    (counted,) = datapath.programs()
    assert len(datapath.maps(1)["flows"]) == 1_000
    assert counted.matches == counted.runs >= 8_000
    next(body, None)


def test_what_takes_long_runs_when_it_is_asked_for() -> None:
    long = "scale/flows/10000000"
    names = {bench.name for bench in select([])}
    assert long not in names and "scale/flows/1000000" in names
    assert long not in {bench.name for bench in select(["scale/*"])}
    assert [bench.name for bench in select([long])] == [long]
    assert {bench.name for bench in select([], big=True)} >= {long, *names}


def test_rules_as_records_are_those_of_the_suite() -> None:
    lines = workload("exact.flows").read_text().splitlines()[:-1]
    with Datapath() as as_text, Datapath() as as_records:
        as_text.add_flows(parse_flow_mod(line) for line in lines)
        big.add_rules(as_records, big.exact_rules(len(lines)), 300)
        assert list(map(flow_of, as_records.flows())) == list(map(flow_of, as_text.flows()))


def flow_of(flow: FlowStats) -> tuple[object, ...]:
    return flow.priority, flow.match, flow.cookie, flow.ops


def test_packets_made_in_memory_are_of_a_flow_each(tmp_path: Path) -> None:
    with big.capture(5_000) as path:
        frames = [frame for _, frame in dpkt.pcap.Reader(path.open("rb"))]
    flows = set()
    for frame in frames:
        ip = dpkt.ethernet.Ethernet(frame).data
        assert len(frame) == 64 and ip.src[0] == 10 and ip.dst[:2] == bytes([172, 16])
        assert dpkt.in_cksum(frame[14:34]) == 0
        assert ip.udp.sport >= 1_024 <= ip.udp.dport
        flows.add((ip.src, ip.dst, ip.udp.sport, ip.udp.dport))
    assert len(flows) == len(frames) == 5_000
    assert not path.exists()


def test_too_little_memory_leaves_a_benchmark_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(big, "available", lambda: 100 << 20)
    (result,) = run(select(["scale/flows/10000000"]), 1)
    assert result.reason == "needs 3,051 MiB of memory, 100 MiB are available"


def test_flows_change_meanwhile() -> None:
    with Datapath() as datapath:
        before = datapath.stats().commits
        with forwarding._changing(datapath, 1_000):
            # added, deleted, and added again
            wait_until(lambda: datapath.stats().commits >= before + 300, every=0.01)
        after = datapath.stats().commits
        time.sleep(0.05)
        assert datapath.stats().commits == after
