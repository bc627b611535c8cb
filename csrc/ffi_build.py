"""Builds `oko._oko`: feeds csrc/oko.h, the whole boundary, to cffi and lists the C sources.

The one text `oko.h` is both included by the C compiler and given to `cdef()` (without its
preprocessor lines), so the two cannot drift apart.
"""

import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def _relative(paths: list[Path]) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in paths)


SOURCES = _relative(
    [
        *HERE.glob("*.c"),
        *HERE.glob("base/*.c"),
        *HERE.glob("bpf/**/*.c"),
    ]
)
# cffi writes its own source here; it is not one of ours.
SOURCES = [name for name in SOURCES if not name.endswith("_oko.c")]
HEADERS = _relative([*HERE.glob("*.h"), *HERE.glob("base/*.h"), *HERE.glob("bpf/**/*.h")])

ffibuilder = FFI()
# cdef() wants declarations only: the include guard and includes are the lines that start with '#'.
ffibuilder.cdef(
    "\n".join(
        line for line in (HERE / "oko.h").read_text().splitlines() if not line.startswith("#")
    )
)
ffibuilder.set_source(
    "oko._oko",
    '#include "oko.h"\n',
    sources=SOURCES,
    depends=HEADERS,
    include_dirs=["csrc"],
    libraries=["pthread"],
    extra_compile_args=["-std=gnu11", "-O3", "-g", "-fvisibility=hidden", "-fno-strict-aliasing"],
    py_limited_api=True,
)

if __name__ == "__main__":  # ffi_build.py FILE: writes the generated C source (csrc/Makefile)
    ffibuilder.emit_c_code(sys.argv[1])
