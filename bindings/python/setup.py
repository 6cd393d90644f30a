"""Builds the extension and puts the library that it was linked with beside it; all else is in pyproject.toml."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).resolve().parent))


class BuildWithLibrary(build_ext):
    def build_extension(self, ext):
        # The header or the library may have changed where the sources have not.
        self.force = True
        super().build_extension(ext)
        library = Path(ext.library_dirs[0]) / "libflowplug.so"
        # The loader asks for the name that the linker recorded.
        dynamic = subprocess.run(["readelf", "-d", str(library)], check=True, capture_output=True, text=True).stdout
        soname = re.search(r"\(SONAME\).*\[(.+)\]", dynamic)
        folder = Path(self.get_ext_fullpath(ext.name)).parent
        for old in folder.glob("libflowplug.so*"):
            old.unlink()
        target = folder / (soname.group(1) if soname else library.name)
        shutil.copyfile(library, target)
        # Names of functions stay, so that backtraces can be read; debug information would be most of the wheel.
        subprocess.run(["strip", "--strip-debug", str(target)], check=True)

    def get_outputs(self):
        libraries = Path(self.build_lib, "flowplug").glob("libflowplug.so*")
        return [*super().get_outputs(), *map(str, libraries)]


setup(
    cffi_modules=["build_ffi.py:ffi"],
    cmdclass={"build_ext": BuildWithLibrary},
    options={"bdist_wheel": {"py_limited_api": "cp39"}},
)
