"""irc for PyTorch users: `irc.torch.translate` teaches the capture an op, `irc.torch.backend` serves `torch.compile`.

    program = irc.compile(module, (x,), dynamic_shapes={"x": {0: "batch"}})
    y = program(x)
    fast = torch.compile(module, backend="irc")

Importing this does not import torch.
"""

from __future__ import annotations

from irc.ir.capture.torch import TRANSLATIONS, translate

from .backends import FallbackWarning, backend
from .program import TorchProgram, compile_captured, compile_torch, example_arguments

__all__ = [
    "TRANSLATIONS",
    "FallbackWarning",
    "TorchProgram",
    "backend",
    "compile_captured",
    "compile_torch",
    "example_arguments",
    "translate",
]
