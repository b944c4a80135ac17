# pyright: basic
"""The manager's rules of conduct: rollback, limits, contracts, instruments; pipelines as text; passes from the user's files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irc.ir import Graph, TensorType, UsageError, verify
from irc.ir.clone import clone_graph
from irc.ir.text import parse_graph, print_graph
from irc.ir.types import DType
from irc.passes import (
    LEVELS,
    PASSES,
    Context,
    Contract,
    DumpIR,
    Pass,
    PassManager,
    PrintAfter,
    parse_pipeline,
    pipeline_text,
    registry,
)
from irc.passes.rules import Rules

from .meaning import assert_same_meaning

TEXT = """
graph @main(%x: f32[N,3], %w: f32[] = [2.0]) -> (%y: f32[N,3], %z: f32[N,3]) {
  %two = const @_ : f32[] = [2.0]
  %one = const @_ : f32[] = [1.0]
  %three = Add(%two, %one)
  %i = Identity(%x)
  %n = Neg(%i)
  %m = Neg(%n)
  %a = Mul(%m, %three)
  %b = Mul(%x, %three)
  %dead = Relu(%x)
  %y = Add(%a, %w)
  %z = Add(%b, %w)
  return %y, %z
}
"""
FEEDS = {"x": np.array([[1.0, -0.0, np.nan], [np.inf, 2.5, -1e-40]], np.float32)}


def sample() -> Graph:
    return parse_graph(TEXT)


@dataclass(frozen=True)
class Raises(Pass, name="raises"):
    """Change the graph, then raise."""

    def run(self, graph: Graph, context: Context) -> None:
        context.take(self.name)
        graph.set_output(0, graph.inputs[0])
        raise RuntimeError("no luck today")


@dataclass(frozen=True)
class BreaksSsa(Pass, name="breaks-ssa"):
    """Put the last op first."""

    def run(self, graph: Graph, context: Context) -> None:
        assert graph.first is not None
        assert graph.last is not None
        last = graph.last
        graph.unlink(last)
        graph.insert(last, graph.first)


@dataclass(frozen=True)
class ChangesSignature(Pass, name="changes-signature"):
    """Add an input."""

    def run(self, graph: Graph, context: Context) -> None:
        graph.add_input("extra", TensorType(DType.F32, (1,)))


@dataclass(frozen=True)
class ChangesDefault(Pass, name="changes-default"):
    """Forget the value of an overridable input."""

    def run(self, graph: Graph, context: Context) -> None:
        graph.defaults.clear()


@dataclass(frozen=True)
class Loose(Pass, name="loose", contract=Contract.LOSSY):
    """Answer with the input."""

    def run(self, graph: Graph, context: Context) -> None:
        context.take(self.name)
        graph.set_output(0, graph.inputs[0])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Raises(), "RuntimeError: no luck today"),
        (BreaksSsa(), "before it is defined"),
        (ChangesSignature(), "it changed the model's signature"),
        (ChangesDefault(), "it changed the model's signature"),
    ],
    ids=lambda value: value.name if isinstance(value, Pass) else "",
)
def test_a_pass_that_does_wrong_never_was(bad: Pass, reason: str) -> None:
    level = LEVELS["O2"]
    manager = PassManager((*level[:3], bad, *level[3:]))
    graph = manager.run(sample())
    verify(graph)
    assert [record.name for record in manager.failures] == [bad.name]
    assert reason in (manager.failures[0].failure or "")
    assert manager.failures[0].rewrites == {}
    assert print_graph(graph) == print_graph(PassManager(level).run(sample()))
    assert len(manager.records) == len(level) + 1


def test_records_say_what_each_pass_did() -> None:
    manager = PassManager(registry().pipeline("dead-code, canonicalize, cse"))
    manager.run(sample())
    dead, canonical, merged = manager.records
    assert (dead.rewrites, dead.ops_before, dead.ops_after) == ({"dead-code": 1}, 9, 8)
    assert canonical.rewrites == {"identity": 1, "involution": 1}
    assert canonical.changes == 2
    assert merged.rewrites == {"cse": 2}
    assert manager.totals == {"dead-code": 1, "identity": 1, "involution": 1, "cse": 2}


def test_passes_and_rules_can_be_disabled() -> None:
    manager = PassManager(registry().pipeline("canonicalize, cse"), disabled=frozenset({"cse", "involution"}))
    graph = manager.run(sample())
    assert not {"cse", "involution"} & manager.totals.keys()
    assert "Neg" in print_graph(graph)
    assert all(record.name != "cse" for record in manager.records)


def test_the_limit_may_stop_anywhere() -> None:
    original = sample()
    whole = PassManager(LEVELS["O2"])
    whole.run(sample())
    total = whole.totals.total()
    assert total > 5
    for limit in range(total + 2):
        manager = PassManager(LEVELS["O2"], rewrite_limit=limit)
        graph = manager.run(clone_graph(original))
        verify(graph)
        assert not manager.failures
        assert manager.totals.total() == min(limit, total)
        assert_same_meaning(original, graph, FEEDS)


def test_contracts_bound_what_is_done() -> None:
    text = """
    graph @main(%x: f32[1,1,4,4]) -> (%y: f32[*]) {
      %w = const @_ : f32[1,1,1,1] = [2.0]
      %p = const @_ : i64[8] = [0, 0, 1, 1, 0, 0, 1, 1]
      %a = Pad(%x, %p)
      %y = Conv(%a, %w)
      return %y
    }"""
    exact = PassManager(LEVELS["O2"], strictest=Contract.EXACT)
    exact.run(parse_graph(text))
    assert "pad-into-conv" not in exact.totals
    loose = PassManager(LEVELS["O2"])
    loose.run(parse_graph(text))
    assert loose.totals["pad-into-conv"] == 1


def test_a_whole_pass_beyond_the_contract_does_not_run() -> None:
    manager = PassManager((Loose(),))
    assert print_graph(manager.run(sample())) == print_graph(sample())
    assert manager.records == []
    allowed = PassManager((Loose(),), strictest=Contract.LOSSY)
    allowed.run(sample())
    assert allowed.totals == {"loose": 1}


def test_levels_keep_their_word() -> None:
    assert LEVELS["O0"] == ()
    exact = {n for kind in PASSES for n, contract, _ in kind.rewrites() if contract is Contract.EXACT}
    assert all(one.contract is Contract.EXACT for one in LEVELS["O1"])
    manager = PassManager(LEVELS["O1"])
    manager.run(sample())
    assert manager.totals.keys() <= exact
    lossy = {n for kind in PASSES for n, contract, _ in kind.rewrites() if contract is Contract.LOSSY}
    manager = PassManager(LEVELS["O3"], strictest=Contract.LOSSY)
    manager.run(sample())
    assert not manager.totals.keys() & lossy
    assert all(one.strictest == "reassociating" for one in LEVELS["O3"] if isinstance(one, Rules))
    assert print_graph(PassManager(LEVELS["O0"]).run(sample())) == print_graph(sample())


def test_misses_are_kept_when_asked_for() -> None:
    manager = PassManager(registry().pipeline("canonicalize"), remark=True)
    manager.run(sample())
    assert any(miss.rewrite == "neutral-operand" and "Mul at" in miss.text for miss in manager.misses)
    silent = PassManager(registry().pipeline("canonicalize"))
    silent.run(sample())
    assert silent.misses == []


# Instruments


def test_dumps_are_numbered_by_step_and_listed(tmp_path: Path) -> None:
    manager = PassManager((*registry().pipeline("dead-code, dead-code, canonicalize"), Raises()), [DumpIR(tmp_path / "dump")])
    manager.run(sample())
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert names == ["00-captured.irtext", "01-dead-code.irtext", "03-canonicalize.irtext", "manifest.json"]
    entries = json.loads((tmp_path / "dump" / "manifest.json").read_text())
    assert [(e["step"], e["pass"], e["file"]) for e in entries] == [
        (0, "captured", "00-captured.irtext"),
        (1, "dead-code", "01-dead-code.irtext"),
        (3, "canonicalize", "03-canonicalize.irtext"),
        (4, "raises", None),
    ]
    assert entries[1]["rewrites"] == {"dead-code": 1}
    assert "no luck today" in entries[3]["rolled_back"]
    parse_graph((tmp_path / "dump" / "03-canonicalize.irtext").read_text())


@pytest.mark.parametrize(("names", "wanted"), [({"cse"}, ["cse"]), ({"all"}, ["dead-code"]), ({"no-such"}, [])])
def test_print_after(names: set[str], wanted: list[str]) -> None:
    printed: list[str] = []
    passes = registry().pipeline("dead-code, dead-code, cse")
    PassManager(passes, [PrintAfter(frozenset(names), printed.append)]).run(sample())
    assert [text.splitlines()[0] for text in printed] == [f"// after {name}" for name in wanted]


# Pipelines as text


@dataclass(frozen=True)
class Options(Pass, name="with-options"):
    """One option of each kind."""

    count: int = 3
    ratio: float = 0.5
    on_change: bool = False
    mode: str = "fast"
    names: tuple[str, ...] = ()


KNOWN: dict[str, type[Pass]] = {kind.name: kind for kind in (*PASSES, Options)}
words = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
options = st.builds(
    Options, st.integers(), st.floats(allow_nan=False), st.booleans(), words, st.lists(words, max_size=3).map(tuple)
)


@given(st.lists(st.one_of(options, *(st.builds(kind) for kind in PASSES)), max_size=5))
def test_pipelines_read_back(passes: list[Pass]) -> None:
    assert parse_pipeline(pipeline_text(passes), KNOWN, LEVELS) == tuple(passes)


def test_levels_stand_for_their_passes() -> None:
    both = parse_pipeline(" O1 ,with_options{on_change=true}", KNOWN, LEVELS)
    assert both == (*LEVELS["O1"], Options(on_change=True))
    assert parse_pipeline("O0", KNOWN, LEVELS) == ()


@pytest.mark.parametrize(
    ("text", "culprit", "message"),
    [
        ("cse, fold-constnts", "fold-constnts", "there is no pass 'fold-constnts'"),
        ("cse,", "", "a pass name is expected"),
        ("cse dead-code", "dead-code", "a comma is expected"),
        ("cse, with-options{cuont=1}", "cuont", "has no option 'cuont'"),
        ("with-options{count=1, ratio=x}", "ratio", "'x', which is no float"),
        ("with-options{on-change=maybe}", "on-change", "which is no bool"),
        ("with-options{count}", "count", "has no value"),
        ("with-options{count=1,count=2}", "count=2", "is given twice"),
        ("O1{count=1}", "{", "level 'O1' has no options"),
        ("{", "{", "a pass name is expected"),
    ],
)
def test_mistakes_are_shown_in_the_text(text: str, culprit: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pipeline(text, KNOWN, LEVELS)
    lines = str(caught.value).splitlines()
    assert message in lines[0]
    assert lines[1] == f"  {text}"
    assert lines[2].index("^") - 2 == (text.rindex(culprit) if culprit else len(text))


# Passes of the user's


PASS_FILE = '''
from __future__ import annotations
from dataclasses import dataclass
from irc.ir import Graph
from irc.passes import Context, Pass, rule, No

@dataclass(frozen=True)
class DropNegations(Pass, name="drop-negations"):
    """Say how often."""

    times: int = 1

    def run(self, graph: Graph, context: Context) -> None:
        for op in graph:
            if op.is_a("Neg"):
                context.take(self.name)
                op.result.replace_by(op.needed(0))

@rule("Relu")
def relu_is_clip(op, rewrite):
    """Relu is what it is."""
    return No("it stays")
'''


def test_a_file_brings_passes_and_rules(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PASS_FILE)
    found = registry((path,))
    assert found.pipeline("drop-negations{times=2}, relu-is-clip")[0].options() == {"times": 2}
    manager = PassManager(found.pipeline("drop-negations"))
    assert "Neg" in print_graph(sample())
    manager.run(sample())
    assert manager.totals == {"drop-negations": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        ("def broken(:", "it fails to import: SyntaxError"),
        ("raise KeyError('gone')", "it fails to import: KeyError"),
        ("x = 1", "it defines no pass and no rule"),
        (PASS_FILE.replace("drop-negations", "cse"), "there is a pass or rule 'cse' already"),
        (PASS_FILE.replace("drop-negations", "O1"), "there is a pass or rule 'O1' already"),
    ],
)
def test_files_that_cannot_be_used(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message):
        registry((path,))


def test_installed_packages_bring_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "irc_extra_passes.py").write_text(PASS_FILE)
    info = tmp_path / "irc_extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: irc-extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[irc.passes]\nextra = irc_extra_passes:DropNegations\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "drop-negations" in registry().passes
    assert "relu-is-clip" not in registry().passes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules{strictest=exakt}", "there is no contract 'exakt'"),
        ("layout{strictest=exakt}", "there is no contract 'exakt'"),
        ("rules{topics=atention}", "there is no topic 'atention'"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        registry().pipeline(text)
