"""What a module changes in place is explicit: inputs with the value before, outputs with the value after."""

from __future__ import annotations

from typing import Any

import pytest

from irc.ir import UnsupportedError
from irc.ir.capture.torch import capture_torch

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'torch')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra 'torch')")
nn = torch.nn


class Cache(nn.Module):
    """Writes each new row into a buffer and returns the sum of all so far."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(4, 3))

    def forward(self, row: Any, position: Any) -> Any:
        self.rows.index_copy_(0, position, row)
        return self.rows.sum(0)


def test_a_changed_buffer_is_an_input_and_an_output(captured: Any) -> None:
    program = captured(Cache(), torch.rand(1, 3), torch.tensor([0]))
    assert program.inputs == {"row": "f32[1,3]", "position": "i64[1]", "rows": "f32[4,3]"}
    assert program.outputs == {"output": "f32[3]", "rows.next": "f32[4,3]"}


def test_the_program_remembers_as_the_module_does(captured: Any, agrees: Any) -> None:
    module = Cache().eval()
    program = captured(module, torch.rand(1, 3), torch.tensor([0]))
    assert program.capture.calling.has_state
    for position in range(4):
        inputs = torch.rand(1, 3), torch.tensor([position])
        agrees(program(*inputs), module(*inputs))


def test_the_state_is_the_program_s_own(captured: Any) -> None:
    module = Cache().eval()
    program = captured(module, torch.rand(1, 3), torch.tensor([0]))
    first = program(torch.ones(1, 3), torch.tensor([0]))
    assert module.rows.count_nonzero() == 0
    program(torch.ones(1, 3), torch.tensor([1]))
    program.capture.calling.reset()
    assert program(torch.ones(1, 3), torch.tensor([0])).equal(first)


def test_a_changed_input_is_written_back(captured: Any) -> None:
    class Adds(nn.Module):
        def forward(self, x: Any, total: Any) -> Any:
            total.add_(x)
            return total * 2

    program = captured(Adds(), torch.rand(3), torch.zeros(3))
    assert list(program.outputs) == ["output", "total.next"]
    total = torch.ones(3)
    assert program(torch.ones(3), total).equal(torch.full((3,), 4.0))
    assert total.equal(torch.full((3,), 2.0))


def test_batch_norm_in_eval_mode_has_no_state(captured: Any, agrees: Any) -> None:
    module, x = nn.BatchNorm1d(3).eval(), torch.rand(2, 3)
    program = captured(module, x)
    assert not program.capture.calling.has_state
    agrees(program(x), module(x))


def test_a_tensor_that_is_no_buffer_cannot_be_state() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = torch.zeros(3)

        def forward(self, x: Any) -> Any:
            self.seen = self.seen + x
            return self.seen

    with pytest.raises(UnsupportedError, match="its tensor 'seen', which is no buffer") as caught:
        capture_torch(Hidden().eval(), (torch.rand(3),))
    assert "register_buffer" in str(caught.value)


def test_a_tensor_left_for_others_to_read_is_not_kept(captured: Any) -> None:
    class Leaves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.zeros(3)

        def forward(self, x: Any) -> Any:
            self.last = x * 2
            return x + 1

    program = captured(Leaves(), torch.rand(3))
    assert any("'last'" in note for note in program.notes)
