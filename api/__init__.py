"""irc: make a neural network fast, keep its answers, and explain both.

    program = irc.compile("model.onnx", target="cpu", opt_level=2)
    outputs = program.run({"x": array})
    program.save("model.irc")
    program = irc.load("model.irc")

A PyTorch module goes in the same way, and the program is called as the module is; `irc.torch` has the rest.
Importing this brings in nothing but the standard library; each name loads its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irc.ir import IrcError
    from irc.runtime import Program, RunError, load

    from . import torch
    from .compilation import compile
    from .torch import TorchProgram

_HOMES = {
    "compile": "irc.compilation",
    "load": "irc.runtime",
    "Program": "irc.runtime",
    "TorchProgram": "irc.torch",
    "RunError": "irc.runtime",
    "IrcError": "irc.ir",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("irc-compiler")
    if name == "torch":
        return import_module("irc.torch")
    if name not in _HOMES:
        raise AttributeError(f"module 'irc' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*_HOMES, "torch"])


__all__ = ["IrcError", "Program", "RunError", "TorchProgram", "compile", "load", "torch"]
