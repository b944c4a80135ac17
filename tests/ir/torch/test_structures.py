"""Inputs and outputs keep the structure they have in PyTorch, and a call that does not fit is refused with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from irc.ir import UnsupportedError, UsageError
from irc.ir.capture.torch import capture_torch

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'torch')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra 'torch')")
nn = torch.nn


@dataclass
class Point:
    x: Any
    y: Any


class Pair(NamedTuple):
    first: Any
    second: Any


class Structured(nn.Module):
    """Takes and returns one of everything; `flag` and `label` are constants."""

    def forward(self, point: Any, pair: Any, *, table: Any, flag: bool = True, label: Any = None) -> Any:
        y = point.x * 2 + pair.first
        return {
            "point": Point(y, pair.second if flag else y),
            "pair": Pair(y, [table["a"], (y,)]),
            "again": y,
            "same": point.x,
            "constants": (3, None, label, True),
            "size": y.shape[0],
        }


def structured_inputs(n: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (Point(torch.rand(n), torch.rand(2)), Pair(torch.rand(n), torch.rand(3))), {"table": {"a": torch.rand(1)}}


SHAPES = {"point": ({0: "n"}, None), "pair": ({0: "n"}, None), "table": {"a": None}, "label": None}


def test_everything_goes_in_and_out(captured: Any, agrees: Any) -> None:
    args, kwargs = structured_inputs(4)
    program = captured(Structured(), *args, **kwargs, label="train", dynamic_shapes=SHAPES)
    assert list(program.inputs) == ["point.x", "point.y", "pair.first", "pair.second", "table.a"]
    args, kwargs = structured_inputs(7)
    agrees(program(*args, **kwargs, label="train"), Structured()(*args, **kwargs, label="train"))
    assert program(*args, **kwargs, label="train")["size"] == 7


def test_outputs_are_called_after_their_keys(captured: Any) -> None:
    args, kwargs = structured_inputs(4)
    program = captured(Structured(), *args, **kwargs)
    names = list(program.outputs)
    assert names[:4] == ["point.x_1", "point.y_1", "pair.first_1", "pair.second.0"]
    assert len(set(names) | set(program.inputs)) == len(names) + len(program.inputs)


def test_keywords_come_in_any_order(captured: Any, agrees: Any) -> None:
    class Minus(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a - b

    a, b = torch.rand(3), torch.rand(3)
    program = captured(Minus(), a=a, b=b)
    agrees(program(b=b, a=a), a - b)


def test_an_input_nobody_uses_stays_in_the_signature(captured: Any, agrees: Any) -> None:
    class First(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a * 2

    a, b = torch.rand(3), torch.rand(4)
    program = captured(First(), a, b)
    assert list(program.inputs) == ["a", "b"]
    agrees(program(a, b), a * 2)


def test_an_input_may_be_called_like_a_weight_or_an_op(captured: Any, agrees: Any) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([3.0]))

        def forward(self, weight: Any, mul: Any) -> Any:
            return (weight * self.weight) * mul

    inputs = torch.rand(2), torch.rand(2)
    agrees(captured(Scaled(), *inputs)(*inputs), inputs[0] * 3 * inputs[1])


def test_one_tensor_given_twice_is_two_inputs(captured: Any, agrees: Any) -> None:
    class Minus(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a - b

    x, y = torch.rand(3), torch.rand(3)
    program = captured(Minus(), x, x)
    agrees(program(x, y), x - y)


def test_tensors_go_in_and_out_without_a_copy() -> None:
    calling = capture_torch(nn.ReLU().eval(), (torch.rand(4),)).calling
    x = torch.rand(4)
    (array,) = calling.to_feeds((x,)).values()
    assert array.ctypes.data == x.data_ptr()
    assert calling.to_result([array]).data_ptr() == x.data_ptr()


def test_what_does_not_lie_in_order_is_copied_and_gradients_are_left_behind(captured: Any, agrees: Any) -> None:
    program = captured(nn.ReLU(), torch.rand(3, 4))
    x = torch.rand(4, 3).T.requires_grad_()
    agrees(program(x), torch.relu(x.detach()))


def refused(module: Any, example: tuple[Any, ...], call: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> str:
    calling = capture_torch(module.eval(), example).calling
    with pytest.raises(UsageError) as caught:
        calling.to_feeds(call, kwargs)
    return str(caught.value)


def test_another_structure_is_refused() -> None:
    message = refused(nn.ReLU(), (torch.rand(2),), ())
    assert "()" in message
    assert "(_)" in message
    assert "is list and not a tensor" in refused(nn.ReLU(), (torch.rand(2),), ([torch.rand(2)],))


def test_another_dtype_is_refused() -> None:
    message = refused(nn.ReLU(), (torch.rand(2),), (torch.rand(2).double(),))
    assert "input 'input' is float64, but the program takes float32" in message


def test_another_device_is_refused() -> None:
    message = refused(nn.ReLU(), (torch.rand(2),), (torch.empty(2, device="meta"),))
    assert "is on meta, but the program takes CPU tensors" in message


def test_another_constant_is_refused() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Any, factor: int) -> Any:
            return x * factor

    message = refused(Scaled(), (torch.rand(2), 3), (torch.rand(2), 4))
    assert "'factor' is 4, but the program was captured with 3" in message


def test_complex_inputs_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="input 'input' is complex64"):
        capture_torch(nn.Identity().eval(), (torch.rand(2, dtype=torch.complex64),))


def test_wrong_arguments_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(UsageError):
        capture_torch(nn.ReLU().eval(), (torch.rand(2), torch.rand(2)))


class Nested(nn.Module):
    """Takes and returns dicts, lists and tuples in each other; `flag` is a constant."""

    def forward(self, x: Any, *, past: Any, flag: bool = True) -> Any:
        return {"sums": [x + each["key"] for each in past], "last": (past[-1]["value"] if flag else x, {"one": 1})}


def test_plain_containers_are_taken_apart_by_key_in_any_order(captured: Any, agrees: Any) -> None:
    def past() -> Any:
        return [{"key": torch.rand(3), "value": torch.rand(3)} for _ in range(2)]

    program = captured(Nested(), torch.rand(3), past=past(), flag=True)
    x, given = torch.rand(3), past()
    wanted = Nested()(x, past=given)
    agrees(program(x, past=given, flag=True), wanted)
    agrees(program(x, flag=True, past=[{"value": each["value"], "key": each["key"]} for each in given]), wanted)


@pytest.mark.parametrize(
    ("past", "message"),
    [
        ([{"key": torch.ones(3), "value": torch.ones(3)}], "have the structure"),
        ([{"key": torch.ones(3), "val": torch.ones(3)}] * 2, "have the structure"),
        (({"key": torch.ones(3), "value": torch.ones(3)},) * 2, "have the structure"),
        ([{"key": torch.ones(3), "value": [torch.ones(3)]}] * 2, "is list and not a tensor"),
    ],
)
def test_another_nesting_is_refused(captured: Any, past: Any, message: str) -> None:
    right = [{"key": torch.rand(3), "value": torch.rand(3)} for _ in range(2)]
    program = captured(Nested(), torch.rand(3), past=right, flag=True)
    with pytest.raises(UsageError, match=message):
        program(torch.rand(3), past=past, flag=True)
    with pytest.raises(UsageError, match="'flag' is False, but the program was captured with True"):
        program(torch.rand(3), past=right, flag=False)
