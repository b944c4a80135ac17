"""From a module to an exported program over flat leaves: torch.export traces it, as dynamic as was asked for or as it can be.

The module is traced inside a wrapper that takes and returns tensors only. So containers are rebuilt inside of the trace,
constants never reach the graph, and what the caller passes and gets is the calling convention's affair alone.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._dynamo.exc import UserError
from torch.export import ExportedProgram

from ...diagnostics import UnsupportedError, UsageError
from .calling import Fed, Fixed
from .conditions import condition_notes
from .dynamic import LeafDims, asked_ranges, fixed_notes, is_dynamic, leaf_dims, size_ranges, symbol_names
from .failures import quiet, refusal
from .narrowing import freed, narrowed, violated
from .recurrent import tracing
from .state import assigned_attributes
from .trees import TreeSpec, flatten, input_names, output_names, unflatten, unique

_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool)
_REFINEMENTS = 4


@dataclass
class Exported:
    """A traced program, and what the trace does not hold: trees, names and what was asked for."""

    program: ExportedProgram
    inputs: tuple[Fed | Fixed, ...]
    input_spec: TreeSpec
    output_spec: TreeSpec
    output_names: list[str]
    constants: dict[int, Any]
    """The output leaves that are no graph values, by position."""
    numbers: set[int]
    """The output leaves that are Python numbers computed by the graph."""
    symbols: dict[str, str] = field(default_factory=dict)
    """How the symbolic sizes of the trace are called."""
    ranges: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Results:
    """What the last trace returned: the structure, a name for each leaf, and each leaf that is constant as a tuple of it.

    An object of its own, since torch.export puts a module's attributes, lists too, back to what they were.
    """

    def __init__(self) -> None:
        self.spec: TreeSpec | None = None
        self.names: list[str] = []
        self.constants: list[tuple[Any] | None] = []
        self.lost: list[str] = []


class Flat(torch.nn.Module):
    """A module that takes the tensors among its leaves and returns the tensors and numbers among what it makes."""

    def __init__(self, module: torch.nn.Module, leaves: Sequence[Any], spec: TreeSpec) -> None:
        super().__init__()
        self.module = module
        self.spec = spec
        self.constants = tuple(None if isinstance(leaf, torch.Tensor) else (leaf,) for leaf in leaves)
        self.results = Results()

    def forward(self, leaves: Sequence[torch.Tensor]) -> tuple[Any, ...]:
        """The tensors and symbolic numbers among the results for these tensors."""
        tensors = iter(leaves)
        args, kwargs = unflatten([next(tensors) if c is None else c[0] for c in self.constants], self.spec)
        results = self._called(args, kwargs)
        made, self.results.spec = flatten(results)
        self.results.names = output_names(results)
        self.results.constants = [None if _is_computed(leaf) else (leaf,) for leaf in made]
        return tuple(leaf for leaf in made if _is_computed(leaf))

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.module(*args, **kwargs)


def _is_computed(leaf: Any) -> bool:
    return isinstance(leaf, (torch.Tensor, *_NUMBERS))


def export_module(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], asked: Any) -> Exported:
    """Trace a module on example inputs. Raises UsageError and UnsupportedError as `capture_torch` does."""
    _check_module(module)
    leaves, spec = flatten((args, kwargs))
    # Objects of their own: a failed export leaves marks on its examples, and one tensor given twice is two inputs.
    leaves = [leaf.detach() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    inputs = _slots(module, args, kwargs, leaves)
    fed = [leaf.name for leaf in inputs if isinstance(leaf, Fed)]
    asked_for = leaf_dims(module, args, kwargs, asked)
    wanted = [dims for dims, leaf in zip(asked_for, leaves, strict=True) if isinstance(leaf, torch.Tensor)]
    flat = Flat(module, leaves, spec).eval()
    notes: list[str] = []
    program = _export(flat, tensors, wanted, notes)
    constants = flat.results.constants
    notes.extend(f"the module keeps '{name}' between calls, the program does not" for name in flat.results.lost)
    assert flat.results.spec is not None
    exported = Exported(
        program,
        inputs,
        spec,
        flat.results.spec,
        flat.results.names,
        {index: constant[0] for index, constant in enumerate(constants) if constant is not None},
        _numbers(program, constants),
        notes=notes,
    )
    name_sizes(exported, wanted, fed)
    guards: Sequence[str] = program._guards_code
    asked = asked_ranges(wanted)
    notes.extend(condition_notes(guards, _input_sizes(program), exported.symbols, exported.ranges, asked))
    return exported


def name_sizes(exported: Exported, wanted: Sequence[LeafDims], fed: Sequence[str]) -> None:
    """Give the sizes of the trace their names, and note what was asked for and did not come true."""
    sizes = _input_sizes(exported.program)
    exported.symbols = symbol_names(sizes, wanted, fed)
    exported.ranges = size_ranges(exported.program, exported.symbols)
    exported.notes.extend(fixed_notes(sizes, wanted, fed, exported.symbols))


def _check_module(module: torch.nn.Module) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError("this is a TorchScript module, which torch.export cannot trace", hint="give the nn.Module")
    training = next((name for name, part in module.named_modules() if part.training), None)
    if training is not None:
        where = f"its part '{training}'" if training else f"the module {type(module).__name__}"
        raise UsageError(f"{where} is in training mode, and only inference is compiled", hint="call .eval() on the module")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.device.type == "meta":
            raise UsageError(f"'{name}' is on the meta device and has no values", hint="load the weights first")


def _slots(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]
) -> tuple[Fed | Fixed, ...]:
    taken: set[str] = set()
    names = unique(input_names(module, args, kwargs), taken)
    slots: list[Fed | Fixed] = []
    for name, leaf in zip(names, leaves, strict=True):
        if not isinstance(leaf, torch.Tensor):
            slots.append(Fixed(leaf, name))
            continue
        if leaf.dtype.is_complex or leaf.layout is not torch.strided or leaf.is_quantized:
            kind = "sparse" if leaf.layout is not torch.strided else str(leaf.dtype).removeprefix("torch.")
            raise UnsupportedError(f"input '{name}' is {kind}", hint="pass real dense tensors and convert inside of the module")
        slots.append(Fed(name, leaf.dtype))
    return tuple(slots)


def _export(flat: Flat, tensors: list[torch.Tensor], wanted: list[LeafDims], notes: list[str]) -> ExportedProgram:
    """The program traced with the dims asked for; where that fails with as many of them as torch.export can keep."""
    first: Exception | None = None
    for outcome, given_up in _attempts(flat, tensors, wanted):
        if isinstance(outcome, ExportedProgram):
            notes.extend(given_up)
            return outcome
        first = first or outcome
    assert first is not None
    raise refusal(first) from None


def _attempts(
    flat: Flat, tensors: list[torch.Tensor], wanted: list[LeafDims]
) -> Iterator[tuple[ExportedProgram | Exception, list[str]]]:
    """One export after another until one succeeds: as asked, with narrower dims, with dims torch need not prove, with none."""
    dims, outcome = wanted, _try(flat, tensors, wanted)
    for _ in range(_REFINEMENTS):
        yield outcome, []
        if not isinstance(outcome, UserError) or (refined := narrowed(outcome, dims)) is None:
            break
        dims, outcome = refined, _try(flat, tensors, refined)
    if not any(is_dynamic(entry) for leaf in wanted for entry in (leaf or {}).values()):
        return
    if isinstance(outcome, UserError):
        if names := violated(outcome):
            yield _try(flat, tensors, freed(dims, names)), []
        yield _try(flat, tensors, freed(wanted, None)), []
    reason = refusal(outcome).message if isinstance(outcome, Exception) else ""
    yield _try(flat, tensors, [None] * len(wanted)), [f"no dim is dynamic: {reason}"]


def _try(flat: Flat, tensors: list[torch.Tensor], dims: list[LeafDims]) -> ExportedProgram | Exception:
    examples = [tensor.detach() for tensor in tensors]
    spec = (tuple(dict(each) if each else None for each in dims),) if any(dims) else None
    try:
        with quiet() as heard, tracing():
            program = torch.export.export(flat, (tuple(examples),), dynamic_shapes=spec, strict=False)
        flat.results.lost = assigned_attributes(program, [str(warning.message) for warning in heard])
        return program
    except Exception as error:  # whatever the user's code or any part of torch raises while it is traced
        return error


def _input_sizes(program: ExportedProgram) -> list[Sequence[Any]]:
    """The shapes of the traced inputs, in order."""
    users = set(program.graph_signature.user_inputs)
    return [node.meta["val"].shape for node in program.graph.find_nodes(op="placeholder") if node.name in users]


def _numbers(program: ExportedProgram, constants: Sequence[Any]) -> set[int]:
    computed = [index for index, constant in enumerate(constants) if constant is None]
    outputs: Any = program.graph.output_node().args[0]
    users = outputs[len(outputs) - len(computed) :] if computed else ()
    return {index for index, node in zip(computed, users, strict=True) if not isinstance(node.meta.get("val"), torch.Tensor)}


__all__: Sequence[str] = ["Exported", "export_module", "name_sizes"]
