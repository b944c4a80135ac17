"""Writes docs/cli.md, the reference of the command line, from the commands themselves: `python -m irc.tools.docs`.

Run it in the root of the repository. `--check` writes nothing and ends with status 1 when the page is not what it would be.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

from .cli.app import app

PAGE = Path("docs") / "cli.md"

INTRODUCTION = """\
<!-- Written by `python -m irc.tools.docs`; tests/docs fails when this page and the commands differ. -->

# The command line

`irc VERB MODEL [FLAGS]`. `irc VERB --help` prints what stands here. Flags may stand before and after the model. An
unknown flag, pass, dim or input name is an error, and the message names the nearest one that exists.

Results go to stdout, remarks and errors to stderr. With `--json` the result is one JSON value.
"""

EVERYWHERE = """\
## Flags of every verb

| flag | what it does |
|---|---|
| `--help` | Print how the verb is used and end. |
| `--debug` | On an error, print the Python traceback in front of the sentence. |
| `--untrusted` | Do the work in a child process with limits on memory and time, whose death is an error message. |

`irc --version` prints the version.

## Exit codes

| code | meaning |
|---|---|
| 0 | It worked. |
| 1 | A check failed: `compare` found a difference, `doctor` something missing. |
| 2 | Usage: a flag, name, file or input that does not fit. |
| 3 | A bad model or a damaged artifact; also a model that ended its `--untrusted` process. |
| 4 | The model is fine, but irc cannot do this with it. |
| 5 | The engine failed, or irc itself; then the message names a folder that says how to see it again. |
| 130 | Stopped by the keyboard. |
"""


def reference() -> str:
    """The whole page."""
    commands = [(info.name or "", info.callback) for info in app.registered_commands if info.callback is not None]
    verbs = "\n".join(f"| [`{name}`](#irc-{name}) | {_sentence(callback)} |" for name, callback in commands)
    sections = "\n".join(_section(name, callback) for name, callback in commands)
    return f"{INTRODUCTION}\n| verb | what it does |\n|---|---|\n{verbs}\n\n{sections}\n{EVERYWHERE}"


def _section(name: str, callback: Callable[..., Any]) -> str:
    parameters = list(_parameters(callback))
    arguments = [(each, info) for each, info in parameters if isinstance(info, ArgumentInfo)]
    options = [(each, info) for each, info in parameters if isinstance(info, OptionInfo)]
    usage = " ".join(["irc", name, *(_metavar(each, info) for each, info in arguments), *(["[FLAGS]"] if options else [])])
    lines = [f"## `irc {name}`", "", _sentence(callback), "", f"    {usage}", ""]
    if arguments:
        lines += ["| argument | what it is |", "|---|---|"]
        lines += [f"| `{_metavar(each, info)}` | {_cell(info.help)} |" for each, info in arguments] + [""]
    if options:
        lines += ["| flag | what it does | default |", "|---|---|---|"]
        lines += [f"| {_flag(each, info)} | {_cell(info.help)} | {_default(each, info)} |" for each, info in options] + [""]
    return "\n".join(lines)


def _parameters(callback: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, ParameterInfo]]:
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        info = next((part for part in get_args(hints[name]) if isinstance(part, ParameterInfo)), None)
        if info is not None:
            yield parameter.replace(annotation=get_args(hints[name])[0]), info


def _metavar(parameter: inspect.Parameter, info: ParameterInfo) -> str:
    if isinstance(info.metavar, str):
        return info.metavar
    return {int: "N", float: "NUMBER"}.get(parameter.annotation, parameter.name.upper())


def _flag(parameter: inspect.Parameter, info: OptionInfo) -> str:
    takes_value = bool not in (parameter.annotation, *get_args(parameter.annotation))
    value = f" {_metavar(parameter, info)}" if takes_value else ""
    return "<br>".join(f"`{name}{value}`" for joined in _names(info) for name in joined.split("/"))


def _names(info: OptionInfo) -> list[str]:
    # typer takes the first declaration for the default of the option, which in an Annotated it cannot be.
    first = [info.default] if isinstance(info.default, str) else []
    return sorted([*first, *(info.param_decls or ())], key=len)


def _default(parameter: inspect.Parameter, info: OptionInfo) -> str:
    value = parameter.default
    if isinstance(value, bool):
        on, _, off = next((name for name in _names(info) if "/" in name), "").partition("/")
        return f"`{on if value else off}`" if off else ""
    return "" if value is None else f"`{value}`"


def _sentence(callback: Callable[..., Any]) -> str:
    return _cell((inspect.getdoc(callback) or "").split("\n\n")[0].replace("\n", " "))


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def main(words: list[str]) -> int:
    """Write the page, or check it; the exit status."""
    if words not in ([], ["--check"]):
        print(f"usage: python -m irc.tools.docs [--check]; it writes {PAGE}", file=sys.stderr)
        return 2
    text = reference()
    if not words:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE} is not what the commands say: run python -m irc.tools.docs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
