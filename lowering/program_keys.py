"""What a compilation depends on, as the key under which the cache keeps what it made.

Law: two compilations of one key make the same artifact, but for time that was measured. What cannot be told from data, such as
a function of the user's or a choice by measuring, has no key.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Set
from dataclasses import fields, replace
from enum import Enum
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from irc.ir.capture import file_digest, file_digests

from .options import CompileOptions
from .precision.options import Precision
from .targets import find_target

FORMAT = 1
"""Goes up when what is told of an artifact changes its form."""
_ROOMS = ("irc", "irc.ir", "irc.passes", "irc.lowering", "irc.runtime")
_PACKAGES = (
    *("onnx", "numpy", "protobuf", "onnxruntime", "onnxruntime-gpu", "openvino", "apache-tvm", "apache-tvm-ffi"),
    *("networkx", "lark", "onnx-graphsurgeon", "ziglang"),
)


def program_key(model: Path, options: CompileOptions) -> str | None:
    """The key of an ONNX file compiled with `options`, None where that has none.

    Raises as `load_onnx` does for the model, and UsageError for an unknown target.
    """
    if not _is_repeatable(options):
        return None
    if isinstance(options.calib, str):
        options = replace(options, calib=Path(options.calib))
    try:
        said = {each.name: _text(_content(getattr(options, each.name))) for each in fields(options)}
        digests = file_digests(model)
    except (TypeError, OSError):  # what says more than data do, or a file that is not there: compiling will tell
        return None
    target = replace(find_target(options.target), limits=None)  # measured ones say how good kernels are, not how they are made
    parts = (FORMAT, code_digest(), package_versions(), repr(target), sorted(digests.items()), model.name, sorted(said.items()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _is_repeatable(options: CompileOptions) -> bool:
    """Whether nothing is measured, and no code of the user's runs."""
    measures = options.opt_level >= 3 and options.tune_budget > 0
    measures = measures or options.compress is not None or options.precision is Precision.AUTO
    return not measures and not options.load


def _content(value: object) -> object:
    """A value of an option, a file by what is in it and a folder by what is in its files."""
    if not isinstance(value, Path):
        return value
    if not value.is_dir():
        return file_digest(value)
    return {str(each.relative_to(value)): file_digest(each) for each in sorted(value.rglob("*")) if each.is_file()}


def _text(value: object) -> str:
    """Plain data as text, whatever the order of sets and mappings. Raises TypeError for anything else."""
    if value is None or isinstance(value, (str, int, float, Enum)):
        return repr(value)
    if isinstance(value, Mapping):
        return repr(sorted((_text(key), _text(inner)) for key, inner in value.items()))  # type: ignore[reportUnknownVariableType]  # of any types
    if isinstance(value, Set):
        return repr(sorted(map(_text, value)))  # type: ignore[reportUnknownArgumentType]  # of any types
    if isinstance(value, tuple):
        return repr(tuple(map(_text, value)))  # type: ignore[reportUnknownArgumentType]  # of any types
    raise TypeError(f"{type(value).__name__} is no plain data")


@lru_cache(maxsize=1)
def code_digest() -> str:
    """A digest of irc itself: a version says nothing of a tree that is being worked on."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        spec = find_spec(room)  # a room need not be imported to be looked at
        for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.suffix != ".pyc":
                    digest.update(f"{room} {path.relative_to(folder)} {path.stat().st_size}".encode())
                    digest.update(path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def package_versions() -> tuple[tuple[str, str], ...]:
    """The versions of Python and of what irc computes with, by package."""
    found = [("python", sys.version)]
    for name in _PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


__all__ = ["code_digest", "package_versions", "program_key"]
