"""How long each optimizer takes from a model's file to the better model's file, in how much memory, and what it leaves.

    python -m benchmarks.optimize [MODEL.onnx ...] [--rounds 3] [--tools irc,onnxslim,...] [--timeout S] [--json OUT]

One process a run, tools taking turns; the figure is the median over rounds. Without a model the bars are measured:
generated graphs of 10,000 and 100,000 ops, and the ratio of their times.
"""

# pyright: basic
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .contestants import CONTESTANTS
from .generate import generate


def once(tool: str, model: Path, folder: Path, timeout: float) -> dict[str, float] | str:
    """One run of one tool in a process of its own: its report, or why there is none."""
    out = folder / f"{tool}.onnx"
    command = [sys.executable, "-m", "benchmarks.contestants", tool, str(model), str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return f"over {timeout:.0f} s"
    finally:
        out.unlink(missing_ok=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return f"fails: {lines[-1][:80] if lines else done.returncode}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(model: Path, tools: list[str], rounds: int, timeout: float) -> dict[str, dict[str, float] | str]:
    """The median report of each tool on one model."""
    reports: dict[str, list[dict[str, float]]] = {tool: [] for tool in tools}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="irc-bench-") as folder:
        for _ in range(rounds):
            for tool in tools:
                if tool in failures:
                    continue
                report = once(tool, model, Path(folder), timeout)
                if isinstance(report, str):
                    failures[tool] = report
                else:
                    reports[tool].append(report)
    medians = {
        tool: {key: statistics.median(r[key] for r in found) for key in found[0]} for tool, found in reports.items() if found
    }
    return {tool: failures.get(tool) or medians[tool] for tool in tools}


def show(model: Path, results: dict[str, dict[str, float] | str]) -> None:
    """A table: seconds, the ratio to irc's, peak memory against the file's size, nodes left."""
    size = model.stat().st_size / 2**20
    table = Table(title=f"{model.name}: {size:.1f} MiB", title_justify="left", box=None)
    for column in ("tool", "seconds", "x irc", "peak MiB", "x file", "nodes"):
        table.add_column(column, justify="left" if column == "tool" else "right")
    own = results.get("irc")
    for tool, report in results.items():
        if isinstance(report, str):
            table.add_row(tool, report)
            continue
        ratio = f"{report['seconds'] / own['seconds']:.2f}" if isinstance(own, dict) else "–"
        table.add_row(
            tool,
            f"{report['seconds']:.3f}",
            ratio,
            f"{report['peak_mib']:.0f}",
            f"{report['peak_mib'] / size:.2f}",
            f"{report['nodes']:.0f}",
        )
    Console(width=110).print(table)


def main() -> None:
    """Measure the models given, or the generated ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", default=",".join(CONTESTANTS))
    parser.add_argument("--timeout", type=float, default=600, help="seconds after which a tool is given up")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    tools = [tool for tool in arguments.tools.split(",") if tool]
    collected: dict[str, dict[str, dict[str, float] | str]] = {}
    with tempfile.TemporaryDirectory(prefix="irc-bench-") as folder:
        models = arguments.models
        if not models:
            models = [Path(folder) / f"generated_{ops}.onnx" for ops in (10_000, 100_000)]
            for ops, path in zip((10_000, 100_000), models, strict=True):
                generate(ops, path)
        for model in models:
            collected[model.name] = measure(model, tools, arguments.rounds, arguments.timeout)
            show(model, collected[model.name])
        if not arguments.models:
            _show_growth(list(collected.values()))
    if arguments.json:
        arguments.json.write_text(json.dumps(collected, indent=1))


def _show_growth(results: list[dict[str, dict[str, float] | str]]) -> None:
    small, large = results
    for tool in small:
        a, b = small[tool], large[tool]
        if isinstance(a, dict) and isinstance(b, dict):
            print(f"{tool}: ten times the ops take {b['seconds'] / a['seconds']:.1f} times as long")


if __name__ == "__main__":
    main()
