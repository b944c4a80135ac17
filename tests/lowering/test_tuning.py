"""O3: the fastest candidate with the right answers wins, whatever happens on the way; and is found again in the cache."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from irc.ir import UnsupportedError
from irc.lowering import CompileOptions, Engine, compile_model, find_target
from irc.lowering.onnxruntime import OnnxRuntime
from irc.lowering.tuning import candidates, search
from irc.lowering.tuning.candidates import KERNELS_OF_LOWER_PRECISION, alternatives, first_candidates, named, usable_engines
from irc.passes import Instrument
from irc.runtime import Contestant, Fate, Runner, cache_folder, load

from .models import STRING, info, mlp, model, node, normal

ASKED = CompileOptions(opt_level=3)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@dataclass(frozen=True)
class Twin(OnnxRuntime):
    """ONNX Runtime once more, under another name for the candidates; its programs are ONNX Runtime's."""

    label: str = "twin"
    refuses: str = field(default="")

    def lower(self, *arguments: Any, **more: Any) -> Any:
        """As ONNX Runtime does, or not at all."""
        if self.refuses:
            raise UnsupportedError(self.refuses)
        return super().lower(*arguments, **more)


class FakeRace:
    """A race in which everyone takes as long as `times` says; the outputs are those of the artifact, run here."""

    times: ClassVar[dict[str, float]] = {}
    entered: ClassVar[list[str]] = []
    interrupt_at: ClassVar[str] = ""

    def __init__(self, workload: Any, judge: Any, folder: Path, deadline: float) -> None:
        self.inputs, self.judge, self.folder = workload.inputs, judge, folder
        self.runners: list[Runner] = []
        self.time_left, self.turn_seconds = 100.0, 1.0

    def __enter__(self) -> FakeRace:
        return self

    def __exit__(self, *_: object) -> None:
        return

    @property
    def still_in(self) -> list[Runner]:
        return [each for each in self.runners if each.fate is Fate.AS_FAST]

    @property
    def best(self) -> Runner | None:
        return min(self.still_in, key=lambda each: each.times[0], default=None)

    def absent(self, name: str, fate: Fate, why: str = "") -> None:
        self.runners.append(Runner(name, fate, why))

    def enter(self, contestant: Contestant) -> Runner:
        if contestant.name == self.interrupt_at:
            raise KeyboardInterrupt
        self.entered.append(contestant.name)
        outputs = self.folder / "outputs.npz"
        with load(contestant.path) as program, np.load(self.inputs) as feeds:
            np.savez(outputs, **program.run(dict(feeds)))  # type: ignore[arg-type]
        wrong = self.judge(contestant, outputs)
        fate = Fate.WRONG if wrong else Fate.AS_FAST
        self.runners.append(Runner(contestant.name, fate, wrong, [self.times.get(contestant.name, 9.0)]))
        return self.runners[-1]

    def turn(self) -> None:
        return

    def finish(self, spare: float = 0.0) -> None:
        return


@pytest.fixture
def racing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Only ONNX Runtime races, in a race whose times the test gives."""

    def prepare(*engines: Engine, interrupt_at: str = "", **times: float) -> None:
        monkeypatch.setattr(search, "Race", FakeRace)
        monkeypatch.setattr(candidates, "ENGINES", list(engines or (OnnxRuntime(),)))
        FakeRace.times = {name.replace("_", " "): value for name, value in times.items()}
        FakeRace.entered, FakeRace.interrupt_at = [], interrupt_at

    return prepare


PLAIN = "onnxruntime, graph as it is"


def test_the_fastest_wins_and_the_report_has_everyone(racing: Any) -> None:
    racing(onnxruntime=2.0)
    FakeRace.times[PLAIN] = 1.0
    compiled = compile_model(mlp(), ASKED)
    told = [(each.candidate, each.milliseconds, each.fate) for each in compiled.decisions]
    assert told == [("onnxruntime", 2.0, "no slower beyond noise"), (PLAIN, 1.0, "won")]
    assert compiled.program.manifest.decisions == tuple(compiled.decisions)
    assert all(each.error is not None and each.error < 1e-4 for each in compiled.decisions)
    x = normal(3, 4, seed=1)
    np.testing.assert_allclose(compiled.program.run({"x": x})["y"], np.maximum(x @ normal(4, 4), 0), rtol=1e-5, atol=1e-6)


def test_who_answers_wrong_cannot_win(racing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    racing(onnxruntime=1.0)
    original = search.check_answers

    def check(answers: Any, graph: Any, probe: Any) -> Any:
        said = original(answers, graph, probe)
        return replace(said, agrees=False, distance=0.5) if len(FakeRace.entered) == 1 else said

    monkeypatch.setattr(search, "check_answers", check)
    compiled = compile_model(mlp(), ASKED)
    first, second = compiled.decisions
    assert (first.fate, first.error, second.fate) == ("wrong", 0.5, "won")
    assert first.why.startswith("it differs from the reference")


def test_where_nobody_is_right_one_is_compiled_by_rules(racing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    racing()
    original = search.check_answers
    monkeypatch.setattr(search, "check_answers", lambda *given: replace(original(*given), agrees=False))
    compiled = compile_model(mlp(), ASKED)
    assert compiled.decisions == ()
    assert compiled.notes[0] == "nothing was measured: no candidate has the right answers"


def test_an_engine_that_fails_is_in_the_report_and_in_nobodys_way(racing: Any) -> None:
    racing(Twin(name="twin", refuses="it has a cold"), OnnxRuntime())
    compiled = compile_model(mlp(), ASKED)
    told = {each.candidate: (each.fate, each.why) for each in compiled.decisions}
    assert told["twin"] == ("failed", "it has a cold")
    assert told["onnxruntime"][0] == "won"


def test_an_interrupt_keeps_the_best_so_far(racing: Any, own_cache: Path) -> None:
    racing(interrupt_at=PLAIN)
    compiled = compile_model(mlp(), ASKED)
    assert [each.fate for each in compiled.decisions] == ["won"]
    assert compiled.notes == ["the search was interrupted, and the best so far is kept"]
    assert not list(own_cache.glob("tuning-*")), "half a search is not kept"


def test_an_interrupt_before_anyone_ran_is_an_interrupt(racing: Any) -> None:
    racing(interrupt_at="onnxruntime")
    with pytest.raises(KeyboardInterrupt):
        compile_model(mlp(), ASKED)


def test_a_second_compilation_measures_nothing_and_makes_the_same_bytes(racing: Any, tmp_path: Path) -> None:
    racing()
    FakeRace.times[PLAIN] = 1.0
    compile_model(mlp(), ASKED).program.save(tmp_path / "first.irc")
    FakeRace.entered = []
    compile_model(mlp(), ASKED).program.save(tmp_path / "second.irc")
    assert FakeRace.entered == []
    assert (tmp_path / "first.irc").read_bytes() == (tmp_path / "second.irc").read_bytes()


@pytest.mark.parametrize(
    "other", [replace(ASKED, tune_budget=30.0), replace(ASKED, disable=frozenset({"cse"})), replace(ASKED, dims={"N": 2})]
)
def test_other_options_are_measured_anew(racing: Any, other: CompileOptions) -> None:
    racing()
    compile_model(mlp(), ASKED)
    FakeRace.entered = []
    compile_model(mlp(), other)
    assert FakeRace.entered


@pytest.mark.parametrize("damage", ["cut", "other", "winner"])
def test_a_damaged_entry_is_measured_again_and_said(racing: Any, own_cache: Path, damage: str) -> None:
    racing()
    compile_model(mlp(), ASKED)
    (path,) = own_cache.glob("tuning-*")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        from irc.runtime import write_entry

        text = {"winner": "nobody", "decisions": []} if damage == "winner" else {"loser": "x"}
        write_entry(path.name, json.dumps(text).encode())
    FakeRace.entered = []
    compiled = compile_model(mlp(), ASKED)
    assert FakeRace.entered
    assert len(compiled.notes) == 1
    assert any(word in compiled.notes[0] for word in ("damaged", "ignored", "does not hold any more"))


def test_a_cache_that_cannot_be_written_stops_nobody(racing: Any, own_cache: Path) -> None:
    racing()
    own_cache.write_text("a file, not a folder")
    compiled = compile_model(mlp(), ASKED)
    assert compiled.decisions
    assert "nothing is kept in the cache" in compiled.notes[-1]


def test_what_cannot_be_handed_to_a_process_is_not_measured() -> None:
    strings = model([node("Identity", ["x"], ["y"])], [info("x", STRING, [2])], [info("y", STRING, [2])])
    compiled = compile_model(strings, ASKED)
    assert compiled.notes[0] == "nothing was measured: it takes or gives what is no array of numbers"


def test_what_goes_on_is_told(racing: Any) -> None:
    class Listener(Instrument):
        heard_of: ClassVar[list[str]] = []

        def heard(self, event: str) -> None:
            self.heard_of.append(event)

    racing(onnxruntime=2.0)
    compile_model(mlp(), ASKED, [Listener()])
    assert Listener.heard_of[:2] == ["building onnxruntime", "onnxruntime 2 ms"]


# Candidates


def test_what_a_user_would_do_by_hand_is_a_candidate() -> None:
    names = [each.name for each in first_candidates(ASKED, find_target("cpu"))]
    assert names[0] == "onnxruntime"
    assert PLAIN in names


def test_what_has_most_kernels_of_lower_precision_comes_first_there() -> None:
    target = find_target("cpu")
    names = [each.engine.name for each in first_candidates(ASKED, target, KERNELS_OF_LOWER_PRECISION)]
    usable = [each.name for each in usable_engines(target)]
    assert names[: len(usable)] == usable[::-1]


def test_an_engine_asked_for_races_alone_and_settings_of_one_are_not_for_another() -> None:
    alone = first_candidates(replace(ASKED, engine="onnxruntime"), find_target("cpu"))
    assert {each.engine.name for each in alone} == {"onnxruntime"}
    spinning = first_candidates(replace(ASKED, engine_options={"spin": False}), find_target("cpu"))
    assert {each.engine.name for each in spinning} == {"onnxruntime"}


def test_a_pipeline_of_the_users_is_run_for_every_candidate() -> None:
    own = replace(ASKED, passes="cse")
    assert {each.options(own).passes for each in first_candidates(own, find_target("cpu"))} == {"cse"}


def test_alternatives_leave_out_what_was_applied_and_nothing_else() -> None:
    (first, *_) = first_candidates(ASKED, find_target("cpu"))
    assert [each.name for each in alternatives(first, {"merge-products", "cse"})] == ["onnxruntime, products apart"]
    assert list(alternatives(first, {"cse"})) == []
    again = named("onnxruntime, products apart", ASKED, find_target("cpu"))
    assert again is not None
    assert again.without == {"merge-products"}
    assert named("nobody", ASKED, find_target("cpu")) is None


@pytest.mark.parametrize(
    ("milliseconds", "threads", "tried"), [(0.5, {}, True), (5.0, {}, False), (0.5, {"threads": 2}, False)]
)
def test_a_short_run_is_tried_on_one_thread(racing: Any, milliseconds: float, threads: dict[str, int], tried: bool) -> None:
    racing(onnxruntime=milliseconds)
    FakeRace.times["onnxruntime, one thread"] = 0.1
    compiled = compile_model(mlp(), replace(ASKED, engine_options=threads))
    assert ("onnxruntime, one thread" in FakeRace.entered) == tried
    assert (compiled.program.manifest.engine_options.get("threads") == 1) == tried
    again = compile_model(mlp(), replace(ASKED, engine_options=threads))
    assert again.program.manifest == compiled.program.manifest


# The real thing


@pytest.mark.slow
def test_a_real_race_within_its_budget(tmp_path: Path) -> None:
    import time

    begin = time.monotonic()
    compiled = compile_model(mlp(256), replace(ASKED, tune_budget=8.0))
    assert time.monotonic() - begin < 60, "it does not run away; the budget itself is for benchmarks to hold"
    assert [each.fate for each in compiled.decisions].count("won") == 1
    assert compiled.agreement.agrees
    compiled.program.save(tmp_path / "mlp.irc")
    with load(tmp_path / "mlp.irc") as program:
        assert program.manifest.decisions == tuple(compiled.decisions)
    assert cache_folder().is_dir()
