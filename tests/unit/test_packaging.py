"""The wheel: one abi3 wheel that has the extension and works away from the source tree."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def built_wheel(folder: Path, through_sdist: bool) -> Path:
    """Builds the wheel from the files git knows, so that nothing ignored slips in; or from the
    source distribution made of these, which must lack nothing."""
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    if through_sdist:
        make = "from setuptools import build_meta; build_meta.build_sdist('..')"
        subprocess.run([sys.executable, "-c", make], cwd=source, check=True, capture_output=True)
        (source,) = folder.glob("oko-*.tar.gz")
    subprocess.run(
        [
            *[sys.executable, "-m", "pip", "-q", "wheel", "--no-deps", "--no-build-isolation"],
            *["-w", str(folder), str(source)],
        ],
        check=True,
    )
    (wheel,) = folder.glob("oko-*.whl")
    return wheel


@pytest.mark.long
@pytest.mark.parametrize("through_sdist", [False, True], ids=["from the tree", "from an sdist"])
def test_wheel_has_the_extension_and_runs_elsewhere(tmp_path: Path, through_sdist: bool) -> None:
    wheel = built_wheel(tmp_path, through_sdist)
    assert "-cp310-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "oko/_oko.abi3.so" in names
    assert "oko/py.typed" in names
    # The headers that oko.bpf.toolchain puts on the include path.
    headers = {f"oko/bpf/include/{path.name}" for path in ROOT.glob("examples/bpf/oko_*.h")}
    assert headers and headers <= set(names)
    # From elsewhere: the source tree's oko/ must not shadow the installed one.
    done = subprocess.run(
        [
            *[sys.executable, "-c"],
            "import oko, oko._oko, oko.bpf.toolchain as t; print(oko.__file__, t.include_dir())",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        check=True,
        capture_output=True,
        text=True,
    )
    package, include = done.stdout.split()
    assert package.startswith(str(tmp_path / "site"))
    assert include == str(tmp_path / "site" / "oko" / "bpf" / "include")
    done = subprocess.run(
        [
            *[sys.executable, "-m", "oko.replaytool", "--json"],
            *["--load-filter-prog", f"1={ROOT / 'examples' / 'bpf' / 'port_scan.o'}"],
            *["-f", "filter_prog=1,actions=drop", str(ROOT / "examples" / "traces" / "dns.pcap")],
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        check=True,
        capture_output=True,
    )
    assert json.loads(done.stdout)["programs"][0]["runs"] > 0
