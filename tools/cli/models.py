"""A MODEL of a command line: an ONNX file or a PyTorch program, as a graph or compiled here.

Law: every verb opens a model through `open_model` or `open_program`, so what one of them takes all of them take, and what a
capture has to say is said once, on stderr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .factories import capture_torch_model, is_torch_model
from .kinds import refuse_text
from .output import note

if TYPE_CHECKING:
    import numpy as np

    from irc.ir import Graph
    from irc.lowering import Compiled, CompileOptions
    from irc.passes import Instrument
    from irc.runtime import Program

    Feeds = Mapping[str, np.ndarray[Any, Any]]


class Model(Protocol):
    """What is compiled: its graph, its program, and what came with it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What its capture had to say."""
        ...

    @property
    def examples(self) -> Feeds:
        """The example inputs that came with it, by name; empty for none."""
        ...

    def graph(self) -> Graph:
        """Its graph, a new one at each call."""
        ...

    def compile(self, options: CompileOptions, instruments: Sequence[Instrument] = ()) -> Compiled:
        """Its program. Raises as `irc.compile` does."""
        ...


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file; nothing is read before it is asked for."""

    path: Path
    notes: tuple[str, ...] = ()
    examples: Feeds = field(default_factory=dict[str, Any])

    def graph(self) -> Graph:
        """Its graph, read again."""
        from irc.ir import capture

        return capture(self.path)

    def compile(self, options: CompileOptions, instruments: Sequence[Instrument] = ()) -> Compiled:
        """Its program. Raises as `irc.compile` does."""
        from irc.lowering import compile_model

        return compile_model(self.path, options, instruments)


def open_model(path: Path, trust_pickle: bool) -> Model:
    """A model that is no artifact; a PyTorch program is captured here, and what that has to say is said.

    Raises UsageError for a Python file without the name of a factory and for IR as text, and as `irc.compile` does.
    """
    from irc.ir import UsageError

    if path.suffix == ".py" and path.is_file():
        raise UsageError(f"'{path}' is a Python file", hint=f"name the function in it that makes the model: {path}:NAME")
    if not is_torch_model(path):
        refuse_text(path)
        return OnnxModel(path)
    model = capture_torch_model(path, trust_pickle)
    for each in model.notes:
        note(each)
    return model


def open_program(path: Path, options: CompileOptions, trust_pickle: bool) -> tuple[Program, Feeds]:
    """The program in an artifact, or of a model compiled here; and the example inputs that came with it."""
    from irc.runtime import load

    from .kinds import is_artifact
    from .reporting import warn_of_failures

    if is_artifact(path):
        threads = options.engine_options.get("threads")
        return load(path, threads=threads if isinstance(threads, int) else None), {}
    model = open_model(path, trust_pickle)
    compiled = model.compile(options)
    warn_of_failures(compiled)
    return compiled.program, model.examples
