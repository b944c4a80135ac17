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


# What a text can say

BODY = "\n  return %x\n}\n"
TEXTS = {
    "nothing": "graph @main() -> () {\n  return\n}\n",
    "symbolic dims": "graph @main(%x: f32[N,N+1,-M+2*N,div(N,2),max(N - 1,M),mod(N,3),N*min(N,4)]) -> (%x: f32[?,3]) {" + BODY,
    "odd dims": 'graph @main(%x: f32["a b","quo\\"te","\\\\",-N+3,"\\u00e9"]) -> (%x: f32[*]) {' + BODY,
    "types": "graph @main(%x: seq<f32[*]>, %o: opt<seq<i64[N]>>, %m: map<str,f32[]>, %s: sparse<f16[2,?]>, %u: ?) -> (%x: seq<f32[2]>) {" + BODY,
    "odd names": 'graph @"a graph"(%"in put": f32[], %graph: f32[], %0: f32[], %"": f32[]) -> (%"ou\\"t": f32[]) {\n  return %"in put"\n}\n',
    "input under another name": (
        "graph @main(%x: f32[2,4]) -> (%y: f32[2,4]) {\n  %y = Scan(%x) {\n"
        '    body=graph @step(%x.1 as "x": f32[4]) -> (%x: f32[4]) {\n      return %x.1\n    },\n'
        "    num_scan_inputs=1\n  } : f32[2,4]   @s\n  return %y\n}\n"
    ),
    "absent operands": "graph @main(%x: f32[4], %m: f32[]) -> (%y: f32[4]) {\n  %y = Clip(%x, _, %m) : f32[4]   @c\n  return %y\n}\n",
    "several results": "graph @main(%x: f32[4]) -> (%b: f32[2]) {\n  %a, %b = Split(%x) {num_outputs=2} : f32[2], f32[2]   @s\n  return %b\n}\n",
    "no results": "graph @main(%x: f32[4]) -> (%x: f32[4]) {\n  my.domain::Log(%x) {level=3}   @s\n  return %x\n}\n",
    "overridable": "graph @main(%x: f32[2] = [1.0, -0.0], %w: i64[] = [7]) -> (%x: f32[2]) {" + BODY,
    "opsets and metadata": 'graph @main(%x: f32[]) -> (%x: f32[]) opsets {"ai.onnx.ml"=3, "their.own"=1} metadata {"a"="b\\n", "c d"=""} {' + BODY,
    "locations": 'graph @main(%x: f32[]) -> (%a: f32[]) {\n  %a = Neg(%x) : f32[]   @["a b", "c"] via ["fold", "fuse{x=1}"]\n  return %a\n}\n',
    "one odd location": 'graph @main(%x: f32[]) -> (%a: f32[]) {\n  %a = Neg(%x) : f32[]   @"model.py:41 (stem.conv1)" via ["fold"]\n  return %a\n}\n',
    "domains and versions": (
        'graph @main(%x: f32[4], %i: i64[]) -> (%c: ?) {\n  %a = ai.onnx@26::CumProd(%x, %i) : ?   @a\n  %b = com.microsoft::Gelu(%a) : ?   @b\n'
        '  %c = op "odd domain::odd-op"(%b) : ?   @c\n  return %c\n}\n'
    ),
    "attributes": (
        "graph @main(%x: f32[]) -> (%a: ?) {\n  %a = d::Op(%x) {i=-3, f=0.5, whole=2.0, nan=nan, inf=-inf, zero=-0.0, tiny=1e-45, "
        's="\\"\\u00e9\\n", b=0xff00, ints=[1, 2], floats=[0.1, nan], strings=["a", 0xff], empty=ints[], nothing=graphs[], '
        '"odd key"=1, t=dense<i64[2] = [1, 2]>, ts=[dense<f32[] = [1.0]>], type=type<opt<f32[N]>>, '
        'sp=sparse<2,3 : f32[1] = [5.0] at i64[1] = [4]>, graph=1} : ?   @a\n  return %a\n}\n'
    ),
    "constants": (
        "graph @main() -> (%a: f32[3]) {\n  %a = const @a : f32[3] = [nan, -inf, -0.0]\n  %b = const @b : bf16[2] = [1.0, -0.0]\n"
        "  %c = const @c : i4[3] = 0x7108\n  %d = const @d : f8e4m3fn[2] = 0x387e\n  %e = const @e : str[2] = [\"\", \"\\u00e9\"]\n"
        "  %f = const @f : bool[2] = 0x0100\n  %g = const @g : c64[1] = 0x0000803f00000040\n  %h = const @h : i64[0] = []\n"
        "  %i = const @i : u64[] = [18446744073709551615]\n  %j = const @j : f64[] = [0.1]\n  %k = const @k : f32[1] = 0x0100c07f\n"
        "  %l = const @l : f16[1] = [6.1035156e-05]\n  return %a\n}\n"
    ),
    "bodies": (
        "graph @main(%x: f32[4], %k: bool[]) -> (%y: f32[4]) {\n  %a = Neg(%x) : f32[4]   @a\n  %y = If(%k) {\n"
        "    then_branch=graph @then() captures(%a, %x) -> (%t: f32[4]) {\n      %t = Add(%a, %x) : f32[4]   @t\n      return %t\n    },\n"
        "    else_branch=graph @else() captures(%k, %a) -> (%a: f32[4]) {\n      %b = If(%k) {\n"
        "        then_branch=graph @p() captures(%a) -> (%a: f32[4]) {\n          return %a\n        },\n"
        "        else_branch=graph @q() captures(%a) -> (%c: f32[4]) {\n          %c = Abs(%a) : f32[4]   @c\n          return %c\n        }\n"
        "      } : f32[4]   @inner\n      return %b\n    }\n  } : f32[4]   @outer\n  return %y\n}\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_printing_what_was_parsed_gives_the_text(case: str) -> None:
    assert print_graph(parse_graph(TEXTS[case])) == TEXTS[case]


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


# Mistakes

MISTAKES = [
    ("graph @main(%x: f32[4]) -> (%y: f32[4]) {\n  return %y\n}", "%y is not defined", 2, "%y"),
    ("graph @main(%x: f32[4], %x: f32[]) -> () {\n  return\n}", "%x is defined twice", 1, "%x: f32[]"),
    ("graph @main(%x: f33[4]) -> () {\n  return\n}", "there is no dtype f33", 1, "f33"),
    ("graph @main(%x: f32[4]) -> () {\n  return %x\n}", "1 values are returned for 0 outputs", 2, "return"),
    ("graph @main(%x: f32[4]) -> (%y: f32[4]) {\n  return _\n}", "an output cannot be absent", 2, "_"),
    ("graph @main(%x: f32[avg(N,2)]) -> () {\n  return\n}", "there is no dim function avg", 1, "avg"),
    ("graph @main(%x: f32[div(N)]) -> () {\n  return\n}", "div takes two dims", 1, "div"),
    ("graph @main(%x: f32[4]) -> () {\n  %a = Relu(%x, %x)\n  return\n}", "Relu takes 1 operands, not 2", 2, "Relu"),
    ("graph @main(%x: f32[4]) -> () {\n  %a = Relu(%x) {alpha=1.0}\n  return\n}", "Relu has no attribute 'alpha'", 2, "Relu"),
    ("graph @main(%x: f32[4]) -> () {\n  %a, %b = Relu(%x) : f32[4]\n  return\n}", "2 results but 1 types", 2, "%a"),
    ("graph @main() -> () {\n  %a = const @a : f32[4] = [1.0]\n  return\n}", "1 elements do not make f32[4]", 2, "[1.0]"),
    ("graph @main() -> () {\n  %a = const @a : f32[4] = 0x00\n  return\n}", "1 bytes do not make f32[4]", 2, "0x00"),
    ("graph @main() -> () {\n  %a = const @a : i8[1] = [300]\n  return\n}", "an element is no i8", 2, "[300]"),
    ("graph @main() -> () {\n  %a = const @a : i64[1] = [1.5]\n  return\n}", "an element is no i64", 2, "[1.5]"),
    ('graph @main() -> () {\n  %a = const @a : f32[1] = ["1"]\n  return\n}', "an element is no f32", 2, '["1"]'),
    ("graph @main() -> () {\n  %a = const @a : str[1] = [1]\n  return\n}", "an element is no str", 2, "[1]"),
    ("graph @main() -> () {\n  %a = const @a : f32[N] = [1.0]\n  return\n}", "a constant cannot be f32[N]", 2, "%a"),
    ("graph @main() -> () {\n  %a = const @a : seq<f32[1]> = [1.0]\n  return\n}", "a constant cannot be seq<f32[1]>", 2, "%a"),
    ("graph @main(%x: sparse<seq<f32[1]>>) -> () {\n  return\n}", "only tensors are sparse", 1, "sparse"),
    ("graph @main(%x: f32[4) -> () {\n  return\n}", "this does not belong here", 1, ") ->"),
    ("graph @main() -> () {\n  %a = = Neg(%a)\n  return\n}", "this does not belong here", 2, "= Neg"),
    ("graph @main() -> () {\n  return\n", "the text ends too early", 2, ""),
    ("", "the text ends too early", 1, ""),
    ("graph @main() -> () {\n  return\n} more", "this does not belong here", 3, "more"),
    ("graph @main(%x: f32[4]) -> () {\n  %a = Neg(%x) : f32[4] @\"a\\q\"\n  return\n}", "this string is not written as JSON writes it", 2, '"a\\q"'),
    ("graph @main(%x: f32[4]) -> () {\n  %a = d::Op(%x) {a=[[1]]}\n  return\n}", "a list cannot hold a list", 2, "[1]"),
    ("graph @main(%x: f32[4]) -> () {\n  %a = d::Op(%x) {a=1, a=2}\n  return\n}", "attribute 'a' is given twice", 2, "a=2"),
    ("graph @main(%x: f32[4]) -> () {\n  %a = d::Op(%x) {a=[1, 2.0]}\n  return\n}", "a list holds values of one kind", 2, "[1, 2.0]"),
    ("graph @main(%x: f32[4]) -> () {\n  %a = d::Op(%x) {a=foos[]}\n  return\n}", "there are no lists of foos", 2, "foos"),
    ("graph @main(%x: f32[4]) -> () {\n  %a = Neg(%x) : f32[4] @_ via [\"\"]\n  %b = Neg(%a) : f32[5] @a $\n  return\n}", "this does not belong here", 3, "$"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "line", "culprit"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_a_mistake_is_shown_where_it_stands(text: str, message: str, line: int, culprit: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_graph(text, name="doc.irc")
    where, *shown = str(caught.value).split("\n")
    source = text.split("\n")[line - 1]
    column = source.rindex(culprit) if culprit else len(source)
    assert where == f"doc.irc:{line}:{column + 1}: {message}"
    assert shown[0] == source
    assert shown[1].index("^") == column
    assert caught.value.exit_code == 3


@settings(max_examples=200)
@given(case=st.sampled_from(sorted(TEXTS)), data=st.data())
def test_a_damaged_text_is_parsed_or_refused(case: str, data: st.DataObject) -> None:
    text = TEXTS[case]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 5)))
    inserted = data.draw(
        st.one_of(
            st.text(max_size=2), st.sampled_from(["%x", "[", "}", "0x1", "1e9", "-", "?", '"', "graph", "2147483648" * 3])
        )
    )
    try:
        parse_graph(text[:start] + inserted + text[end:])
    except IrcError as error:
        assert error.exit_code == 3


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
