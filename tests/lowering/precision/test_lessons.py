"""What integers need is kept as it is learnt: again it is taken, and what was cut off goes on where it was."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import pytest

from irc.ir import Graph
from irc.ir.text import parse_graph, print_graph
from irc.lowering.calibration import Calibration, read_calibration
from irc.lowering.precision import integers
from irc.lowering.precision.integers import Balanced, learn_integers
from irc.lowering.precision.lessons import notebook_of
from irc.lowering.precision.lowered import as_asked, with_forms
from irc.passes.precision import ANY_TOGETHER, EXACT_TOGETHER, Form
from irc.runtime import SignatureEntry, write_entry

LATER = 1e12
"""A deadline that does not come."""


class CutOffError(Exception):
    """Learning ended from outside."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("IRC_CACHE_PROGRAMS", "1GiB")
    return tmp_path / "cache"


@pytest.fixture
def graph() -> Graph:
    """A norm with one loud channel and two products behind it, of which one has a bias: all improvements apply."""
    return with_loud_channel(100.0)


def with_loud_channel(loud: float) -> Graph:
    """The graph, whose loud channel is so many times as large as others."""
    random = np.random.default_rng(0)
    first, second = (random.standard_normal((16, 16)).round(2) for _ in range(2))
    first[3] /= 100
    scale = [str(loud) if index == 3 else "1.0" for index in range(16)]
    return parse_graph(
        f"""graph @main(%x: f32[32,16]) -> (%y: f32[*]) {{
  %s = const @_ : f32[16] = [{", ".join(scale)}]
  %w = const @_ : f32[16,16] = {first.ravel().tolist()}
  %v = const @_ : f32[16,16] = {second.ravel().tolist()}
  %b = const @_ : f32[16] = {second[0].tolist()}
  %n = LayerNormalization(%x, %s)
  %m = MatMul(%n, %w)
  %a = Add(%m, %b)
  %r = Relu(%a)
  %y = MatMul(%r, %v)
  return %y
}}"""
    )


def data(seed: int = 0, count: int = 12) -> Calibration:
    """Samples of different size."""
    random = np.random.default_rng(seed)
    feeds = [{"x": (random.standard_normal((32, 16)) * (1 + index)).astype(np.float32)} for index in range(count)]
    return read_calibration(feeds, [SignatureEntry("x", "f32", (32, 16))])


def learnt(
    graph: Graph, heard: list[str], samples: Calibration | None = None, deadline: float = inf, together: int = ANY_TOGETHER
) -> Balanced:
    """What is learnt, with the notebook of all twelve samples of `data`."""
    notebook = notebook_of(graph, data(), together)
    return learn_integers(graph, samples or data(), heard.append, deadline, together, notebook)


def lowered(found: Balanced) -> str:
    """The model in integers, as text: every number or its digest."""
    return print_graph(with_forms(found.model, as_asked(found.model, Form.INT8, found.knowledge), found.knowledge))


def judged(heard: list[str]) -> list[str]:
    """The names of improvements whose errors were measured."""
    return [event.split(":")[0] for event in heard if " against " in event]


def test_what_was_learnt_is_taken_again(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    first = learnt(graph, heard := [])
    assert {"channels balanced", "ranges by entropy", "biases corrected", "weights rounded together"} <= set(judged(heard))
    monkeypatch.setattr(integers, "Judge", None)
    second = learnt(graph, heard := [])
    assert len(heard) == 1
    assert heard[0].startswith("integers: learnt before, error ")
    assert lowered(second) == lowered(first)
    assert print_graph(second.model) == print_graph(first.model)


@pytest.mark.parametrize("end", ["channels balanced", "ranges by percentile", "biases corrected", "weights rounded together"])
def test_what_was_cut_off_goes_on_where_it_was(graph: Graph, end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = lowered(learnt(graph, every := []))
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "other"))

    class Heard(list[str]):
        def append(self, event: str) -> None:
            super().append(event)
            if event.startswith(end):
                raise CutOffError

    with pytest.raises(CutOffError):
        learnt(graph, before := Heard())
    assert lowered(learnt(graph, after := [])) == whole
    assert judged(after) == judged(every)[len(judged(before)) - 1 :]


def test_what_was_left_out_for_want_of_time_is_not_kept(graph: Graph) -> None:
    learnt(graph, [], deadline=0.0)
    learnt(graph, heard := [])
    assert judged(heard)[0] == "channels balanced"


def test_half_as_many_samples_are_enough_where_time_is_short(graph: Graph) -> None:
    learnt(graph, [], data().evenly(6), LATER)
    learnt(graph, hurried := [], data(), LATER)
    assert not judged(hurried)
    learnt(graph, thorough := [])
    assert judged(thorough)
    learnt(graph, again := [], data().evenly(6), LATER)
    assert not judged(again)


def test_other_samples_weights_and_ways_to_hold_them_are_learnt_by_themselves(graph: Graph) -> None:
    learnt(graph, [])
    assert notebook_of(graph, data(1), ANY_TOGETHER).name != notebook_of(graph, data(), ANY_TOGETHER).name
    learnt(graph, held := [], together=EXACT_TOGETHER)
    assert judged(held)
    learnt(with_loud_channel(90.0), anew := [])
    assert judged(anew)


@pytest.mark.parametrize("content", [b"junk", None])
def test_what_is_not_whole_is_learnt_again(graph: Graph, cache: Path, content: bytes | None) -> None:
    whole = lowered(learnt(graph, []))
    if content is None:
        for path in cache.glob("weights-*"):
            path.unlink()
    else:
        write_entry(notebook_of(graph, data(), ANY_TOGETHER).name, content)
    assert lowered(learnt(graph, heard := [])) == whole
    assert judged(heard)
    assert lowered(learnt(graph, heard := [])) == whole
    assert not judged(heard)


def test_without_room_nothing_is_kept(graph: Graph, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CACHE_PROGRAMS", "0")
    whole = lowered(learnt(graph, []))
    assert not list(cache.glob("weights-*"))
    assert lowered(learnt(graph, heard := [])) == whole
    assert judged(heard)
