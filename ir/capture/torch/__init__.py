"""How PyTorch programs come in: a module or an exported program becomes a graph that shares the module's weights.

Importing this does not import torch; capturing does. torch.export traces the program, torch's own ONNX translation turns
ATen ops into ONNX ops in memory, and the importer that reads ONNX files makes the graph, without a file and without a
second copy of the weights.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...diagnostics import UsageError
from ...garbage import collector_paused
from ...graph import Graph
from .registry import TRANSLATIONS, translate

if TYPE_CHECKING:
    from .calling import CallingConvention


@dataclass(frozen=True)
class TorchCapture:
    """A captured program: its graph, how to call it with torch tensors, and what the caller should know.

    Each of `notes` is a sentence about something that is not as it was asked for, such as a dim that could not stay
    dynamic. `ranges` gives the sizes each named dim may have, None for no upper bound.
    """

    graph: Graph
    calling: CallingConvention
    notes: tuple[str, ...]
    ranges: Mapping[str, tuple[int, int | None]]


def capture_torch(
    source: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    *,
    trust_pickle: bool = False,
) -> TorchCapture:
    """The graph of a PyTorch program, at the canonical opset.

    `source` is an `nn.Module` in eval mode, an `fx.GraphModule`, an `ExportedProgram`, or, with `trust_pickle`, the path
    of a `.pt2` file. `args` and `kwargs` are example inputs, which an exported program does not need. `dynamic_shapes` is
    what torch.export takes (a dict by parameter name or a tuple by position, nested as the inputs are, with a dict of
    dims for each tensor); a dim is a `torch.export.Dim`, or simply its name.

    The graph's constants are views of the module's tensors: do not change the module while the graph is in use.
    Raises UsageError for a module in training mode or inputs that do not fit, and UnsupportedError for what torch.export
    or the translation cannot take, with the source line.
    """
    _require_torch()
    from .driver import capture

    with collector_paused():
        return capture(source, tuple(args), dict(kwargs or {}), dynamic_shapes, trust_pickle)


def is_torch_source(thing: object) -> bool:
    """Whether `capture_torch` takes this; answered without importing torch."""
    if isinstance(thing, (str, Path)):
        return str(thing).endswith(".pt2")
    torch, export = sys.modules.get("torch"), sys.modules.get("torch.export")
    if torch is not None and isinstance(thing, torch.nn.Module):
        return True
    return export is not None and isinstance(thing, export.ExportedProgram)


def _require_torch() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("torch", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UsageError(f"{' and '.join(missing)} cannot be imported", hint="pip install 'irc-compiler[torch]'")


__all__ = ["TRANSLATIONS", "TorchCapture", "capture_torch", "is_torch_source", "translate"]
