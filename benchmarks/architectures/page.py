"""docs/architectures.md, made from the trials of a run."""

# pyright: basic
from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from .table import FAMILIES
from .trial import BAR, Trial

PAGE = "docs/architectures.md"
COMMAND = f"python3 dev.py bench torch_models --write {PAGE}"
NOTES = 3
"""How many remarks on one architecture are shown."""
HEADER = "| architecture | distance | at another … | dynamic | ops | left | composites | s |\n|---|---|---|---|---|---|---|---|"


def page(trials: Sequence[Trial], versions: Mapping[str, str]) -> str:
    """The page as Markdown: a table for each family, then what torch.export refuses."""
    return "\n".join(_lines(trials, versions)) + "\n"


def _lines(trials: Sequence[Trial], versions: Mapping[str, str]) -> Iterator[str]:
    counted = [trial for trial in trials if trial.counts]
    agreeing = [trial for trial in counted if trial.good]
    elsewhere = [trial for trial in agreeing if trial.other is not None and trial.changed != "values"]
    yield "# Architectures captured from PyTorch"
    yield ""
    yield f"Made by `{COMMAND}` with {', '.join(f'{name} {version}' for name, version in versions.items())}; do not edit."
    yield ""
    yield "Each architecture, small and with seeded random weights, goes through `irc.compile(module, …)` at O2 and is"
    yield f"compared with eager PyTorch. It agrees when no output is further off than {BAR:g} (relative L2; integers and"
    yield "structure the same), at the sizes it was captured with and at others where its dims are dynamic. Architectures whose"
    yield "answers do not depend on their inputs do not count as agreeing. The modules are in `benchmarks/architectures`."
    yield ""
    yield f"**{len(agreeing)} of {len(counted)} agree**, {len(elsewhere)} of them also at sizes they were not captured with."
    if agreeing:
        seconds = statistics.median(trial.capture_seconds + trial.compile_seconds for trial in agreeing)
        yield f"Half of them are captured and compiled within {seconds:.1f} s."
    yield ""
    yield "*distance* is that of the worst output; *ops* are those captured, *left* those the engine gets; *composites* are"
    yield "ops of ONNX that the optimized graph has whole; *s* is for capturing and compiling on one core, without what"
    yield "a process does once (some seconds), and only an order of magnitude."
    for family in FAMILIES:
        members = [trial for trial in counted if trial.family == family]
        if members:
            heading = family if family == "torch.nn" else family[0].upper() + family[1:]
            yield from ("", f"## {heading}", "", HEADER)
            yield from map(_row, members)
    yield from _remarks(trials)


def _row(trial: Trial) -> str:
    if not trial.good:
        return f"| {trial.name} | **{trial.outcome}** | | | | | {_safe(trial.reason)} | |"
    elsewhere = "" if trial.other is None else f"{trial.changed} {trial.other:.0e}"
    kept = ", ".join(f"{op} {count}" for op, count in trial.composites.items())
    seconds = trial.capture_seconds + trial.compile_seconds
    dims = ", ".join(f"`{_safe(dim)}`" for dim in trial.dynamic)
    figures = f"{trial.captured} | {trial.left} | {kept} | {seconds:.1f}"
    return f"| {trial.name} | {trial.example:.0e} | {elsewhere} | {dims} | {figures} |"


def _remarks(trials: Sequence[Trial]) -> Iterator[str]:
    noted = [trial for trial in trials if trial.notes and trial.counts]
    if noted:
        yield from ("", "## Not as asked for", "")
        for trial in noted:
            rest = [f"and {len(trial.notes) - NOTES} more such"] if len(trial.notes) > NOTES else []
            yield f"- {trial.name}: {_safe('; '.join([*trial.notes[:NOTES], *rest]))}"
    refused = [trial for trial in trials if not trial.counts]
    if refused:
        yield from ("", "## Refused by torch.export", "", "With every size fixed; not counted.", "")
        for trial in refused:
            yield f"- {trial.name}: {_safe(trial.reason)}"


def _safe(text: str) -> str:
    """Text that Markdown leaves as it is."""
    for character in "\\|[]<>*_":
        text = text.replace(character, f"\\{character}")
    return text


__all__ = ["PAGE", "page"]
