"""The verbs of `irc`, and what happens when one fails: a sentence and an exit code, never a traceback unless asked for."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence

import typer

from . import bench, bisecting, compare, compiling, doctor, inspecting, listings, opt, profiling, rules, running, targets, why
from .output import INTERRUPTED, Failure, complain

VERBS: dict[str, tuple[Callable[..., None], str]] = {
    "compile": (compiling.compile_command, "Compile a model into an artifact."),
    "run": (running.run_command, "Run an artifact once."),
    "bench": (bench.bench_command, "Measure a program, also against others."),
    "compare": (compare.compare_command, "Compare the answers of two models."),
    "profile": (profiling.profile_command, "Show where a run spends its time."),
    "inspect": (inspecting.inspect_command, "Show a model or an artifact."),
    "opt": (opt.opt_command, "Run passes on a model and write the better model."),
    "bisect": (bisecting.bisect_command, "Find the step that breaks an answer or the speed."),
    "rules": (rules.rules_command, "List the rewrite rules, and how often each applies."),
    "why": (why.why_command, "Say why rewrites did not apply."),
    "passes": (listings.passes_command, "List the passes and levels."),
    "targets": (targets.targets_command, "List the targets and their engines."),
    "doctor": (doctor.doctor_command, "Check this installation."),
}
EVERYWHERE = "With every verb: --debug prints the traceback of an error; --untrusted works in a child process with limits."

app = typer.Typer(
    name="irc",
    help="Make neural networks fast, keep their answers, and explain both.",
    epilog=EVERYWHERE,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name, (_verb, _summary) in VERBS.items():
    app.command(_name, short_help=_summary, epilog=EVERYWHERE)(_verb)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:  # pyright: ignore[reportUnusedFunction]
    if version:
        from importlib import metadata

        typer.echo(f"irc {metadata.version('irc-compiler')}")
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    debug, untrusted = "--debug" in arguments, "--untrusted" in arguments
    arguments = [a for a in arguments if a not in ("--debug", "--untrusted")]
    if not arguments:
        complain("no verb is given", f"there are {', '.join(VERBS)}; `irc --help` says what they do")
        return 2
    try:
        if untrusted:
            from .child import run_in_child

            return run_in_child([*arguments, *(["--debug"] if debug else [])])
        answer: object = app(args=arguments, prog_name="irc", standalone_mode=False)
        sys.stdout.flush()
        if answer == INTERRUPTED:
            complain("stopped", None)
        return answer if isinstance(answer, int) else 0
    except typer.TyperException as error:
        from .mistakes import explain

        complain(*explain(error, list(VERBS), arguments))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        complain("stopped", None)
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer's form of it
            return _reader_left()
        complain(f"code that was loaded ended irc with exit code {end.code}", "a file for --load only defines passes and rules")
        return 2
    except Exception as error:  # the last door: everything that is left is reported here, each kind in its way
        return _report(error, debug, arguments)


def _reader_left() -> int:
    """Whoever read our output has enough of it; what is still buffered must not fail once more at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _report(error: Exception, debug: bool, arguments: Sequence[str]) -> int:
    if debug:
        traceback.print_exc()
    code = getattr(error, "exit_code", None)
    if isinstance(code, int) and (isinstance(error, Failure) or hasattr(error, "hint")):
        where, message = getattr(error, "location", None), str(getattr(error, "message", error))
        refused = isinstance(error.__cause__, OSError)  # the system refused a file, whatever would have been in it
        hint = getattr(error, "hint", None) or (_SYSTEM_HINT if refused else None)
        complain(f"{where}: {message}" if where else message, hint)
        return 2 if refused else code
    if isinstance(error, OSError) and error.errno != errno.ENOMEM:
        complain(f"{error.filename or 'a file'}: {(error.strerror or str(error)).lower()}", _SYSTEM_HINT)
        return 2
    memory = isinstance(error, (MemoryError, OSError))
    if memory and "IRC_CHILD" in os.environ:
        complain("the model needs more memory than an untrusted one may have", "leave out --untrusted if you trust it")
        return 3
    if memory:
        complain("there is not enough memory for this", "use a machine with more, or a smaller model")
        return 5
    from .crash import leave_reproducer

    place = leave_reproducer(error, arguments)
    saved = f"{place} says how to see it again" if place is not None else "run it again with --debug to see where"
    complain(f"irc itself failed: {type(error).__name__}: {error}", f"this is a defect of irc; {saved}")
    return 5


_SYSTEM_HINT = "check the path, the permissions and the space left"
