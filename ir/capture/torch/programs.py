"""Programs that are exported already: an ExportedProgram as it is, and a `.pt2` file from someone who is trusted."""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from ...diagnostics import ModelError, UnsupportedError, UsageError
from .calling import Fed, Fixed
from .dynamic import leaf_dims
from .exporting import Exported, name_sizes
from .failures import quiet
from .trees import input_names, output_names, unflatten, unique


def load_program(path: Path, trust_pickle: bool) -> ExportedProgram:
    """The program of a `.pt2` file, which may run any code while it is read.

    Raises UsageError where nobody trusts it or there is no such file, and ModelError where it is no exported program.
    """
    if not trust_pickle:
        raise UsageError(
            f"'{path.name}' may run any code when it is read",
            hint="pass --trust-pickle (trust_pickle=True) if you know who made it",
        )
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r}", hint="check the path")
    if not zipfile.is_zipfile(path):  # torch would log a traceback of its own before it raises
        hint = "the file is cut short, or was not written by torch.export.save"
        raise ModelError("this is no exported program", location=path.name, hint=hint)
    try:
        with quiet():
            return torch.export.load(path)
    except Exception as error:  # unpickling a damaged file raises all kinds of errors
        raise ModelError(f"this is no exported program: {type(error).__name__}: {error}", location=path.name) from None


def read_program(program: ExportedProgram, asked: Any) -> Exported:
    """An exported program as `export_module` gives one. `asked` only names its dims."""
    _check_program(program)
    program = copy.copy(program)  # decomposition must not find the guards of the user's own
    signature = program.graph_signature
    spec, results = program.call_spec.in_spec, program.call_spec.out_spec
    if spec is None or results is None:
        raise UnsupportedError("the program does not say how it is called", hint="export it again with torch.export.export")
    values = {node.name: node.meta["val"] for node in program.graph.find_nodes(op="placeholder")}
    leaves = [each.arg for each in signature.input_specs if each.kind is InputKind.USER_INPUT]
    args, kwargs = unflatten(list(range(len(leaves))), spec)
    module = program.module(check_guards=False)
    names = unique(input_names(module, args, kwargs), set())
    slots: list[Fed | Fixed] = []
    for leaf, name in zip(leaves, names, strict=True):
        constant = isinstance(leaf, ConstantArgument)
        slots.append(Fixed(leaf.value, name) if constant else Fed(name, values[leaf.name].dtype))
    returned = [each.arg for each in signature.output_specs if each.kind is OutputKind.USER_OUTPUT]
    exported = Exported(
        program,
        tuple(slots),
        spec,
        results,
        output_names(unflatten(list(range(len(returned))), results)),
        {index: each.value for index, each in enumerate(returned) if isinstance(each, ConstantArgument)},
        {index for index, each in enumerate(returned) if type(each).__name__.startswith("Sym")},
    )
    fed = [leaf.name for leaf in slots if isinstance(leaf, Fed)]
    filled = [torch.empty(0) if isinstance(leaf, Fed) else leaf.value for leaf in slots]
    args, kwargs = unflatten(filled, spec)
    asked_for = leaf_dims(module, args, kwargs, asked)
    name_sizes(exported, [dims for dims, leaf in zip(asked_for, slots, strict=True) if isinstance(leaf, Fed)], fed)
    return exported


def _check_program(program: ExportedProgram) -> None:
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.dropout.default):
        if len(node.args) > 2 and node.args[2]:
            raise _in_training(node)
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.batch_norm.default):
        if len(node.args) > 5 and node.args[5]:
            raise _in_training(node)


def _in_training(node: torch.fx.Node) -> UsageError:
    from .locations import origin_of

    return UsageError(
        "the program was exported in training mode, and only inference is compiled",
        location=origin_of(node).text,
        hint="call .eval() on the module and export it again",
    )
