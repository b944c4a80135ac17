"""`irc passes`, `irc targets`, `irc doctor`: what there is, and whether it works here."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from . import flags
from .output import Failure, Json, print_json, print_table

LevelFilter = Annotated[str | None, typer.Option("--level", metavar="O0..O3", help="Only what this level runs, in order.")]
RewritesFlag = Annotated[bool, typer.Option("--rewrites", help="List every single rewrite, too.")]


def passes_command(
    level: LevelFilter = None,
    rewrites: RewritesFlag = False,
    load: flags.LoadFlag = None,
    as_json: flags.JsonFlag = False,
) -> None:
    """List the passes with their contracts and options, and what each level runs."""
    from irc.ir import UsageError
    from irc.passes import LEVELS, pipeline_text, registry

    if level is not None and level not in LEVELS:
        raise UsageError(f"there is no level '{level}'", hint=f"there are {', '.join(LEVELS)}")
    known = registry(tuple(load or ())).passes
    rows = [(kind.name, kind.contract.text, _options(kind), _first_line(kind.__doc__)) for kind in known.values()]
    inner = [(kind.name, *rewrite) for kind in known.values() for rewrite in kind.rewrites()]
    levels = {name: pipeline_text(steps) for name, steps in LEVELS.items() if level in (None, name)}
    if as_json:
        print_json(
            {
                "passes": [{"name": n, "contract": c, "options": o, "does": d} for n, c, o, d in rows],
                "rewrites": [{"pass": p, "name": n, "contract": c.text, "does": d} for p, n, c, d in inner],
                "levels": dict[str, Json](levels),
            }
        )
        return
    if level is None:
        print_table(None, ("pass", "contract", "options", "what it does"), rows)
        if rewrites:
            print()
            print_table(None, ("rewrite", "pass", "contract", "what it does"), [(n, p, c.text, d) for p, n, c, d in inner])
        print()
    for name, text in levels.items():
        print(f"{name}: {text or 'nothing'}")


def _options(kind: type) -> str:
    from dataclasses import fields

    return ", ".join(f"{f.name.replace('_', '-')}={f.default}" for f in fields(kind))


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().splitlines()[0] if doc else ""


def targets_command(as_json: flags.JsonFlag = False) -> None:
    """List what irc compiles for, and with which engines."""
    from irc.lowering import ENGINES, TARGETS

    versions = {engine.name: engine.version for engine in ENGINES}
    if as_json:
        print_json(
            [
                {
                    "name": t.name,
                    "description": t.description,
                    "available": t.available,
                    "reason": t.reason,
                    "engines": list[Json](t.engines),
                }
                for t in TARGETS
            ]
        )
        return
    rows = [
        (
            t.name,
            "yes" if t.available else f"no: {t.reason}",
            ", ".join(f"{e} {versions.get(e, '')}" for e in t.engines) or "–",
            t.description,
        )
        for t in TARGETS
    ]
    print_table(None, ("target", "available", "engines", "what it is"), rows)


_PACKAGES = (
    ("numpy", "arrays", True),
    ("onnx", "schemas and shape inference", True),
    ("onnxruntime", "the reference and the CPU engine", True),
    ("lark", "the text form", True),
    ("safetensors", "weights", True),
    ("rich", "tables", True),
    ("typer", "this command line", True),
    ("torch", "PyTorch models; pip install 'irc-compiler[torch]'", False),
    ("openvino", "the OpenVINO engine; pip install 'irc-compiler[openvino]'", False),
    ("apache-tvm", "kernels of our own; pip install 'irc-compiler[tvm]'", False),
)


def doctor_command(as_json: flags.JsonFlag = False) -> None:
    """Check this installation: versions, engines (each runs a one-op model), what is missing and how to get it."""
    import platform

    from irc.lowering import TARGETS

    packages: list[tuple[str, str, str, bool]] = []
    for name, purpose, needed in _PACKAGES:
        try:
            packages.append((name, metadata.version(name), purpose, True))
        except metadata.PackageNotFoundError:
            packages.append((name, "missing" if needed else "not installed", purpose, not needed))
    verdict = _try_engine()
    good = not verdict and all(ok for *_, ok in packages)
    cpu = next(t for t in TARGETS if t.name == "cpu")
    if as_json:
        print_json(
            {
                "good": good,
                "python": platform.python_version(),
                "cpu": cpu.description,
                "packages": {n: v for n, v, _, _ in packages},
                "engines": {"onnxruntime": verdict or "works"},
            }
        )
    else:
        print(f"Python {platform.python_version()} on {platform.platform()}")
        print(f"cpu: {cpu.description}")
        print_table(None, ("package", "version", "what for"), [(n, v, p) for n, v, p, _ in packages])
        print(f"engine onnxruntime: {verdict or 'works (ran a one-op model)'}")
    if not good:
        raise Failure("this installation is not whole", "install what is missing: pip install irc-compiler")


def _try_engine() -> str:
    """Compile and run one op; why that failed, or nothing."""
    import numpy as np

    from irc.ir import DType, Graph, IrcError, TensorType, at, make
    from irc.lowering import CompileOptions, compile_graph
    from irc.runtime import RunError

    graph = Graph("doctor")
    x = graph.add_input("x", TensorType(DType.F32, (2,)))
    graph.add_output(graph.append(make("Relu", (x,), at("doctor"))).result, "y")
    try:
        outputs = compile_graph(graph, CompileOptions()).program.run({"x": np.array([-1, 1], np.float32)})
    except (IrcError, RunError, ImportError) as error:
        return f"fails: {error}"
    return "" if outputs["y"].tolist() == [0.0, 1.0] else f"gives wrong answers: {outputs['y'].tolist()}"
