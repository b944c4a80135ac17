"""A wrong form of the engine, planted beside the right ones."""

from __future__ import annotations

import pytest

from irc.ir import Op, Value
from irc.lowering.onnxruntime import engine, forms
from irc.passes import No, Rewriter, rule

from .models import F32, Shell, info, model, node


@rule("Tanh")
def tanh_as_softsign(op: Op, rewrite: Rewriter) -> Value | No:
    """Tanh is Softsign. Wrong: they are only alike."""
    return rewrite.op("Softsign", [op.operand(0)])


def plant(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the engine use the wrong form; the file of a model with one place for it, and one for a right form."""
    rules = (tanh_as_softsign, *forms.RULES)
    monkeypatch.setattr(forms, "RULES", rules)
    monkeypatch.setattr(engine, "RULES", rules)
    nodes = [
        node("Tanh", ["x"], ["t"], name="the-place"),
        node("Sigmoid", ["t"], ["s"], name="sigmoid"),
        node("Mul", ["t", "s"], ["y"], name="swish"),
    ]
    shell.save("tanh.onnx", model(nodes, [info("x", F32, [4])], [info("y", F32, [4])]))
    return "tanh.onnx"
