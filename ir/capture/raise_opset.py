"""Older forms of ONNX ops brought to the canonical opset, one row an op.

Only ops whose form or default changed since opset 7 have a row; ONNX's own converter is not used because it changes answers
(Hardmax, Resize-10, Upsample, GroupNormalization) and does not enter subgraphs. A test compares the rows with the history in
`onnx.defs`, so that a change of form without a row cannot go unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .. import infer, schema
from ..diagnostics import UnsupportedError
from ..graph import Graph, Value
from ..location import Location
from ..operators import Attribute, EmptyList
from ..tensors import Array, Tensor
from ..types import UNKNOWN, DType, TensorType, Type
from ..verify import check_form


@dataclass
class Node:
    """An op about to be captured: a row edits it in place, and may put other ops in front of it through `build`."""

    name: str
    version: int
    operands: list[Value | None]
    attributes: dict[str, Attribute]
    results: int
    location: Location
    build: Callable[[str, list[Value | None], dict[str, Attribute]], Value]
    constant: Callable[[Tensor], Value]
    replacement: list[Value] | None = field(default=None)

    def operand(self, index: int) -> Value | None:
        """Operand `index`, or None when absent."""
        return self.operands[index] if index < len(self.operands) else None

    def data(self) -> Value:
        """The first operand, which every row here needs."""
        value = self.operand(0)
        if value is None:
            raise UnsupportedError(f"{self.name} has no input", location=str(self.location))
        return value

    def pop_integers(self, name: str) -> list[int] | None:
        """Take a list-of-int attribute away, or None where it is not given."""
        value = self.attributes.pop(name, None)
        if isinstance(value, EmptyList):
            return []
        return [v for v in value if isinstance(v, int)] if isinstance(value, tuple) else None

    def number(self, name: str, default: float) -> float:
        """A numeric attribute, or `default` where it is not given; raises UnsupportedError when it is something else."""
        value = self.attributes.get(name, default)
        if not isinstance(value, (int, float)):
            raise self.refuse(f"has an attribute '{name}' that is no number")
        return value

    def set_operand(self, index: int, value: Value | None) -> None:
        """Put `value` at operand `index`, with absent operands in between."""
        self.operands.extend([None] * (index + 1 - len(self.operands)))
        self.operands[index] = value

    def refuse(self, why: str) -> UnsupportedError:
        """The error for an old form that has no modern one."""
        return UnsupportedError(f"{self.name} of opset {self.version} {why}", location=str(self.location))


def raise_node(node: Node) -> None:
    """Bring a node of `node.version` to the canonical opset; does nothing for ops that have kept their form.

    Raises ModelError when the node breaks the schema of its own opset, which the rows rely on.
    """
    rows = [row for before, row in ROWS.get(node.name, ()) if node.version < before]
    old = schema.find("", node.name, node.version) if rows else None
    if old is not None:
        check_form(old, node.name, node.operands, node.attributes, node.results, node.location)
    for row in rows:
        if node.replacement is None:
            row(node)


def _integers_to_operand(attribute: str, index: int) -> Callable[[Node], None]:
    def row(node: Node) -> None:
        values = node.pop_integers(attribute)
        if values is not None:
            node.set_operand(index, node.constant(Tensor.integers(values)))

    return row


def _softmax(node: Node) -> None:
    # Before opset 13 the axes from `axis` on are one: Softmax(Flatten(x, axis)) in the shape of x.
    axis = node.attributes.pop("axis", 1)
    data = node.data()
    if not isinstance(axis, int):
        raise node.refuse("has an axis that is no integer")
    rank = data.type.rank if isinstance(data.type, TensorType) else None
    if rank is not None and axis in (rank - 1, -1):
        node.attributes["axis"] = -1
        return
    flat = node.build("Flatten", [data], {"axis": axis})
    result = node.build(node.name, [flat], {"axis": -1})
    shape = node.build("Shape", [data], {})
    node.replacement = [node.build("Reshape", [result, shape], {})]


def _upsample(node: Node) -> None:
    scales = node.attributes.pop("scales", None)
    scale_operand = node.operand(1)
    if isinstance(scales, tuple):
        scale_operand = node.constant(Tensor.from_array(np.array(scales, dtype=np.float32)))
    _resize_asymmetric(node, scale_operand)


def _resize10(node: Node) -> None:
    _resize_asymmetric(node, node.operand(1))


def _resize_asymmetric(node: Node, scales: Value | None) -> None:
    # The old ops sample at output / scale; nearest takes the pixel below when enlarging, above when shrinking.
    if scales is None:
        raise node.refuse("has no scales")
    attributes: dict[str, Attribute] = {
        "mode": node.attributes.get("mode", "nearest"),
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    factors: Array | None = scales.constant.array if scales.constant is not None else None
    data = node.data()
    if factors is not None and not (np.isfinite(factors) & (factors > 0)).all():
        raise node.refuse("has a scale that is no positive number")
    if factors is not None and (factors < 1).any():
        shrunk = node.constant(Tensor.from_array(np.minimum(factors, 1).astype(np.float32)))
        shrinking: dict[str, Attribute] = {**attributes, "nearest_mode": "ceil"}
        data = node.build("Resize", [data, None, shrunk], shrinking)
        if not (factors > 1).any():
            node.replacement = [data]
            return
        scales = node.constant(Tensor.from_array(np.maximum(factors, 1).astype(np.float32)))
    node.replacement = [node.build("Resize", [data, None, scales], attributes)]


def _resize11(node: Node) -> None:
    if node.attributes.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        if (
            node.attributes.get("nearest_mode", "round_prefer_floor") != "floor"
            or node.attributes.get("mode", "nearest") != "nearest"
        ):
            raise node.refuse("uses tf_half_pixel_for_nn with a rounding that later opsets cannot say")
        # floor((i + 0.5) / s) is (i + 0.5) / s - 0.5 rounded half up.
        node.attributes["coordinate_transformation_mode"] = "half_pixel"
        node.attributes["nearest_mode"] = "round_prefer_ceil"
    for index in (1, 2):
        operand = node.operand(index)
        if operand is not None and operand.constant is not None and operand.constant.size == 0:
            node.set_operand(index, None)


def _slice(node: Node) -> None:
    starts, ends, axes = (node.pop_integers(name) for name in ("starts", "ends", "axes"))
    if starts is None or ends is None:
        raise node.refuse("has no starts or ends")
    node.operands = [node.data(), node.constant(Tensor.integers(starts)), node.constant(Tensor.integers(ends))]
    if axes is not None:
        node.set_operand(3, node.constant(Tensor.integers(axes)))


def _scalar_like(node: Node, number: object) -> Value:
    kind = node.data().type
    dtype = kind.dtype if isinstance(kind, TensorType) else DType.F32
    return node.constant(Tensor.from_array(np.array(number, dtype=dtype.numpy), dtype))


def _clip(node: Node) -> None:
    for index, name in ((1, "min"), (2, "max")):
        bound = node.attributes.pop(name, None)
        if bound is not None:
            node.set_operand(index, _scalar_like(node, bound))


def _pad(node: Node) -> None:
    pads, value = node.pop_integers("pads"), node.attributes.pop("value", 0.0)
    if pads is None:
        raise node.refuse("has no pads")
    node.operands = [node.data(), node.constant(Tensor.integers(pads))]
    if value != 0.0:
        node.set_operand(2, _scalar_like(node, value))


def _dropout(node: Node) -> None:
    # Without a training mode the op hands its input on, and its mask is false everywhere.
    node.attributes.clear()
    data = node.data()
    node.replacement = [node.build("Identity", [data], {})]
    if node.results > 1:
        mask = np.zeros(1, np.bool_ if node.version >= 10 else np.float32)
        shape = node.build("Shape", [data], {})
        zeros = node.build("ConstantOfShape", [shape], {"value": Tensor.from_array(mask)})
        node.replacement.append(zeros if node.version >= 10 else node.build("CastLike", [zeros, data], {}))


def _batch_normalization(node: Node) -> None:
    if node.attributes.pop("spatial", 1) != 1:
        raise node.refuse("normalizes each activation by itself (spatial=0)")
    if node.results > 1:
        raise node.refuse("returns training statistics")


def _split(node: Node) -> None:
    sizes = node.pop_integers("split")
    if sizes is not None:
        node.set_operand(1, node.constant(Tensor.integers(sizes)))


def _split_evenly(node: Node) -> None:
    if node.operand(1) is None and "num_outputs" not in node.attributes:
        node.attributes["num_outputs"] = node.results


def _top_k(node: Node) -> None:
    count = node.attributes.pop("k", None)
    if not isinstance(count, int):
        raise node.refuse("has no k")
    node.set_operand(1, node.constant(Tensor.integers([count])))


def _scatter(node: Node) -> None:
    node.name = "ScatterElements"


def _grid_sample(node: Node) -> None:
    renamed = {"bilinear": "linear", "bicubic": "cubic"}
    mode = node.attributes.get("mode", "bilinear")
    node.attributes["mode"] = renamed.get(mode, mode) if isinstance(mode, str) else mode


def _group_normalization(node: Node) -> None:
    # Scale and bias were one per group; now they are one per channel, so each is repeated for the channels of its group.
    groups = node.attributes.get("num_groups")
    shape = node.data().shape
    if not isinstance(groups, int) or shape is None or len(shape) < 2 or not isinstance(shape[1], int):
        raise node.refuse("normalizes an unknown number of channels")
    if groups <= 0 or shape[1] % groups:
        raise node.refuse(f"normalizes {shape[1]} channels in {groups} groups")
    per_group = shape[1] // groups
    column = node.constant(Tensor.integers([groups, 1]))
    matrix = node.constant(Tensor.integers([groups, per_group]))
    row = node.constant(Tensor.integers([shape[1]]))
    for index in (1, 2):
        grouped = node.build("Reshape", [node.operand(index), column], {})
        node.set_operand(index, node.build("Reshape", [node.build("Expand", [grouped, matrix], {}), row], {}))


def _dft(node: Node) -> None:
    axis = node.attributes.pop("axis", 1)
    node.set_operand(2, node.constant(Tensor.from_array(np.array(axis, dtype=np.int64))))


def _roi_align(node: Node) -> None:
    node.attributes.setdefault("coordinate_transformation_mode", "output_half_pixel")


def _scan8(node: Node) -> None:
    # Scan-8 scans each element of a batch by itself: a Scan over the batch whose body is the Scan over the sequence.
    if node.operand(0) is not None:
        raise node.refuse("scans sequences of different lengths (sequence_lens)")
    body, scanned = node.attributes.get("body"), node.attributes.get("num_scan_inputs")
    if not isinstance(body, Graph) or not isinstance(scanned, int):
        raise node.refuse("has no body or no num_scan_inputs")
    outer = Graph("scan_batch")
    elements: list[Value | None] = [outer.add_input(f"element{i}", _without_batch(v)) for i, v in enumerate(node.operands[1:])]
    attributes: dict[str, Attribute] = {"body": body, "num_scan_inputs": scanned}
    if "directions" in node.attributes:
        attributes["scan_input_directions"] = node.attributes["directions"]
    inner = outer.append(infer.make("Scan", elements, node.location, attributes=attributes, results=node.results))
    for index, result in enumerate(inner.results):
        outer.add_output(result, f"result{index}")
    node.operands = node.operands[1:]
    node.attributes = {"body": outer, "num_scan_inputs": len(node.operands)}


def _without_batch(value: Value | None) -> Type:
    if value is None or not isinstance(value.type, TensorType) or value.type.shape is None:
        return UNKNOWN
    return TensorType(value.type.dtype, value.type.shape[1:])


def _image_scaler(node: Node) -> None:
    # x * scale + bias with one bias a channel, in the order the old kernel had.
    scale, bias = node.number("scale", 1.0), node.attributes.get("bias", ())
    if not isinstance(bias, tuple) or not all(isinstance(b, float) for b in bias):
        raise node.refuse("has no bias for each channel")
    scaled = node.build("Mul", [node.data(), _scalar_like(node, scale)], {})
    channels = np.array(bias, dtype=np.float32).reshape(-1, 1, 1)
    node.replacement = [node.build("Add", [scaled, node.constant(Tensor.from_array(channels))], {})]


def _affine(node: Node) -> None:
    scaled = node.build("Mul", [node.data(), _scalar_like(node, node.number("alpha", 1.0))], {})
    node.replacement = [node.build("Add", [scaled, _scalar_like(node, node.number("beta", 0.0))], {})]


def _scaled_tanh(node: Node) -> None:
    inner = node.build("Mul", [node.data(), _scalar_like(node, node.number("beta", 1.0))], {})
    outer = node.build("Tanh", [inner], {})
    node.replacement = [node.build("Mul", [outer, _scalar_like(node, node.number("alpha", 1.0))], {})]


def _crop(node: Node) -> None:
    border, scale = node.pop_integers("border") or [], node.pop_integers("scale")
    if len(border) != 4 or (scale and len(scale) != 2):
        raise node.refuse("has no border of four or no scale of two")
    left, top, right, bottom = border
    ends = [top + scale[0], left + scale[1]] if scale else [-bottom or _FAR, -right or _FAR]
    bounds = [node.constant(Tensor.integers(v)) for v in ([top, left], ends, [2, 3])]
    node.replacement = [node.build("Slice", [node.data(), *bounds], {})]


_FAR = 2**63 - 1
_REDUCE = _integers_to_operand("axes", 1)

_EVER = 10**6  # experimental ops that no opset has, and that engines have dropped since opset 10

# Op -> (first opset without the old form, what to do below it), oldest change first.
ROWS: dict[str, tuple[tuple[int, Callable[[Node], None]], ...]] = {
    "Affine": ((_EVER, _affine),),
    "BatchNormalization": ((14, _batch_normalization),),
    "Clip": ((11, _clip),),
    "Crop": ((_EVER, _crop),),
    "DFT": ((20, _dft),),
    "Dropout": ((12, _dropout),),
    "GridSample": ((20, _grid_sample),),
    "GroupNormalization": ((21, _group_normalization),),
    "Hardmax": ((13, _softmax),),
    "ImageScaler": ((_EVER, _image_scaler),),
    "LogSoftmax": ((13, _softmax),),
    "Pad": ((11, _pad),),
    "ReduceL1": ((18, _REDUCE),),
    "ReduceL2": ((18, _REDUCE),),
    "ReduceLogSum": ((18, _REDUCE),),
    "ReduceLogSumExp": ((18, _REDUCE),),
    "ReduceMax": ((18, _REDUCE),),
    "ReduceMean": ((18, _REDUCE),),
    "ReduceMin": ((18, _REDUCE),),
    "ReduceProd": ((18, _REDUCE),),
    "ReduceSum": ((13, _REDUCE),),
    "ReduceSumSquare": ((18, _REDUCE),),
    "Resize": ((11, _resize10), (13, _resize11)),
    "RoiAlign": ((16, _roi_align),),
    "ScaledTanh": ((_EVER, _scaled_tanh),),
    "Scan": ((9, _scan8),),
    "Scatter": ((11, _scatter),),
    "Slice": ((10, _slice),),
    "Softmax": ((13, _softmax),),
    "Split": ((13, _split), (18, _split_evenly)),
    "Squeeze": ((13, _integers_to_operand("axes", 1)),),
    "TopK": ((10, _top_k),),
    "Unsqueeze": ((13, _integers_to_operand("axes", 1)),),
    "Upsample": ((10, _upsample),),
}
