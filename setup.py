"""What setup.cfg cannot say: the cffi extension, and the filter headers inside the wheel."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Puts examples/bpf/oko_*.h where oko.bpf.toolchain looks for them in an installed oko."""

    def run(self):
        super().run()
        if not self.editable_mode:  # a checkout has them in examples/bpf
            target = Path(self.build_lib, "oko", "bpf", "include")
            target.mkdir(parents=True, exist_ok=True)
            for header in sorted(Path("examples", "bpf").glob("oko_*.h")):
                self.copy_file(str(header), str(target / header.name))


setup(cffi_modules=["csrc/ffi_build.py:ffibuilder"], cmdclass={"build_py": BuildPy})
