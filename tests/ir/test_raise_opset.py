"""Old forms of ops: each means after capture, at the canonical opset, what ONNX Runtime says it meant in its own."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import onnx.defs
import pytest
from onnx import ModelProto, helper
from onnx.defs import OpSchema

from irc.ir import IrcError, capture, schema, to_model
from irc.ir.capture.raise_opset import ROWS

from .models import F32, body, check_capture, const, info, model, node, normal, ops, run

X = normal(2, 3, 4, 6)


def through(
    name: str, opset: int, *others: object, data: np.ndarray = X, results: int = 1, types: Any = None, **attributes: Any
) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """x and constants through one op of an old opset; a None among the others is an absent operand."""
    given = [None if other is None else const(f"c{i}", other) for i, other in enumerate(others)]
    names = ["x", *("" if tensor is None else tensor.name for tensor in given)]
    outputs = [f"y{i}" for i in range(results)]
    made = node(name, names, outputs, "op", **attributes)
    kind = helper.np_dtype_to_tensor_dtype(data.dtype)
    message = model(
        [made], [info("x", kind, data.shape)], outputs, [t for t in given if t is not None], opset=opset, ir_version=4
    )
    return message, {"x": data}


@pytest.mark.parametrize("opset", range(7, 25))
def test_a_plain_op_of_every_opset(opset: int) -> None:
    graph = check_capture(*through("Add", opset, normal(6)))
    assert ops(graph) == ["Add"]


@pytest.mark.parametrize("opset", [25, 26])
def test_a_plain_op_newer_than_the_canonical_opset(opset: int) -> None:
    check_capture(*through("Add", opset, normal(6)))


@pytest.mark.parametrize("opset", range(1, 29))
def test_opsets_no_engine_reads_are_captured_too(opset: int) -> None:
    message, _ = through("Floor", opset)
    assert ops(capture(message)) == ["Floor"] if opset >= 6 else True


# The rows


@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3, -1, -3])
@pytest.mark.parametrize("opset", [7, 11, 12, 13])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax(name: str, opset: int, axis: int | None) -> None:
    if opset < 11 and axis is not None and axis < 0:
        axis += 4
    attributes = {} if axis is None else {"axis": axis}
    check_capture(*through(name, opset, **attributes), tolerance=1e-6)


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5)])
@pytest.mark.parametrize("axis", [0, -1])
def test_softmax_of_other_ranks(shape: tuple[int, ...], axis: int) -> None:
    check_capture(*through("Softmax", 11, data=normal(*shape), axis=axis), tolerance=1e-6)
    check_capture(*through("Hardmax", 11, data=normal(*shape), axis=axis))


def test_softmax_of_unknown_rank() -> None:
    message = model([node("Softmax", ["x"], ["y"], axis=1)], [info("x", F32, None)], ["y"], opset=11)
    check_capture(message, {"x": X}, tolerance=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str) -> None:
    scales = [1.0, 1.0, 2.0, 1.5]
    check_capture(*through("Upsample", 7, scales=scales, mode=mode), tolerance=1e-6)
    check_capture(*through("Upsample", 9, np.array(scales, np.float32), mode=mode), tolerance=1e-6)
    check_capture(*through("Upsample", 7, scales=scales), tolerance=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("factors", [(2, 3), (1.5, 1.25), (0.5, 0.5), (0.3, 0.7), (2, 0.5), (0.4, 1.7), (1, 1)])
def test_resize_10(factors: tuple[float, float], mode: str) -> None:
    if mode == "linear" and min(factors) < 1 < max(factors):
        pytest.skip("up one way and down the other is two steps for nearest only")
    data = normal(1, 1, 10, 10)
    check_capture(*through("Resize", 10, np.array([1, 1, *factors], np.float32), data=data, mode=mode), tolerance=1e-6)


def test_resize_10_up_and_down() -> None:
    data = normal(1, 2, 10, 10)
    check_capture(*through("Resize", 10, np.array([1, 1, 0.4, 1.7], np.float32), data=data, mode="linear"), tolerance=1e-5)


EMPTY = np.zeros(0, np.float32)


@pytest.mark.parametrize("opset", [11, 12, 13])
def test_resize_11_with_empty_operands(opset: int) -> None:
    for mode in ("nearest", "linear"):
        check_capture(*through("Resize", opset, EMPTY, EMPTY, np.array([2, 3, 7, 9]), mode=mode), tolerance=1e-6)
        check_capture(*through("Resize", opset, EMPTY, np.array([1, 1, 2, 1.5], np.float32), mode=mode), tolerance=1e-6)


@pytest.mark.parametrize("factors", [(2, 3), (0.5, 0.5), (1.3, 0.7)])
def test_resize_11_tf_half_pixel_for_nn(factors: tuple[float, float]) -> None:
    data = normal(1, 1, 6, 6)
    scales = np.array([1, 1, *factors], np.float32)
    message, feeds = through(
        "Resize",
        11,
        EMPTY,
        scales,
        data=data,
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="tf_half_pixel_for_nn",
    )
    check_capture(message, feeds)


def test_slice() -> None:
    check_capture(*through("Slice", 7, starts=[0, 1], ends=[2, -1], axes=[1, 3]))
    check_capture(*through("Slice", 9, starts=[1, 0], ends=[2, 1000]))
    check_capture(*through("Slice", 10, np.array([1]), np.array([3]), np.array([2])))


def test_clip() -> None:
    check_capture(*through("Clip", 7, min=-0.5, max=0.5))
    check_capture(*through("Clip", 7, max=0.5))
    check_capture(*through("Clip", 10, min=0.0))
    check_capture(*through("Clip", 7))
    check_capture(*through("Clip", 11, None, np.float32(0.1)))


def test_pad() -> None:
    pads = [0, 1, 2, 0, 0, 0, 1, 3]
    check_capture(*through("Pad", 7, pads=pads))
    check_capture(*through("Pad", 10, pads=pads, value=1.5))
    check_capture(*through("Pad", 7, pads=pads, value=-0.0))
    check_capture(*through("Pad", 7, pads=[0, 0, 1, 1, 0, 0, 2, 2], mode="reflect"))
    check_capture(*through("Pad", 7, pads=[0, 0, 1, 1, 0, 0, -2, 2], mode="edge"))


@pytest.mark.parametrize("opset", [7, 10, 12, 13])
def test_dropout(opset: int) -> None:
    check_capture(*through("Dropout", opset))
    if opset >= 10:
        check_capture(*through("Dropout", opset, results=2))
    if opset < 12:
        check_capture(*through("Dropout", opset, ratio=0.3))


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14])
def test_batch_normalization(opset: int) -> None:
    statistics = [normal(3), normal(3), normal(3), np.abs(normal(3))]
    check_capture(*through("BatchNormalization", opset, *statistics, epsilon=0.01), tolerance=1e-6)
    if opset < 9:
        check_capture(*through("BatchNormalization", opset, *statistics, spatial=1), tolerance=1e-6)


def test_batch_normalization_of_each_activation_is_refused() -> None:
    statistics = [normal(3, 4, 6)] * 4
    with pytest.raises(IrcError, match="spatial=0") as caught:
        capture(through("BatchNormalization", 7, *statistics, spatial=0)[0])
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("Reduce")])
@pytest.mark.parametrize("opset", [7, 11, 13, 18])
def test_reductions(name: str, opset: int) -> None:
    data = np.abs(X) + 0.5
    operand = opset >= (13 if name == "ReduceSum" else 18)
    for keep in (0, 1):
        check_capture(*through(name, opset, data=data, keepdims=keep), tolerance=1e-5)
        for axes in ([1], [0, 2], [3] if opset < 11 else [-1]):
            if operand:
                check_capture(*through(name, opset, np.array(axes), data=data, keepdims=keep), tolerance=1e-5)
            else:
                check_capture(*through(name, opset, data=data, axes=axes, keepdims=keep), tolerance=1e-5)


def test_squeeze_and_unsqueeze() -> None:
    ones = normal(1, 3, 1, 2)
    for opset in (7, 11):
        check_capture(*through("Squeeze", opset, data=ones, axes=[0, 2]))
        check_capture(*through("Squeeze", opset, data=ones))
        check_capture(*through("Unsqueeze", opset, axes=[0, 3]))
    check_capture(*through("Squeeze", 13, np.array([-2]), data=ones))
    check_capture(*through("Unsqueeze", 11, axes=[-1, 0]))


def test_split() -> None:
    for opset in (7, 11):
        check_capture(*through("Split", opset, results=2, axis=3, split=[4, 2]))
        check_capture(*through("Split", opset, results=3, axis=3))
    check_capture(*through("Split", 13, results=2, axis=3))
    check_capture(*through("Split", 13, np.array([1, 5]), results=2, axis=3))
    check_capture(*through("Split", 18, data=normal(2, 7), results=3, axis=1, num_outputs=3))


def test_top_k() -> None:
    check_capture(*through("TopK", 7, results=2, k=3))
    check_capture(*through("TopK", 7, results=2, k=2, axis=1))
    check_capture(*through("TopK", 10, np.array([2]), results=2))


def test_scatter() -> None:
    check_capture(*through("Scatter", 9, np.array([[0, 1, 0]]), normal(1, 3), data=normal(2, 3)))
    check_capture(*through("Scatter", 9, np.array([[0, 1]]), normal(1, 2), data=normal(2, 3), axis=1))


def test_grid_sample() -> None:
    grid = (np.random.default_rng(0).random((2, 5, 5, 2)) * 2 - 1).astype(np.float32)
    for opset in (16, 19):
        for mode in ("bilinear", "nearest", "bicubic"):
            check_capture(*through("GridSample", opset, grid, mode=mode), tolerance=1e-5)
        check_capture(*through("GridSample", opset, grid), tolerance=1e-5)
    check_capture(*through("GridSample", 20, grid, mode="cubic"), tolerance=1e-5)


def test_group_normalization() -> None:
    data = normal(2, 6, 4, 5)
    check_capture(*through("GroupNormalization", 18, normal(3), normal(3), data=data, num_groups=3), tolerance=1e-5)
    check_capture(*through("GroupNormalization", 21, normal(6), normal(6), data=data, num_groups=3), tolerance=1e-5)


def test_dft() -> None:
    for attributes in ({}, {"axis": 2}, {"axis": 1, "onesided": 1}, {"axis": 2, "inverse": 0}):
        check_capture(*through("DFT", 17, data=normal(2, 4, 6, 1), **attributes), tolerance=1e-5)
    check_capture(*through("DFT", 17, np.array(8), data=normal(2, 4, 6, 1), axis=2), tolerance=1e-5)


def test_roi_align() -> None:
    rois = np.array([[0.2, 0.3, 3.1, 2.8]], np.float32)
    for opset in (10, 16):
        message, feeds = through("RoiAlign", opset, rois, np.array([1]), output_height=2, output_width=2, sampling_ratio=2)
        # ONNX Runtime has no kernel for the op as of opset 22, which changed nothing but the dtypes it takes.
        check_capture(message, feeds, tolerance=1e-5, opset=21)


def scan_8(**attributes: object) -> tuple[ModelProto, dict[str, np.ndarray]]:
    inner = body(
        "b",
        [node("Add", ["s", "e"], ["t"]), node("Identity", ["t"], ["o"])],
        [info("s", F32, [2]), info("e", F32, [2])],
        [info("t", F32, [2]), info("o", F32, [2])],
    )
    nodes = [node("Scan", ["", "s0", "x"], ["last", "all"], body=inner, num_scan_inputs=1, **attributes)]
    inputs = [info("s0", F32, [3, 2]), info("x", F32, [3, 5, 2])]
    return model(nodes, inputs, ["last", "all"], opset=8), {"s0": normal(3, 2), "x": normal(3, 5, 2)}


def test_scan_8() -> None:
    check_capture(*scan_8())
    check_capture(*scan_8(directions=[1]))


# Ops that no opset has: experimental ones of old exporters, which ONNX Runtime still runs.


def test_image_scaler() -> None:
    check_capture(*through("ImageScaler", 7, scale=0.5, bias=[1.0, 2.0, -3.0]))


def test_affine_crop_and_scaled_tanh() -> None:
    scaled = np.float32(2) * X + np.float32(0.5)
    for name, attributes, wanted in (
        ("Affine", {"alpha": 2.0, "beta": 0.5}, scaled),
        ("Crop", {"border": [1, 1, 2, 0]}, X[:, :, 1:, 1:-2]),
        ("Crop", {"border": [1, 1, 0, 0], "scale": [2, 3]}, X[:, :, 1:3, 1:4]),
        ("ScaledTanh", {"alpha": 2.0, "beta": 0.5}, 2 * np.tanh(X / 2)),
    ):
        message, feeds = through(name, 9, **attributes)
        np.testing.assert_allclose(run(to_model(capture(message)), feeds)[0], wanted, rtol=1e-6)


# The table itself

NEVER = 10**6
BEHAVIOUR = {"GroupNormalization": 21, "RoiAlign": 16, "Resize": 13, "Split": 18}
"""Changes that no schema shows in a form: what else a row may be for, and the opset that made the change."""
SAME_ALL_ALONG = {"BatchNormalization": 14}
"""Results that only training uses."""


def history() -> dict[str, list[OpSchema]]:
    found: dict[str, list[OpSchema]] = defaultdict(list)
    for each in onnx.defs.get_all_schemas_with_history():
        if each.domain == "" and each.since_version <= schema.CANONICAL_OPSET:
            found[each.name].append(each)
    return {name: sorted(versions, key=lambda s: s.since_version) for name, versions in found.items()}


def structural_changes(old: OpSchema, new: OpSchema) -> list[str]:
    """What an op written by `old` may say that `new` does not understand, or understands differently."""
    changes = [f"attribute {n} is gone" for n in old.attributes if n not in new.attributes]
    for name, attribute in old.attributes.items():
        other = new.attributes.get(name)
        if other is not None and (attribute.type != other.type or attribute.default_value != other.default_value):
            changes.append(f"attribute {name} has another type or default")
    changes += [f"attribute {n} is needed" for n, a in new.attributes.items() if a.required and n not in old.attributes]
    shared = len(old.inputs)
    if [p.type_str for p in new.inputs[:shared]] != [p.type_str for p in old.inputs] and len(new.inputs) != shared:
        changes.append("operands were inserted")
    if len(new.inputs) < shared or new.min_input > old.max_input:
        changes.append("operands are gone or needed")
    if new.deprecated:
        changes.append("the op is gone")
    return changes


def test_every_structural_change_since_opset_7_has_a_row() -> None:
    unraised: list[str] = []
    for name, versions in history().items():
        for old, following in pairwise(versions):
            if following.since_version <= schema.OLDEST_OPSET:
                continue
            changes = structural_changes(old, versions[-1])
            newest = following.since_version - 1
            if changes and not any(newest < before for before, _ in ROWS.get(name, ())):
                unraised.append(f"{name} of opset {newest}: {', '.join(changes)}")
    assert not unraised, "\n".join(unraised)


def test_every_row_ends_at_a_change() -> None:
    versions = history()
    for name, rows in ROWS.items():
        for before, _ in rows:
            if before == NEVER:
                assert name not in versions, f"{name} is an op of ONNX"
                continue
            changed_at = {each.since_version for each in versions[name]}
            assert before in changed_at, f"{name} did not change in opset {before}"
            last_old = [each for each in versions[name] if each.since_version < before][-1]
            first_new = next(each for each in versions[name] if each.since_version == before)
            known = BEHAVIOUR.get(name) == before or SAME_ALL_ALONG.get(name) == before
            assert known or structural_changes(last_old, first_new) or name == "Dropout", f"{name} {before}"


def test_the_newest_form_is_never_touched() -> None:
    for name, rows in ROWS.items():
        for before, _ in rows:
            if before != NEVER:
                assert before <= schema.CANONICAL_OPSET, name
