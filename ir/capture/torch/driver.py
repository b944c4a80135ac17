"""The whole way from a PyTorch program to a graph, one step after another."""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...diagnostics import UnsupportedError, UsageError
from . import TorchCapture
from .calling import CallingConvention, Fed, Fixed, Kept, Returned, to_array
from .exporting import Exported, export_module
from .importing import name_values, to_graph
from .locations import PREFIX
from .programs import load_program, read_program
from .state import Changes, expose_changes, initial_value
from .translation import decompose, registry_for_now, translate_program


def capture(source: Any, args: tuple[Any, ...], kwargs: dict[str, Any], asked: Any, trust_pickle: bool) -> TorchCapture:
    """What `capture_torch` promises."""
    if isinstance(source, (str, Path)):
        source = load_program(Path(source), trust_pickle)
    if isinstance(source, torch.export.ExportedProgram):
        exported = read_program(source, asked)
    elif isinstance(source, torch.nn.Module):
        exported = export_module(source, args, kwargs, asked)
    else:
        raise UsageError(
            f"a {type(source).__name__} is no PyTorch program",
            hint="give an nn.Module, an fx.GraphModule or an ExportedProgram",
        )
    return _translated(exported)


def _translated(exported: Exported) -> TorchCapture:
    registry = registry_for_now()
    program = decompose(exported.program, registry)
    changes = expose_changes(program)
    model = translate_program(program, registry)
    expected = len(changes.targets) + len(exported.output_names) - len(exported.constants)
    if len(model.graph.outputs) != expected:
        raise UnsupportedError(f"the translation has {len(model.graph.outputs)} outputs for the {expected} of the program")
    _reorder(model, changes)
    inputs, state = _inputs(exported, changes), _state(program, changes, expected)
    outputs = _outputs(exported)
    input_names = [leaf.name for leaf in inputs if isinstance(leaf, Fed)]
    returned = [name for name, leaf in zip(exported.output_names, outputs, strict=True) if isinstance(leaf, Returned)]
    state_names = [kept.name for kept in state]
    written = [f"{leaf.name}.next" for leaf in sorted(_written(inputs), key=lambda leaf: leaf.written or 0)]
    name_values(model, [*input_names, *state_names], [*returned, *(f"{name}.next" for name in state_names), *written])
    names = [value.name or "" for value in model.graph.inputs]
    state = tuple(replace(kept, name=name) for kept, name in zip(state, names[len(input_names) :], strict=True))
    graph = to_graph(model, exported.symbols)
    calling = CallingConvention(inputs, outputs, state, exported.input_spec, exported.output_spec)
    return TorchCapture(graph, calling, tuple(exported.notes), exported.ranges)


def _reorder(model: Any, changes: Changes) -> None:
    """Put the module's own outputs first, then the state, then what became of inputs; the state's tensors become inputs."""
    outputs = list(model.graph.outputs)
    count = len(changes.targets)
    ordered = [
        *outputs[count:],
        *(outputs[i] for i in changes.buffers.values()),
        *(outputs[i] for i in changes.inputs.values()),
    ]
    model.graph.outputs.clear()
    model.graph.outputs.extend(ordered)
    for name in changes.buffers:
        value = model.graph.initializers.pop(name)
        value.const_value = None
        model.graph.inputs.append(value)


def _inputs(exported: Exported, changes: Changes) -> tuple[Fed | Fixed, ...]:
    """The input slots, with the outputs that hold what became of inputs written in place."""
    own = len(exported.output_names) - len(exported.constants)
    first = own + len(changes.buffers)
    written = {place: first + index for index, place in enumerate(changes.inputs)}
    fed = [leaf for leaf in exported.inputs if isinstance(leaf, Fed)]
    places = {leaf.name: written.get(place) for place, leaf in enumerate(fed)}
    return tuple(replace(leaf, written=places[leaf.name]) if isinstance(leaf, Fed) else leaf for leaf in exported.inputs)


def _written(inputs: tuple[Fed | Fixed, ...]) -> list[Fed]:
    return [leaf for leaf in inputs if isinstance(leaf, Fed) and leaf.written is not None]


def _state(program: torch.export.ExportedProgram, changes: Changes, outputs: int) -> tuple[Kept, ...]:
    first = outputs - len(changes.targets)
    return tuple(
        Kept(name.removeprefix(PREFIX), first + index, to_array(initial_value(program, name)))
        for index, name in enumerate(changes.buffers)
    )


def _outputs(exported: Exported) -> tuple[Returned | Fixed, ...]:
    slots: list[Returned | Fixed] = []
    computed = 0
    for index in range(len(exported.output_names)):
        if index in exported.constants:
            slots.append(Fixed(exported.constants[index]))
        else:
            slots.append(Returned(computed, index in exported.numbers))
            computed += 1
    return tuple(slots)
