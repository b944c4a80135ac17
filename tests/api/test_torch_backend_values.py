"""`torch.compile(backend="irc")` and memory: weights that change, tensors written in place, and what results share."""

from __future__ import annotations

from typing import Any

import pytest

for package in ("torch", "onnxscript"):
    pytest.importorskip(package, reason=f"{package} is not installed (the extra 'torch')")

import torch  # noqa: E402  it may be missing
from torch import nn  # noqa: E402

from irc.torch.backends import MOST_PROGRAMS  # noqa: E402

from .compiled import Counter, Net, compiled, fresh, make_counter, same  # noqa: E402, F401

# Weights


@pytest.mark.parametrize("change", ["in place", "data", "another", "load_state_dict", "buffer"])
def test_changed_weights_give_no_stale_answers(change: str) -> None:
    net, x = Net().eval(), torch.randn(2, 4)
    fast = compiled(net)
    before = fast(x)
    other = Net()
    match change:
        case "in place":
            net.first.weight.mul_(3)
        case "data":
            net.first.weight.data = other.first.weight.data
        case "another":
            net.first.weight = other.first.weight
        case "load_state_dict":
            net.load_state_dict(other.state_dict())
        case _:
            net.shift.add_(1)
    after = fast(x)
    same(after, net(x))
    assert not torch.allclose(before, after)


def test_one_frame_serves_two_instances(counter: Counter) -> None:
    first, second, x = Net().eval(), Net().eval(), torch.randn(2, 4)

    def run(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return net(x)

    fast = compiled(run, backend=counter)
    for _ in range(3):
        same(fast(first, x), first(x))
        same(fast(second, x), second(x))
    assert len(counter.programs) == 2


def test_weights_that_keep_changing_become_inputs(counter: Counter) -> None:
    net, x = Net().eval(), torch.randn(2, 4)
    fast = compiled(net, backend=counter)
    for _ in range(MOST_PROGRAMS + 4):
        net.first.weight.add_(0.1)
        same(fast(x), net(x))
    assert len(counter.programs) == MOST_PROGRAMS + 1


def test_frozen_weights_are_not_looked_at(counter: Counter) -> None:
    net, x = Net().eval(), torch.randn(2, 4)
    fast = compiled(net, backend=counter, options={"frozen": True})
    before = fast(x)
    net.first.weight.mul_(3)
    assert len(counter.programs) == 1
    same(fast(x), before)
    net.first.weight = nn.Parameter(net.first.weight.clone())  # another tensor is always noticed
    same(fast(x), net(x))


def test_a_buffer_that_the_module_writes_is_written(counter: Counter) -> None:
    class Cache(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(3))
            self.linear = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.add_(x.sum(0))
            return self.linear(self.seen) * 2

    net, twin = Cache().eval(), Cache().eval()
    twin.load_state_dict(net.state_dict())
    fast = compiled(net, backend=counter)
    for _ in range(3):
        x = torch.randn(2, 3)
        same(fast(x), twin(x))
        same(net.seen, twin.seen)
    assert counter.graphs == 1


def test_an_input_written_in_place_is_written() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        x.mul_(2)
        return x + 1

    x = torch.randn(3)
    y = x.clone()
    same(compiled(function)(x), function(y))
    same(x, y)


# What comes out


def test_outputs_share_no_memory_with_each_other() -> None:
    def function(x: torch.Tensor) -> Any:
        y = x + 1
        return y, y * 1, x * 1

    x = torch.randn(4)
    outputs = compiled(function)(x)
    assert len({each.data_ptr() for each in (x, *outputs)}) == 4


def test_a_view_of_an_input_is_a_view_of_it() -> None:
    def function(x: torch.Tensor) -> Any:
        return x * 2, x.view(-1)[1:], x[0]

    x = torch.randn(2, 3)
    computed, flat, row = compiled(function)(x)
    flat.zero_()
    row.add_(1)
    same(x, torch.tensor([[x[0, 0].item(), 1, 1], [0, 0, 0]]))
    assert computed.shape == (2, 3)


def test_none_numbers_and_structures_come_out() -> None:
    def function(x: torch.Tensor, flag: bool) -> Any:
        return {"y": x.relu(), "n": x.shape[0], "none": None, "f": 1.5, "flag": flag, "twice": [x * 2] * 2}

    x = torch.randn(2, 3)
    found, expected = compiled(function)(x, True), function(x, True)
    assert found.keys() == expected.keys()
    assert (found["n"], found["none"], found["f"], found["flag"]) == (2, None, 1.5, True)
    same(found["y"], expected["y"])
    same(found["twice"], expected["twice"])


def test_a_graph_without_inputs() -> None:
    def function() -> torch.Tensor:
        return torch.arange(6, dtype=torch.float32).reshape(2, 3).sin()

    same(compiled(function)(), function())


def test_a_function_that_returns_its_input_returns_that_very_tensor() -> None:
    x = torch.randn(3)
    assert compiled(lambda x: x)(x) is x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_dtypes(dtype: torch.dtype) -> None:
    x = (torch.randn(2, 3) * 3).to(dtype)
    found = compiled(lambda x: x.flip(0))(x)
    assert found.dtype is dtype
    assert torch.equal(found, x.flip(0))


def test_meta_and_fake_tensors_pass_through(counter: Counter) -> None:
    with torch.device("meta"):
        net = Net().eval()
    found = compiled(net, backend=counter)(torch.empty(2, 4, device="meta"))
    assert found.device.type == "meta"
    assert found.shape == (2, 3)
    assert not counter.programs
