"""What typer says of a wrong command line, in the words and with the way out that every other error has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import typer

from irc.ir import closest


def explain(error: typer.TyperException, verbs: Sequence[str], arguments: Sequence[str]) -> tuple[str, str]:
    """The sentence for a mistake in the `arguments` of a command line, and what to do about it."""
    own = f"irc {arguments[0]}" if arguments[0] in verbs else "irc"  # an option without its value does not say whose it is
    command = str(getattr(getattr(error, "ctx", None), "command_path", own))
    usage = f"`{command} --help` shows how it is used"
    said = error.message.strip().rstrip(".")
    param = getattr(error, "param", None)
    if said.startswith("No such command"):
        name = said.removeprefix("No such command '").partition("'")[0]
        return f"there is no verb '{name}'", closest(name, list(verbs)) or f"there are {', '.join(verbs)}"
    if said.startswith("No such option"):
        near = cast("Sequence[str]", getattr(error, "possibilities", None) or ())
        name = str(getattr(error, "option_name", ""))
        return f"there is no option '{name}'", f"did you mean {sorted(near)[0]}?" if near else usage
    if said.startswith("Got unexpected extra argument"):
        return f"there is too much on the line: {said.partition('(')[2].partition('(')[2].rstrip(')')}", usage
    if param is None:
        return said[:1].lower() + said[1:], usage
    name = str(param.get_error_hint()).replace("'", "")
    if not said:
        return f"{name} is missing", usage
    return f"{name} is wrong: {said.partition(',')[0].replace('Input', 'it')}", usage
