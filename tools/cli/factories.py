"""PyTorch programs on the command line: `my_models.py:resnet`, a factory that is called, or a `.pt2` file.

A factory returns `(module, example_inputs)`, or `(module, example_inputs, dynamic_shapes)`. Its file is the user's own code
and is run; a `.pt2` file is unpickled, which runs whatever its maker put there, so that needs `--trust-pickle`.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np

    from irc.ir import Graph
    from irc.ir.capture.torch import TorchCapture
    from irc.lowering import Compiled, CompileOptions
    from irc.passes import Instrument

_FACTORY = re.compile(r"(?P<file>.+\.py):(?P<name>[^:\\/]+)\Z", re.DOTALL)


@dataclass(frozen=True)
class TorchModel:
    """A PyTorch program as it is called by its user, captured in so many seconds."""

    name: str
    captured: TorchCapture
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    seconds: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What the capture had to say."""
        return self.captured.notes

    @property
    def examples(self) -> dict[str, np.ndarray[Any, Any]]:
        """The example inputs and the state as arrays by name; empty for a `.pt2`, which has none."""
        if not (self.args or self.kwargs):
            return {}
        calling = self.captured.calling
        return {**calling.to_feeds(self.args, self.kwargs), **{kept.name: kept.initial for kept in calling.state}}

    def graph(self) -> Graph:
        """A copy of the graph; its weights are the module's."""
        from irc.ir import clone_graph

        return clone_graph(self.captured.graph)

    def compile(self, options: CompileOptions, instruments: Sequence[Instrument] = ()) -> Compiled:
        """The program of what was captured. Raises as `irc.compile` does."""
        from irc.torch import compile_captured

        own = replace(self.captured, graph=self.graph())
        return compile_captured(own, self.name, options, self.args, self.kwargs, instruments, captured_in=self.seconds)


def is_torch_model(model: Path) -> bool:
    """Whether a command line names a PyTorch program."""
    return model.suffix == ".pt2" or _FACTORY.match(str(model)) is not None


def default_place(model: Path) -> Path:
    """Where the artifact goes when nothing is said: beside a `.pt2`, and for a factory here, under its name."""
    found = _FACTORY.match(str(model))
    return model.with_suffix(".irc") if found is None else Path(f"{found['name']}.irc")


def capture_torch_model(model: Path, trust_pickle: bool) -> TorchModel:
    """Capture a factory's module or a `.pt2` file.

    Raises UsageError for a factory that is missing or fails, and as `irc.compile` does.
    """
    from irc.ir.capture.torch import capture_torch
    from irc.torch import example_arguments

    found = _opened(model)
    args, kwargs = example_arguments(found.example_inputs, None)
    start = time.perf_counter()
    captured = capture_torch(found.source, args, kwargs, found.dynamic_shapes, trust_pickle=trust_pickle)
    return TorchModel(found.name, captured, args, kwargs, time.perf_counter() - start)


@dataclass(frozen=True)
class _Made:
    """What a factory returned, or the path of a `.pt2` file."""

    name: str
    source: Any
    example_inputs: Any = None
    dynamic_shapes: Any = None


def _opened(model: Path) -> _Made:
    from irc.ir import UsageError

    found = _FACTORY.match(str(model))
    if found is not None:
        return _made(Path(found["file"]), found["name"])
    if not model.is_file():
        raise UsageError(f"there is no file '{model}'", hint="check the path")
    return _Made(model.name, model)


def _made(file: Path, name: str) -> _Made:
    """What the factory `name` in `file` returns."""
    from irc.ir import UsageError

    factory = _factory(file, name)
    where = f"{file}:{name}"
    try:
        made = cast("object", factory())
    except Exception as error:  # whatever the user's factory raises, it is the factory that has to be mended
        raise UsageError(
            f"it fails: {type(error).__name__}: {error}", location=where, hint="run it in Python to see where"
        ) from error
    is_tuple = isinstance(made, tuple)
    parts: list[Any] = list(cast("tuple[Any, ...]", made)) if is_tuple else []
    if len(parts) not in (2, 3):
        hint = "return module, (x,), or module, (x,), dynamic_shapes"
        kind = f"{len(parts)} values" if is_tuple else type(made).__name__
        raise UsageError(f"it returns {kind} and not (module, example_inputs)", location=where, hint=hint)
    module, example_inputs, *rest = parts
    return _Made(f"{file.name}:{name}", module, example_inputs, rest[0] if rest else None)


def _factory(file: Path, name: str) -> Any:
    from irc.ir import UsageError, closest

    if not file.is_file():
        raise UsageError(f"there is no file '{file}'", hint="check the path")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # classes look their module up there
    sys.path.insert(0, str(file.parent.absolute()))  # as if it were run: it may import what lies beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises, it is the file that has to be mended
        raise UsageError(f"it fails to import: {type(error).__name__}: {error}", location=str(file)) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        names = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise UsageError(f"there is no function '{name}' in it", location=str(file), hint=closest(name, names))
    return factory
