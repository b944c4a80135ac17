# pyright: basic
"""How a case becomes files: a torch module is exported by each exporter named, captured by irc, and written with weights."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from irc.ir import capture

from .files import write

DYNAMO, RAW = "torch-dynamo", "torch-dynamo-raw"
SCRIPT = "torchscript-17"
SOURCES = {
    DYNAMO: "torch 2.13 dynamo",
    RAW: "torch 2.13 dynamo, optimize=False",
    "torchscript-17": "torch 2.13 TorchScript, opset 17",
    "torchscript-13": "torch 2.13 TorchScript, opset 13",
    "torchscript-11": "torch 2.13 TorchScript, opset 11",
    "torchscript-9": "torch 2.13 TorchScript, opset 9",
}


@dataclass(frozen=True)
class Case:
    """A pattern spelled as a torch module, the exporters to ask, and what an ideal optimizer leaves of it.

    `make` returns the module and its example inputs. `expect` is "Op=count, ...", `gone` is "Op, ...", `hope` is what could be
    expected if the corner described in `corner` did not matter. `own` overrides headers for one exporter.
    """

    name: str
    pattern: str
    make: Callable[[], tuple[Any, Sequence[Any]]]
    expect: str = ""
    gone: str = ""
    at_most: int | None = None
    hope: str = ""
    corner: str = ""
    sources: Sequence[str] = (DYNAMO, SCRIPT)
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)
    inputs: Sequence[str] | None = None
    own: dict[str, dict[str, str]] = field(default_factory=dict)


class Call(nn.Module):
    """A function of tensors as a module; tensors given by name are its buffers."""

    def __init__(self, function: Callable[..., Any], **buffers: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs, **dict(self.named_buffers()))


def of(function: Callable[..., Any], *shapes: Sequence[int] | torch.Tensor, **buffers: torch.Tensor) -> Any:
    """A `make` for a function: an input of each shape (or the tensor itself)."""
    return lambda: (Call(function, **buffers), inputs_of(*shapes))


def module(make: Callable[[], nn.Module], *shapes: Sequence[int] | torch.Tensor) -> Any:
    """A `make` for a module: an input of each shape (or the tensor itself)."""
    return lambda: (make(), inputs_of(*shapes))


def inputs_of(*shapes: Any) -> tuple[torch.Tensor, ...]:
    """Random tensors of the shapes; what is a tensor or None already stays."""
    return tuple(s if s is None or isinstance(s, torch.Tensor) else torch.randn(*s) for s in shapes)


def coarse(*shape: int) -> torch.Tensor:
    """A tensor of multiples of 1/8 in [-1, 1], none of them 0: short to write."""
    values = torch.randint(1, 9, shape) * (torch.randint(0, 2, shape) * 2 - 1)
    return values / 8.0


def randomize(model: nn.Module) -> None:
    """Give every parameter values that no exporter can fold away and that are short to write."""
    seen: set[int] = set()
    for name, parameter in model.named_parameters():
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        values = coarse(*parameter.shape)
        is_scale = parameter.ndim == 1 and name.endswith("weight")
        parameter.data = values.abs() + 0.5 if is_scale else values
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(coarse(*buffer.shape))
        if name.endswith("running_var"):
            buffer.copy_(coarse(*buffer.shape).abs() + 0.5)


def write_case(case: Case) -> list[str]:
    """Export one case everywhere; the files written, or what failed and why."""
    done: list[str] = []
    for source in case.sources:
        torch.manual_seed(len(case.name))
        model, inputs = case.make()
        model.eval()
        randomize(model)
        try:
            graph = capture(_export(model, inputs, source, case))
        except Exception as error:  # an exporter that fails is a finding, and the others go on
            done.append(f"FAILED {source}/{case.name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
            continue
        headers = {"expect": case.expect, "gone": case.gone, "at-most": "" if case.at_most is None else str(case.at_most)}
        headers |= {"hope": case.hope, "corner": case.corner} | case.own.get(source, {})
        done.append(write(source, case.name, SOURCES[source], case.pattern, headers, graph))
    return done


def _export(model: nn.Module, inputs: Sequence[Any], source: str, case: Case) -> bytes:
    names = list(case.inputs) if case.inputs else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        if source in (DYNAMO, RAW):
            shapes = tuple(dict.fromkeys(case.dynamic.get(n, {}), torch.export.Dim.DYNAMIC) for n in names or ()) or None
            program = torch.onnx.export(
                model,
                tuple(inputs),
                dynamo=True,
                optimize=source == DYNAMO,
                verbose=False,
                input_names=names,
                dynamic_shapes=_like_signature(model, shapes) if case.dynamic else None,
            )
            assert program is not None
            return program.model_proto.SerializeToString()
        stream = io.BytesIO()
        torch.onnx.export(
            model,
            tuple(inputs),
            stream,  # type: ignore[arg-type]  # the TorchScript exporter takes a stream
            dynamo=False,
            opset_version=int(source.rpartition("-")[2]),
            input_names=names,
            dynamic_axes=case.dynamic or None,
            keep_initializers_as_inputs=False,
        )
        return stream.getvalue()


def _like_signature(model: nn.Module, shapes: Any) -> Any:
    """Dynamic shapes as torch.export wants them: nested once more where forward takes *inputs."""
    kinds = {parameter.kind for parameter in inspect.signature(model.forward).parameters.values()}
    return (shapes,) if inspect.Parameter.VAR_POSITIONAL in kinds else shapes
