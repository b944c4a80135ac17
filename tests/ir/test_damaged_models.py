"""Files that are no models, and models cut off, damaged or built to explode: a refusal, quickly, and never a crash."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from irc.ir import IrcError, Limits, capture

from .models import BOOL, F32, body, const, info, model, node, normal

X = [info("x", F32, [2, 3, 4, 4])]
K = info("k", BOOL, [])


# Files


def test_files_that_are_no_models(tmp_path: Path) -> None:
    empty, noise, text = tmp_path / "empty.onnx", tmp_path / "noise.onnx", tmp_path / "text.onnx"
    empty.touch()
    noise.write_bytes(np.random.default_rng(1).bytes(5000))
    text.write_text("<html>404 not found</html>" * 100)
    for path, code, sentence in (
        (empty, 3, "the file is empty"),
        (noise, 3, "not an ONNX"),
        (text, 3, "not an ONNX"),
        (tmp_path, 2, "not a regular file"),
        (tmp_path / "absent.onnx", 2, "there is no file"),
        (tmp_path / "a\0b.onnx", 2, "cannot be opened"),
        (Path("/dev/null"), 2, "not a regular file"),
    ):
        with pytest.raises(IrcError, match=sentence) as caught:
            capture(path)
        assert caught.value.exit_code == code
    with pytest.raises(IrcError, match="not an ONNX model: it has no graph"):
        capture(b"")


def everything() -> bytes:
    """A small model with something of everything: constants small and large, bodies, a function, sparse, strings."""
    branch = [
        body(n, [node("Add", ["h", w.name], [n])], [], [info(n, F32, ["N", 300])], [w])
        for n, w in (("t", const("v", normal(300))), ("e", const("u", normal(1))))
    ]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function(
        "f",
        "Scale",
        ["a"],
        ["o"],
        [node("Constant", [], ["c"], value_float=2.0), node("Mul", ["a", "c"], ["o"])],
        imports,
    )
    sparse = helper.make_sparse_tensor(const("s", normal(2)), const("i", np.array([0, 299])), [300])
    nodes = [
        node("MatMul", ["x", "w"], ["m"], "first"),
        node("Scale", ["m"], ["n"], domain="f"),
        node("Add", ["n", "s"], ["h"]),
        node("If", ["k"], ["y"], then_branch=branch[0], else_branch=branch[1]),
        node("StringNormalizer", ["text"], ["z"], stopwords=["a", "b"]),
    ]
    text = helper.make_tensor("text", TensorProto.STRING, [2], [b"c", b"d"])
    outputs = [info("y", F32, ["N", 300]), "z"]
    inputs = [info("x", F32, ["N", 4]), K]
    weights = [const("w", normal(4, 300)), text]
    return model(
        nodes, inputs, outputs, weights, functions=[function], domains={"f": 1}, sparse_initializer=[sparse]
    ).SerializeToString()


EVERYTHING = everything()
WEIGHT = EVERYTHING.index(normal(4, 300).tobytes())
OUTSIDE_THE_WEIGHT = [i for i in range(len(EVERYTHING)) if not WEIGHT < i < WEIGHT + 4800]


def taken_or_refused(data: bytes) -> None:
    with contextlib.suppress(IrcError):
        capture(data, Limits(nodes=1000))


@given(st.integers(0, len(EVERYTHING)))
def test_cut_off_anywhere(length: int) -> None:
    taken_or_refused(EVERYTHING[:length])


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(OUTSIDE_THE_WEIGHT), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_anywhere(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(EVERYTHING)
    for position, value in changes:
        damaged[position] = value
    taken_or_refused(bytes(damaged))


# Bombs


def nested(depth: int) -> bytes:
    """Ifs in Ifs, deeper than protobuf lets anybody build them."""

    def field(number: int, payload: bytes) -> bytes:
        length, size = b"", len(payload)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + payload

    graph = b""
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(1, b"k") + field(4, b"If") + field(5, attribute)) + field(2, b"g")
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11")


@pytest.mark.parametrize("depth", [40, 100, 5_000])
def test_graphs_nested_too_deeply(depth: int) -> None:
    with pytest.raises(IrcError, match=r"too deep|not an ONNX") as caught:
        capture(nested(depth))
    assert caught.value.exit_code == 3


def test_functions_that_double_at_each_level() -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = [
        helper.make_function(
            "f",
            f"F{i}",
            ["a"],
            ["o"],
            [node(f"F{i + 1}", ["a"], ["p"], domain="f"), node(f"F{i + 1}", ["p"], ["o"], domain="f")],
            imports,
        )
        for i in range(40)
    ]
    functions.append(helper.make_function("f", "F40", ["a"], ["o"], [node("Relu", ["a"], ["o"])], imports))
    message = model([node("F0", ["x"], ["y"], domain="f")], X, ["y"], functions=functions, domains={"f": 1})
    with pytest.raises(IrcError, match=r"more than \d+ nodes .functions that call functions count too"):
        capture(message)


def test_shapes_are_not_allocated() -> None:
    for sizes in ([2**45], [2**62, 2**62]):
        message = model([node("ConstantOfShape", ["s"], ["y"])], [], ["y"], [const("s", sizes)])
        assert capture(message).outputs[0].shape == tuple(sizes)


def test_shape_arithmetic_stays_small() -> None:
    nodes = [node("Shape", ["x"], ["s0"])]
    for i in range(200):
        nodes += [node("Mul", [f"s{i}", f"s{i}"], [f"m{i}"]), node("Add", [f"m{i}", f"s{i}"], [f"s{i + 1}"])]
    message = model([*nodes, node("ConstantOfShape", ["s200"], ["y"])], [info("x", F32, ["N", "M"])], ["y"])
    assert capture(message).outputs[0].shape == (None, None)


@pytest.mark.parametrize("pads", [[2**62] * 8, [-50] * 8])
def test_sizes_no_tensor_has_are_refused_or_unknown(pads: list[int]) -> None:
    try:
        graph = capture(model([node("Pad", ["x", "p"], ["y"])], X, ["y"], [const("p", pads)]))
    except IrcError:
        return
    assert graph.outputs[0].shape == (None,) * 4
