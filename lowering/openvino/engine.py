"""Lowering to OpenVINO: the graph as an ONNX model that its own reader turns into its IR, `model.xml` and `model.bin`."""

from __future__ import annotations

import errno
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from irc.ir import Emitted, Graph, Op, UnsupportedError, clone_graph, emit
from irc.passes import Context, Rule, is_codebook_op, looked_up, unfused
from irc.runtime import (
    BIN_FILE,
    OPS_FILE,
    WEIGHTS_FILE,
    XML_FILE,
    EngineFailure,
    OpenVinoOptions,
    OptionValue,
    layout_weights,
    no_scratch,
    scratch_folder,
)

from ..engine import YES, EngineFiles, Verdict, weight_view
from ..opening import is_opened, open_all
from ..targets import Kind, Target
from .dynamic import is_found_in_run, with_ranges
from .halves import PRECISION, is_rounding, without_rounding
from .legality import why_not
from .saturating import why_saturates, without_saturation

MOST_NAMED = 3
"""Inputs that a message names."""


@dataclass(frozen=True)
class OpenVino:
    """OpenVINO with its CPU plugin, in f32 unless the graph is in lower precision throughout."""

    name: str = "openvino"

    @property
    def version(self) -> str:
        """The installed version, or an empty string."""
        try:
            return metadata.version("openvino")
        except metadata.PackageNotFoundError:
            return ""

    def serves(self, target: Target) -> Verdict:
        """CPUs of either architecture."""
        if not self.version:
            return Verdict("it is not installed (pip install 'irc-compiler[openvino]')")
        return YES if target.kind is Kind.CPU else Verdict("it has no kernels for NVIDIA GPUs")

    def runs(self, target: Target) -> Verdict:
        """What the target itself says."""
        return Verdict(target.not_here)

    def takes(self, op: Op, target: Target) -> Verdict:
        """Whether OpenVINO computes `op` as ONNX means it."""
        if not self.version:
            return Verdict("it is not installed (pip install 'irc-compiler[openvino]')")
        known = is_rounding(op) or is_codebook_op(op) or is_found_in_run(op)
        return YES if known else Verdict(why_not(op) or why_saturates(op, target))

    def settings(self, opt_level: int, target: Target) -> Sequence[Mapping[str, OptionValue]]:
        """One setting, from O2 on: it has none that keeps answers to the bit."""
        return (OpenVinoOptions().to_manifest(),) if opt_level >= 2 else ()

    def defaults(self, target: Target) -> Sequence[Mapping[str, OptionValue]]:
        """What `settings` has."""
        return self.settings(2, target)

    def takes_signature(self, graph: Graph) -> Verdict:
        """Whether an IR of OpenVINO has a place for all inputs and outputs."""
        if graph.defaults:
            names = sorted(n for n, v in zip(graph.input_names, graph.inputs, strict=True) if v in graph.defaults)
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            return Verdict(f"it has no inputs with defaults, as {', '.join(names[:MOST_NAMED])}{more}")
        passed = [n for v, n in zip(graph.outputs, graph.output_names, strict=True) if v.op is None]
        return Verdict(f"output {passed[0]} is an input, which it cannot have") if passed else YES

    @property
    def forms(self) -> Sequence[Rule]:
        """None: OpenVINO's own transformations start from ops as ONNX has them."""
        return ()

    def lower(self, graph: Graph, target: Target, opt_level: int, context: Context | None = None) -> EngineFiles:
        """The IR of a graph, equal bytes for equal graphs. Raises UnsupportedError where OpenVINO cannot read it."""
        graph = looked_up(unfused(graph))
        refused = [(op, verdict) for op in graph.walk() if not op.is_constant and not (verdict := self.takes(op, target))]
        if refused:
            shown = "\n  ".join(f"{op.qualified_name} at {op.location}: {verdict.reason}" for op, verdict in refused[:20])
            raise UnsupportedError(f"OpenVINO does not take these ops:\n  {shown}\n", hint="use --engine onnxruntime")
        signature = self.takes_signature(graph)
        if not signature:
            raise UnsupportedError(f"OpenVINO does not take the model: {signature.reason}", hint="use --engine onnxruntime")
        graph, precision = without_rounding(without_saturation(with_ranges(_opened(graph)), target), target)
        emitted = emit(graph)
        with scratch_folder("openvino") as folder:
            try:
                files = _converted(emitted, folder)
            except OSError as error:
                raise no_scratch(folder.parent, error) from error
        return replace(_with_ops(emitted, files), options={} if precision == "f32" else {PRECISION: precision})


def _opened(graph: Graph) -> Graph:
    """The graph, or a copy with pairs around plain ops in the place of ops on bytes, which OpenVINO may compute otherwise."""
    if not any(map(is_opened, graph.walk())):
        return graph
    copy = clone_graph(graph)
    open_all(copy)
    return copy


def _converted(emitted: Emitted, folder: Path) -> dict[str, Sequence[bytes | memoryview]]:
    """The IR files of an ONNX model, which is written to `folder` first: from there OpenVINO maps the weights."""
    openvino: Any = import_module("openvino")
    layout = layout_weights({name: weight_view(tensor) for name, tensor in emitted.weights.items()})
    with open(folder / "weights", "xb") as stream:
        for chunk in layout.chunks:
            stream.write(chunk)
    path = folder / "model.onnx"
    path.write_bytes(emitted.refer(lambda name: ("weights", *layout.ranges[name])).SerializeToString())
    try:
        model = openvino.Core().read_model(path)
        _name_in_order(model)
    except Exception as error:  # OpenVINO's exceptions have no common base but Exception
        raise EngineFailure(f"OpenVINO cannot read the model: {_first_line(error)}") from error
    try:
        openvino.serialize(model, folder / "model.xml", folder / "model.bin")
    except Exception as error:
        raise OSError(errno.EIO, f"OpenVINO says {_first_line(error)}") from error
    _check_whole(folder)
    return {"model.xml": ((folder / "model.xml").read_bytes(),), "model.bin": (_mapped(folder / "model.bin"),)}


def _check_whole(folder: Path) -> None:
    """Raises OSError where not all of the IR was written: OpenVINO says nothing when a disk is full."""
    xml, written = (folder / "model.xml").read_bytes(), (folder / "model.bin").stat().st_size
    ends = xml.rstrip().endswith(b"</net>")
    if not ends or any(begin + size > written for _, begin, size in _constants(xml)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _with_ops(emitted: Emitted, files: Mapping[str, Sequence[bytes | memoryview]]) -> EngineFiles:
    """The files with one more, what was lowered as ONNX: OpenVINO's own IR does not say where in the model ops come from.

    Its weights are those in `model.bin`, found by name and compared; what OpenVINO has changed is kept beside it.
    """
    (xml,), (data,) = files[XML_FILE], files[BIN_FILE]
    views = {name: weight_view(tensor) for name, tensor in emitted.weights.items()}
    places = {
        name: (BIN_FILE, begin, size)
        for name, begin, size in _constants(bytes(xml))
        if name in views and _same(views[name].data, memoryview(data)[begin : begin + size])
    }
    others = {name: view for name, view in views.items() if name not in places}
    places.update((name, (WEIGHTS_FILE, *place)) for name, place in layout_weights(others).ranges.items())
    model = emitted.refer(lambda name: places[name])
    return EngineFiles({**files, OPS_FILE: (model.SerializeToString(deterministic=True),)}, others, emitted.op_names)


_BLOCK = 1 << 22


def _same(first: memoryview, second: memoryview) -> bool:
    """Whether two stretches of memory hold the same bytes; block by block, because comparing takes memory too."""
    one, other = (np.frombuffer(each, np.uint8) for each in (first, second))
    starts = range(0, one.size, _BLOCK)
    return one.size == other.size and all(np.array_equal(one[s : s + _BLOCK], other[s : s + _BLOCK]) for s in starts)


def _constants(xml: bytes) -> Iterator[tuple[str, int, int]]:
    """The constants in an IR: name, where in its `model.bin` their bytes begin, how many there are."""
    for layer in ElementTree.fromstring(xml).iterfind("layers/layer[@type='Const']"):
        for data in layer.iterfind("data"):
            yield layer.get("name", ""), int(data.get("offset", 0)), int(data.get("size", 0))


_AUTOMATIC = re.compile(r"\w+_\d+\Z")


def _name_in_order(model: Any) -> None:
    """Names that OpenVINO makes up count what it made since the process began; count them in the model's own order instead."""
    nodes: list[Any] = model.get_ordered_ops()
    taken = {node.get_friendly_name() for node in nodes}
    numbers: dict[str, int] = {}
    for node in nodes:
        kind, name = node.get_type_name(), node.get_friendly_name()
        if not (_AUTOMATIC.match(name) and name.startswith(f"{kind}_")):
            continue
        number = numbers.get(kind, -1) + 1
        while f"{kind}/{number}" in taken:
            number += 1
        numbers[kind] = number
        node.set_friendly_name(f"{kind}/{number}")


def _mapped(path: Path) -> memoryview:
    """The bytes of a file that is about to be removed, mapped: they need no memory until they are read."""
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if path.stat().st_size else memoryview(b"")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0][:300]
