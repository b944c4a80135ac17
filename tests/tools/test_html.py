"""The page of a graph: complete, safe whatever the model says, the same each time, and drawn without overlaps."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from irc.ir import DType, Graph, Op, Tensor, TensorType, at, capture, constant_op, via
from irc.tools.html import render_html
from irc.tools.html.geometry import Box, Layout, Net
from irc.tools.html.kinds import Kind, kind_of
from irc.tools.html.layout import lay_out
from irc.tools.html.reading import read
from irc.tools.html.statistics import shortened, statistics_of

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.onnx"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u2028'\""
F32 = TensorType(DType.F32, (2, 3))


class Outline(HTMLParser):
    """What elements a page has, whether they are closed, and what stands in its scripts and its title."""

    VOID = frozenset({"meta", "input", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.references += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "style")]
        self.references += [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data


def data_of(page: str) -> dict[str, Any]:
    return json.loads(Outline(page).texts["script"][0])


def hostile_graph() -> Graph:
    graph = Graph(HOSTILE)
    x = graph.add_input(HOSTILE, F32)
    weight = graph.append(constant_op(Tensor.from_array(np.ones((2, 3), np.float32)), at(HOSTILE), HOSTILE)).result
    made = graph.append(Op("Evil", [x, weight], {HOSTILE: HOSTILE}, [F32], via(HOSTILE, at(HOSTILE)), domain="a.b"))
    made.result.name = HOSTILE
    graph.add_output(made.result, HOSTILE)
    graph.opsets["a.b"] = 1
    graph.metadata[HOSTILE] = HOSTILE
    return graph


def nested_model() -> onnx.ModelProto:
    """An If in an If; the inner branch uses a value of the outermost graph."""
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])

    def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["N", 4])
        return helper.make_graph(list(nodes), name, [], [output])

    inner = helper.make_node(
        "If",
        ["flag"],
        ["inner"],
        name="inner_if",
        then_branch=branch("deep_then", helper.make_node("Neg", ["r"], ["deep"], name="deep_neg")),
        else_branch=branch("deep_else", helper.make_node("Abs", ["x"], ["deep2"], name="deep_abs")),
    )
    outer = helper.make_node(
        "If",
        ["flag"],
        ["y"],
        name="outer_if",
        then_branch=branch("outer_then", inner),
        else_branch=branch("outer_else", helper.make_node("Exp", ["r"], ["e"], name="outer_exp")),
    )
    relu = helper.make_node("Relu", ["x"], ["r"], name="relu")
    graph = helper.make_graph([relu, outer], "nested", [flag, x], [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def chain(count: int) -> Graph:
    """A long graph with short, long and very long edges."""
    choose = random.Random(7)
    graph = Graph("chain")
    values = [graph.add_input("x", F32)]
    for index in range(count):
        back = values[-1 - choose.randrange(min(len(values), 30))] if index % 3 else choose.choice(values)
        op = graph.append(Op("Add", [values[-1], back], {}, [F32], at(f"node_{index}")))
        values.append(op.result)
    graph.add_output(values[-1], "y")
    return graph


def check_layout(layout: Layout, boxes: list[Box], nets: list[Net]) -> None:
    """No two boxes overlap, all lie in the drawing, and each edge leads down without a break."""
    spots = sorted((layout.rows[i], layout.lefts[i], layout.tops[i], box) for i, box in enumerate(boxes))
    for (row, left, top, box), (next_row, next_left, _, _) in pairwise(spots):
        assert row != next_row or left + box.width <= next_left
        assert layout.row_tops[row] <= top
        assert top + box.height <= layout.row_bottoms[row]
        assert left >= 0
        assert left + box.width <= layout.width
    for bottom, next_top in zip(layout.row_bottoms, layout.row_tops[1:], strict=False):
        assert bottom < next_top
    for net in nets:
        assert all(layout.rows[net.source] < layout.rows[target] for target in net.targets)
    for row, gap in enumerate(layout.gaps):
        for piece in gap:
            assert layout.row_tops[row] <= piece.top <= layout.row_bottoms[row] < layout.row_tops[row + 1]
    for line in layout.lines:
        assert line.start[1] < line.end[1]
    arrivals = sum(piece.arrives for gap in layout.gaps for piece in gap) + len(layout.lines)
    assert arrivals == sum(len(net.targets) for net in nets)


# The page


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    page = render_html(capture(DIGITS), title="digits.onnx", facts={"opset": "20"})
    outline = Outline(page)
    assert page.startswith("<!doctype html>")
    assert not outline.open
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.references == []
    assert outline.texts["title"] == ["digits.onnx"]
    assert "{{" not in page.replace(outline.texts["script"][0], "")
    assert ["opset", "20"] in data_of(page)["facts"]
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(outline.texts[tag][-1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page


def test_scripts_never_make_markup_and_name_only_elements_that_exist() -> None:
    outline = Outline(render_html(Graph(), title="empty"))
    script = outline.texts["script"][-1]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|https?:", script)
    made = set(re.findall(r'byId\("([\w-]+)"\)', script))
    assert made <= set(outline.ids)


def test_hostile_names_stay_text() -> None:
    page = render_html(hostile_graph(), title=HOSTILE, facts={HOSTILE: HOSTILE})
    outline, data = Outline(page), data_of(page)
    assert outline.tags.count("script") == 2
    assert "img" not in outline.tags
    assert outline.texts["title"] == [HOSTILE]
    assert data["title"] == HOSTILE
    assert HOSTILE in data["strings"]
    assert [HOSTILE, HOSTILE] in data["facts"]
    evil = next(op for op in data["ops"] if data["strings"][op["name"]] == "a.b::Evil")
    assert [json.loads(part) for part in evil["attributes"][0]] == [HOSTILE, HOSTILE]
    assert data["strings"][evil["rewrites"][0]] == HOSTILE


def test_names_without_a_unicode_form_are_no_hindrance() -> None:
    graph = Graph("\ud800")
    graph.add_output(graph.add_input("\udfff", F32), "y\x00")
    page = render_html(graph, title="\ud800.onnx")
    assert page.encode()


def test_same_graph_same_bytes() -> None:
    assert render_html(capture(DIGITS), title="x") == render_html(capture(DIGITS), title="x")


# The data


@pytest.mark.parametrize("model", [DIGITS, nested_model()], ids=["digits", "nested"])
def test_every_op_is_there_and_every_other_than_constants_is_drawn(model: Path | onnx.ModelProto) -> None:
    graph = capture(model)
    data = data_of(render_html(graph, title="x"))
    strings = data["strings"]
    ops = list(graph.walk())
    assert [strings[op["name"]] for op in data["ops"]] == [op.qualified_name for op in ops]
    assert [strings[op["origins"][0]] for op in data["ops"]] == [op.location.name for op in ops]
    drawn = [node[1] for view in data["views"] for node in view["nodes"] if node[0] == 2]
    assert sorted(drawn) == [number for number, op in enumerate(ops) if not op.is_constant]
    assert sum(count for _, count, _ in data["histogram"]) == len(drawn)
    lines = data["text"].split("\n")
    for op in data["ops"]:
        assert all(data["values"][value][0] in lines[op["line"]] for value in op["results"])


def test_bodies_are_reached_from_their_ops_and_captures_are_drawn() -> None:
    data = data_of(render_html(capture(nested_model()), title="x"))
    strings, views = data["strings"], data["views"]
    reached, pending = {0}, [0]
    while pending:
        view = pending.pop()
        for sort, subject, *_ in views[view]["nodes"]:
            bodies = data["ops"][subject].get("bodies", []) if sort == 2 else []
            for name, body in bodies:
                assert (views[body]["owner"], views[body]["attribute"]) == (subject, name)
                reached.add(body)
                pending.append(body)
    assert reached == set(range(5)) == set(range(len(views)))
    outer = next(n for n, op in enumerate(data["ops"]) if strings[op["origins"][0]] == "outer_if")
    inside = [[data["values"][v][0] for v in view["captures"]] for view in views if view["owner"] == outer]
    assert sorted(map(sorted, inside)) == [["%flag", "%r", "%x"], ["%r"]]


def test_the_text_is_read_as_it_was_written() -> None:
    graph = hostile_graph()
    body = Graph("body")
    body.add_output(graph.inputs[0], "out")
    attributes = {"alpha": 0.5, "bodies": (body,), "text": "a, b = {(", "axes": (1, 2)}
    graph.append(Op("Odd (name", [graph.inputs[0], None], attributes, [F32, F32], at("a = b"), domain="a.b"))
    reading = read(graph)
    assert graph.last is not None
    assert reading.attributes[graph.last] == [("alpha", "0.5"), ("text", '"a, b = {("'), ("axes", "[1, 2]")]
    assert reading.data[next(op for op in graph if op.is_constant)] == "[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]"
    assert len(set(reading.names.values())) == len(reading.names)


def test_a_long_text_is_cut_at_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irc.tools.html.data.LONGEST_TEXT", 1000)
    graph = chain(100)
    data = data_of(render_html(graph, title="x"))
    assert len(data["text"]) <= 1000
    assert data["text"].count("\n") + 1 + data["cut"] == data["lines"] == 103


def test_every_standard_op_has_a_kind() -> None:
    names = {s.name for s in onnx.defs.get_all_schemas() if not s.domain}
    assert kind_of(Op("Conv", [], {}, [F32], at("x"))) is Kind.CONTRACTION
    assert kind_of(Op("Conv", [], {}, [F32], at("x"), domain="mine")) is Kind.CUSTOM
    others = {name for name in names if kind_of(Op(name, [], {}, [F32], at("x"))) is Kind.OTHER}
    assert len(others) < 25, "what ONNX added has no kind yet"


# Constants


def test_statistics_of_constants() -> None:
    special = Tensor.from_array(np.array([1.0, -3.0, np.nan, np.inf], np.float32))
    expected = [("min", "-3"), ("max", "1"), ("mean", "-1"), ("zeros", "0"), ("NaN", "1"), ("infinite", "1")]
    assert statistics_of(special) == expected
    largest = Tensor.from_array(np.full(4, 1.7e308))
    assert dict(statistics_of(largest))["mean"] == "1.7e+308"
    assert dict(statistics_of(Tensor.from_array(np.array([2**64 - 1], np.uint64))))["max"] == str(2**64 - 1)
    assert statistics_of(Tensor.from_array(np.array([True, False]))) == [("true", "1 of 2")]
    assert statistics_of(Tensor.from_array(np.array(["a"]))) == []
    assert statistics_of(Tensor.from_array(np.zeros((1 << 20) + 1, np.int8))) == []
    assert statistics_of(Tensor.from_array(np.zeros((0, 3), np.float32))) == []
    assert statistics_of(Tensor.from_array(np.array([-8, 7]), DType.I4))[:2] == [("min", "-8"), ("max", "7")]


def test_small_constants_are_written_into_the_box() -> None:
    assert shortened(Tensor.from_array(np.float32(0.1))) == "0.1"
    assert shortened(Tensor.integers([0, 2**63 - 1])) == "[0, max]"
    assert shortened(Tensor.integers([1, 2, 3, 4, 5])) == ""


# The layout


@pytest.mark.parametrize("seed", range(12))
def test_boxes_do_not_overlap_and_edges_lead_down(seed: int) -> None:
    choose = random.Random(seed)
    boxes = [Box(choose.randrange(60, 300, 2), choose.randrange(22, 120)) for _ in range(choose.randrange(1, 150))]
    nets: list[Net] = []
    for source in range(len(boxes) - 1):
        for _ in range(choose.randrange(3)):
            targets = {choose.randrange(source + 1, len(boxes)) for _ in range(choose.randrange(1, 4))}
            nets.append(Net(len(nets), source, tuple(sorted(targets))))
    check_layout(lay_out(boxes, nets, range(choose.randrange(3))), boxes, nets)


def test_nothing_is_laid_out_as_nothing() -> None:
    layout = lay_out([], [])
    assert (layout.rows, layout.gaps) == ([], [])


def test_twenty_thousand_ops_in_a_row() -> None:
    data = data_of(render_html(chain(20_000), title="large"))
    view = data["views"][0]
    assert len(view["nodes"]) == 20_002
    assert len(view["rows"]) == 20_002
    assert view["edges"], "the longest edges go without lanes, or there would be too many"
    assert sum(map(len, view["gaps"])) // 5 < 12 * 20_000


def test_a_thousand_users_of_one_value_share_a_lane() -> None:
    boxes = [Box(60, 22)] * 1001
    nets = [Net(0, 0, tuple(range(1, 1001))), *(Net(i, i, (i + 1,)) for i in range(1, 1000))]
    layout = lay_out(boxes, nets)
    check_layout(layout, boxes, nets)
    assert not layout.lines
    assert sum(map(len, layout.gaps)) < 3100
