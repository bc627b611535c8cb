"""oko-bpf as its users see it: output, exit status, and errors of one line."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pytest

from oko.bpf import toolchain
from oko.bpftool import main

ROOT = Path(__file__).resolve().parents[2]
FILTERS = ROOT / "examples" / "bpf"
TRACES = ROOT / "examples" / "traces"

needs_compiler = pytest.mark.skipif(
    not toolchain.compilers(), reason="no compiler for BPF is installed"
)


COUNTER = """
#include "oko_bpf.h"

struct flow { uint16_t proto; uint16_t pad; uint32_t in_port; };

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct flow);
    __type(value, uint64_t);
    __uint(max_entries, 64);
} seen SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint32_t);
    __uint(max_entries, 4);
} wanted SEC(".maps");

uint64_t entry(const void *pkt, uint64_t len, const struct oko_meta *meta)
{
    const struct oko_eth *eth = pkt;
    struct flow key = {0};
    uint32_t zero = 0;
    uint64_t one = 1;

    if (sizeof(*eth) > len)
        return 0;
    key.proto = bpf_ntohs(eth->type);
    key.in_port = meta->in_port;
    uint64_t *count = bpf_map_lookup(&seen, &key);
    if (count)
        *count += 1;
    else
        bpf_map_update(&seen, &key, &one);
    uint32_t *type = bpf_map_lookup(&wanted, &zero);
    return type && *type == key.proto;
}
"""

TOO_FAR = """
#include "oko_bpf.h"

uint64_t entry(const void *pkt, uint64_t len)
{
    const uint8_t *p = pkt;
    if (len > 34)
        return 0;
    return p[33] == 1;
}
"""


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    path = tmp_path / "counter.c"
    path.write_text(COUNTER)
    return path


@pytest.fixture
def too_far(tmp_path: Path) -> Path:
    path = tmp_path / "too_far.c"
    path.write_text(TOO_FAR)
    return path


def ethernet_types(capture: Path) -> list[int]:
    """The oracle: EtherType of each packet of a pcap file."""
    with open(capture, "rb") as file:
        frames = [data for _, data in dpkt.pcap.Reader(file)]
    return [int.from_bytes(frame[12:14], "big") for frame in frames]


# ---------------------------------------------------------------- compile


@needs_compiler
def test_compile(counter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compile", counter, "-O", "s", "--cpu", "v2") == 0
    words = capsys.readouterr().out
    made = counter.with_suffix(".o")
    assert words.startswith(f"{made}: {made.stat().st_size:,} bytes, ")
    assert "-Os, -mcpu=v2" in words
    assert run("compile", counter, "-o", counter.parent / "other.o") == 0
    assert (counter.parent / "other.o").is_file()


@needs_compiler
def test_compile_lists_compilers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compile", "--list") == 0
    assert len(capsys.readouterr().out.splitlines()) == len(toolchain.compilers())


@needs_compiler
def test_compile_shows_the_compilers_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int entry(void) { return nothing; }\n")
    assert run("compile", source) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any("^" in line for line in lines)
    assert lines[-1].startswith("oko-bpf: ") and "wrong.c:1:26: error:" in lines[-1]


def test_compile_without_a_compiler(counter: Path, tmp_path: Path) -> None:
    """In a fresh process, with nothing on the search path."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, oko.bpf.toolchain as t; "
            "t.sys.executable = '/nonexistent'; from oko.bpftool import main; "
            f"sys.exit(main(['compile', {str(counter)!r}]))",
        ],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error == "oko-bpf: no compiler for BPF was found (clang, zig or gcc-bpf)"
    assert hint.startswith("hint: install one: 'apt install clang'")


# ---------------------------------------------------------------- disasm, maps


def test_disasm(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("disasm", FILTERS / "dapper.o") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "entry:" and "window_scale:" in lines
    assert lines[1].startswith("; dapper.c:") and "entry(const void *pkt" in lines[1]
    assert any("map[flows]" in line for line in lines)
    assert any("<window_scale>" in line for line in lines)
    numbered = [line for line in lines if line[:6].strip().isdecimal()]
    assert run("disasm", "--raw", FILTERS / "dapper.o") == 0
    raw = [line for line in capsys.readouterr().out.splitlines() if line[:6].strip().isdecimal()]
    assert len(raw) == len(numbered)
    for plain, long in zip(numbered, raw, strict=True):
        assert plain[:8] == long[:8] and long.endswith(plain[8:])
        bytes.fromhex(long[8:31])


@needs_compiler
def test_disasm_names_variables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "f.c"
    source.write_text("int first, second[4];\nlong entry(void) { return second[2]++ + first; }\n")
    assert run("disasm", source) == 0
    text = capsys.readouterr().out
    assert "; second+8" in text or "; second" in text
    assert "; first" in text


def test_maps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("maps", FILTERS / "heavy_hitter.o") == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "0 threshold: array, key 4 B, value 4 B, 1 entries",
        "1 packets: count_min, key 16 B, value 0 B, 16,384 x 4 counters",
        "2 hitters: hash, key 16 B, value 8 B, 4,096 entries",
    ]
    assert run("maps", FILTERS / "heavy_hitter.o", "--json") == 0
    maps = json.loads(capsys.readouterr().out)["maps"]
    assert [found["id"] for found in maps] == [0, 1, 2]
    assert maps[1] == {
        "id": 1,
        "name": "packets",
        "type": "count_min",
        "key_size": 16,
        "value_size": 0,
        "max_entries": 16384,
        "n_hashes": 4,
    }


# ---------------------------------------------------------------- verify


def test_verify_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", FILTERS / "stateful_firewall.o") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{FILTERS / 'stateful_firewall.o'}: accepted\n")
    assert "stateful" in text and "connections: lru_hash" in text
    assert run("verify", FILTERS / "stateful_firewall.o", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["accepted"] is True and report["class"] == "stateful"
    assert report["reads_meta"] is True
    assert 20 < report["worst_case"] < 1000
    assert run("verify", FILTERS / "stateless_firewall.o", "--json") == 0
    assert json.loads(capsys.readouterr().out)["class"] == "pure"


def test_verify_bounds_loops(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", FILTERS / "payload_match.o", "--json") == 0
    assert 10_000 < json.loads(capsys.readouterr().out)["worst_case"] <= 1_000_000


def test_verify_refuses_too_costly_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", FILTERS / "stateful_firewall.o", "--max-insns", "10") == 1
    assert "refused" in capsys.readouterr().out


@needs_compiler
def test_verify_explains_a_refusal(too_far: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mistake of Oko's own examples: the length check is the wrong way round."""
    assert run("verify", too_far) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{too_far}: refused"
    assert lines[1].startswith("  too_far.c:9: instruction ")
    assert lines[2] == "       9 |     return p[33] == 1;"
    assert lines[3].strip(" |") == "^"
    assert any(line.startswith("  hint: ") for line in lines)
    assert "  guarded loading (--guarded) would check 1 instruction:" in lines
    assert lines[-1].endswith("; too_far.c:9") and "*(u8 *)(r1 + 33)" in lines[-1]
    assert run("verify", too_far, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    error = report["error"]
    assert report["accepted"] is False
    assert (error["line"], error["source"].strip()) == (9, "return p[33] == 1;")
    assert error["file"].endswith("too_far.c")
    assert report["guards"]["accepted"] is True and len(report["guards"]["instructions"]) == 1


# ---------------------------------------------------------------- run


@needs_compiler
@pytest.mark.parametrize("option", [[], ["--interpret"], ["--profile"]])
def test_run_counts_matches(
    counter: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    types = ethernet_types(TRACES / "ipv6.pcap")
    expected = types.count(0x86DD)
    assert expected > 0
    arguments = [
        "run",
        counter,
        TRACES / "ipv6.pcap",
        "--update-map",
        "map=wanted,key=0,value=0x86dd",
        "--in-port",
        "3",
    ]
    assert run(*arguments, *option) == 0
    first = capsys.readouterr().out.splitlines()[0]
    share = 100 * expected / len(types)
    assert first == f"{expected:,} of {len(types):,} packets match ({share:.1f} %)"


@needs_compiler
def test_run_dumps_maps(counter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    types = ethernet_types(TRACES / "ipv6.pcap")
    arguments = ["run", counter, TRACES / "ipv6.pcap", "--in-port", "3", "--dump-maps"]
    assert run(*arguments) == 0
    text = capsys.readouterr().out
    for found in set(types):
        assert f"{{proto={found}, pad=0, in_port=3}} -> {types.count(found)}" in text
    assert "(4 zero entries)" in text
    assert run(*arguments, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    seen = next(m for m in report["maps"] if m["name"] == "seen")
    assert {(entry["key_typed"]["proto"], entry["value_typed"]) for entry in seen["entries"]} == {
        (found, types.count(found)) for found in set(types)
    }
    for entry in seen["entries"]:
        key = struct.unpack("<HHI", bytes.fromhex(entry["key"]))
        assert key == (entry["key_typed"]["proto"], 0, 3)
    assert (report["packets"], report["matched"]) == (len(types), 0)


@needs_compiler
def test_run_splits_a_capture(
    counter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yes, no = tmp_path / "yes.pcap", tmp_path / "no.pcap"
    capture = TRACES / "ipv6.pcap"
    update = ["--update-map", "map=wanted,key=0,value=0x86dd"]
    assert run("run", counter, capture, *update, "--matched", yes, "--unmatched", no) == 0
    with open(capture, "rb") as file:
        packets = list(dpkt.pcap.Reader(file))
    parts = []
    for path, wanted in ((yes, True), (no, False)):
        with open(path, "rb") as file:
            parts.append(list(dpkt.pcap.Reader(file)))
        expected = [p for p in packets if (p[1][12:14] == b"\x86\xdd") == wanted]
        assert [data for _, data in parts[-1]] == [data for _, data in expected]
        for (ours, _), (theirs, _) in zip(parts[-1], expected, strict=True):
            assert abs(float(ours) - float(theirs)) < 1e-6
    assert len(parts[0]) + len(parts[1]) == len(packets)


@needs_compiler
def test_run_profiles(counter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    types = ethernet_types(TRACES / "dns.pcap")
    assert run("run", counter, TRACES / "dns.pcap", "--profile") == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if " 0: " in line)
    assert line.split()[0] == f"{len(types):,}"
    assert "; counter.c:" in text and "per packet" in text
    assert run("run", counter, TRACES / "dns.pcap", "--profile", "--json") == 0
    profile = json.loads(capsys.readouterr().out)["profile"]
    assert profile[0]["count"] == len(types)
    updates = [
        p for p in profile if p["line"] and "bpf_map_update" in COUNTER.splitlines()[p["line"] - 1]
    ]
    assert min(update["count"] for update in updates) == len(set(types))


@needs_compiler
def test_run_refuses_with_one_line_and_context(
    too_far: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", too_far, TRACES / "dns.pcap") == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and lines[0].startswith(f"oko-bpf: {too_far}: refused: too_far.c:9: ")
    assert lines[1] == "     9 |     return p[33] == 1;"
    assert lines[-1].startswith("hint: ")


@needs_compiler
def test_run_guarded_counts_faults(too_far: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What could not be proved is checked: short frames are faults, no match, and no crash."""
    assert run("run", too_far, TRACES / "dns.pcap", "--guarded", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    with open(TRACES / "dns.pcap", "rb") as file:
        frames = [data for _, data in dpkt.pcap.Reader(file)]
    assert report["faults"] == sum(len(frame) <= 33 for frame in frames)


def test_run_reads_compressed_captures(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = traces / "mix.pcap.gz"
    assert run("run", FILTERS / "stateless_firewall.o", capture, "--json") == 0
    assert json.loads(capsys.readouterr().out)["packets"] == 11925


def test_a_cut_capture_is_processed_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (TRACES / "dns.pcap").read_bytes()
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(whole[:-5])
    assert run("run", FILTERS / "syn_flood.o", cut) == 1
    out, err = capsys.readouterr()
    n = len(ethernet_types(TRACES / "dns.pcap"))
    assert f" of {n - 1:,} packets match" in out
    assert err.startswith(f"oko-bpf: {cut}: ") and err.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", FILTERS / "stateless_firewall.o", TRACES / "dns.pcap"]
    assert run(*arguments, "--unmatched", "/dev/full") == 1
    assert capsys.readouterr().err == "oko-bpf: /dev/full: No space left on device\n"


@needs_compiler
def test_watch_runs_again_on_save(counter: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "-m",
            "oko.bpftool",
            "run",
            str(counter),
            str(TRACES / "dns.pcap"),
            "--watch",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    try:
        assert "--- " in next(lines)
        assert next(lines).startswith("0 of ")
        time.sleep(0.01)
        counter.write_text(COUNTER.replace("return type &&", "return 1; return type &&"))
        assert "100.0 %" in until(lines, " packets match")
        counter.write_text("int entry(void) { return x; }")
        assert "oko-bpf: " in until(lines, "oko-bpf: ")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 1
    finally:
        process.kill()
        process.wait()


def until(lines: Iterator[str], words: str) -> str:
    return next(line for line in lines if words in line)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["disasm", "/nonexistent.o"], "/nonexistent.o: No such file or directory"),
        (["maps", "/nonexistent.c"], "/nonexistent.c: no such file"),
        (["maps", "setup.cfg"], "setup.cfg: not an ELF object"),
        (
            ["run", "examples/bpf/syn_flood.o", "/nonexistent.pcap"],
            "/nonexistent.pcap: No such file",
        ),
        (["run", "examples/bpf/syn_flood.o", "setup.cfg"], "setup.cfg: "),
        (
            [
                "run",
                "examples/bpf/syn_flood.o",
                "examples/traces/dns.pcap",
                "--update-map",
                "map=x,key=1",
            ],
            "the program has no map 'x'; its maps: 0 ",
        ),
        (
            [
                "run",
                "examples/bpf/syn_flood.o",
                "examples/traces/dns.pcap",
                "--update-map",
                "nonsense",
            ],
            "map update 'nonsense': cannot read",
        ),
        (
            [
                "run",
                "examples/bpf/syn_flood.o",
                "examples/traces/dns.pcap",
                "--matched",
                "/nonexistent/x",
            ],
            "/nonexistent/x: No such file or directory",
        ),
        (["compile"], "which FILTER.c"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert lines[0].startswith(f"oko-bpf: {words}")
    assert out == "" and all(line.startswith("hint: ") for line in lines[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["verify"],
        ["verify", "x.o", "-O", "7"],
        ["run", "x.o"],
        ["run", "x.o", "y.pcap", "--in-port", "-1"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("oko-bpf")


def test_a_reader_that_stops_early_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m oko.bpftool disasm examples/bpf/dapper.o | head -1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("entry:\n", "")
