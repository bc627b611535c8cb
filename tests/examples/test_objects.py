"""The committed objects of examples/bpf are what their sources make, and say nothing of the
machine they were made on."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from filter_cases import FILTERS, NAMES, ROOT
from filter_models import MODELS

from oko.bpf.elf import read_object
from oko.bpf.spec import ProgramSpec
from oko.bpf.toolchain import LEVELS, Compiler, compile_source, compilers

CLANG = re.findall(r"^CLANG \?= (\S+)", (FILTERS / "Makefile").read_text(), re.M)[0]


def test_each_filter_has_source_object_model_and_paragraph() -> None:
    described = re.findall(r"^## (\S+)", (FILTERS / "README.md").read_text(), re.M)
    objects = sorted(path.stem for path in FILTERS.glob("*.o"))
    assert len(NAMES) == 10
    assert objects == sorted(described) == sorted(MODELS) == NAMES


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the objects made anew by the pinned compiler, through the Makefile."""
    if not shutil.which(CLANG):
        pytest.skip(f"the committed objects are made by {CLANG}, which is not installed")
    out = tmp_path_factory.mktemp("objects")
    subprocess.run(["make", "-s", "-C", FILTERS, f"OUT={out}", f"CLANG={CLANG}"], check=True)
    return out


def sections(data: bytes) -> dict[str, bytes]:
    """The sections a loader reads: code, data, relocations of the code, BTF."""
    elf = ELFFile(io.BytesIO(data))
    wanted = re.compile(r"\.text|\.rel\.text|\.rodata.*|\.data|\.bss|\.?maps|\.BTF$")
    return {s.name: s.data() for s in elf.iter_sections() if wanted.match(s.name)}


@pytest.mark.parametrize("name", NAMES)
def test_committed_object_is_what_the_source_makes(name: str, rebuilt: Path) -> None:
    committed = (FILTERS / f"{name}.o").read_bytes()
    fresh = (rebuilt / f"{name}.o").read_bytes()
    hint = f"stale object: run make -B -C examples/bpf CLANG={CLANG}"
    assert sections(committed).keys() >= {".text", ".rel.text", ".BTF"}
    assert sections(committed) == sections(fresh), hint
    assert read_object(committed, name) == read_object(fresh, name), hint


@pytest.mark.parametrize("name", NAMES)
def test_object_names_no_place_on_a_machine(name: str) -> None:
    elf = ELFFile(io.BytesIO((FILTERS / f"{name}.o").read_bytes()))
    dwarf = elf.get_dwarf_info()
    paths = []
    for unit in dwarf.iter_CUs():
        attributes = unit.get_top_DIE().attributes
        paths += [attributes["DW_AT_name"].value, attributes["DW_AT_comp_dir"].value]
        header = dwarf.line_program_for_CU(unit).header
        paths += list(header["include_directory"])
        paths += [entry.name for entry in header["file_entry"]]
    assert paths
    assert not [path for path in paths if path.startswith(b"/")]
    assert str(ROOT).encode() not in (FILTERS / f"{name}.o").read_bytes()


def shape(spec: ProgramSpec) -> list[tuple[str, int, int, int, int, int]]:
    """What must not depend on the compiler: the maps."""
    return sorted(
        (m.name, m.type, m.key_size, m.value_size, m.max_entries, m.n_hashes) for m in spec.maps
    )


@pytest.mark.parametrize("compiler", compilers(), ids=lambda c: f"{c.kind}-{c.version}")
def test_every_compiler_makes_the_same_maps(compiler: Compiler) -> None:
    for name in NAMES:
        cpu = "v3" if "v3" in compiler.cpus() else compiler.cpus()[-1]
        made = read_object(compile_source(FILTERS / f"{name}.c", cpu=cpu, compiler=compiler), name)
        assert shape(made) == shape(read_object((FILTERS / f"{name}.o").read_bytes(), name))


@pytest.mark.long
@pytest.mark.parametrize("compiler", compilers(), ids=lambda c: f"{c.kind}-{c.version}")
def test_every_compiler_level_and_cpu_makes_a_readable_object(compiler: Compiler) -> None:
    for name in NAMES:
        for level in LEVELS:
            for cpu in compiler.cpus():
                source = FILTERS / f"{name}.c"
                made = read_object(
                    compile_source(source, level=level, cpu=cpu, compiler=compiler), name
                )
                assert shape(made) == shape(read_object((FILTERS / f"{name}.o").read_bytes(), name))
