"""A mistake in the text form is shown where it stands: file, line, column, the line itself and a caret under the culprit."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.ir import IrcError
from irc.ir.text import TextError, parse_graph

from .test_text import TEXTS


def takes_x(ops: str) -> str:
    """A graph of x: f32[4] and these ops, from line 2 on."""
    return f"graph @main(%x: f32[4]) -> () {{\n  {ops}\n  return\n}}"


def takes_nothing(ops: str) -> str:
    """A graph of these ops, from line 2 on."""
    return f"graph @main() -> () {{\n  {ops}\n  return\n}}"


def signature(inputs: str) -> str:
    """A graph of these inputs and no ops."""
    return f"graph @main({inputs}) -> () {{\n  return\n}}"


MISTAKES = [
    ("graph @main(%x: f32[4]) -> (%y: f32[4]) {\n  return %y\n}", "%y is not defined", 2, "%y"),
    (signature("%x: f32[4], %x: f32[]"), "%x is defined twice", 1, "%x: f32[]"),
    (signature("%x: f33[4]"), "there is no dtype f33", 1, "f33"),
    ("graph @main(%x: f32[4]) -> () {\n  return %x\n}", "1 values are returned for 0 outputs", 2, "return"),
    ("graph @main(%x: f32[4]) -> (%y: f32[4]) {\n  return _\n}", "an output cannot be absent", 2, "_"),
    (signature("%x: f32[avg(N,2)]"), "there is no dim function avg", 1, "avg"),
    (signature("%x: f32[div(N)]"), "div takes two dims", 1, "div"),
    (takes_x("%a = Relu(%x, %x)"), "Relu takes 1 operands, not 2", 2, "Relu"),
    (takes_x("%a = Relu(%x) {alpha=1.0}"), "Relu has no attribute 'alpha'", 2, "Relu"),
    (takes_x("%a, %b = Relu(%x) : f32[4]"), "2 results but 1 types", 2, "%a"),
    (takes_nothing("%a = const @a : f32[4] = [1.0]"), "1 elements do not make f32[4]", 2, "[1.0]"),
    (takes_nothing("%a = const @a : f32[4] = 0x00"), "1 bytes do not make f32[4]", 2, "0x00"),
    (takes_nothing("%a = const @a : i8[1] = [300]"), "an element is no i8", 2, "[300]"),
    (takes_nothing("%a = const @a : i64[1] = [1.5]"), "an element is no i64", 2, "[1.5]"),
    (takes_nothing('%a = const @a : f32[1] = ["1"]'), "an element is no f32", 2, '["1"]'),
    (takes_nothing("%a = const @a : str[1] = [1]"), "an element is no str", 2, "[1]"),
    (takes_nothing("%a = const @a : f32[N] = [1.0]"), "a constant cannot be f32[N]", 2, "%a"),
    (takes_nothing("%a = const @a : seq<f32[1]> = [1.0]"), "a constant cannot be seq<f32[1]>", 2, "%a"),
    (signature("%x: sparse<seq<f32[1]>>"), "only tensors are sparse", 1, "sparse"),
    (signature("%x: f32[4"), "this does not belong here", 1, ") ->"),
    (takes_nothing("%a = = Neg(%a)"), "this does not belong here", 2, "= Neg"),
    ("graph @main() -> () {\n  return\n", "the text ends too early", 2, ""),
    ("", "the text ends too early", 1, ""),
    ("graph @main() -> () {\n  return\n} more", "this does not belong here", 3, "more"),
    (takes_x('%a = Neg(%x) : f32[4] @"a\\q"'), "this string is not written as JSON writes it", 2, '"a\\q"'),
    (takes_x("%a = Neg(%x) {a=99999999999999999999}"), "this number does not fit 64 bits", 2, "99999999999999999999"),
    (takes_x("%a = d::Op(%x) {a=[[1]]}"), "a list cannot hold a list", 2, "[1]"),
    (takes_x("%a = d::Op(%x) {a=1, a=2}"), "attribute 'a' is given twice", 2, "a=2"),
    (takes_x("%a = d::Op(%x) {a=[1, 2.0]}"), "a list holds values of one kind", 2, "[1, 2.0]"),
    (takes_x("%a = d::Op(%x) {a=foos[]}"), "there are no lists of foos", 2, "foos"),
    (takes_x('%a = Neg(%x) : f32[4] @_ via [""]\n  %b = Neg(%a) : f32[5] @a $'), "this does not belong here", 3, "$"),
]


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


def test_an_opset_nobody_has_seen_leaves_an_op_opaque() -> None:
    graph = parse_graph(takes_x("%a = ai.onnx@99999999999999999999::Neg(%x, %x)"))
    assert str(graph.last.result.type) == "?"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text", [signature("%x: " + "seq<" * 5000 + "f32[]" + ">" * 5000), signature("%x: f32[" + "min(" * 5000)]
)
def test_texts_nested_too_deeply(text: str) -> None:
    with pytest.raises(IrcError):
        parse_graph(text)


@settings(max_examples=200)
@given(path=st.sampled_from(TEXTS), data=st.data())
def test_a_damaged_text_is_parsed_or_refused(path: Path, data: st.DataObject) -> None:
    text = path.read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 5)))
    inserted = data.draw(
        st.one_of(
            st.text(max_size=2), st.sampled_from(["%x", "[", "}", "0x1", "1e9", "-", "?", '"', "graph", "2147483648" * 3])
        )
    )
    with contextlib.suppress(IrcError):
        parse_graph(text[:start] + inserted + text[end:])
