"""A compiled PyTorch program: called as the module is, torch tensors in and torch tensors out.

Law: torch comes in through the capture room only; on a CPU tensors and arrays share their memory.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from irc.ir import UsageError
from irc.ir.capture.torch import TorchCapture, capture_torch
from irc.ir.text import print_graph
from irc.lowering import Compiled, CompileOptions, compile_graph
from irc.runtime import Manifest, Program, SignatureEntry, Source

if TYPE_CHECKING:
    from irc.passes import Instrument
    from irc.runtime import Feeds


class TorchProgram:
    """What `irc.compile` makes of a PyTorch program; `program` is the same for NumPy arrays by name, and what is saved.

    `notes` are sentences about what is not as it was asked for. Any number of threads may call; calls of a program with
    state (a module that changes its buffers) take turns.
    """

    def __init__(self, program: Program, captured: TorchCapture, notes: Sequence[str] = ()) -> None:
        self.program = program
        self.notes = (*captured.notes, *notes)
        self._calling = captured.calling
        self._run = program.run_in_order

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns for these arguments, in the same structure.

        Raises `irc.IrcError` for arguments that do not fit what was captured, FeedError for sizes that do not, and
        EngineFailure where the engine fails.
        """
        return self._calling.call(self._run, args, kwargs)

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """The outputs by name for arrays or tensors by name; see `Program.run`."""
        return self.program.run(feeds)

    def reset_state(self) -> None:
        """Set what the program changes from call to call (such as a cache in a buffer) to what the module held."""
        self._calling.reset()

    @property
    def manifest(self) -> Manifest:
        """What the program says of itself."""
        return self.program.manifest

    @property
    def inputs(self) -> tuple[SignatureEntry, ...]:
        """The inputs by name, in order, and the state behind them."""
        return self.program.inputs

    @property
    def outputs(self) -> tuple[SignatureEntry, ...]:
        """The outputs by name, in order, and the state behind them."""
        return self.program.outputs

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program as an `.irc` file, which `irc.load` reads; it is then run with arrays or tensors by name."""
        self.program.save(path)

    def close(self) -> None:
        """Let go of the engine; runs under way in other threads end normally."""
        self.program.close()

    def __enter__(self) -> TorchProgram:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Torch{repr(self.program)[1:]}"


def compile_torch(
    source: Any,
    example_inputs: object,
    example_kwargs: Mapping[str, Any] | None,
    dynamic_shapes: object,
    trust_pickle: bool,
    options: CompileOptions,
) -> TorchProgram:
    """Capture and compile a PyTorch program. Raises as `irc.compile` does."""
    args, kwargs = example_arguments(example_inputs, example_kwargs)
    start = time.perf_counter()
    captured = capture_torch(source, args, kwargs, dynamic_shapes, trust_pickle=trust_pickle)
    elapsed = time.perf_counter() - start
    compiled = compile_captured(captured, name_of(source), options, args, kwargs, captured_in=elapsed)
    return TorchProgram(compiled.program, captured, compiled.notes)


def compile_captured(
    captured: TorchCapture,
    name: str,
    options: CompileOptions,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    instruments: Sequence[Instrument] = (),
    *,
    captured_in: float = 0.0,
) -> Compiled:
    """Compile what was captured from the program `name`, checking it with example inputs where there are some."""
    examples: dict[str, Any] | None = None
    if args or kwargs:
        state = {kept.name: kept.initial for kept in captured.calling.state}
        examples = {**captured.calling.to_feeds(args, kwargs), **state}
    digest = hashlib.sha256(print_graph(captured.graph).encode()).hexdigest()
    return compile_graph(
        captured.graph, options, instruments, source=Source(name, digest), captured_in=captured_in, examples=examples
    )


def name_of(source: object) -> str:
    """What an artifact calls the program it was compiled from: the module's class, or the file."""
    return Path(cast("str", source)).name if isinstance(source, (str, os.PathLike)) else type(source).__name__


def example_arguments(inputs: object, keywords: Mapping[str, Any] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as positional and keyword arguments. Raises UsageError for keywords given twice."""
    if isinstance(inputs, Mapping):
        given: dict[str, Any] = dict(inputs)  # type: ignore[unknown]  # the caller's mapping
        twice = sorted(given.keys() & (keywords or {}).keys())
        if twice:
            raise UsageError(f"the example input '{twice[0]}' is given twice", hint="leave one of them out")
        return (), {**given, **(keywords or {})}
    if inputs is None:
        return (), dict(keywords or {})
    args: tuple[Any, ...] = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)  # type: ignore[unknown]  # idem
    return args, dict(keywords or {})


__all__ = ["TorchProgram", "compile_captured", "compile_torch", "example_arguments", "name_of"]
