"""The verbs of `irc`, and what happens when one fails: a sentence and an exit code, never a traceback unless asked for."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

import typer

from . import bench, compare, compiling, inspecting, listings, opt, running
from .output import Failure, complain

app = typer.Typer(
    name="irc",
    help="Make neural networks fast, keep their answers, and explain both.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("compile")(compiling.compile_command)
app.command("run")(running.run_command)
app.command("bench")(bench.bench_command)
app.command("compare")(compare.compare_command)
app.command("inspect")(inspecting.inspect_command)
app.command("opt")(opt.opt_command)
app.command("passes")(listings.passes_command)
app.command("targets")(listings.targets_command)
app.command("doctor")(listings.doctor_command)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from importlib import metadata

        typer.echo(f"irc {metadata.version('irc-compiler')}")
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    untrusted = "--untrusted" in arguments
    arguments = [a for a in arguments if a != "--untrusted"]
    if untrusted:
        from .child import run_in_child

        return run_in_child(arguments)
    try:
        answer = app(args=arguments, prog_name="irc", standalone_mode=False)
        return answer if isinstance(answer, int) else 0
    except typer.Exit as finished:
        return finished.exit_code
    except typer.TyperException as error:
        complain(error.format_message(), "`irc VERB --help` shows how it is used")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        complain("stopped", None)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:  # the last door: everything that is left is reported here, each kind in its way
        return _report(error, debug, arguments)


def _report(error: Exception, debug: bool, arguments: Sequence[str]) -> int:
    if debug:
        traceback.print_exc()
    code = getattr(error, "exit_code", None)
    if isinstance(code, int) and (isinstance(error, Failure) or hasattr(error, "hint")):
        where = getattr(error, "location", None)
        complain(
            f"{where}: {getattr(error, 'message', error)}" if where else str(getattr(error, "message", error)),
            getattr(error, "hint", None),
        )
        return code
    if isinstance(error, OSError):
        complain(
            f"{error.filename or 'file'}: {error.strerror or error}",
            "check the path, the permissions and the space left",
        )
        return 2
    if isinstance(error, MemoryError):
        complain("there is not enough memory for this", "use a machine with more, or a smaller model")
        return 5
    from .crash import leave_reproducer

    place = leave_reproducer(error, arguments)
    complain(
        f"irc itself failed: {type(error).__name__}: {error}",
        f"this is a defect of irc; {place} says how to see it again",
    )
    return 5
