"""One kernel at a time, for tests: built, linked and called as C functions are, a task after the other."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from irc.lowering import find_target
from irc.lowering.tvm.adapter import object_file
from irc.lowering.tvm.building import llvm_target
from irc.lowering.tvm.kernel import Kernel
from irc.runtime import processor

HAS_COMPILER = sys.platform == "linux" and shutil.which("cc") is not None
HAS_TVM = importlib.util.find_spec("tvm") is not None

needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="needs a C compiler on Linux")
needs_tvm = pytest.mark.skipif(not (HAS_TVM and HAS_COMPILER), reason="needs TVM, and a C compiler on Linux")


@cache
def lanes() -> int:
    """How many f32 are in a vector of this machine."""
    features = processor().features
    return 16 if "avx512f" in features else 8 if "avx2" in features else 4


def c_object(source: str) -> bytes:
    """An object of C, in place of one of TVM's."""
    with TemporaryDirectory() as folder:
        Path(folder, "k.c").write_text(source)
        subprocess.run(["cc", "-O1", "-fPIC", "-c", "k.c"], cwd=folder, check=True, capture_output=True)
        return Path(folder, "k.o").read_bytes()


def run(kernel: Kernel, *arrays: np.ndarray, tasks: Iterable[int] | None = None) -> None:
    """Run the tasks of a kernel, in order unless `tasks` names others, on the memory of C-contiguous arrays."""
    assert len(arrays) == kernel.arity
    assert all(array.flags.c_contiguous for array in arrays)
    function = compiled(kernel)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    for task in range(kernel.tasks) if tasks is None else tasks:
        function(ctypes.c_int32(task), *pointers)


@cache
def compiled(kernel: Kernel) -> Any:
    """The kernel as a function of this process, made for this machine."""
    target = llvm_target(find_target("cpu"))
    content = object_file([kernel.text], target.triple, target.processor, target.features)
    with TemporaryDirectory() as folder:
        Path(folder, "k.o").write_bytes(content)
        subprocess.run(["cc", "-shared", "-o", "k.so", "k.o", "-lm"], cwd=folder, check=True, capture_output=True)
        function: Any = ctypes.CDLL(str(Path(folder, "k.so")))[kernel.name]
    function.restype = None
    return function
