"""Ready-made instruments: dump the IR on change, print it after chosen passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from irc.ir import Graph
from irc.ir.text import print_graph

from .manager import Instrument, PassRecord


class DumpIR(Instrument):
    """Writes `00-captured.irtext`, `NN-pass.irtext` after each pass that changed something, and a `manifest.json` of them.

    What an earlier dump left in the folder is removed first, and nothing else.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("[0-9][0-9]-*.irtext"):
            stale.unlink()
        self.folder = folder
        self.number = 0
        self.entries: list[dict[str, object]] = []

    def started(self, graph: Graph) -> None:
        """Write the captured graph."""
        self._write("captured", graph, {})

    def finished_pass(self, graph: Graph, record: PassRecord) -> None:
        """Write the graph if the pass changed it; a rolled-back pass leaves only its line in the manifest."""
        self.number += 1
        details: dict[str, object] = {"rewrites": record.rewrites, "seconds": round(record.seconds, 6)}
        if record.failure is not None:
            self._note(record.name, None, {**details, "rolled_back": record.failure})
        elif record.changes:
            self._write(record.name, graph, details)

    def _write(self, name: str, graph: Graph, details: dict[str, object]) -> None:
        file = f"{self.number:02d}-{name}.irtext"
        (self.folder / file).write_text(print_graph(graph), encoding="utf-8")
        self._note(name, file, details)

    def _note(self, name: str, file: str | None, details: dict[str, object]) -> None:
        self.entries.append({"step": self.number, "pass": name, "file": file, **details})
        (self.folder / "manifest.json").write_text(json.dumps(self.entries, indent=1) + "\n", encoding="utf-8")


class PrintAfter(Instrument):
    """Prints the graph after the named passes (`all` for every one that changed something)."""

    def __init__(self, names: frozenset[str], write: Callable[[str], None]) -> None:
        self.names = names
        self.write = write

    def finished_pass(self, graph: Graph, record: PassRecord) -> None:
        """Print the graph after a pass that was asked for."""
        if record.name in self.names or ("all" in self.names and record.changes):
            self.write(f"// after {record.text}\n{print_graph(graph)}")
