"""What a program changes in place becomes explicit: a graph input with the value before, a graph output with the one after.

torch's translation drops these changes without a word: a KV cache would forget. After decomposition the signature knows
them; here they are made ordinary outputs, in front of the module's own.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from ...diagnostics import UnsupportedError
from .locations import PREFIX

_CHANGES = {OutputKind.BUFFER_MUTATION: "buffer", OutputKind.USER_INPUT_MUTATION: "input"}


@dataclass(frozen=True)
class Changes:
    """The outputs that come before the module's own: for each the buffer's name, or the place of the input, it replaces."""

    targets: tuple[str | int, ...]

    @property
    def buffers(self) -> dict[str, int]:
        """Name of the buffer to the position of its new value among all outputs."""
        return {target: index for index, target in enumerate(self.targets) if isinstance(target, str)}

    @property
    def inputs(self) -> dict[int, int]:
        """Place among the tensor inputs to the position of its new value among all outputs."""
        return {target: index for index, target in enumerate(self.targets) if isinstance(target, int)}


def expose_changes(program: ExportedProgram) -> Changes:
    """Make ordinary outputs of what a decomposed program changes in place.

    Raises UnsupportedError where it changes a parameter.
    """
    signature = program.graph_signature
    users = [
        spec.arg.name
        for spec in signature.input_specs
        if spec.kind is InputKind.USER_INPUT and not isinstance(spec.arg, ConstantArgument)
    ]
    targets: list[str | int] = []
    for spec in signature.output_specs:
        if spec.kind is OutputKind.USER_OUTPUT:
            continue
        if spec.kind not in _CHANGES or spec.target is None:
            name = str(spec.target).removeprefix(PREFIX)
            raise UnsupportedError(
                f"the module changes its parameter '{name}' in place",
                hint="if it does so in its first call only, call it once before; else make it a buffer",
            )
        targets.append(users.index(spec.target) if spec.kind is OutputKind.USER_INPUT_MUTATION else spec.target)
        spec.kind = OutputKind.USER_OUTPUT
        spec.target = None
    return Changes(tuple(targets))


def initial_value(program: ExportedProgram, name: str) -> torch.Tensor:
    """A copy of what a buffer holds now, which the program will then change as its own."""
    tensor: Any = program.state_dict.get(name)
    if tensor is None:
        tensor = program.constants[name]
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def assigned_attributes(program: ExportedProgram, warnings: Sequence[str]) -> list[str]:
    """The attributes, no buffers, in which the module leaves tensors that nobody reads; torch only warns of them.

    Raises UnsupportedError for one that the program reads: it would always see the first value.
    """
    found = [re.search(r"tensor attributes? (.+?) w(?:as|ere) assigned during export", text) for text in warnings]
    names = [name.strip().removeprefix("self.") for match in found if match for name in match[1].split(",")]
    constants = program.graph_signature.inputs_to_lifted_tensor_constants
    read = {
        target for node in program.graph.find_nodes(op="placeholder") if node.users and (target := constants.get(node.name))
    }
    for name in names:
        if name in read:
            raise UnsupportedError(
                f"the module changes its tensor '{name.removeprefix(PREFIX)}', which is no buffer",
                hint="register it with register_buffer, and it becomes state of the program",
            )
    # A recurrent layer lists its own parameters anew, which is no change.
    return [name.removeprefix(PREFIX) for name in names if "._flat_weights" not in name]
