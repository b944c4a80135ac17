"""The documentation, tried out: every example runs and prints what the page says, every link leads somewhere.

Each page has a folder of its own with the digits example in it, and its blocks run in order:

- `python` runs in one namespace per page; what it prints is compared with a `text` block right behind it.
- `sh` runs as a script; `console` runs each line after `$ `, and what is printed is compared where the page shows any.
- any block under `<!-- file: NAME -->` is written to that file, and one under `<!-- not run: REASON -->` is skipped.

In what is compared, `…` stands for any text (alone on a line: any lines), numbers with a point are measured and may be
others, and runs of spaces count as one.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from irc.tools.docs import PAGE, reference

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = ("digits.onnx", "digit.npy")

_FENCE = re.compile(r"^(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
_NUMBER = re.compile(r"-?\d[\d,]*\.\d+(?:\.\d+)*(?:e[+-]?\d+)?")
_MEASURED = r"-?\\d[\\d,]*(?:\\.\\d+)*(?:e[+-]?\\d+)?"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the remark above it, its text, and its line in the page."""

    kind: str
    note: str
    body: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["kind"], m["note"] or "", m["body"], text.count("\n", 0, m.start("body")) + 1) for m in _FENCE.finditer(text)
    ]


def pattern(expected: str) -> re.Pattern[str]:
    """What printed text has to match."""
    lines: list[str] = []
    for line in expected.splitlines():
        if line.strip() == "…":
            lines.append(r"(?:[^\n]*\n)*?")
            continue
        parts = (re.sub(_NUMBER, "\0", part) for part in squeezed(line).split("…"))
        escaped = ".*".join(re.escape(part).replace(re.escape("\0"), "\0") for part in parts)
        escaped = re.sub("\0\\\\ (ms|s|B|KiB|MiB)\\b", "\0\\\\ (?:ms|s|B|KiB|MiB)", escaped)
        lines.append(re.sub("\0", _MEASURED, escaped) + r"\n")
    return re.compile("".join(lines) + r"\Z")


def squeezed(line: str) -> str:
    """A line without indentation, trailing space and runs of spaces."""
    return re.sub(r" +", " ", line.strip())


def check(expected: str, printed: str, where: str) -> None:
    tidy = "".join(squeezed(line) + "\n" for line in printed.splitlines())
    assert pattern(expected).match(tidy), f"{where} says\n{expected}\nbut this is printed:\n{printed}"


def environment() -> dict[str, str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    rooms = os.pathsep.join(filter(None, (str(ROOT / ".typing"), os.environ.get("PYTHONPATH", ""))))
    return os.environ | {"PATH": path, "PYTHONPATH": rooms, "COLUMNS": "120"}


def shell(script: str, folder: Path) -> tuple[int, str]:
    """Exit status and everything printed."""
    command = ["bash", "-ec", script]
    done = subprocess.run(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def run_console(block: Block, folder: Path, where: str) -> None:
    for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        code, printed = shell(command, folder)
        assert (code != 0) == ("irc: error:" in expected), f"{where}: `{command}` ends with {code}:\n{printed}"
        if expected:
            check(expected, printed, f"{where}: `{command}`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_do_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(re.search(r"^import torch$", block.body, re.MULTILINE) for block in blocks(page)):
        pytest.importorskip("torch", reason="the page is about PyTorch, which is not installed (the extra 'torch')")
    kernels = any("--engine tvm" in block.body for block in blocks(page))
    if kernels and (find_spec("tvm") is None or shutil.which("cc") is None):
        pytest.skip("the page is about kernels of our own, which need the extra 'tvm' and a C compiler")
    for name in EXAMPLES:
        shutil.copy(ROOT / "examples" / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        previous, printed = printed, ""
        if block.note.startswith("not run:"):
            continue
        if block.note.startswith("file: "):
            Path(block.note.removeprefix("file: ")).write_text(block.body, encoding="utf-8")
        elif block.kind == "python":
            out = io.StringIO()
            code = compile("\n" * (block.line - 1) + block.body, str(page), "exec")
            with contextlib.redirect_stdout(out):
                exec(code, namespace)
            printed = out.getvalue()
        elif block.kind == "text" and previous:
            check(block.body, previous, where)
        elif block.kind == "sh":
            code, shown = shell(block.body, tmp_path)
            assert code == 0, f"{where} ends with {code}:\n{shown}"
        elif block.kind == "console":
            run_console(block, tmp_path, where)


def test_what_is_not_run_says_why_and_is_little() -> None:
    skipped = [block.note for page in PAGES for block in blocks(page) if block.note.startswith("not run")]
    assert all(note.removeprefix("not run:").strip() for note in skipped)
    assert len(skipped) <= 8


def test_the_reference_of_the_command_line_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == reference(), "run python -m irc.tools.docs"


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    kept = "".join(c for c in heading.strip().lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(prose):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name}: {link}"


def test_an_entry_point_adds_the_passes_of_first_pass_md(tmp_path: Path) -> None:
    page = next(page for page in PAGES if page.name == "first-pass.md")
    (code,) = (block.body for block in blocks(page) if block.note == "file: my_passes.py")
    (tmp_path / "my_passes.py").write_text(code, encoding="utf-8")
    installed = tmp_path / "my_passes-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-passes\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[irc.passes]\nmy-passes = my_passes\n")
    listing = "from irc.passes import registry; print(*registry().passes)"
    rooms = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / '.typing'}"}
    done = subprocess.run(
        [sys.executable, "-c", listing], cwd=tmp_path, env=os.environ | rooms, capture_output=True, text=True, check=False
    )
    assert {"drop-defaults", "reshape-to-flatten"} <= set(done.stdout.split()), done.stderr
