"""What the flags of the verbs that compile mean: options of the driver, settings of an engine, instruments."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .output import check_folder

if TYPE_CHECKING:
    from irc.lowering import CompileOptions
    from irc.passes import Instrument
    from irc.runtime import OptionValue


def compile_options(
    target: str = "cpu",
    engine: str | None = None,
    level: int = 2,
    passes: str | None = None,
    load: list[str] | None = None,
    disable: list[str] | None = None,
    rewrite_limit: int | None = None,
    dim: list[str] | None = None,
    shape: list[str] | None = None,
    verify: bool | None = None,
    inputs: Path | None = None,
    settings: Mapping[str, OptionValue] | None = None,
) -> CompileOptions:
    """The options that flags of several verbs stand for; `settings` are those of an engine.

    Raises UsageError for a text that is no shape or dim, and for inputs that are not there or have no use.
    """
    from irc.ir import UsageError, parse_dims, parse_shapes
    from irc.lowering import CompileOptions, Verify

    if inputs is not None and verify is False:
        raise UsageError("--no-verify checks nothing, so --inputs has no use", hint="leave one of them out")
    if inputs is not None and not inputs.is_file():
        raise UsageError(f"there is no file '{inputs}'", hint="--inputs takes an .npz file")
    return CompileOptions(
        target=target,
        opt_level=level,
        engine=engine,
        passes=passes,
        load=tuple(load or ()),
        disable=frozenset(disable or ()),
        rewrite_limit=rewrite_limit,
        dims=parse_dims(dim or []),
        shapes=parse_shapes(shape or []),
        verify={None: Verify.ANSWERS, True: Verify.REWRITES, False: Verify.NOTHING}[verify],
        inputs=inputs,
        engine_options=settings or {},
    )


def engine_settings(
    threads: int | None = None,
    spin: bool | None = None,
    provider: list[str] | None = None,
    engine_option: list[str] | None = None,
) -> dict[str, OptionValue]:
    """The settings of an engine that flags stand for; one with a flag of its own counts more than `name=value`.

    Raises UsageError for a text that is no setting.
    """
    return {
        **_settings(engine_option or []),
        **({} if threads is None else {"threads": threads}),
        **({} if spin is None else {"spin": spin}),
        **({} if not provider else {"providers": tuple(provider)}),
    }


def _settings(texts: list[str]) -> dict[str, OptionValue]:
    """Settings of ONNX Runtime from `name=value` texts; several values are joined by `:`. Raises UsageError."""
    from dataclasses import fields

    from irc.ir import UsageError, closest
    from irc.runtime import ArtifactError, OnnxRuntimeOptions

    known = {each.name.replace("_", "-"): each.default for each in fields(OnnxRuntimeOptions) if each.name != "config"}
    found: dict[str, OptionValue] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or name not in known:
            hint = closest(name, list(known)) or f"it has {', '.join(known)}"
            raise UsageError(f"'{text}' is no setting NAME=VALUE of the engine", hint=hint)
        found[name.replace("-", "_")] = _setting(known[name], value)
    try:
        OnnxRuntimeOptions.from_manifest(found)
    except ArtifactError as error:
        raise UsageError(error.message, hint="`irc bisect` shows settings that work") from error
    return found


def _setting(default: object, text: str) -> OptionValue:
    if isinstance(default, tuple):
        return tuple(part for part in text.split(":") if part)
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text, text)
    return int(text) if default is None and text.isdigit() else text


def instruments(dump_ir: Path | None, print_after: list[str] | None, load: tuple[str, ...]) -> Sequence[Instrument]:
    """The instruments that the flags ask for; printed IR goes to stderr. Raises UsageError for a pass that does not exist."""
    if dump_ir is None and not print_after:
        return []
    from irc.ir import UsageError, closest
    from irc.passes import DumpIR, PrintAfter, registry

    known = ["all", *(registry(load).passes if print_after else ())]
    for name in print_after or ():
        if name not in known:
            hint = closest(name, known) or "`irc passes` lists them"
            raise UsageError(f"there is no pass '{name}' to print the IR after", hint=hint)
    chosen: list[Instrument] = []
    if dump_ir is not None:
        check_folder(dump_ir, "--dump-ir")
        chosen.append(DumpIR(dump_ir))
    if print_after:
        chosen.append(PrintAfter(frozenset(print_after), lambda text: print(text, end="", file=sys.stderr)))
    return chosen
