"""`torch.compile(module, backend="irc")`: the graphs that dynamo finds, compiled, and run in eager mode where that fails.

Law: what comes out is what eager mode returns for the weights as they are at the call. Weights are constants of a program;
when they are other ones, or changed in place, the graph is compiled for them.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from irc.ir import IrcError, UnsupportedError, UsageError, closest, schema
from irc.runtime import RunError

from ..options import Options, compile_options

if TYPE_CHECKING:
    from irc.ir.capture.torch import dynamo
    from irc.lowering import CompileOptions

Function = Callable[..., Any]

MODES = {"default": 2, "reduce-overhead": 2, "max-autotune": 3, "max-autotune-no-cudagraphs": 3}
"""The words of torch.compile's `mode`, and the level each stands for."""

MOST_PROGRAMS = 4
"""How many programs with the weights as constants one graph may get; the next one takes them as inputs, and is the last."""


class FallbackWarning(UserWarning):
    """A graph runs in eager mode, because irc could not compile it."""


def backend(
    gm: Any, example_inputs: Sequence[Any], *, mode: str | None = None, options: Mapping[str, Any] | None = None
) -> Function:
    """Compile one graph of torch.compile; this is what `backend="irc"` names.

    `gm` is dynamo's `fx.GraphModule`, `example_inputs` are the arguments that it is about to be called with. `options` has
    the words of `irc.compile`, and `frozen` to say that no weight will be written to, so that calls need not look. Returns a
    function of the same arguments as `gm`, which returns the same. Where irc cannot compile the graph, that is `gm` itself,
    after one FallbackWarning. Raises UsageError for a graph that is to be differentiated, and for options that are none.
    """
    from irc.ir.capture.torch import dynamo

    chosen, frozen = _options(mode, options)
    graph = dynamo.DynamoGraph(gm, example_inputs)
    if graph.is_abstract or len(graph.views.places) == graph.output_count:
        return gm.forward
    lowered = _Lowered(graph, chosen, frozen)
    return lowered if lowered.prepare(example_inputs) else gm.forward


def _options(mode: str | None, options: Mapping[str, Any] | None) -> tuple[CompileOptions, bool]:
    given = dict(options or {})
    for word in ("dims", "shapes", "inputs"):
        if word in given:
            raise UsageError(f"'{word}' is no option of the backend", hint="sizes and inputs are those of the calls")
    frozen = given.pop("frozen", False)
    if not isinstance(frozen, bool):
        raise UsageError(f"frozen cannot be {frozen!r}", hint="use True or False")
    if mode is not None:
        if mode not in MODES:
            hint = closest(mode, list(MODES)) or f"use {', '.join(MODES)}, or options={{'opt_level': 3}}"
            raise UsageError(f"there is no mode '{mode}'", hint=hint)
        given.setdefault("opt_level", MODES[mode])
    return compile_options(cast("Options", given)), frozen


@dataclass(frozen=True)
class _Bound:
    """A program, the weights that are constants of it, and how to call it with all of the graph's arguments."""

    snapshot: dynamo.Snapshot
    weights: Callable[[Sequence[Any]], tuple[Any, ...]]
    call: Callable[[Sequence[Any]], Any]
    is_current: Callable[[tuple[Any, ...]], bool]


class _Lowered:
    """One graph of dynamo: its programs for the weights met so far, and eager mode for when irc cannot go on."""

    def __init__(self, graph: dynamo.DynamoGraph, options: CompileOptions, frozen: bool) -> None:
        self._graph = graph
        self._options = options
        self._frozen = frozen
        self._eager: Function = graph.module.forward
        self._bound: list[_Bound] = []
        self._current: _Bound | None = None
        self._made = 0
        self._lock = threading.RLock()

    def __call__(self, *args: Any) -> Any:
        """What the graph returns for dynamo's flat arguments."""
        bound = self._current
        if bound is None or not bound.is_current(bound.weights(args)):
            bound = self._bind(args)
            if bound is None:
                return self._eager(*args)
        try:
            return bound.call(args)
        except RunError as error:  # the engine failed at these very inputs, which eager mode may take
            self._give_up(error)
            return self._eager(*args)

    def prepare(self, args: Sequence[Any]) -> bool:
        """Compile for these arguments while dynamo can still take guards; whether that went well."""
        self._graph.refuse_training()
        try:
            self._graph.check()
            self._add(args, first=True)
        except UsageError:
            raise
        except Exception as error:  # whatever fails here, eager mode can still run the graph; `_give_up` warns of it
            self._give_up(error)
        return self._current is not None

    def _bind(self, args: Sequence[Any]) -> _Bound | None:
        """The program for the weights among the arguments, compiled where there is none; None for eager mode."""
        with self._lock:
            if not self._bound:
                return None
            for bound in self._bound:
                if bound.is_current(bound.weights(args)):
                    self._current = bound
                    return bound
            # The same tensors with other values: what was compiled for the old values is of no use any more.
            self._bound = [each for each in self._bound if not each.snapshot.has(each.weights(args))]
            try:
                return self._add(args)
            except Exception as error:  # as in `prepare`
                self._give_up(error)
                return None

    def _add(self, args: Sequence[Any], first: bool = False) -> _Bound:
        if self._made >= MOST_PROGRAMS:
            self._bound.clear()
        variable = frozenset(self._graph.weights) if self._made >= MOST_PROGRAMS else frozenset[int]()
        captured = self._graph.capture(args, variable)
        if first:
            self._graph.guard(captured)
        bound = self._compiled(captured, args)
        self._made += 1
        self._bound.append(bound)
        self._current = bound
        return bound

    def _compiled(self, capture: dynamo.DynamoCapture, args: Sequence[Any]) -> _Bound:
        from irc.ir.capture.torch import dynamo

        from .program import compile_captured

        _check_deterministic(capture)
        weights = dynamo.select(capture.constants)
        snapshot = dynamo.Snapshot(weights(args))
        compiled = compile_captured(capture.captured, "torch.compile", self._options, capture.examples(args))
        call, views = capture.caller(compiled.program.run_in_order), self._graph.views

        def call_with_views(args: Sequence[Any]) -> Any:
            return views.merge(call(args), args)

        return _Bound(
            snapshot,
            weights,
            call_with_views if views else call,
            snapshot.has if self._frozen else snapshot.holds,
        )

    def _give_up(self, error: Exception) -> None:
        """Go on in eager mode for good, and say why."""
        with self._lock:
            self._bound.clear()
            self._current = None
        reason = (
            str(error) if isinstance(error, (IrcError, RunError)) else f"{type(error).__name__}: {error}; please report this"
        )
        warnings.warn(f"this graph of torch.compile runs in eager mode: {reason}", FallbackWarning, stacklevel=3)


def _check_deterministic(capture: dynamo.DynamoCapture) -> None:
    for op in capture.captured.graph.walk():
        if not op.is_constant and schema.of(op) is not None and not schema.is_deterministic(op):
            raise UnsupportedError(
                f"{op.name} draws random numbers, which only PyTorch's generators may do", location=str(op.location)
            )


__all__ = ["MODES", "MOST_PROGRAMS", "FallbackWarning", "backend"]
