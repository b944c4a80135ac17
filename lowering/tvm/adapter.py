# pyright: basic
"""All that irc asks of TVM: from TVMScript to an object file whose functions have plain C signatures.

Law: nothing else imports TVM. Objects need nothing of TVM's at run time: the passes that make its packed calling convention are
left out, and arrays of registers are LLVM's to place.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("apache-tvm", "apache-tvm-ffi")
"""What has to be installed; pyproject.toml's extra `tvm` pins both."""


def installed_version() -> str:
    """The version of TVM, or an empty string where it is not installed."""
    try:
        return "+ffi".join(metadata.version(package) for package in PACKAGES)
    except metadata.PackageNotFoundError:
        return ""


def object_file(texts: Sequence[str], triple: str, processor: str, features: Sequence[str]) -> bytes:
    """The ELF object of TVMScript functions, for LLVM's names of a target.

    Raises ValueError, with TVM's own words, for a text that TVM does not take.
    """
    tvm = whole()
    target = llvm(triple, processor, tuple(features))
    try:
        functions = [tvm.script.from_source(text) for text in texts]
        module = tvm.IRModule({str(each.attrs["global_symbol"]): each for each in functions})
        module = tvm.tirx.transform.BindTarget(target.with_host(target))(module)
        built = tvm.get_global_func("target.build.llvm")(_passes()(module), target)
    except Exception as error:  # TVM's errors have no common base but Exception
        raise ValueError(said(error)) from error
    with tempfile.TemporaryDirectory(prefix="irc-tvm-") as folder:
        path = Path(folder, "kernels.o")
        built.write_to_file(str(path), "o")
        return path.read_bytes()


def said(error: Exception) -> str:
    """What an error of TVM's says in one line: a picture of the place may follow, C++'s calls go before."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[-1])


@cache
def whole() -> Any:
    """TVM itself."""
    # Where torch is installed, tvm_ffi would import it, and compile C++ for it, only to pass tensors that nobody has here.
    os.environ.setdefault("TVM_FFI_DISABLE_TORCH_C_DLPACK", "1")
    import tvm
    import tvm.s_tir
    import tvm.script
    import tvm.tirx

    return tvm


def part(name: str) -> Any:
    """A module of TVM's, such as `relax`, that `whole` does not bring; raises ImportError where what it needs is missing."""
    whole()
    return importlib.import_module(f"tvm.{name}")


def walk(node: Any, visit: Callable[[Any], None]) -> None:
    """Show `visit` everything that a statement or an expression of TVM's consists of, what is inside first."""
    whole()
    import tvm_ffi

    tvm_ffi.structural_walk(node, visit)


@cache
def llvm(triple: str, processor: str, features: tuple[str, ...]) -> Any:
    """TVM's target for LLVM's names of one."""
    return whole().target.Target({"kind": "llvm", "mtriple": triple, "mcpu": processor, "mattr": list(features)})


@cache
def _passes() -> Any:
    """From loops and flat buffers to what LLVM takes."""
    tvm = whole()
    transform = tvm.tirx.transform
    return tvm.ir.transform.Sequential(
        [
            transform.FlattenBuffer(),
            transform.NarrowDataType(32),
            transform.VectorizeLoop(True),
            transform.StorageRewrite(),
            transform.UnrollLoop(),
            transform.RemoveNoOp(),
            transform.LowerIntrin(),
        ]
    )
