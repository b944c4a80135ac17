"""Flags that several verbs share, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelArgument = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="An ONNX model (.onnx), a PyTorch factory (FILE.py:NAME), or a .pt2 file."),
]
AnyModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="An artifact (.irc), an ONNX model (.onnx), a PyTorch factory (FILE.py:NAME), or a .pt2 file."
    ),
]
TrustFlag = Annotated[
    bool, typer.Option("--trust-pickle", help="Unpickle a .pt2 file, which runs whatever code its maker put there.")
]
TargetFlag = Annotated[str, typer.Option("--target", "-t", help="What to compile for; `irc targets` lists them.")]
EngineFlag = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Use only this engine: onnxruntime, openvino, or tvm, which leaves what it has no kernels for to onnxruntime.",
    ),
]
LevelFlag = Annotated[
    int,
    typer.Option("-O", min=0, max=3, metavar="0..3", help="0 as it is, 1 same bits, 2 same mathematics, 3 measured."),
]
BudgetFlag = Annotated[
    float,
    typer.Option(
        "--tune-budget",
        min=0.0,
        metavar="SECONDS",
        help="How long -O3 may take to build and measure candidates and kernels; 0: by rules.",
    ),
]
PassesFlag = Annotated[
    str | None,
    typer.Option("--passes", "-p", metavar="PIPELINE", help='Passes to run instead of the level\'s, such as "O2, my-pass".'),
]
LoadFlag = Annotated[
    list[str] | None,
    typer.Option("--load", metavar="FILE", help="A .rules file, or a Python file of passes or rules (it is run); repeatable."),
]
DisableFlag = Annotated[
    list[str] | None,
    typer.Option("--disable-pass", metavar="NAME", help="Leave out a pass or a single rewrite; repeatable."),
]
LimitFlag = Annotated[
    int | None, typer.Option("--rewrite-limit", min=0, metavar="N", help="Stop after N rewrites over all passes.")
]
DumpFlag = Annotated[
    Path | None, typer.Option("--dump-ir", metavar="DIR", help="Write the IR after each pass that changes it.")
]
PrintAfterFlag = Annotated[
    list[str] | None,
    typer.Option("--print-ir-after", metavar="PASS", help="Print the IR after a pass, or after `all`; repeatable."),
]
StatsFlag = Annotated[bool, typer.Option("--stats", help="Print what each pass did.")]
DimFlag = Annotated[
    list[str] | None,
    typer.Option("--dim", metavar="NAME=N", help="Fix a named dim, or check a range NAME=LOW..HIGH; repeatable."),
]
SizesFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        metavar="NAME=N,N",
        help="Fix a named dim, make a variant for each of several sizes (batch=1,8,32), or check a range NAME=LOW..HIGH; "
        "repeatable.",
    ),
]
StrictFlag = Annotated[
    bool, typer.Option("--strict", help="Refuse a second engine, and the CPU for what a GPU has no kernel for.")
]
ShapeFlag = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="INPUT:1x3", help="Fix an input's shape; ? leaves a dim open; repeatable."),
]
ThreadsFlag = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=1024, metavar="N", help="Threads of the engine; default: one a physical core."),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
InputFlag = Annotated[
    list[str] | None, typer.Option("--input", "-i", metavar="NAME=FILE", help="An input from a .npy file; repeatable.")
]
InputsFlag = Annotated[Path | None, typer.Option("--inputs", metavar="FILE.npz", help="All inputs from one .npz file.")]
SeedFlag = Annotated[int, typer.Option("--seed", min=0, help="Seed of the random inputs.")]
VerifyFlag = Annotated[
    bool | None,
    typer.Option(
        "--verify/--no-verify",
        help="Check each rewrite before it is done, undo what changes answers, and check the whole program; or check nothing. "
        "Without either, the whole program is checked from O2 on.",
    ),
]
VerifyRewritesFlag = Annotated[
    bool, typer.Option("--verify", help="Check each rewrite before it is done, and undo what changes answers.")
]
VerifyInputsFlag = Annotated[
    Path | None, typer.Option("--inputs", metavar="FILE.npz", help="Inputs to check with; default: made-up ones.")
]
EngineOptionFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-option",
        metavar="NAME=VALUE",
        help="A setting of the engine, such as optimization=basic or disabled-optimizers=A:B; repeatable.",
    ),
]
