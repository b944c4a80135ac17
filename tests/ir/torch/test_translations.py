"""Ops that ONNX cannot say: one error for all of them, and a way to say how each is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from irc.ir import UnsupportedError, UsageError
from irc.ir.capture.torch import TRANSLATIONS, capture_torch, translate

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'torch')")
onnxscript = pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra 'torch')")
nn = torch.nn
op = onnxscript.opset18


@torch.library.custom_op("irc_tests::twice", mutates_args=())
def twice(x: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
    return x * factor


@twice.register_fake
def _(x: Any, factor: float = 2.0) -> Any:
    return torch.empty_like(x)


@torch.library.custom_op("irc_tests::halves", mutates_args=())
def halves(x: torch.Tensor) -> list[torch.Tensor]:
    return [part.clone() for part in x.chunk(2, -1)]


@halves.register_fake
def _(x: Any) -> Any:
    return [torch.empty_like(part) for part in x.chunk(2, -1)]


class Uses(nn.Module):
    def forward(self, x: Any) -> Any:
        left, right = torch.ops.irc_tests.halves(torch.ops.irc_tests.twice(x, 3.0))
        return left + torch.ops.irc_tests.twice(right)


@pytest.fixture(autouse=True)
def own_translations() -> Iterator[None]:
    before = dict(TRANSLATIONS)
    yield
    TRANSLATIONS.clear()
    TRANSLATIONS.update(before)


def onnx_twice(x: Any, factor: float = 2.0) -> Any:
    return op.Mul(x, op.CastLike(op.Constant(value_float=factor), x))


def onnx_halves(x: Any) -> Any:
    return op.Split(x, num_outputs=2, axis=-1)


def test_every_op_without_a_translation_is_listed_with_its_line() -> None:
    with pytest.raises(UnsupportedError) as caught:
        capture_torch(Uses().eval(), (torch.rand(2, 4),))
    message = str(caught.value)
    assert "these 2 ops" in message
    assert "irc_tests::twice at " in message
    assert "and 1 more" in message
    assert "irc_tests::halves at " in message
    assert message.count("test_translations.py:") == 2
    assert 'irc.torch.translate("irc_tests::' in message


def test_a_callable_says_how_an_op_is_written(captured: Any, agrees: Any) -> None:
    translate("irc_tests::twice", onnx_twice)
    translate(torch.ops.irc_tests.halves.default, onnx_halves)
    x = torch.rand(2, 4)
    program = captured(Uses(), x)
    agrees(program(x), Uses()(x))
    assert "Split" in program.ops


def test_it_is_a_decorator_too(captured: Any, agrees: Any) -> None:
    @translate("irc_tests::twice.default")
    def written(x: Any, factor: float = 2.0) -> Any:
        return onnx_twice(x, factor)

    assert TRANSLATIONS["irc_tests::twice"] is written

    class Once(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.ops.irc_tests.twice(x, 5.0)

    x = torch.rand(3)
    agrees(captured(Once(), x)(x), x * 5)


def test_an_onnxscript_function_is_inlined(captured: Any, agrees: Any) -> None:
    library = onnxscript.values.Opset("irc.tests", 1)

    @onnxscript.script(library, default_opset=op)
    def Twice(x: onnxscript.FLOAT[...], factor: float = 2.0) -> onnxscript.FLOAT[...]:  # noqa: N802  an ONNX function
        return op.Mul(x, op.CastLike(op.Constant(value_float=factor), x))

    translate("irc_tests::twice", Twice)

    class Once(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.ops.irc_tests.twice(x, 5.0)

    x = torch.rand(3)
    program = captured(Once(), x)
    agrees(program(x), x * 5)
    assert "Mul" in program.ops
    assert all("test_translations.py" in each.location.name for each in program.graph)


def test_a_registration_goes_before_what_irc_and_torch_know(captured: Any) -> None:
    @translate("aten::relu")
    def written(self: Any) -> Any:
        return op.Max(self, op.CastLike(op.Constant(value_float=0.0), self))

    assert "Max" in captured(nn.ReLU(), torch.rand(3)).ops


def test_a_module_may_hold_an_onnx_op_of_another_domain(captured: Any) -> None:
    class Quick(nn.Module):
        def forward(self, x: Any) -> Any:
            name = "com.microsoft::QuickGelu"
            return torch.onnx.ops.symbolic(name, (x,), {"alpha": 1.702}, dtype=x.dtype, shape=x.shape, version=1)

    program = captured(Quick(), torch.rand(3))
    assert [each.qualified_name for each in program.graph if not each.is_constant] == ["com.microsoft::QuickGelu"]


def test_a_translation_that_fails_is_named_with_the_line() -> None:
    @translate("irc_tests::twice")
    def written(x: Any, factor: float = 2.0) -> Any:
        raise RuntimeError("not today")

    class Once(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.ops.irc_tests.twice(x)

    with pytest.raises(UnsupportedError, match="irc_tests::twice failed: RuntimeError: not today") as caught:
        capture_torch(Once().eval(), (torch.rand(3),))
    assert "test_translations.py:" in (caught.value.location or "")


@pytest.mark.parametrize("name", ["twice", "::twice", "irc_tests::", 3])
def test_what_names_no_op_is_refused(name: object) -> None:
    with pytest.raises(UsageError):
        translate(name, onnx_twice)
