"""`irc opt`: run chosen passes on a model and write it as ONNX or as text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .options import compile_options, instruments
from .output import check_file, naming, note, print_json, write_whole
from .reporting import print_statistics, records_json, undone_json, warn_of_undone

if TYPE_CHECKING:
    from irc.ir import Graph
    from irc.passes import PassRecord

OutputFlag = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to write: .onnx, or .irtext for the text form; default: stdout, as text.",
    ),
]


def opt_command(
    model: flags.ModelArgument,
    passes: flags.PassesFlag = None,
    output: OutputFlag = None,
    level: flags.LevelFlag = 2,
    load: flags.LoadFlag = None,
    disable: flags.DisableFlag = None,
    rewrite_limit: flags.LimitFlag = None,
    dim: flags.DimFlag = None,
    shape: flags.ShapeFlag = None,
    verify: flags.VerifyRewritesFlag = False,
    inputs: flags.VerifyInputsFlag = None,
    dump_ir: flags.DumpFlag = None,
    print_after: flags.PrintAfterFlag = None,
    stats: flags.StatsFlag = False,
    trust_pickle: flags.TrustFlag = False,
    as_json: flags.JsonFlag = False,
) -> None:
    """Run passes on a model and write the better model; without -o its text is printed."""
    from irc.ir import UsageError, collector_paused, specialize
    from irc.ir.text import print_graph
    from irc.lowering import pass_manager, rewrite_checker
    from irc.passes import Contract, registry

    from .models import open_model

    if output is not None and output.suffix not in (".onnx", ".irtext"):
        raise UsageError(f"'{output}' ends neither in .onnx nor in .irtext", hint="-o better.onnx writes a model")
    if output is not None:
        check_file(output, "-o")
    if inputs is not None and not verify:
        raise UsageError("--inputs are inputs to verify with", hint="add --verify")
    options = compile_options(
        level=level,
        passes=passes,
        load=load,
        disable=disable,
        rewrite_limit=rewrite_limit,
        dim=dim,
        shape=shape,
        verify=verify,
        inputs=inputs,
    )
    checker = rewrite_checker(options)
    # Who names a lossy pass here asks for it; no level has one of its own.
    loosest = Contract.LOSSY if level >= 2 else None
    manager = pass_manager(options, registry(options.load), instruments(dump_ir, print_after, options.load), checker, loosest)
    source = open_model(model, trust_pickle)

    def captured() -> Graph:
        graph = source.graph()
        specialize(graph, options.dims, options.shapes)
        return graph

    with collector_paused():
        graph = manager.run(captured(), captured)
    for record in manager.failures:
        note(f"pass '{record.text}' was rolled back and left out: {record.failure}")
    undone = checker.undone if checker is not None else []
    warn_of_undone(undone)
    if output is not None:
        _write(graph, output)
    if as_json:
        named = None if output is None else str(output)
        print_json({"output": named, "passes": records_json(manager.records), "undone": undone_json(undone)})
        return
    if output is None:
        print(print_graph(graph), end="")
    _report(manager.records, output, stats)


def _write(graph: Graph, output: Path) -> None:
    """A graph as an ONNX model or as text, as the suffix says."""
    from irc.ir import save_onnx
    from irc.ir.text import print_graph

    if output.suffix != ".onnx":
        write_whole(output, print_graph(graph).encode())
        return
    with naming(output):
        save_onnx(graph, output)


def _report(records: Sequence[PassRecord], output: Path | None, stats: bool) -> None:
    """What was done, for people."""
    if stats:
        # Without -o the result on stdout is the program, and a table in it would be no program any more.
        print_statistics(records, sys.stderr if output is None else sys.stdout)
    if output is not None:
        done = f"{records[0].ops_before} ops became {records[-1].ops_after}" if records else "nothing was run"
        print(f"{output}: {done}")
