"""One shared library of kernels and of the program that runs them, by whatever C compiler there is.

Law: equal objects make equal bytes, wherever and whenever they are linked; only the compiler's version shows.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from irc.ir import UnsupportedError
from irc.runtime import EngineFailure, scratch_folder

PROGRAM = "native/program.c"
"""The thread pool and the loop over the plan, in this package."""

HERE = ("cc", "gcc", "clang")
"""The compilers that are tried for this machine, in order."""

_EXPORTS = "{ global: irc_*; local: *; };\n"
"""A version script: kernels and the program's doors are found by name, helpers of the compilers are not."""

_FLAGS = (
    *("-std=c11", "-O2", "-fPIC", "-pthread", "-shared", "-fvisibility=hidden"),
    *("-s", "-Wl,--build-id=none", "-Wl,-z,defs", "-Wl,-z,noexecstack"),
)
_TIMEOUT = 600.0
"""Seconds; zig's first link builds its C library."""


def link(objects: Sequence[bytes], triple: str) -> bytes:
    """The shared library of object files and the program for LLVM's name of a Linux target, such as `x86_64-linux-gnu`.

    Raises UnsupportedError where no compiler for it is there, and EngineFailure with the compiler's last words.
    """
    command = compiler(triple)
    with scratch_folder("link") as folder:
        source = Path(folder, "program.c")
        source.write_bytes(resources.files(__name__.rpartition(".")[0]).joinpath(PROGRAM).read_bytes())
        script = Path(folder, "exports.map")
        script.write_text(_EXPORTS)
        names = [f"{index}.o" for index in range(len(objects))]
        for name, content in zip(names, objects, strict=True):
            Path(folder, name).write_bytes(content)
        _run([*command, *_FLAGS, f"-Wl,--version-script={script.name}", "-o", "program.so", "program.c", *names, "-lm"], folder)
        return Path(folder, "program.so").read_bytes()


def compiler(triple: str) -> tuple[str, ...]:
    """How the first compiler for a target that is there begins its command line; raises UnsupportedError where none is."""
    system = HERE if _is_here(triple) else (f"{triple}-gcc",)
    for name in system:
        path = shutil.which(name)
        if path is not None:
            return (path,)
    if importlib.util.find_spec("ziglang") is not None:
        # Its default is the newest C library; this one is in every Linux that NumPy's wheels run on.
        return (sys.executable, "-m", "ziglang", "cc", "-target", f"{triple}.2.28")
    raise UnsupportedError(
        f"no C compiler for {triple} is installed, and kernels have to be linked",
        hint=f"pip install 'irc-compiler[zig]', or install {system[0]}",
    )


def _is_here(triple: str) -> bool:
    return sys.platform == "linux" and triple.partition("-")[0] == platform.machine()


def _run(command: Sequence[str], folder: Path) -> None:
    """Names on the command line are relative and the compiler runs beside the files, so that no path gets into them."""
    environment = {**os.environ, "LC_ALL": "C", "TMPDIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineFailure(f"linking the kernels did not end within {_TIMEOUT:g} s", location=command[0]) from None
    except OSError as error:
        raise EngineFailure(f"the compiler cannot be started: {error.strerror}", location=command[0]) from error
    if done.returncode:
        said = done.stderr[-10_000:].decode("utf-8", "replace")
        reason = _telling(said) or f"it ended with exit code {done.returncode}"
        raise EngineFailure(f"the kernels could not be linked: {reason[:300]}", location=command[0])


def _telling(said: str) -> str:
    """The line that tells most of what a compiler says: the first error, else the last that is not about other lines."""
    lines = [line.strip() for line in said.splitlines()]
    own = [line for line in lines if line and not line.startswith("collect2:")]
    return next((line for line in own if "error:" in line), own[-1] if own else "")
