"""`irc run`: feed an artifact, print what comes out, write it where asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from . import flags
from .output import Json, check_folder, print_json, print_table, write_whole

if TYPE_CHECKING:
    import numpy as np

OutputDirFlag = Annotated[
    Path | None, typer.Option("--output-dir", "-o", metavar="DIR", help="Write each output as NAME.npy here.")
]
RandomFlag = Annotated[bool, typer.Option("--random", help="Make up inputs that are not given.")]


def run_command(
    model: flags.AnyModelArgument,
    inputs: flags.InputFlag = None,
    archive: flags.InputsFlag = None,
    output_dir: OutputDirFlag = None,
    random: RandomFlag = False,
    seed: flags.SeedFlag = 0,
    dim: flags.DimFlag = None,
    threads: flags.ThreadsFlag = None,
    trust_pickle: flags.TrustFlag = False,
    as_json: flags.JsonFlag = False,
) -> None:
    """Run an artifact once on inputs from .npy or .npz files; a PyTorch factory has example inputs of its own."""
    from irc.ir import UsageError

    from .feeds import check_complete, one_size_each, random_feeds, read_feeds
    from .models import open_program
    from .options import compile_options, engine_settings

    if dim and not random:
        raise UsageError("--dim says how large made-up inputs are, but none are asked for", hint="add --random")
    if output_dir is not None:
        check_folder(output_dir, "--output-dir")
    sizes = one_size_each(dim or [])
    program, examples = open_program(model, compile_options(settings=engine_settings(threads)), trust_pickle)
    with program:
        feeds: dict[str, Any] = dict(read_feeds(inputs or [], archive, program.inputs) or ({} if random else examples))
        if random:
            feeds = random_feeds(program.inputs, seed, sizes, feeds)
        check_complete(program.inputs, feeds)
        outputs = program.run(feeds)
    files = _write(outputs, output_dir) if output_dir is not None else {}
    if as_json:
        print_json({name: {**_describe(value), "file": files.get(name)} for name, value in outputs.items()})
        return
    rows = [(name, *_cells(value), files.get(name, "–")) for name, value in outputs.items()]
    print_table(None, ("output", "dtype", "shape", "min", "mean", "max", "file"), rows)


def _describe(value: object) -> dict[str, Json]:
    """An output in plain data: no shape of what is no array, no figures of what holds no numbers."""
    import numpy as np

    if not isinstance(value, np.ndarray):
        return {"dtype": type(value).__name__, "shape": None, "min": None, "mean": None, "max": None}
    array = cast("np.ndarray[Any, Any]", value)
    facts: dict[str, Json] = {"dtype": str(array.dtype), "shape": [*array.shape]}
    if not array.size or array.dtype.kind in "OSUc":
        return {**facts, "min": None, "mean": None, "max": None}
    wide = array.astype(np.float64)
    with np.errstate(all="ignore"):
        return {**facts, "min": float(wide.min()), "mean": float(wide.mean()), "max": float(wide.max())}


def _cells(value: object) -> list[str]:
    """The same as cells of a table."""
    facts = _describe(value)
    shape, figures = facts["shape"], [facts[name] for name in ("min", "mean", "max")]
    if isinstance(shape, list):
        size = "x".join(map(str, shape)) or "scalar"
    else:
        size = f"{len(cast('list[object]', value))} entries" if isinstance(value, (list, dict)) else "–"
    return [str(facts["dtype"]), size, *("–" if each is None else f"{each:.6g}" for each in figures)]


def _write(outputs: dict[str, Any], folder: Path) -> dict[str, str]:
    """Write each output under its name with anything a path could trip over replaced; the files by output name."""
    import io

    import numpy as np

    from irc.ir import UnsupportedError

    chunks: dict[str, bytes] = {}
    for name, value in outputs.items():
        array = _writable(value)
        if array is None:
            raise UnsupportedError(f"output '{name}' is no array and has no .npy form", hint="run it from Python instead")
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        chunks[name] = buffer.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    for name, content in chunks.items():
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name).lstrip(".") or "output"
        path = folder / f"{safe}.npy"
        number = 1
        while str(path) in files.values():
            path = folder / f"{safe}_{number}.npy"
            number += 1
        write_whole(path, content)
        files[name] = str(path)
    return files


def _writable(value: object) -> np.ndarray[Any, Any] | None:
    """The array as `.npy` can hold it, strings as text; None for what is no array."""
    import numpy as np

    if not isinstance(value, np.ndarray):
        return None
    array = cast("np.ndarray[Any, Any]", value)
    return array.astype(np.str_) if array.dtype.kind == "O" else array
