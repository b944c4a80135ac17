"""`irc.compile` on PyTorch programs: tensors in, tensors out, the same structure, and clear refusals."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irc

torch = pytest.importorskip("torch", reason="needs torch (pip install 'irc-compiler[torch]')")
nn = torch.nn


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(self.stem(x)))


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x: Any) -> Any:
        self.total.add_(x)
        return self.total * 2


class Named(nn.Module):
    def forward(self, x: Any, *, scale: Any) -> dict[str, Any]:
        return {"scaled": x * scale, "both": (x, [x + scale])}


def close(got: Any, wanted: Any) -> bool:
    return bool((got - wanted).norm() <= 1e-5 * wanted.norm())


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_module_at_every_level(level: int) -> None:
    module, x = Tower().eval(), torch.rand(3, 4)
    program = irc.compile(module, (x,), opt_level=level)
    assert isinstance(program, irc.TorchProgram)
    assert close(program(x), module(x))


def test_a_dim_that_is_open() -> None:
    module = Tower().eval()
    program = irc.compile(module, (torch.rand(2, 4),), dynamic_shapes={"x": {0: "batch"}})
    assert str(program.inputs[0]) == "x: f32[batch,4]"
    for batch in (1, 2, 7):
        x = torch.rand(batch, 4)
        assert close(program(x), module(x))


@pytest.mark.parametrize("made", ["module", "graph module", "exported"])
def test_what_can_be_compiled(made: str) -> None:
    module, x = Tower().eval(), torch.rand(3, 4)
    if made == "graph module":
        source: Any = torch.fx.symbolic_trace(module)
    else:
        source = torch.export.export(module, (x,)) if made == "exported" else module
    program = irc.compile(source, () if made == "exported" else (x,))
    assert close(program(x), module(x))


def test_one_example_needs_no_tuple_and_keywords_are_a_mapping() -> None:
    x = torch.rand(3, 4)
    assert close(irc.compile(Tower().eval(), x)(x), Tower().eval()(x))
    scale = torch.tensor(2.0)
    program = irc.compile(Named().eval(), x, example_kwargs={"scale": scale})
    answer = program(x, scale=scale)
    assert list(answer) == ["scaled", "both"]
    assert close(answer["scaled"], x * 2)
    assert torch.equal(answer["both"][0], x)
    assert close(answer["both"][1][0], x + 2)


def test_what_is_saved_runs_by_name(tmp_path: Path) -> None:
    module, x = Tower().eval(), torch.rand(3, 4)
    irc.compile(module, x).save(tmp_path / "tower.irc")
    with irc.load(tmp_path / "tower.irc") as program:
        [answer] = program.run({"x": x.numpy()}).values()
        [again] = program.run({"x": x}).values()  # a tensor, by DLPack
    assert close(torch.from_numpy(answer), module(x))
    assert np.array_equal(answer, again)


def test_state_stays_between_calls_and_the_module_keeps_its_own() -> None:
    module, x = Counter().eval(), torch.tensor([1.0, 2.0, 3.0])
    program = irc.compile(module, x)
    assert [program(x).tolist() for _ in range(2)] == [[2.0, 4.0, 6.0], [4.0, 8.0, 12.0]]
    program.reset_state()
    assert program(x).tolist() == [2.0, 4.0, 6.0]
    assert module.total.tolist() == [0.0, 0.0, 0.0]


def test_answers_share_memory_with_nothing() -> None:
    x = torch.rand(3, 4)
    program = irc.compile(nn.Identity().eval(), x)
    first, second = program(x), program(x)
    first.zero_()
    assert torch.equal(second, x)
    assert x.abs().sum() > 0


def test_many_threads_call_one_program() -> None:
    module = Tower().eval()
    program = irc.compile(module, torch.rand(1, 4), dynamic_shapes={"x": {0: "batch"}})
    wrong: list[int] = []

    def work(batch: int) -> None:
        x = torch.rand(batch, 4)
        wrong.extend(batch for _ in range(50) if not close(program(x), module(x)))

    with torch.no_grad():
        threads = [threading.Thread(target=work, args=(batch,)) for batch in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((torch.rand(3, 5),), "x"),
        ((torch.rand(3, 4, dtype=torch.float64),), "x"),
        ((), "structure"),
        ((np.zeros((3, 4), np.float32),), "x"),
    ],
)
def test_calls_that_do_not_fit(arguments: tuple[Any, ...], sentence: str) -> None:
    program = irc.compile(Tower().eval(), torch.rand(3, 4))
    with pytest.raises((irc.IrcError, irc.RunError), match=sentence):
        program(*arguments)


def test_what_is_refused() -> None:
    with pytest.raises(irc.IrcError, match="training mode"):
        irc.compile(Tower(), torch.rand(3, 4))
    with pytest.raises(irc.IrcError, match="given twice"):
        irc.compile(Tower().eval(), {"x": torch.rand(3, 4)}, example_kwargs={"x": torch.rand(3, 4)})
    with pytest.raises(irc.IrcError, match=r"there is no option 'oplevel'.*opt_level"):
        irc.compile(Tower().eval(), torch.rand(3, 4), oplevel=2)  # type: ignore[call-overload]
    with pytest.raises(irc.IrcError, match="PyTorch"):
        irc.compile(b"", (torch.rand(3, 4),))  # type: ignore[call-overload]
    with pytest.raises(irc.IrcError, match="a PyTorch module, not int"):
        irc.compile(3)
