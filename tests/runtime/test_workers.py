"""Contestants that hang, die or talk nonsense, as real processes: the race goes on, in time, and says what they did."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irc.runtime import Contestant, EngineFailure, Fate, Race, Workload, racing
from irc.runtime.workers import Late, Worker

READY = '{"load_ms": 1, "first_run_ms": 1}'
ROUND = '{"runs": 5, "p50": 1, "p90": 1, "p99": 1, "throughput": 1}'
DOES = {
    "hangs at the start": "time.sleep(600)",
    "hangs in a turn": f"say('{READY}'); input(); time.sleep(600)",
    "dies": "os.kill(os.getpid(), 9)",
    "talks nonsense": "say('hello')",
    "says no more, and stays": "os.close(1); time.sleep(600)",
    "complains": "sys.exit('no such kernel')",
    "is good": f"say('{READY}')\nfor line in sys.stdin: say('{ROUND}')",
}


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Processes of a race do what their name says."""
    head = "import os, sys, time\ndef say(text): print(text, flush=True)\n"
    (tmp_path / "irc_actor.py").write_text(head + f"exec({DOES!r}[sys.argv[1]])\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(racing, "Worker", lambda name, arguments: Worker(name, [name], "irc_actor"))
    monkeypatch.setattr("irc.runtime.workers._LAST_BREATH", 0.2)


def raced(folder: Path, *names: str, seconds: float = 3.0) -> Race:
    begin = time.monotonic()
    with Race(Workload(seconds=0.01), lambda contestant, outputs: "", folder, begin + seconds) as race:
        for name in names:
            if race.enter(Contestant(name, folder)).fate is Fate.AS_FAST:
                race.turn()
        race.finish()
    assert time.monotonic() - begin < 60, "it is not the ten minutes that the process sleeps"
    return race


@pytest.mark.usefixtures("actor")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("dies", "its process was killed by SIGKILL"),
        ("talks nonsense", "its process said what is no answer"),
        ("says no more, and stays", "its process stopped answering"),
        ("complains", "its process ended with exit code 1: no such kernel"),
    ],
)
def test_what_it_did_is_said(tmp_path: Path, name: str, why: str) -> None:
    race = raced(tmp_path, name, "is good", seconds=60.0)
    bad, good = race.runners
    assert bad.fate is Fate.FAILED
    assert bad.why.startswith(why)
    assert race.best is good
    assert good.times


@pytest.mark.usefixtures("actor")
def test_one_that_hangs_leaves_time_for_the_others(tmp_path: Path) -> None:
    race = raced(tmp_path, "is good", "hangs at the start", "is good")
    first, hanging, later = race.runners
    assert (hanging.fate, hanging.why.startswith("it was not ready within")) == (Fate.UNMEASURED, True)
    assert later.times
    assert race.best in (first, later)


@pytest.mark.usefixtures("actor")
def test_where_the_first_hangs_the_race_is_over_at_the_deadline(tmp_path: Path) -> None:
    race = raced(tmp_path, "hangs at the start", "is good", seconds=1.0)
    assert [(each.fate, each.why) for each in race.runners] == [
        (Fate.UNMEASURED, "it was not ready within 1 s"),
        (Fate.UNMEASURED, ""),
    ]
    assert race.best is None


@pytest.mark.usefixtures("actor")
def test_a_turn_is_not_waited_for_beyond_the_deadline(tmp_path: Path) -> None:
    race = raced(tmp_path, "is good", "hangs in a turn", seconds=2.0)
    assert race.best is race.runners[0]


@pytest.mark.usefixtures("actor")
def test_a_late_answer_is_no_failure_yet() -> None:
    with Worker("hangs at the start", ["hangs at the start"], "irc_actor") as worker:
        with pytest.raises(Late, match=r"did not answer within 0\.1 s"):
            worker.answer(0.1)
        worker.kill()


def test_an_interrupt_before_its_block_begins_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(600)\n")
    made = "from irc.runtime.workers import Worker\nworker = Worker('a', [], 'sleeper')\n"
    code = f"{made}print(worker._process.pid, flush=True)\nraise KeyboardInterrupt\n"
    paths = os.pathsep.join([str(tmp_path), *(each for each in sys.path if each)])
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, "PYTHONPATH": paths}, timeout=60
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.stdout), 0)


def test_a_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(EngineFailure, match="no process can be started: no such file or directory"):
        Worker("a", [])
