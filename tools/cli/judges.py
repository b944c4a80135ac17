"""What makes a program bad for `irc bisect`: its answers, what a command of the user says, or its speed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .bisection import LEVELS, Trial
from .output import note

if TYPE_CHECKING:
    from irc.ir import Graph
    from irc.lowering import Compiled, CompileOptions, Probe
    from irc.runtime import Program, Workload

NOT_RUNNABLE = (126, 127)
"""What a shell ends with when it cannot run a command."""


@dataclass
class Workshop:
    """Compiles one captured model in the ways that trials say."""

    graph: Graph
    options: CompileOptions
    made: int = 0

    def compiled(self, trial: Trial) -> Compiled:
        """The program of a trial. Raises what compiling raises."""
        from irc.ir import clone_graph
        from irc.lowering import compile_graph

        engine_options = {**self.options.engine_options, **trial.settings}
        disable = self.options.disable.union(trial.disabled)
        options = replace(self.options, rewrite_limit=trial.rewrites, engine_options=engine_options, disable=disable)
        self.made += 1
        return compile_graph(clone_graph(self.graph), options)

    def forms(self, trial: Trial) -> list[str]:
        """The engine's own rewrites in the program of a trial, by name. Raises what compiling raises."""
        compiled = self.compiled(trial)
        compiled.program.close()
        return list(compiled.forms)

    def saved(self, trial: Trial, folder: Path) -> Path:
        """The artifact of a trial, always at the same place in `folder`. Raises what compiling raises."""
        place = folder / "model.irc"
        with self.compiled(trial).program as program:
            program.save(place)
        return place


@dataclass
class AnswerJudge:
    """Bad is an answer that differs from the reference's by more than `max_error`, or than a compilation accepts."""

    workshop: Workshop
    probe: Probe
    max_error: float | None = None

    def symptom(self, trial: Trial) -> str | None:
        """How the answer differs, or how the program fails."""
        from irc.ir import IrcError
        from irc.runtime import RunError

        try:
            with self.workshop.compiled(trial).program as program:
                found = self._difference(program)
        except (IrcError, RunError) as error:
            found = f"it fails: {error.message}"
        _report(trial, found)
        return found

    def _difference(self, program: Program) -> str | None:
        from irc.lowering import check, distance, random_outputs

        graph = self.workshop.graph
        if self.max_error is None:
            agreement = check(program, graph, self.probe)
            return None if agreement.agrees else f"it {agreement.sentence}"
        answers, random = program.run(self.probe.feeds), random_outputs(graph)
        for name, wanted in zip(graph.output_names, self.probe.answers, strict=True):
            gap = 0.0 if name in random else distance(wanted, answers[name])
            if gap > self.max_error:
                return f"its output '{name}' differs from the reference on {self.probe.inputs} by {gap:.1e}"
        return None


@dataclass
class CommandJudge:
    """Bad is an artifact on which the user's command ends with anything but 0."""

    workshop: Workshop
    command: str
    folder: Path

    def symptom(self, trial: Trial) -> str | None:
        """How the command ends. Raises UsageError where it cannot be run at all."""
        from irc.ir import IrcError, UsageError
        from irc.runtime import RunError

        try:
            artifact = self.workshop.saved(trial, self.folder)
        except (IrcError, RunError) as error:
            found: str | None = f"it fails: {error.message}"
        else:
            environment = {**os.environ, "IRC_ARTIFACT": str(artifact)}
            line = self.command.replace("{}", shlex.quote(str(artifact)))
            code = subprocess.run(line, shell=True, env=environment, stdout=sys.stderr, check=False).returncode
            if code in NOT_RUNNABLE:
                raise UsageError(f"the command cannot be run: {self.command}", hint="--check takes a command for the shell")
            found = None if code == 0 else f"the command ends with {code}"
        _report(trial, found)
        return found


@dataclass
class SpeedJudge:
    """Bad is a program that takes more than `ratio` times as long as the baseline, measured in turns with it."""

    workshop: Workshop
    ratio: float
    workload: Workload
    folder: Path
    baseline: Trial
    _base: Path | None = field(default=None)

    def symptom(self, trial: Trial) -> str | None:
        """How much slower the program is, or how it fails."""
        from irc.ir import IrcError
        from irc.runtime import Contestant, RunError, compare, measure

        if self._base is None:
            self._base = self.workshop.saved(self.baseline, self.folder).rename(self.folder / "baseline.irc")
        try:
            artifact = self.workshop.saved(trial, self.folder)
            base, mine = measure([Contestant("baseline", self._base), Contestant("trial", artifact)], self.workload)
        except (IrcError, RunError) as error:
            found: str | None = f"it fails: {error.message}"
        else:
            slower = 1 / compare("trial", mine.times, "baseline", base.times).ratio
            found = f"it takes {slower:.2f} times as long ({mine.p50:.3f} ms)" if slower > self.ratio else None
        _report(trial, found)
        return found


def _report(trial: Trial, found: str | None) -> None:
    """A line a trial on a terminal, as progress."""
    if not sys.stderr.isatty():
        return
    level = trial.settings.get("optimization", "")
    engine = f", engine at {level}" if level in LEVELS else ""
    without = f", without {', '.join(trial.disabled)}" if trial.disabled else ""
    note(f"{trial.rewrites} rewrites{engine}{without}: {found or 'good'}")


_MODIFIED = re.compile(r"GraphTransformer (\S+) modified: 1 ")
_LISTING = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 1
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, sys.argv[2])
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""
_ENGINE_LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}


def engine_optimizers(workshop: Workshop, trial: Trial, folder: Path) -> list[str]:
    """ONNX Runtime's optimizations that change the program of a trial, in order: it says so in its log, and nowhere else."""
    level = _ENGINE_LEVELS.get(str(trial.settings.get("optimization", "all")))
    if level is None:
        return []
    place = folder / f"listing-{workshop.made}"
    with workshop.compiled(Trial(trial.rewrites, {"optimization": LEVELS[0]})).program as program:
        program.save_folder(place)
    command = [sys.executable, "-c", _LISTING, str(place / "model.onnx"), level]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return list(dict.fromkeys(_MODIFIED.findall(done.stderr)))
