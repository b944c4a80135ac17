"""`irc.compile`: a model in, a program out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, cast, overload

import onnx

from irc.ir import UsageError
from irc.ir.capture.torch import is_torch_source
from irc.lowering import compile_model
from irc.runtime import Program

from .options import Options, compile_options

if TYPE_CHECKING:
    from .torch import TorchProgram

OnnxModel = str | os.PathLike[str] | bytes | onnx.ModelProto


@overload
def compile(model: OnnxModel, **options: Unpack[Options]) -> Program: ...  # type: ignore[overlap]  # what is no ONNX is torch's


@overload
def compile(
    model: object,
    example_inputs: Sequence[Any] | Mapping[str, Any] | object = (),
    *,
    example_kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: object = None,
    trust_pickle: bool = False,
    **options: Unpack[Options],
) -> TorchProgram: ...


def compile(
    model: object,
    example_inputs: Sequence[Any] | Mapping[str, Any] | object = None,
    *,
    example_kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: object = None,
    trust_pickle: bool = False,
    **options: Unpack[Options],
) -> Program | TorchProgram:
    """Compile a model into a program that runs.

    `model` is an ONNX model (a path, the bytes of a file, or a ModelProto) or a PyTorch program: an `nn.Module`, an
    `fx.GraphModule`, an `ExportedProgram`, or the path of a `.pt2` file, which is unpickled and therefore needs
    `trust_pickle`. For PyTorch, `example_inputs` are positional arguments (one by itself need not be in a tuple; a mapping
    is keyword arguments, as is `example_kwargs`), and `dynamic_shapes` says which of their dims are open, as torch.export
    takes it; a dim may be just a name: `{"x": {0: "batch"}}`. What comes back is then called as the module is.

    The options, all by keyword:
    `target` is what to compile for; `opt_level` 0 (as it is), 1 (same bits), 2 (same mathematics, the default) or 3, which
    measures candidates on this machine for `tune_budget` seconds (60; none with 0) and keeps the fastest that answers right.
    `engine` names the only engine to use. `passes` is a pipeline text such as `"fold-constants, cse, canonicalize"` in place
    of the level's own; `load` names files that define passes or rules for it; `disable` names passes or rewrites to leave
    out, `rewrite_limit` how many to make at most. `dims` gives named dims their sizes (`{"batch": 4}` or `["batch=4"]`),
    `shapes` gives inputs theirs; a dim of several sizes (`{"batch": (1, 8, 32)}` or `["batch=1,8,32"]`) stays open, and the
    program has a variant for each, every combination where there are more such dims, at most 16. `threads` is how many the
    engine uses (default: one a physical core), `spin` whether idle ones wait busily, `providers` ONNX Runtime's execution
    providers in order. `strict` refuses what would not run as asked for: on a second engine, or on the CPU for a GPU.
    `verify` is what is checked: `"answers"`, those of the program against the reference's from O2 on; `"rewrites"`, each
    rewrite too, before it is done; or `"nothing"`. What makes answers differ is left out, and `program.manifest.passes` names
    the rewrites undone. `inputs` is an `.npz` file to check with; without it a PyTorch program is checked with the example
    inputs, and for an ONNX model inputs are made up.

    `precision` is `"bf16"`, `"fp16"`, `"int8"`, `"int8-weights"`, `"int4-weights"`, or `"auto"`, which measures what pays and
    needs `opt_level=3`; inputs and outputs keep their types. `calib` is what to calibrate and to measure the error with: an
    `.npz` file, a folder of `.npy` or `.npz` files, or an iterable of dicts from input names to arrays; without it samples are
    made up. `max_error` bounds the distance from the answers in f32 on samples held back, by `metric`: `"l2"` (relative),
    `"cosine"`, `"top1"`; a metric may also be a function of the outputs, arrays by name (and of the labels beside the inputs,
    where it takes two), to a number that is better high, and `max_drop` bounds how much less it says than in f32. Of weights of
    4 bits `block_size` share a scale: 16, 32, 64, 128 or 256, of itself 32.
    `compress` names compressions, `"prune-channels{share=0.3}, low-rank, share-weights"`: each in turn is kept where the error
    stays within the bound (1e-2 where none is given) and the program is faster, with `smaller` also where it is smaller; of one
    whose share is not given the largest within the bound is looked for. `program.manifest.precision` tells what was decided and
    whether the bound was kept.

    Raises `irc.IrcError` for what is wrong with the model or the options, `irc.RunError` when the engine fails; both say
    where and what to do.
    """
    chosen = compile_options(options)
    if is_torch_source(model):
        from .torch import compile_torch

        return compile_torch(model, example_inputs, example_kwargs, dynamic_shapes, trust_pickle, chosen)
    if not isinstance(model, (str, os.PathLike, bytes, onnx.ModelProto)):
        raise UsageError(f"a model is a path, bytes, a ModelProto or a PyTorch module, not {type(model).__name__}")
    if example_inputs is not None or example_kwargs is not None or dynamic_shapes is not None:
        raise UsageError(
            "example inputs and dynamic shapes are for PyTorch modules, and this is an ONNX model",
            hint="dims={'batch': 4} fixes a dim, inputs='x.npz' is what to check with",
        )
    return compile_model(cast("OnnxModel", model), chosen).program


__all__ = ["compile"]
