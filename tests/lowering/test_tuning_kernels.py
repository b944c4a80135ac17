"""O3 within a program of kernels: other ways of each are tried, what is clearly faster is kept, and nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import ModelProto

from irc.ir import UsageError, capture
from irc.lowering import CompileOptions, Verdict, compile_model, find_target
from irc.lowering.tuning import candidates, kernels, search
from irc.lowering.tuning.candidates import named
from irc.lowering.tuning.kernels import Tried, by_key, choose, in_turns, is_faster, keys_that_count
from irc.lowering.tvm import engine, program
from irc.lowering.tvm.axes import Axis, Contraction
from irc.lowering.tvm.contraction import extent_of
from irc.lowering.tvm.engine import Tvm
from irc.lowering.tvm.program import machine_of
from irc.lowering.tvm.tiling import neighbours
from irc.runtime import (
    FEWEST_ROUNDS,
    LIBRARY_FILE,
    NATIVE_PLAN_FILE,
    PLAN_FILE,
    Contestant,
    Decision,
    EngineFailure,
    NativePlan,
    Plan,
    Program,
    load,
)

from .models import F32, info, model, node, normal
from .test_tuning import FakeRace
from .tvm.programs import objects_here
from .tvm.running import needs_tvm

ASKED = CompileOptions(opt_level=3, engine="tvm")

# What is chosen, given times


def tried(key: str, way: str, times: Sequence[float], usual: Sequence[float] = (10.0,) * 5) -> Tried:
    return Tried(key, way, times, "usual", usual)


def test_the_fastest_of_those_clearly_faster_is_chosen() -> None:
    fast, faster = tried("a", "1", [9, 9, 9, 9, 9]), tried("a", "2", [8, 8, 8, 8, 8])
    assert choose([fast, faster]) == choose([faster, fast]) == {"a": faster}


def test_each_kernel_is_chosen_for_itself() -> None:
    first, second = tried("a", "1", [8] * 5), tried("b", "2", [7] * 5)
    assert choose([first, tried("b", "1", [11] * 5), second]) == {"a": first, "b": second}


@pytest.mark.parametrize(
    "times",
    [[10.0] * 5, [9.9] * 5, [8, 8, 12, 12, 12], [8, 12, 8, 12, 8], [20.0] * 5, [8, 8, 8]],
    ids=["as fast", "within two in a hundred", "mostly slower", "in turns", "slower", "too few turns"],
)
def test_what_is_not_clearly_faster_is_not_chosen(times: Sequence[float]) -> None:
    assert choose([tried("a", "1", times, (10.0,) * len(times))]) == {}


def test_times_are_compared_within_a_turn() -> None:
    """A machine that becomes slower while it is measured makes both slower."""
    chosen = tried("a", "1", [8, 16, 24, 32, 40], [10, 20, 30, 40, 50])
    assert choose([chosen]) == {"a": chosen}


def test_a_program_is_faster_as_a_whole_by_however_little_if_it_is_certain() -> None:
    assert is_faster([9.9] * 8, [10.0] * 8)
    assert not is_faster([10.0] * 8, [10.0] * 8)
    assert not is_faster([9, 11, 9, 11, 9, 11, 9, 11], [10.0] * 8)


def test_who_begins_a_turn_changes() -> None:
    said: list[str] = []

    def saying(name: str) -> str:
        said.append(name)
        return name

    assert in_turns(lambda: saying("usual"), lambda: saying("other"), 3) == [("usual", "other")] * 3
    assert said == ["usual", "other", "other", "usual", "usual", "other"]
    assert len(in_turns(lambda: "", lambda: "", 8, until=0.0)) == FEWEST_ROUNDS, "and no more where time is over"


def test_kernels_that_take_no_time_are_not_tried_and_the_longest_come_first() -> None:
    assert keys_that_count({"a": 1.0, "b": 97.0, "c": 0.5, "d": 1.5}, 100.0) == ["b", "d", "a"]
    assert keys_that_count({}, 100.0) == []


def test_kernels_of_one_key_are_one() -> None:
    ways = {"irc_1": ("a", "x"), "irc_2": ("a", "x"), "irc_3": ("b", "y")}
    assert by_key({"irc_1": 1.0, "irc_2": 2.0, "irc_3": 4.0, "irc_4": 8.0}, ways) == {"a": 3.0, "b": 4.0}


# The whole search, given times


class FakeTimed:
    """A program whose kernels take as long as `took` says of their ways, and whose run takes as long as `runs` says."""

    took: ClassVar[Mapping[str, float]] = {}
    runs: ClassVar[Mapping[bool, float]] = {}
    started: ClassVar[list[str]] = []
    fails_at: ClassVar[Mapping[str, BaseException]] = {}

    def __init__(self, contestant: Contestant, workload: Any, outputs: Path, deadline: float) -> None:
        self.name, self.path = contestant.name, contestant.path
        with load(contestant.path) as program, np.load(workload.inputs) as feeds:
            np.savez(outputs, **program.run(dict(feeds)))  # type: ignore[arg-type]

    def __enter__(self) -> FakeTimed:
        self.started.append(self.name)
        if self.name in self.fails_at:
            raise self.fails_at[self.name]
        return self

    def __exit__(self, *_: object) -> None:
        return

    def kernels(self) -> dict[str, float]:
        plans = [
            NativePlan.from_bytes(each.read_bytes())
            for each in self.path.rglob("plan.json")
            if (each.parent / LIBRARY_FILE).exists()
        ]
        return {step.kernel: self.took.get(step.way.partition(" ")[2], 1.0) for plan in plans for step in plan.steps}

    def run(self) -> float:
        return self.runs["measured kernels" in self.name]


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The engine races alone, and times are given."""
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))

    def prepare(took: Mapping[str, float], measured: float = 1.0, fails_at: Mapping[str, BaseException] | None = None) -> None:
        monkeypatch.setattr(search, "Race", FakeRace)
        monkeypatch.setattr(kernels, "Timed", FakeTimed)
        monkeypatch.setattr(program, "objects", objects_here)
        monkeypatch.setattr(candidates, "ENGINES", [Tvm()])
        monkeypatch.setattr(engine, "NEIGHBOURS", 2)  # more take longer
        FakeRace.times, FakeRace.entered, FakeRace.interrupt_at = {}, [], ""
        FakeTimed.took, FakeTimed.runs, FakeTimed.started = took, {False: 2.0, True: measured}, []
        FakeTimed.fails_at = fails_at or {}

    return prepare


def product() -> ModelProto:
    """x: f32[48,64] -> y: f32[48,96]."""
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["y"])]
    return model(nodes, [info("x", F32, [48, 64])], [info("y", F32, [48, 96])], {"w": normal(64, 96)})


def tilings(made: Program) -> list[str]:
    """The tilings in a program's plan."""
    plan = NativePlan.from_bytes(made.files.read(NATIVE_PLAN_FILE))
    return [step.way.partition(" ")[2] for step in plan.steps if step.way]


def near() -> tuple[str, list[str]]:
    """The key of the product, and the texts of the neighbours of its tiling."""
    made = Contraction((), Axis(48, 64, 96), (Axis(64, 1),), 96, 48 * 64, 48 * 96)
    return made.key, [each.text for each in neighbours(extent_of(made), machine_of(find_target("cpu")))]


def fates(decisions: Sequence[Decision]) -> dict[str, str]:
    return {each.candidate: each.fate for each in decisions}


@needs_tvm
def test_the_way_that_is_fastest_is_kept_and_told(timing: Any) -> None:
    key, texts = near()
    timing({texts[1]: 0.5})
    compiled = compile_model(product(), ASKED)
    assert tilings(compiled.program) == [texts[1]]
    manifest = compiled.program.manifest
    assert manifest.engine_options == {"tiles": {key: texts[1]}}
    assert manifest.decisions == tuple(compiled.decisions)
    told = fates(compiled.decisions)
    assert told["tvm"] == "slower"
    assert told["tvm, measured kernels"] == "won"
    assert told[f"kernel {key} as {texts[1]}"] == "kept"
    assert [name for name in told if "other" in name] == [f"tvm, other kernels {i + 1}" for i in range(2)]
    x = normal(48, 64, seed=1)
    wanted = np.maximum(x @ normal(64, 96), 0)
    np.testing.assert_allclose(compiled.program.run({"x": x})["y"], wanted, rtol=1e-4, atol=1e-4)


@needs_tvm
def test_where_no_way_is_faster_the_program_is_that_of_the_model(timing: Any) -> None:
    timing({})
    compiled = compile_model(product(), ASKED)
    assert compiled.program.manifest.engine_options == {}
    assert fates(compiled.decisions)["tvm"] == "won"
    plain = compile_model(product(), replace(ASKED, opt_level=2))
    assert compiled.program.files.read(NATIVE_PLAN_FILE) == plain.program.files.read(NATIVE_PLAN_FILE)


@needs_tvm
def test_what_is_faster_by_parts_and_not_as_a_whole_is_not_kept(timing: Any) -> None:
    _, texts = near()
    timing({texts[0]: 0.5}, measured=2.5)
    compiled = compile_model(product(), ASKED)
    told = fates(compiled.decisions)
    assert (told["tvm"], told["tvm, measured kernels"]) == ("won", "slower")
    assert tilings(compiled.program) != [texts[0]]


@needs_tvm
def test_so_are_kernels_of_a_program_that_another_engine_runs_a_part_of(timing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key, texts = near()
    timing({texts[0]: 0.5})
    takes = Tvm.takes
    monkeypatch.setattr(
        Tvm, "takes", lambda self, op, target: Verdict("not today") if op.is_a("Softmax") else takes(self, op, target)
    )
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Softmax", ["m"], ["y"])]
    message = model(nodes, [info("x", F32, [48, 64])], [info("y", F32, [48, 96])], {"w": normal(64, 96)})
    compiled = compile_model(message, ASKED)
    assert [each.engine for each in compiled.program.manifest.placement] == ["tvm", "onnxruntime"]
    assert fates(compiled.decisions)[f"kernel {key} as {texts[0]}"] == "kept"
    first, _ = Plan.from_bytes(compiled.program.files.read(PLAN_FILE)).usual.steps
    assert first.options == {"tiles": {key: texts[0]}}
    assert compiled.agreement.agrees


@needs_tvm
def test_a_second_compilation_measures_nothing_and_makes_the_same_bytes(timing: Any, tmp_path: Path) -> None:
    _, texts = near()
    timing({texts[0]: 0.5})
    compile_model(product(), ASKED).program.save(tmp_path / "first.irc")
    FakeTimed.started = []
    compile_model(product(), ASKED).program.save(tmp_path / "second.irc")
    assert FakeTimed.started == []
    assert (tmp_path / "first.irc").read_bytes() == (tmp_path / "second.irc").read_bytes()


@needs_tvm
def test_the_settings_of_a_program_make_its_kernels_again(timing: Any) -> None:
    _, texts = near()
    timing({texts[0]: 0.5})
    measured = compile_model(product(), ASKED).program
    options = replace(ASKED, opt_level=2, engine_options=measured.manifest.engine_options)
    again = compile_model(product(), options).program
    assert again.manifest.engine_options == measured.manifest.engine_options
    for name in measured.files.files:
        assert again.files.read(name) == measured.files.read(name)


@needs_tvm
def test_a_setting_that_is_no_tiling_is_refused(timing: Any) -> None:
    key, _ = near()
    timing({})
    with pytest.raises(UsageError, match="is no tiling for this machine"):
        compile_model(product(), replace(ASKED, opt_level=2, engine_options={"tiles": {key: "fast"}}))


@needs_tvm
def test_an_interrupt_keeps_the_best_so_far(timing: Any, tmp_path: Path) -> None:
    _, texts = near()
    timing({texts[0]: 0.5}, fails_at={"tvm, other kernels 2": KeyboardInterrupt()})
    compiled = compile_model(product(), ASKED)
    assert compiled.notes == ["the search was interrupted, and the best so far is kept"]
    assert fates(compiled.decisions)["tvm"] == "won"
    assert not list((tmp_path / "cache").glob("tuning-*")), "half a search is not kept"


@needs_tvm
def test_a_process_that_dies_is_in_the_report_and_in_nobodys_way(timing: Any) -> None:
    key, texts = near()
    timing({texts[1]: 0.5}, fails_at={"tvm, other kernels 1": EngineFailure("its process was killed by SIGKILL")})
    compiled = compile_model(product(), ASKED)
    told = {each.candidate: (each.fate, each.why) for each in compiled.decisions}
    assert told["tvm, other kernels 1"] == ("failed", "its process was killed by SIGKILL")
    assert compiled.program.manifest.engine_options == {"tiles": {key: texts[1]}}


@needs_tvm
def test_who_answers_wrong_is_not_measured(timing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, texts = near()
    timing(dict.fromkeys(texts, 0.5))
    original = search.check_answers

    def check(answers: Any, graph: Any, probe: Any) -> Any:
        said = original(answers, graph, probe)
        return replace(said, agrees=False, distance=0.5) if "other" in "".join(FakeTimed.started[-1:]) else said

    monkeypatch.setattr(search, "check_answers", check)
    compiled = compile_model(product(), ASKED)
    others = [each for each in compiled.decisions if "other" in each.candidate]
    assert {(each.fate, each.error) for each in others} == {("wrong", 0.5)}
    assert compiled.program.manifest.engine_options == {}


@needs_tvm
def test_without_time_nothing_is_tried(timing: Any) -> None:
    timing({})
    compiled = compile_model(product(), replace(ASKED, tune_budget=1e-3))
    assert FakeTimed.started == []
    assert fates(compiled.decisions) == {"tvm": "won", "tvm, other kernels 1": "no time was left"}


@needs_tvm
def test_a_budget_of_nothing_is_that_of_rules(timing: Any) -> None:
    timing({})
    compiled = compile_model(product(), replace(ASKED, tune_budget=0.0))
    assert (compiled.decisions, FakeRace.entered, FakeTimed.started) == ((), [], [])
    assert tilings(compiled.program) == tilings(compile_model(product(), replace(ASKED, opt_level=2)).program)


def test_the_name_of_a_program_of_measured_kernels_is_that_of_its_candidate() -> None:
    found = named("tvm, one thread, measured kernels", replace(ASKED), find_target("cpu"))
    assert found is not None
    assert (found.engine.name, found.setting) == ("tvm", {"threads": 1})


@needs_tvm
def test_other_kernels_are_given_up_when_time_is_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are built until then, and no longer."""
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    key, _ = near()
    graph = capture(product().SerializeToString())
    with pytest.raises(EngineFailure, match="did not answer within"):
        Tvm().trial(1, [key], 0.0).lower(graph, find_target("cpu"), 2)


# The real thing


@needs_tvm
@pytest.mark.slow
def test_a_real_search_within_its_budget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    compiled = compile_model(product(), replace(ASKED, tune_budget=30.0))
    assert compiled.agreement.agrees
    assert [each.fate for each in compiled.decisions].count("won") == 1
    compiled.program.save(tmp_path / "product.irc")
    with load(tmp_path / "product.irc") as again:
        assert again.manifest.decisions == tuple(compiled.decisions)
