"""A race: who leaves when and why, told with processes that say what the test wants them to say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any, ClassVar

import pytest

from irc.runtime import Contestant, EngineFailure, Fate, Race, Workload, racing
from irc.runtime.strict_json import Fields
from irc.runtime.workers import Late


class Scripted:
    """A process that takes so many milliseconds in each turn; a failure is raised in its place."""

    times: ClassVar[dict[str, Iterator[float | EngineFailure]]] = {}
    killed: ClassVar[list[str]] = []
    waited: ClassVar[list[float]] = []
    load_ms: ClassVar[float] = 1.0

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self.ready = True

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def ask(self, line: str) -> None:
        assert line == "go"

    def kill(self) -> None:
        self.killed.append(self.name)

    def answer(self, timeout: float) -> Fields:
        self.waited.append(timeout)
        if self.ready:
            self.ready = False
            return Fields({"load_ms": self.load_ms, "first_run_ms": 1.0}, self.name)
        said = next(self.times[self.name])
        if isinstance(said, EngineFailure):
            raise said
        return Fields({"runs": 5, "p50": said, "p90": said, "p99": said, "throughput": 1.0}, self.name)


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A race of scripted contestants: `race(a=[1.0, ...], b=[...])` has had all its turns."""

    monkeypatch.setattr(Scripted, "load_ms", 1.0)

    def run(wrong: str = "", seconds: float = 60.0, **times: list[float | EngineFailure]) -> Race:
        monkeypatch.setattr(racing, "Worker", Scripted)
        Scripted.killed = []
        Scripted.times = {name: chain(each, repeat(each[-1])) for name, each in times.items()}

        def judge(contestant: Contestant, outputs: Path) -> str:
            return "it is off" if contestant.name == wrong else ""

        with Race(Workload(), judge, tmp_path, time.monotonic() + seconds) as on:
            for name in times:
                on.enter(Contestant(name, tmp_path / name))
            on.finish()
        return on

    return run


def fates(race: Race) -> dict[str, Fate]:
    return {runner.name: runner.fate for runner in race.runners}


def test_who_takes_half_as_long_again_leaves_after_two_turns(race: Any) -> None:
    done = race(a=[1.0], b=[1.6])
    assert fates(done) == {"a": Fate.AS_FAST, "b": Fate.SLOWER}
    assert done.runners[1].times == [1.6, 1.6]
    assert done.best.name == "a"


def test_one_bad_turn_makes_nobody_leave(race: Any) -> None:
    done = race(a=[1.0], b=[2.5, 0.9])
    assert fates(done)["b"] is Fate.AS_FAST
    assert done.best.name == "b"


def test_who_is_a_little_slower_leaves_when_that_is_certain(race: Any) -> None:
    done = race(a=[1.00, 1.01, 0.99, 1.00, 1.02], b=[1.05, 1.06, 1.05, 1.04, 1.06])
    assert fates(done)["b"] is Fate.SLOWER
    assert 4 <= len(done.runners[1].times) <= 6


def test_who_is_as_fast_beyond_noise_stays_and_the_better_median_is_ahead(race: Any) -> None:
    done = race(a=[1.0, 1.1, 0.9, 1.05] * 4, b=[1.01, 1.0, 1.0, 0.99] * 4)
    assert set(fates(done).values()) == {Fate.AS_FAST}
    assert len(done.runners[0].times) == racing.MOST_ROUNDS
    assert done.best.name == "b"


def test_wrong_answers_never_run(race: Any) -> None:
    done = race(wrong="b", a=[2.0], b=[1.0])
    assert (done.runners[1].fate, done.runners[1].why, done.runners[1].times) == (Fate.WRONG, "it is off", [])
    assert done.best.name == "a"


def test_who_fails_on_the_way_leaves_and_the_others_go_on(race: Any) -> None:
    done = race(a=[2.0, EngineFailure("it died")], b=[2.1])
    assert (done.runners[0].fate, done.runners[0].why) == (Fate.FAILED, "it died")
    assert done.best.name == "b"


def test_after_the_deadline_nobody_starts(race: Any) -> None:
    done = race(seconds=0.0, a=[2.0], b=[1.0])
    assert fates(done) == {"a": Fate.UNMEASURED, "b": Fate.UNMEASURED}
    assert done.best is None


def test_a_turn_that_the_deadline_ends_does_not_count(race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(racing.Race, "time_left", property(lambda on: 0.0 if on._cut or "b" in asked else 9.0))
    asked: list[str] = []

    def ask(worker: Scripted, line: str) -> None:
        asked.append(worker.name)

    monkeypatch.setattr(Scripted, "ask", ask)
    done = race(a=[1.0], b=[Late("did not answer")])
    assert [runner.times for runner in done.runners] == [[], []], "a had its time, b had not: neither has one"
    assert set(fates(done).values()) == {Fate.AS_FAST}
    assert done.best.name == "a", "nobody has run, and it entered first"
    assert asked == ["a", "b"], "whose answer is still to come is not asked again"


def test_who_takes_many_times_as_long_as_expected_is_given_up(race: Any) -> None:
    done = race(a=[2.0], b=[Late("did not answer within 10 s")])
    assert (done.runners[1].fate, done.runners[1].why) == (Fate.FAILED, "did not answer within 10 s")
    assert done.best.name == "a"


def test_no_wait_outlasts_the_deadline(race: Any) -> None:
    """The first may wait for all that is left, who comes later for half of it; and the winner has still to be loaded."""
    Scripted.load_ms = 20_000.0
    Scripted.waited = []
    race(seconds=60.0, a=[1.0], b=[1.0])
    start_of_a, start_of_b, *turns = Scripted.waited
    assert 59 < start_of_a <= 60
    assert 19 < start_of_b <= 20, "half of what is left but for the 20 seconds that loading takes"
    assert max(turns) <= 40


def test_nobody_is_left_behind(race: Any) -> None:
    race(a=[1.0], b=[1.0], c=[9.0])
    assert set(Scripted.killed) == {"a", "b", "c"}


def test_one_who_enters_late_does_not_make_a_single_turn_decide_between_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(racing, "Worker", Scripted)
    Scripted.times = {
        "a": chain([1.0] * 6, repeat(1.2)),
        "b": chain([1.01] * 6, repeat(1.0)),
        "late": repeat(1.3),
    }
    with Race(Workload(), lambda contestant, outputs: "", tmp_path, time.monotonic() + 60) as on:
        for name in ("a", "b"):
            on.enter(Contestant(name, tmp_path))
        for _ in range(6):
            on.turn()
        on.enter(Contestant("late", tmp_path))
        on.turn()
        assert on.best is on.runners[0]


@pytest.mark.parametrize(("lucky", "ahead"), [(0.95, "early"), (0.8, "late")])
def test_one_lucky_turn_does_not_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lucky: float, ahead: str) -> None:
    """In the only turn they shared the late one was a little faster; much faster, it is ahead."""
    monkeypatch.setattr(racing, "Worker", Scripted)
    Scripted.times = {"early": chain([0.9] * 5, repeat(1.0)), "late": repeat(lucky)}
    with Race(Workload(), lambda contestant, outputs: "", tmp_path, time.monotonic() + 60) as on:
        on.enter(Contestant("early", tmp_path))
        for _ in range(5):
            on.turn()
        on.enter(Contestant("late", tmp_path))
        on.turn()
        assert on.best is not None
        assert on.best.name == ahead


def test_who_enters_late_is_compared_within_shared_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine slows down to half its speed; who enters then is as fast as the other is now."""
    monkeypatch.setattr(racing, "Worker", Scripted)
    Scripted.times = {"early": chain([1.0] * 6, repeat(2.0)), "late": repeat(2.0)}
    with Race(Workload(), lambda contestant, outputs: "", tmp_path, time.monotonic() + 60) as on:
        on.enter(Contestant("early", tmp_path))
        for _ in range(6):
            on.turn()
        on.enter(Contestant("late", tmp_path))
        on.finish()
        assert [runner.name for runner in on.still_in] == ["early", "late"]
