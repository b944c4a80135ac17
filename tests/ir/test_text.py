"""The text form: what is printed parses back to the same graph, and a mistake is shown where it stands."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from irc.ir import Graph, IrcError, Tensor, capture, to_model, verify
from irc.ir.text import TextError, load_weights, parse_graph, print_graph, save_weights

from .graphs import feeds, graphs
from .models import run, same

SHARED = Path(__file__).parents[2].parent / "shared"


def round_trip(graph: Graph) -> Graph:
    """Print, parse, print again: the same text; the new graph is handed back."""
    weights: dict[str, Tensor] = {}
    text = print_graph(graph, weights=weights)
    again = parse_graph(text, weights=weights)
    assert print_graph(again) == text
    return again


# What a text can say: one file a feature

TEXTS = sorted((Path(__file__).parent / "text").glob("*.irc"))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_printing_what_was_parsed_gives_the_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert print_graph(parse_graph(text)) == text


def test_types_and_locations_may_be_left_out_and_comments_put_in() -> None:
    text = """
      // a model
      graph @main(%x: f32[N,4]) -> (%y: f32[N,8]) {
        %y = Concat(%x, %x) {axis=1}  // twice
        return %y
      }
    """
    graph = parse_graph(text, name="doc.irc")
    (op,) = graph
    assert str(op.result.type) == "f32[N,8]"
    assert str(op.location) == "doc.irc:4"


def test_notes_stand_behind_their_ops_and_are_not_read_back() -> None:
    graph = parse_graph((Path(__file__).parent / "text" / "bodies.irc").read_text(encoding="utf-8"))
    plain = print_graph(graph)
    ops = list(graph.walk())
    noted = print_graph(graph, notes={op: f"@ arena+{number}" for number, op in enumerate(ops)})
    assert noted.count("   // @ arena+") == len(ops)
    assert print_graph(parse_graph(noted)) == plain


# Weights


def big() -> Graph:
    graph = Graph()
    from irc.ir import at, constant_op

    for index, array in enumerate(
        (np.arange(100, dtype=np.float32), np.array([f"s{i}" for i in range(40)], object), np.arange(100, dtype=np.int64))
    ):
        op = graph.append(constant_op(Tensor.from_array(array), at(f"w{index}")))
        graph.add_output(op.result, f"y{index}")
    return graph


def test_large_constants_are_elided_to_a_digest() -> None:
    weights: dict[str, Tensor] = {}
    text = print_graph(big(), weights=weights)
    assert len(weights) == 3
    assert all(f"#{digest}" in text for digest in weights)
    assert print_graph(parse_graph(text, weights=weights)) == text
    with pytest.raises(TextError, match="this constant was elided; give the weights saved with the text"):
        parse_graph(text)
    with pytest.raises(TextError, match="elided"):
        parse_graph(text, weights={})


def test_weights_in_a_safetensors_file(tmp_path: Path) -> None:
    weights: dict[str, Tensor] = {}
    text = print_graph(big(), weights=weights)
    save_weights(weights, tmp_path / "weights.safetensors")
    again = parse_graph(text, weights=load_weights(tmp_path / "weights.safetensors"))
    for old, new in zip(big(), again, strict=True):
        assert new.value.same_as(old.value)


# Every graph there is


@settings(max_examples=150)
@given(graphs())
def test_random_graphs(graph: Graph) -> None:
    verify(graph)
    again = round_trip(graph)
    assert [str(op.location) for op in again.walk()] == [str(op.location) for op in graph.walk()]
    assert again.input_names == graph.input_names


@settings(max_examples=40)
@given(st.data())
def test_random_graphs_mean_the_same_after_a_round_trip_through_onnx(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    values = data.draw(feeds(graph))
    wanted = run(to_model(graph), values)
    same(run(to_model(capture(to_model(round_trip(graph)))), values), wanted)


@functools.cache
def traps() -> dict[str, ModelProto]:
    path = SHARED / "traps" / "traps.py"
    if not path.exists():
        return {}
    spec = importlib.util.spec_from_file_location("traps", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: message for name, (message, _, _) in module.T.items()}


def test_every_trap() -> None:
    if not traps():
        pytest.skip("the traps lie beside the project, and are not there")
    for message in traps().values():
        round_trip(capture(message))


@pytest.mark.parametrize("path", sorted((SHARED / "models").glob("*.onnx")), ids=lambda p: p.stem)
def test_every_shared_model(path: Path) -> None:
    graph = capture(path)
    verify(graph)
    round_trip(graph)


@pytest.mark.slow
def test_every_node_case_of_onnx() -> None:
    from onnx.backend.test.case.node import collect_testcases

    failed: list[str] = []
    for case in collect_testcases(None):
        try:
            round_trip(capture(case.model))
        except (IrcError, AssertionError) as error:
            failed.append(f"{case.name}: {error}")
    assert not failed, "\n".join(failed)
