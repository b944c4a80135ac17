"""What the engine says it takes, asked of ONNX Runtime itself: sessions are made of all of onnx's backend node cases."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import irc
from irc.ir import UnsupportedError, capture, emit, schema
from irc.lowering import ENGINES, CompileOptions, compile_model, find_target
from irc.lowering.onnxruntime.engine import KEPT_INLINE, choose_opset
from irc.lowering.onnxruntime.kernels import kernels, why_not

ort.set_default_logger_severity(4)

# The engine is asked by op and type; these fail for other reasons, which no list of kernels tells.
EXCEPTIONS = {
    r"test_(gru|lstm|simple_rnn)_batchwise": "the kernels of recurrent ops take layout=0 only",
    r"test_strnormalizer_.*": "the machine may lack the locale en_US, which the kernel asks for",
}


def refusal(model: bytes) -> str:
    """Why ONNX Runtime makes no session of a model; empty when it does."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        return str(error) or type(error).__name__
    return ""


def cases() -> list[tuple[str, bytes]]:
    """Name and model of onnx's backend node cases."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [(case.name, case.model.SerializeToString()) for case in collect_testcases(None)]


def test_kernels_are_what_the_library_has() -> None:
    """Yes means that a session can be made, but for the exceptions; no means that none can, without exception."""
    wrong: list[str] = []
    excused: set[str] = set()
    taken = 0
    for name, model in cases():
        graph = capture(model)
        try:
            opset = choose_opset(graph)
        except UnsupportedError as error:
            if not refusal(model):
                wrong.append(f"{name}: a session can be made, but the engine says: {error}")
            continue
        taken += 1
        reason = refusal(emit(graph, opset=opset, keep_inline=KEPT_INLINE).complete().SerializeToString())
        excuse = next((pattern for pattern in EXCEPTIONS if re.fullmatch(pattern, name)), None)
        if reason and excuse is None:
            wrong.append(f"{name}: the engine takes it, but: {reason[:300]}")
        if reason and excuse is not None:
            excused.add(excuse)
    assert not wrong, "\n".join(wrong)
    assert taken > 1650
    assert excused | {r"test_strnormalizer_.*"} == set(EXCEPTIONS), "an exception is no longer needed"


def model(op: str, kind: int = TensorProto.FLOAT, opset: int = 21, domain: str = "", **attributes: Any) -> onnx.ModelProto:
    """One op with one input and one output of rank 1."""
    one = helper.make_node(op, ["x"], ["y"], name="it", domain=domain, **attributes)
    x, y = helper.make_tensor_value_info("x", kind, [4]), helper.make_tensor_value_info("y", kind, [4])
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    graph = helper.make_graph([one], "g", [x], [y])
    return helper.make_model(graph, ir_version=10, opset_imports=imports)


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
@pytest.mark.parametrize("opset", [15, 21, 22, 24])
def test_ops_that_lost_their_kernel_run_at_an_older_opset(op: str, opset: int) -> None:
    message = model(op, opset=opset)
    graph = capture(message.SerializeToString())
    assert why_not(next(iter(graph)), schema.CANONICAL_OPSET)
    assert choose_opset(graph) == 21
    with irc.compile(message) as program:
        assert program.run({"x": np.full(4, 0.5, np.float32)})["y"].shape == (4,)


def test_other_ops_keep_the_usual_opset() -> None:
    assert choose_opset(capture(model("Relu").SerializeToString())) is None


def test_a_refusal_names_every_op_and_why() -> None:
    with pytest.raises(irc.IrcError) as caught:
        irc.compile(model("Magic", domain="wizards"))
    assert getattr(caught.value, "exit_code", None) == 4
    assert "wizards::Magic at it: no kernel for wizards::Magic is registered" in caught.value.message
    with pytest.raises(irc.IrcError) as caught:
        irc.compile(model("Relu", TensorProto.BFLOAT16))
    assert "it: no kernel for Relu takes tensor(bfloat16)" in caught.value.message


def test_an_engine_answers_for_one_op() -> None:
    target = find_target("cpu")
    for message, taken in (
        (model("Relu"), True),
        (model("RandomNormalLike"), True),
        (model("Relu", TensorProto.BFLOAT16), False),
    ):
        verdict = ENGINES[0].takes(next(iter(capture(message.SerializeToString()))), target)
        assert bool(verdict) is taken
        assert bool(verdict.reason) is not taken


def test_what_onnx_defines_by_other_ops_is_tried() -> None:
    """A definition by other ops is no help where these have no kernel either."""
    for op, kind, taken in (("Celu", TensorProto.FLOAT, True), ("Relu", TensorProto.BFLOAT16, False)):
        assert bool(why_not(next(iter(capture(model(op, kind).SerializeToString()))), schema.CANONICAL_OPSET)) is not taken


def test_half_precision_is_taken_where_the_engine_casts() -> None:
    message = model("Softplus", TensorProto.FLOAT16)
    assert not any("tensor(float16)" in dict(k.types).get("T", ()) for k in kernels()["", "Softplus"])
    x = np.linspace(-2, 2, 4).astype(np.float16)
    got = compile_model(message, CompileOptions()).program.run({"x": x})["y"]
    np.testing.assert_allclose(got.astype(np.float64), np.log1p(np.exp(x.astype(np.float64))), rtol=2e-3)
