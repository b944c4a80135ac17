"""From an exported program to ONNX in memory; the only module that touches the private parts of torch.onnx.

They have kept their shape since PyTorch 2.6, but nothing promises that they will: other versions than those tested are
refused. Decomposition and translation run without gradients, see `tracing`.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import onnx_ir
import torch
from torch.export import ExportedProgram

from ...diagnostics import UnsupportedError
from ...schema import CANONICAL_OPSET
from ..names import LOCATION_KEY
from .failures import quiet, refusal
from .locations import origin_of
from .recurrent import tracing
from .registry import TRANSLATIONS

TESTED = {"torch": ((2, 13), (2, 14)), "onnxscript": ((0, 7), (0, 8))}
"""The versions whose private parts are known: from the first, up to but without the second."""

_aten = torch.ops.aten
_VIEWS = {_aten.view.default: _aten.reshape.default, _aten._unsafe_view.default: _aten.reshape.default}
_LISTED = 8


def decompose(program: ExportedProgram, registry: Any) -> ExportedProgram:
    """The program in functional form, in ops that have a translation in `registry` where torch can write them so.

    Raises UnsupportedError that lists every op without a translation.
    """
    # A check of sizes as a submodule, which cannot be traced again for a program that takes its inputs as one tuple.
    program._guards_code = []
    with quiet(), tracing():
        program = _decomposed(program, registry)
    output = program.graph.output_node()
    returned: Any = output.args[0]
    output.args = (tuple(leaf for leaf in returned if isinstance(leaf, torch.fx.Node)),)
    unknown = list(_untranslated(program, registry))
    if unknown:
        raise _no_translation(unknown)
    return program


def _decomposed(program: ExportedProgram, registry: Any) -> ExportedProgram:
    from torch.onnx._internal.exporter import _fx_passes

    try:
        program = _fx_passes.decompose_with_registry(program, registry)
        for module in _modules(program):
            _views_to_reshapes(module)
        _fx_passes.insert_type_promotion_nodes(program.graph_module)
        _fx_passes.remove_assertion_nodes(program.graph_module)
        return program
    except Exception as error:  # the program is traced again, through any part of torch
        raise refusal(error) from error


def translate_program(program: ExportedProgram, registry: Any) -> onnx_ir.Model:
    """The ONNX model of a program decomposed for `registry`, at the canonical opset; its weights are the module's tensors.

    Raises UnsupportedError where a translation fails, with the op and its source line.
    """
    from torch.onnx._internal.exporter import _core

    exporter: Any = _core
    try:
        with quiet(), tracing():
            model = exporter._exported_program_to_onnx_program(program, registry=registry).model
    except Exception as error:  # a translation is a Python function, torch's, irc's or the user's: it may raise anything
        raise _failed(error, program) from error
    _note_locations(model)
    # A node is written for opset 18 unless it says another (Attention 23, GroupNormalization 21); this raises each.
    exporter.onnxscript_apis.convert_version(model, CANONICAL_OPSET)
    return model


def registry_for_now() -> Any:
    """torch's translations with irc's own and the users' in front."""
    from torch.onnx._internal.exporter import _registration

    from .translations import OWN

    base = _torchlib()
    registry = _registration.ONNXRegistry()
    registry._opset_version = base.opset_version
    registry.functions = dict(base.functions)
    for name, function in {**OWN, **TRANSLATIONS}.items():
        target = _overload(name)
        if target is not None:
            meta = _registration.OnnxDecompMeta(function, target, signature=None, is_custom=True)
            registry.functions[name] = [meta, *registry.functions.get(name, ())]
    return registry


@lru_cache(maxsize=1)
def _torchlib() -> Any:
    """torch's own translations; making the table takes half a second."""
    _check_versions()
    from torch.onnx._internal.exporter import _registration

    with quiet():
        return _registration.ONNXRegistry.from_torchlib(opset_version=CANONICAL_OPSET)


def _check_versions() -> None:
    for package, (first, end) in TESTED.items():
        text = version(package)
        found = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
        if not first <= found < end:
            known = f"from {first[0]}.{first[1]} up to but without {end[0]}.{end[1]}"
            raise UnsupportedError(
                f"{package} is {text}, and capture works with it {known}", hint="pip install 'irc-compiler[torch]'"
            )


def _overload(name: str) -> Any:
    """The op called so, or None where no library has defined it (yet)."""
    namespace, _, rest = name.partition("::")
    packet, _, overload = rest.partition(".")
    found = getattr(getattr(torch.ops, namespace), packet, None)
    return getattr(found, overload or "default", None)


def _modules(program: ExportedProgram) -> Iterator[torch.fx.GraphModule]:
    """The program and the branches of its control flow."""
    return (module for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule))


def _views_to_reshapes(module: torch.fx.GraphModule) -> None:
    # ONNX has no strides: a view is a reshape, which is legal whatever strides the op before it is thought to give.
    for target, replacement in _VIEWS.items():
        for node in module.graph.find_nodes(op="call_function", target=target):
            node.target = replacement
    module.recompile()


def _untranslated(program: ExportedProgram, registry: Any) -> Iterator[torch.fx.Node]:
    from torch.onnx._internal.exporter import _core, _dispatching

    for module in _modules(program):
        for node in module.graph.nodes:
            if node.op != "call_function" or node.target is operator.getitem or _core._is_onnx_op(node.target):
                continue
            if _dispatching.dispatch(node, registry)[0] is None:
                yield node


def _no_translation(nodes: list[torch.fx.Node]) -> UnsupportedError:
    """One error for all ops without a translation, each with the places it is used at."""
    places: dict[str, list[str]] = {}
    for node in nodes:
        places.setdefault(_op_name(node), []).append(origin_of(node).text)
    shown = [
        f"{name} at {found[0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")
        for name, found in list(places.items())[:_LISTED]
    ]
    if len(places) > _LISTED:
        shown.append(f"and {len(places) - _LISTED} more ops")
    what = "this op" if len(places) == 1 else f"these {len(places)} ops"
    first = next(iter(places))
    return UnsupportedError(
        f"{what} of torch cannot be written in ONNX: {'; '.join(shown)}",
        hint=f'say how with irc.torch.translate("{first}", function), see docs/torch.md',
    )


def _op_name(node: torch.fx.Node) -> str:
    own = getattr(node.target, "name", None)
    return str(own()) if callable(own) else str(getattr(node.target, "__name__", node.target))


def _failed(error: Exception, program: ExportedProgram) -> UnsupportedError:
    """The error for a translation that raised: the op, its place and the root cause."""
    cause: BaseException = error
    named: str | None = None
    while True:
        found = re.search(r"translating node %(\w+)", str(cause))
        named = named or (found[1] if found else None)
        if cause.__cause__ is None:
            break
        cause = cause.__cause__
    node = next((n for module in _modules(program) for n in module.graph.nodes if n.name == named), None)
    lines = str(cause).strip().splitlines()
    reason = f"{type(cause).__name__}: {lines[0] if lines else ''}".rstrip(": ")
    what = _op_name(node) if node is not None else "the program"
    hint = f'say how it is written in ONNX with irc.torch.translate("{what}", function)' if node is not None else None
    where = origin_of(node).text if node is not None else None
    return UnsupportedError(f"the translation of {what} failed: {reason}", location=where, hint=hint)


def _note_locations(model: onnx_ir.Model) -> None:
    """Write each node's origin beside it, in place of the long texts that torch leaves there."""
    for graph in (model.graph, *model.functions.values()):
        for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
            source = node.meta.get("node")
            node.metadata_props.clear()
            if isinstance(source, torch.fx.Node):
                node.metadata_props[LOCATION_KEY] = origin_of(source).text
