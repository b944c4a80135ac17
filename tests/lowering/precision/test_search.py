"""The search of `auto`, with times that are made up: what pays is taken within the bound, and the rest is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irc.ir import Graph, capture, clone_graph, evaluate
from irc.lowering import CompileOptions, find_target
from irc.lowering.job import Job
from irc.lowering.precision import search
from irc.lowering.precision.findings import Findings, named, recall
from irc.lowering.precision.judge import Judge, Judged
from irc.lowering.precision.knowledge import NOTHING, Knowledge
from irc.lowering.precision.lowered import everywhere, streamed_forms, with_forms
from irc.lowering.precision.metrics import METRICS
from irc.lowering.precision.search import Search, Subject
from irc.lowering.precision.timing import Times
from irc.passes.precision import Form, patterns, sites

from ..models import F32, info, model, node, normal

WIDTH = 8
FEEDS = [{"x": normal(3, WIDTH, seed=seed)} for seed in range(3)]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def graph() -> Graph:
    """Two products of different kinds."""
    nodes = [
        node("MatMul", ["x", "v"], ["p"], name="first"),
        node("Tanh", ["p"], ["a"], name="tanh"),
        node("MatMul", ["a", "w"], ["y"], name="second"),
    ]
    weights = {"v": normal(WIDTH, WIDTH), "w": normal(WIDTH, WIDTH, seed=1)}
    return capture(model(nodes, [info("x", F32, ["N", WIDTH])], [info("y", F32, ["N", WIDTH])], weights))


class Program:
    """Stands for a program; it knows its form, and answers as the reference does but for an error of its own."""

    def __init__(self, form: str, graph: Graph, own_error: float) -> None:
        self.form, self._graph, self._own_error = form, graph, own_error

    def run(self, feeds: Any) -> dict[str, Any]:
        """All numbers larger than they are by the error, but those of f32."""
        factor = 1.0 if self.form == "f32" else 1.0 + self._own_error
        return {name: (factor * y).astype(y.dtype) for name, y in zip(["y"], evaluate(self._graph, feeds), strict=True)}

    def close(self) -> None:
        """Nothing to let go of."""


def searched(
    monkeypatch: pytest.MonkeyPatch,
    graph: Graph,
    times: Mapping[str, Sequence[float]],
    limit: float,
    seconds: float = inf,
    known: Knowledge = NOTHING,
    own_error: float = 0.0,
) -> search.Outcome:
    """What is found where the two products take `times` in each form, and a run takes as long as both."""
    names = list(patterns(sites(graph)))

    def build(graph: Graph, engine: Any, job: Job) -> Program | str:
        told = {"Cast": "bf16", "DynamicQuantizeLinear": "dynamic-int8"}
        form = next((told[op.name] for op in graph.walk() if op.name in told), "f32")
        return Program(form, graph, own_error) if form in times else "it has no kernels"

    def timed(programs: Sequence[Program], feeds: Any, model: Graph) -> list[Times]:
        return [Times(sum(times[p.form]), dict(zip(names, times[p.form], strict=True))) for p in programs]

    monkeypatch.setattr(search, "build", build)
    monkeypatch.setattr(search, "Program", Program)
    monkeypatch.setattr(search, "timed_in_turns", timed)
    job = Job(CompileOptions(engine="onnxruntime", opt_level=3), find_target("cpu"))
    judge = Judge(graph, FEEDS, METRICS["l2"])
    forms = (Form.BF16, Form.DYNAMIC_INT8) if known.varying else (Form.BF16,)
    subject = Subject(graph, known, forms, FEEDS[0], judge, judge, limit)
    return Search(subject, job, Findings("precision-test.json"), seconds, lambda event: None).run()


def judged(graph: Graph, *forms: Form) -> Judged:
    """What the products lose in these forms."""
    return Judge(graph, FEEDS, METRICS["l2"]).of_graph(with_forms(graph, forms))


def doubted(graph: Graph, *forms: Form) -> float:
    """What they may lose on other inputs."""
    found = judged(graph, *forms)
    return found.loss + search.DOUBTS * found.doubt


def test_everything_that_pays_is_taken_where_that_is_within_the_bound(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    found = searched(monkeypatch, graph, {"f32": (1.0, 1.0), "bf16": (0.5, 0.4)}, limit=0.1)
    assert list(found.forms) == [Form.BF16, Form.BF16]
    assert found.saved == pytest.approx(1.1)


def test_what_is_slower_stays_and_says_so(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    found = searched(monkeypatch, graph, {"f32": (1.0, 1.0), "bf16": (1.12, 0.4)}, limit=0.1)
    assert list(found.forms) == [Form.F32, Form.BF16]
    assert found.choices[0].place == "MatMul at first"
    assert found.choices[0].why == "bf16 0.120 ms slower"


def test_under_a_tight_bound_what_saves_most_for_its_error_is_taken(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    limit = 1.01 * doubted(graph, Form.F32, Form.BF16)
    assert limit < doubted(graph, Form.BF16, Form.BF16)
    found = searched(monkeypatch, graph, {"f32": (1.0, 1.0), "bf16": (0.9, 0.2)}, limit)
    assert list(found.forms) == [Form.F32, Form.BF16]
    assert "would save 0.100 ms, but its error of" in found.choices[0].why


def test_a_bound_that_only_these_samples_keep_is_not_kept(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    found = judged(graph, Form.BF16, Form.BF16)
    assert 0 < found.doubt < found.loss
    outcome = searched(monkeypatch, graph, {"f32": (1.0, 1.0), "bf16": (0.5, 0.4)}, limit=1.001 * found.loss)
    assert list(outcome.forms) != [Form.BF16, Form.BF16]


def test_a_program_that_loses_more_than_its_graph_has_to_be_within_the_bound(
    monkeypatch: pytest.MonkeyPatch, graph: Graph
) -> None:
    times = {"f32": (1.0, 1.0), "bf16": (0.9, 0.2)}
    limit = 1.2 * doubted(graph, Form.BF16, Form.BF16)
    assert list(searched(monkeypatch, graph, times, limit).forms) == [Form.BF16, Form.BF16]
    assert list(searched(monkeypatch, graph, times, limit, own_error=2 * limit).forms) == [Form.F32, Form.F32]
    fewer = list(searched(monkeypatch, graph, times, limit, own_error=0.9 * limit).forms)
    assert fewer != [Form.BF16, Form.BF16]


def test_what_no_engine_builds_is_said(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    found = searched(monkeypatch, graph, {"f32": (1.0, 1.0)}, limit=0.1)
    assert set(found.forms) == {Form.F32}


def test_without_time_all_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    found = searched(monkeypatch, graph, {"f32": (1.0, 1.0), "bf16": (0.5, 0.4)}, limit=0.1, seconds=0.0)
    assert set(found.forms) == {Form.F32}


def test_ranges_of_each_run_are_for_data_that_vary_and_where_they_pay(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    known = Knowledge(varying={sites(graph)[0].op: 8.0})
    times = {"f32": (1.0, 1.0), "bf16": (0.9, 1.05), "dynamic-int8": (0.4, 0.5)}
    found = searched(monkeypatch, graph, times, limit=0.1, known=known)
    assert list(found.forms) == [Form.DYNAMIC_INT8, Form.F32]
    first, second = found.choices
    assert (first.form, first.saved) == ("dynamic-int8", pytest.approx(0.6))
    assert first.why == "one range for all samples makes 8.0 times the error of one for each"
    assert second.why == "bf16 0.050 ms slower; dynamic-int8: its data reach about as far in each sample"
    slower = searched(monkeypatch, graph, {**times, "dynamic-int8": (1.4, 1.0)}, limit=0.1, known=known)
    assert list(slower.forms) == [Form.BF16, Form.F32]


def test_what_is_done_to_data_in_kernels_of_nobody_counts(graph: Graph) -> None:
    names = list(patterns(sites(graph)))
    times = {named(name, form): ms for form, ms in ((Form.F32, 1.0), (Form.BF16, 0.8)) for name in names}
    whole = {"f32": 2.0, "bf16": 3.0}  # casts that nothing absorbs take 1.4 ms
    findings = Findings("precision-test.json", times={"onnxruntime": {**times, **whole}})
    job = Job(CompileOptions(engine="onnxruntime", opt_level=3), find_target("cpu"))
    judge = Judge(graph, FEEDS, METRICS["l2"])
    found = Search(
        Subject(graph, NOTHING, (Form.BF16,), FEEDS[0], judge, judge, 0.1), job, findings, inf, lambda event: None
    ).run()
    assert set(found.forms) == {Form.F32}
    assert found.choices[0].why == "bf16 0.500 ms slower"


def test_findings_are_found_again_for_the_same_and_for_nothing_else(graph: Graph) -> None:
    job = Job(CompileOptions(opt_level=3, tune_budget=10.0), find_target("cpu"))
    findings = recall(graph, job, FEEDS)
    findings.errors["a|bf16"] = 0.25
    findings.times["tvm"] = {"f32": 1.5}
    findings.keep()
    longer = Job(CompileOptions(opt_level=3, tune_budget=20.0), find_target("cpu"))
    assert recall(clone_graph(graph), longer, FEEDS) == findings
    assert not recall(graph, job, FEEDS[:1]).errors
    findings.errors["a|int8"] = 0.5
    findings.learn(Knowledge(corrects_biases=True))
    assert list(findings.errors) == ["a|bf16"], "integers depend on what was learnt"
    findings.errors["a|dynamic-int8"] = 0.5
    findings.times["tvm"].update({"dynamic-int8": 1.0, "a|dynamic-int8": 0.5, "a|dynamic-int8|conversions": 1.0})
    findings.learn(Knowledge())
    assert list(findings.errors) == ["a|bf16"]
    assert findings.times["tvm"] == {"f32": 1.5}, "another set of products has other times"
    other = with_forms(graph, everywhere(graph, Form.BF16))
    assert not recall(other, job, FEEDS).errors


@pytest.mark.parametrize(("rows", "forms"), [(1, (Form.INT8_WEIGHTS,)), (128, ()), ("N", ())])
def test_weights_alone_are_tried_where_rows_are_few(rows: int | str, forms: tuple[Form, ...]) -> None:
    product = [node("MatMul", ["x", "w"], ["y"], name="product")]
    kinds = [info("x", F32, [rows, WIDTH])], [info("y", F32, [rows, WIDTH])]
    assert streamed_forms(capture(model(product, *kinds, {"w": normal(WIDTH, WIDTH)}))) == forms


def test_one_product_of_few_rows_among_larger_ones_is_not_worth_a_form() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="first"),
        node("ReduceMean", ["h", "axes"], ["m"], keepdims=1, name="mean"),
        node("MatMul", ["m", "w"], ["y"], name="classifier"),
    ]
    weights = {"w": normal(WIDTH, WIDTH), "axes": np.array([0])}
    captured = capture(model(nodes, [info("x", F32, [128, WIDTH])], [info("y", F32, [1, WIDTH])], weights))
    assert streamed_forms(captured) == ()
