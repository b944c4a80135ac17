#!/usr/bin/env python3
"""Sets up a development environment in .venv and runs the project's tools in it.

Needs Python 3.11 or newer and nothing else; imports only the standard library. Setting up is skipped when neither
pyproject.toml, constraints.txt, the interpreter nor the place of the checkout has changed since the last time.
"""

import sys

# Stands before everything else, so that an older interpreter gets this sentence and no puzzle from further down.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(f"irc needs Python 3.11 or newer; {sys.executable} is Python {sys.version.split()[0]}")

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "made-by-dev.json"
PYPROJECT = ROOT / "pyproject.toml"
CONSTRAINTS = ROOT / "constraints.txt"

NOT_OURS = f"""{VENV} exists and was not made by dev.py, so it is left alone.
Move it away, or install into it yourself: pip install -e .[dev] -c constraints.txt"""
NO_VENV = f"""{sys.executable} cannot make a virtual environment.
On Debian and Ubuntu `apt install python3-venv` adds what is missing; Python from python.org, conda or uv has it."""
NO_INSTALL = """Installing the dependencies failed; pip's own words are above.
pip has to reach PyPI, or a mirror of it named in PIP_INDEX_URL."""


class SetupError(Exception):
    """Something a person has to see to; the message says what."""


def main(words: list[str]) -> int:
    """Run the command named by the first word with the rest as its arguments."""
    if not words or words[0] not in COMMANDS:
        asked_for_help = words[:1] in (["-h"], ["--help"], ["help"])
        print(usage(), file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    try:
        return COMMANDS[words[0]](*words[1:])
    except SetupError as failure:
        print(f"dev.py: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def usage() -> str:
    """The commands and the first line of what each says of itself."""
    lines = [f"  {name:7}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "usage: python3 dev.py COMMAND [ARGUMENTS]\n\n" + "\n".join(lines)


def setup(*extras: str) -> int:
    """Make or update .venv with the package, editable, and the extra `dev` (and any extras named)."""
    made = made_from()
    fresh = not made.items() >= identity().items()
    kept: list[str] = [] if fresh else made["extras"]
    known = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    if unknown := sorted(set(extras) - known.keys()):
        raise SetupError(f"there is no extra {', '.join(unknown)}; there are {', '.join(known)}")
    wanted = identity() | {"sources": digest(), "extras": sorted({"dev", *extras, *kept})}
    if made == wanted:
        return 0
    try:
        if fresh:
            create()
        install(wanted["extras"])
    except BaseException:
        if fresh:
            shutil.rmtree(VENV, ignore_errors=True)
        raise
    STAMP.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    return 0


def demo(*arguments: str) -> int:
    """Compile the digits example and compare it with ONNX Runtime."""
    return setup() or run(PYTHON, "examples/demo.py", *arguments)


def lint(*arguments: str) -> int:
    """Check formatting, style and types; `--fix` formats and repairs what can be repaired first."""
    if arguments not in ((), ("--fix",)):
        raise SetupError("lint takes --fix or nothing")
    setup()
    if arguments:
        run(PYTHON, "-m", "ruff", "check", "--fix", "--quiet", ".")
        run(PYTHON, "-m", "ruff", "format", "--quiet", ".")
    return (
        run(PYTHON, "-m", "ruff", "format", "--check", ".")
        or run(PYTHON, "-m", "ruff", "check", ".")
        or run(PYTHON, "-m", "pyright", "--pythonpath", PYTHON)
    )


def test(*arguments: str) -> int:
    """Everything a change has to pass: lint, then pytest with the arguments given, on two cores unless they say `-n 0`."""
    return lint() or run(PYTHON, "-m", "pytest", "-n", "2", "--dist", "loadfile", *arguments)


def bench(which: str = "overhead", *arguments: str) -> int:
    """Install the peers and measure against them: `bench NAME ...`; benchmarks/README.md lists the names."""
    return setup("bench") or run(PYTHON, "-m", f"benchmarks.{which}", *arguments)


def fuzz(graphs: str = "5000", *arguments: str) -> int:
    """Run every level on so many random graphs against O0; takes minutes, for the night."""
    return setup() or run(PYTHON, "-m", "tests.passes.fuzz", "--graphs", graphs, *arguments)


def gpu(*arguments: str) -> int:
    """Install what an NVIDIA GPU needs, run the tests for it and measure: `gpu [FOLDER OF MODELS]`; 4 where there is none."""
    return (
        setup()
        or run(PYTHON, "-m", "irc.tools.gpu", "--check")
        or setup("cuda")
        or own_kernels()
        or run(PYTHON, "-m", "irc.tools.gpu", *arguments)
    )


def own_kernels() -> int:
    """Let the package with kernels for GPUs own the folder that it shares with the one for CPUs, where it does not yet."""
    code = (
        "from irc.lowering import find_engine, find_target; print(find_engine('onnxruntime').runs(find_target('cuda')).reason)"
    )
    found = subprocess.run([PYTHON, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    if found.returncode == 0 and not found.stdout.strip():
        return 0
    wanted = ["--force-reinstall", "--no-deps", "--constraint", CONSTRAINTS, "onnxruntime-gpu>=1.31,<1.32"]
    return run(PYTHON, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", *wanted)


COMMANDS = {"setup": setup, "demo": demo, "test": test, "lint": lint, "bench": bench, "fuzz": fuzz, "gpu": gpu}


def identity() -> dict[str, Any]:
    """What cannot change under an environment: with another interpreter or in another place it is made anew."""
    return {"python": ".".join(map(str, sys.version_info[:2])), "root": str(ROOT)}


def digest() -> str:
    """A hash of the files that say what is installed."""
    return hashlib.sha256(PYPROJECT.read_bytes() + b"\0" + CONSTRAINTS.read_bytes()).hexdigest()


def made_from() -> dict[str, Any]:
    """What .venv was made from: nothing when there is none or when making it was cut short."""
    if VENV.exists() and not STAMP.exists():
        raise SetupError(NOT_OURS)
    if not PYTHON.exists():
        return {}
    return json.loads(STAMP.read_text(encoding="utf-8") or "{}")


def create() -> None:
    """Make an empty environment, stamped as ours but unfinished from its first moment on."""
    shutil.rmtree(VENV, ignore_errors=True)
    if find_spec("ensurepip") is None or find_spec("venv") is None:
        raise SetupError(NO_VENV)
    VENV.mkdir()
    STAMP.touch()
    if run(sys.executable, "-m", "venv", VENV) != 0:
        raise SetupError(NO_VENV)


def install(extras: list[str]) -> None:
    """Install the package, editable, with the given extras at the versions of the last full test run."""
    package = f".[{','.join(extras)}]"
    print(f"installing {package} into .venv; the first time this takes a minute or two", flush=True)
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--constraint", CONSTRAINTS]
    if run(PYTHON, "-m", "pip", "install", *options, "--editable", package) != 0:
        raise SetupError(NO_INSTALL)


def run(*command: str | Path) -> int:
    """Show a command, run it in the repository root, and hand back its exit status."""
    words = [str(word) for word in command]
    print("$", shlex.join(word.replace(str(VENV), ".venv") for word in words), flush=True)
    return subprocess.run(words, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
