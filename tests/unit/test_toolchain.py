"""The toolchain: which compilers are found, what they are told, and their objects."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from oko.bpf import toolchain
from oko.bpf.elf import read_object
from oko.bpf.spec import MapType, ProgramSpec
from oko.bpf.toolchain import Compiler
from oko.errors import ElfError, OkoError, ToolchainError

# Braces stand on the line of the function's name: BTF and DWARF differ on whose line is first.
SOURCE = """
#include "oko_bpf.h"

struct ubpf_map_def blocked = {4, 4, 8, 100, 0};
static struct ubpf_map_def counts = {1, 4, 8, 16, 0};
int counter;
static int setting = 5;
static const volatile uint32_t limit = 7;

static __noinline int low(const uint8_t *p) {
    counter++;
    setting += 2;
    return p[0] + setting + (int)limit;
}

__noinline int other(const uint8_t *p, void *map) {
    uint32_t key = p[3];
    uint64_t *value = bpf_map_lookup(map, &key);
    if (value)
        (*value)++;
    return 1;
}

uint64_t entry(const void *pkt, uint64_t len) {
    const uint8_t *bytes = pkt;
    if (len < 14)
        return 0;
    uint32_t key = bytes[4];
    uint64_t *value = bpf_map_lookup(&blocked, &key);
    if (!value)
        return 0;
    return low(bytes) + other(bytes, &counts);
}
"""


@pytest.fixture
def fresh() -> Iterator[None]:
    """Forgets which compilers were found, before and after."""
    for cached in (toolchain.compilers, toolchain.preferred):
        cached.cache_clear()
    yield
    for cached in (toolchain.compilers, toolchain.preferred):
        cached.cache_clear()


def fake(directory: Path, name: str, version: str, targets: str = "bpf bpfel") -> None:
    """A program that answers --version and --print-targets as a compiler would."""
    path = directory / name
    path.write_text(
        "#!/bin/sh\n"
        f'case "$1" in --version) echo "{version}";; --print-targets) echo "{targets}";; '
        f'version) echo 0.13.0;; *) [ "$2" = --version ] && echo "{version}";; esac\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def path(tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An otherwise empty search path (with a shell)."""
    os.symlink("/bin/sh", tmp_path / "sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OKO_CLANG", raising=False)
    monkeypatch.setattr(toolchain.sys, "executable", str(tmp_path / "no-python"))
    return tmp_path


def test_without_a_compiler_the_error_says_how_to_get_one(path: Path) -> None:
    assert toolchain.compilers() == ()
    with pytest.raises(ToolchainError, match="no compiler for BPF") as caught:
        toolchain.choose()
    assert "apt install clang" in caught.value.hint and "pip install ziglang" in caught.value.hint


def test_order_of_preference(path: Path) -> None:
    fake(path, "bpf-gcc", "bpf-gcc (12-20220319-1ubuntu1+2) 12.2.0")
    fake(path, "zig", "clang version 18.1.6")
    fake(path, "clang-9", "clang version 9.0.1-12")
    fake(path, "clang-14", "Debian clang version 14.0.6")
    fake(path, "clang-format-14", "clang-format version 14")
    fake(path, "clang", "Apple clang version 15.0.0", targets="arm64")
    found = toolchain.compilers()
    assert [(c.kind, c.version, c.command) for c in found] == [
        ("clang", 14, ("clang-14",)),
        ("clang", 9, ("clang-9",)),
        ("zig", 18, ("zig", "cc")),
        ("gcc", 12, ("bpf-gcc",)),
    ]
    assert toolchain.choose() == found[0] == toolchain.preferred()
    assert toolchain.choose("zig").kind == "zig"
    assert toolchain.choose("clang-9").version == 9
    with pytest.raises(
        ToolchainError, match=r"no compiler 'clang-99'; found: clang 14 \(clang-14\)"
    ):
        toolchain.choose("clang-99")


def test_a_compiler_may_be_chosen_by_environment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(path, "clang-14", "clang version 14.0.6")
    fake(path, "mine", "clang version 17.0.1")
    monkeypatch.setenv("OKO_CLANG", "mine")
    assert toolchain.choose().command == ("mine",)


def test_instruction_sets_by_version() -> None:
    assert Compiler("clang", ("clang",), 14).cpus() == ("v1", "v2", "v3")
    assert Compiler("clang", ("clang",), 19).cpus() == ("v1", "v2", "v3", "v4")
    assert Compiler("zig", ("zig", "cc"), 18).cpus() == ("v1", "v2", "v3", "v4")


def all_compilers() -> list[object]:
    """The two ends of the range in the quick tests, the others in the long ones."""
    found = toolchain.compilers()
    clangs = [c for c in found if c.kind == "clang"]
    quick = {c.label for c in (*clangs[:1], *clangs[-1:], *(c for c in found if c.kind == "gcc"))}
    return [
        pytest.param(c, id=c.label, marks=() if c.label in quick else pytest.mark.long)
        for c in found
    ]


def check(spec: ProgramSpec) -> None:
    """What SOURCE must become, whatever the compiler."""
    assert spec.funcs[0].name == "entry"
    assert {f.name for f in spec.funcs} <= {"entry", "low", "other"}
    blocked, counts = sorted(spec.maps, key=lambda m: m.name)
    assert (blocked.name, blocked.type, blocked.max_entries) == ("blocked", MapType.HASH, 100)
    assert (counts.name, counts.type, counts.value_size) == ("counts", MapType.ARRAY, 8)
    assert {v for d in spec.data for v, _, _ in d.variables} >= {"counter"}
    assert spec.lines and all(record.line for record in spec.lines)
    assert not spec.warnings


@pytest.mark.parametrize("compiler", all_compilers())
def test_objects(compiler: Compiler, tmp_path: Path) -> None:
    source = tmp_path / "filter.c"
    source.write_text(SOURCE)
    for level in toolchain.LEVELS:
        for cpu in compiler.cpus():
            spec = toolchain.read_filter(source, level=level, cpu=cpu, compiler=compiler)
            check(spec)
            assert spec.name == "filter"
            place = spec.line_at(0)
            assert place is not None and place.file.endswith("filter.c")
            text = SOURCE.splitlines()[place.line - 1]
            if compiler.kind != "gcc":  # DWARF alone has no text
                assert place.text.strip() == text.strip()
            assert "entry" in text or "len" in text


@pytest.mark.parametrize("compiler", all_compilers())
def test_lines_from_dwarf_agree_with_btf(compiler: Compiler, tmp_path: Path) -> None:
    """With .BTF.ext hidden, DWARF's line table tells the same lines."""
    source = tmp_path / "filter.c"
    source.write_text(SOURCE)
    data = toolchain.compile_source(source, compiler=compiler)
    hidden = data.replace(b".BTF.ext\0", b".XTF.ext\0")
    with_btf, without = read_object(data), read_object(hidden)
    assert without.lines
    if compiler.kind == "gcc":
        assert with_btf.lines == without.lines
        return
    assert not any(record.text for record in without.lines)
    for insn, _ in with_btf.decoded():
        first, second = with_btf.line_at(insn), without.line_at(insn)
        assert first is not None and second is not None
        assert (first.line, first.file.rpartition("/")[2]) == (
            second.line,
            second.file.rpartition("/")[2],
        )


needs_compiler = pytest.mark.skipif(
    not toolchain.compilers(), reason="no compiler for BPF is installed"
)


@needs_compiler
def test_a_mistake_in_the_source(tmp_path: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text('#include "oko_bpf.h"\nuint64_t entry(void) { return nothing; }\n')
    with pytest.raises(ToolchainError, match=r"wrong.c:2:\d+: error: .*nothing") as caught:
        toolchain.read_filter(source)
    assert "nothing" in caught.value.output


@needs_compiler
def test_without_debug_information_the_program_is_the_same(tmp_path: Path) -> None:
    source = tmp_path / "filter.c"
    source.write_text(SOURCE)
    data = toolchain.compile_source(source)
    stripped = data.replace(b".BTF", b".XTF").replace(b".debug_line", b".xebug_line")
    full, bare = read_object(data), read_object(stripped)
    assert not bare.lines and bare.insns == full.insns and bare.maps == full.maps


@needs_compiler
def test_defines_and_includes(tmp_path: Path) -> None:
    (tmp_path / "answer.h").write_text("#define ANSWER 42\n")
    source = tmp_path / "filter.c"
    source.write_text('#include "answer.h"\nunsigned long entry(void) { return ANSWER + X; }\n')
    data = toolchain.compile_source(source, defines=("X=1",))
    assert (43).to_bytes(4, "little") in read_object(data).insns


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OkoError, match=r"none\.o: No such file"):
        toolchain.read_filter(tmp_path / "none.o")
    with pytest.raises(OkoError, match="Is a directory"):
        toolchain.read_filter(tmp_path)
    (tmp_path / "bad.o").write_bytes(b"\x7fELF")
    with pytest.raises(ElfError, match=r"bad\.o: malformed object: cut off"):
        toolchain.read_filter(tmp_path / "bad.o")


@needs_compiler
def test_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"none\.c: no such file"):
        toolchain.read_filter(tmp_path / "none.c")
