"""Dynamic dims keep the names the user gave them, and what could not stay dynamic is said."""

from __future__ import annotations

from typing import Any

import pytest

from irc.ir import UsageError, dims
from irc.ir.capture.torch import capture_torch

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'torch')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra 'torch')")
nn = torch.nn


class Double(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + x


class Joined(nn.Module):
    def forward(self, past: Any, new: Any, mask: Any) -> Any:
        return torch.cat([past, new], 1) * mask


def test_a_dim_may_be_a_name(captured: Any) -> None:
    program = captured(Double(), torch.rand(2, 3), dynamic_shapes={"x": {0: "batch", 1: "width"}})
    assert program.inputs == {"x": "f32[batch,width]"}
    assert program.outputs == {"output": "f32[batch,width]"}
    assert not program.notes


def test_a_dim_may_be_a_dim_with_a_range(captured: Any) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    program = captured(Double(), torch.rand(2, 3), dynamic_shapes=({0: batch},))
    assert program.inputs == {"x": "f32[batch,3]"}
    assert program.capture.ranges == {"batch": (2, 64)}


def test_a_derived_dim_is_an_expression(captured: Any, agrees: Any) -> None:
    batch, past = torch.export.Dim("batch"), torch.export.Dim("past")
    shapes = {"past": {0: batch, 1: past}, "new": {0: batch}, "mask": {0: batch, 1: past + 1}}
    program = captured(Joined(), torch.rand(2, 4), torch.rand(2, 1), torch.rand(2, 5), dynamic_shapes=shapes)
    assert program.inputs == {"past": "f32[batch,past]", "new": "f32[batch,1]", "mask": "f32[batch,past+1]"}
    assert program.outputs == {"output": "f32[batch,past+1]"}
    inputs = torch.rand(3, 6), torch.rand(3, 1), torch.rand(3, 7)
    agrees(program(*inputs), Joined()(*inputs))


def test_a_multiple_is_an_expression_of_a_name_no_input_has(captured: Any) -> None:
    class Halved(nn.Module):
        def forward(self, x: Any) -> Any:
            return nn.functional.max_pool2d(x, 2)

    width = torch.export.Dim("width")
    program = captured(Halved(), torch.rand(1, 1, 8, 2), dynamic_shapes={"x": {2: 4 * width}})
    assert program.inputs == {"x": "f32[1,1,4*width,2]"}
    assert program.outputs == {"output": "f32[1,1,2*width,1]"}


def test_a_dim_without_a_name_is_called_after_its_input(captured: Any) -> None:
    program = captured(Double(), torch.rand(2, 3), dynamic_shapes={"x": {0: torch.export.Dim.DYNAMIC}})
    assert program.inputs == {"x": "f32[x_dim0,3]"}


def test_an_example_of_size_one_stays_dynamic(captured: Any, agrees: Any) -> None:
    program = captured(Double(), torch.rand(1, 3), dynamic_shapes={"x": {0: "batch"}})
    x = torch.rand(4, 3)
    agrees(program(x), x + x)


def test_dims_are_given_as_the_inputs_are_nested(captured: Any) -> None:
    class Nested(nn.Module):
        def forward(self, pair: Any, *rest: Any, extra: Any) -> Any:
            return pair[0] + pair[1]["a"] + rest[0] + extra

    x = torch.rand(2, 3)
    shapes = {"pair": ({0: "n"}, {"a": {0: "n"}}), "rest": ({0: "n"},), "extra": {0: "n"}}
    program = captured(Nested(), (x, {"a": x}), x, extra=x, dynamic_shapes=shapes)
    assert set(program.inputs.values()) == {"f32[n,3]"}
    assert list(program.inputs) == ["pair.0", "pair.1.a", "rest.0", "extra"]


def test_a_table_of_positions_bounds_the_length(captured: Any, agrees: Any) -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.rand(16, 4))

        def forward(self, x: Any) -> Any:
            return x + self.table[: x.shape[1]]

    module = Positions()
    program = captured(module, torch.rand(2, 5, 4), dynamic_shapes={"x": {0: "batch", 1: "length"}})
    assert program.inputs == {"x": "f32[batch,length,4]"}
    assert program.capture.ranges["length"] == (0, 16)
    assert list(program.notes) == ["the program is only known to work where length is at most 16"]
    x = torch.rand(3, 16, 4)
    agrees(program(x), module(x))


def test_a_dim_that_the_program_fixes_is_said(captured: Any) -> None:
    class Fixes(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.reshape(2, 6) * 2

    program = captured(Fixes(), torch.rand(2, 6), dynamic_shapes={"x": {0: "batch"}})
    assert program.inputs == {"x": "f32[2,6]"}
    assert any("dim 0 of 'x' (batch)" in note and "only works for 2" in note for note in program.notes)


def test_two_names_for_one_size_become_one(captured: Any) -> None:
    class Sum(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

    program = captured(Sum(), torch.rand(3), torch.rand(3), dynamic_shapes={"x": {0: "a"}, "y": {0: "b"}})
    assert len(set(program.inputs.values())) == 1
    assert list(program.notes) == ["dim 0 of 'y' (b) must be a"]


@pytest.mark.parametrize(
    ("forward", "size", "conditions"),
    [
        (lambda x: x.reshape(x.shape[0], x.shape[1] // 2, 2), (2, 8), ["seq is a multiple of 2"]),
        (lambda x: x.reshape(2, 4), (2, 4), ["batch*seq is 8"]),
        (lambda x: x[:, :5] if x.shape[1] > 5 else x, (2, 8), ["seq is at least 6"]),
        (lambda x: x if x.shape[1] % 7 else -x, (2, 8), ["seq is no multiple of 7"]),
        (lambda x: -x if x.shape[0] != 3 and x.shape[1] // 2 >= 4 else x, (2, 8), ["seq is at least 8", "batch is not 3"]),
        (lambda x: x + x[:, : x.shape[1] // 2].repeat(1, 2), (2, 8), ["seq is a multiple of 2"]),
    ],
)
def test_what_is_taken_for_granted_of_sizes_is_said_once(captured: Any, forward: Any, size: Any, conditions: Any) -> None:
    class Conditional(nn.Module):
        def forward(self, x: Any) -> Any:
            return forward(x)

    program = captured(Conditional(), torch.rand(*size), dynamic_shapes={"x": {0: "batch", 1: "seq"}})
    assert program.inputs == {"x": "f32[batch,seq]"}
    assert list(program.notes) == [f"the program is only known to work where {each}" for each in conditions]


def test_a_range_that_was_asked_for_is_no_news(captured: Any) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    assert not captured(Double(), torch.rand(4, 3), dynamic_shapes={"x": {0: batch}}).notes


def test_conditions_that_nobody_would_read_are_counted(captured: Any) -> None:
    class Windows(nn.Module):
        def forward(self, x: Any) -> Any:
            rows, columns = x.shape
            x = nn.functional.pad(x, (0, (5 - columns % 5) % 5, 0, (7 - rows % 7) % 7))
            return x.view(x.shape[0] // 7, 7, x.shape[1] // 5, 5)

    notes = captured(Windows(), torch.rand(8, 8), dynamic_shapes={"x": {0: "rows", 1: "columns"}}).notes
    assert all(len(note) < 120 for note in notes)
    assert "more condition on sizes" in notes[-1]


def test_a_size_may_be_zero(captured: Any, agrees: Any) -> None:
    class Swapped(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.transpose(0, 1).reshape(x.shape[1], x.shape[0] * x.shape[2])

    program = captured(Swapped(), torch.rand(2, 5, 3), dynamic_shapes={"x": {0: "batch"}})
    x = torch.rand(0, 5, 3)
    agrees(program(x), Swapped()(x))


def test_sizes_that_depend_on_values_are_unknown_or_named(captured: Any, agrees: Any) -> None:
    class Found(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.nonzero()

    program = captured(Found(), torch.tensor([1, 0, 2]))
    x = torch.tensor([0, 0, 5])
    agrees(program(x), x.nonzero())


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"y": {0: "batch"}}, "'y', which is no input"),
        ({"x": {0: "a batch"}}, "cannot name a dim"),
        ({"x": {"batch": 0}}, "where the number of a dim belongs"),
        ({"x": [{0: "batch"}, None]}, "has {0: 'batch'} for dim 0"),
        (({0: "a"}, {0: "b"}), "entry 1"),
    ],
)
def test_a_mistake_in_dynamic_shapes_is_explained(shapes: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        capture_torch(Double().eval(), (torch.rand(2, 3),), dynamic_shapes=shapes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s0", "batch"),
        ("s0 + 2", "batch+2"),
        ("((2*s0 + 2)//3)", "div(2*batch+2,3)"),
        ("((s0 - 1)//2) + 1", "div(batch - mod(batch - 1,2) - 1,2)+1"),
        ("4*s1*s0", "4*batch*s1"),
        ("Max(1, s0)", "max(1,batch)"),
        ("s0**2", "batch*batch"),
        ("Mod(s0, 4)", "mod(batch,4)"),
        ("Piecewise((1, s0 > 2), (s0, True))", "?"),
        ("7", "7"),
    ],
)
def test_sizes_as_torch_writes_them(text: str, expected: str) -> None:
    from irc.ir.capture.torch.dynamic import spelled

    assert dims.text(spelled(text, {"s0": "batch"})) == expected


@pytest.mark.parametrize("size", range(7))
def test_a_quotient_is_rounded_down_also_below_zero(size: int) -> None:
    from irc.ir.capture.torch.dynamic import spelled

    assert dims.evaluate(spelled("((s0 - 3)//2)", {"s0": "n"}), {"n": size}) == (size - 3) // 2
