"""The laws of the house as tests: who may import whom, what is shipped, and what every file owes its reader."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "ir": set[str](),
    "runtime": set[str](),
    "passes": {"ir"},
    "lowering": {"ir", "passes", "runtime"},
    "tools": {"api", "ir", "passes", "lowering", "runtime"},
    "api": {"ir", "passes", "lowering", "runtime", "tools"},
}
"""What each room may import besides itself. The front door `api` is imported as `irc`."""

LONG_FILES: dict[str, str] = {}
"""Files that may exceed LONGEST lines, each with the reason why it reads better whole."""
LONGEST = 400
COUNTED = {".py", ".md", ".rules", ".lark", ".html", ".toml", ".sh"}

COMPILER = ["irc.ir", "irc.passes", "irc.lowering", "onnx", "torch", "networkx", "lark"]
"""What running an artifact must not import."""

GENERATED = re.compile(r"\.venv|\.git$|\.\w+_cache|\.hypothesis|__pycache__|.*\.egg-info|build$|dist$|out$|dumps$")
MACHINE_PATH = re.compile(rb"(?<![\w.~:/-])/(?:work|root|home/\w+|Users/\w+)/\w")


@functools.cache
def syntax(path: Path) -> ast.Module:
    """The syntax tree of a source file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name(path: Path) -> str:
    """A path as a reader of the repository writes it."""
    return path.relative_to(ROOT).as_posix()


def repository_files() -> list[Path]:
    """Every file that git keeps or would add; outside a checkout, every file that no tool made."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
        paths = [ROOT / entry for entry in listed if entry]
    except (OSError, subprocess.CalledProcessError):
        parts = {path: path.relative_to(ROOT).parts for path in ROOT.rglob("*")}
        paths = [path for path, folders in parts.items() if not any(map(GENERATED.match, folders))]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def sources(*rooms: str) -> list[Path]:
    """The Python files of the rooms named, in order."""
    found = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    return [path for path in found if "__pycache__" not in path.parts]


def every_source() -> list[Path]:
    """All Python files: the rooms, and what stands beside them."""
    return [*sources(*MAY_IMPORT, "tests", "examples", "benchmarks", "docs"), *ROOT.glob("*.py")]


def shipped_packages() -> list[str]:
    """The packages that pyproject.toml installs."""
    return read_pyproject()["tool"]["setuptools"]["packages"]


@functools.cache
def read_pyproject() -> dict[str, dict[str, dict[str, list[str]]]]:
    """pyproject.toml, read once."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))  # type: ignore[return-value]


def absolute_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and module of every absolute import, wherever in the file and however lazily.

    `from irc import ir` names the module `irc.ir`; `import_module("irc.ir")` counts as an import of it.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom(level=0, module="irc"):
                for alias in node.names:
                    yield node.lineno, f"irc.{alias.name}" if alias.name in MAY_IMPORT else "irc"
            case ast.ImportFrom(level=0, module=str(module)):
                yield node.lineno, module
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, module
            case _:
                pass


def relative_imports(tree: ast.Module) -> Iterator[tuple[int, int, str]]:
    """Line, number of dots and module of every relative import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            yield node.lineno, node.level, node.module or node.names[0].name


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The functions and classes of a module that others may use by name; of an overloaded one, its implementation."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list):
            yield node


def run_python(code: str, *arguments: str, folder: Path) -> str:
    """What a new interpreter prints for the code, with this checkout's irc and from another folder."""
    paths = [str(ROOT / ".typing"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Rooms


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_downwards(room: str) -> None:
    wrong: list[str] = []
    for path in sources(room):
        for line, module in absolute_imports(syntax(path)):
            head, _, rest = module.partition(".")
            if head in MAY_IMPORT:
                wrong.append(f"{name(path)}:{line}: import irc.{head}, not {head}: it would be a second copy")
            if head != "irc":
                continue
            target = rest.split(".")[0] or "api"
            if target == room:
                wrong.append(f"{name(path)}:{line}: inside a room imports are relative")
            elif target in MAY_IMPORT and target not in MAY_IMPORT[room]:
                wrong.append(f"{name(path)}:{line}: {room} must not know {target}")
            elif target not in MAY_IMPORT and "api" not in MAY_IMPORT[room] | {room}:
                wrong.append(f"{name(path)}:{line}: {room} must not know the front door")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_relative_imports_stay_in_their_room(room: str) -> None:
    wrong: list[str] = []
    for path in sources(room):
        depth = len(path.relative_to(ROOT).parts) - 1
        for line, dots, module in relative_imports(syntax(path)):
            if dots > depth:
                wrong.append(f"{name(path)}:{line}: leaves the room; write from irc.… import …")
            # `api` is installed as `irc`, so there a room looks like a module of its own, which no checker can find.
            elif room == "api" and dots == depth and module.split(".")[0] in MAY_IMPORT:
                wrong.append(f"{name(path)}:{line}: write from irc.{module} import …")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_other_rooms_are_entered_by_their_doors(room: str) -> None:
    doors = set(shipped_packages())
    wrong = [
        f"{name(path)}:{line}: {module} is inside a room; import from its package"
        for path in sources(room)
        for line, module in absolute_imports(syntax(path))
        if module.split(".")[0] == "irc" and module not in doors
    ]
    assert not wrong, "\n".join(wrong)


# Shipping


def test_packages_on_disk_are_the_packages_shipped() -> None:
    folders = {path.parent for path in sources(*MAY_IMPORT)}
    on_disk = {re.sub(r"^irc\.api\b", "irc", "irc." + name(folder).replace("/", ".")) for folder in folders}
    shipped = set(shipped_packages())
    assert not on_disk - shipped, "not listed in pyproject.toml, so missing from the wheel"
    assert not shipped - on_disk, "listed in pyproject.toml, but no such package"
    assert not [name(folder) for folder in folders if not (folder / "__init__.py").exists()]


def test_type_checkers_find_every_room() -> None:
    links = ROOT / ".typing" / "irc"
    expected = {room: f"../../{room}" for room in MAY_IMPORT if room != "api"}
    own = [path for path in (ROOT / "api").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    expected |= {path.name: f"../../api/{path.name}" for path in own}
    expected["py.typed"] = "../../api/py.typed"
    if not (links / "ir").is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert {path.name: os.readlink(path) for path in links.iterdir()} == expected
    assert not [path.name for path in links.iterdir() if not path.exists()]


# What every file owes its reader


def test_every_module_says_what_it_is() -> None:
    assert not [name(path) for path in every_source() if not ast.get_docstring(syntax(path))]


def test_every_public_name_has_a_docstring() -> None:
    bare = [
        f"{name(path)}:{node.lineno}: {node.name}"
        for path in sources(*MAY_IMPORT)
        for node in public_definitions(syntax(path))
        if not ast.get_docstring(node)
    ]
    assert not bare, "\n".join(bare)


def test_no_file_is_too_long() -> None:
    counts = {name(path): len(path.read_bytes().splitlines()) for path in repository_files() if path.suffix in COUNTED}
    long = {path: count for path, count in counts.items() if count > LONGEST}
    assert not {path: count for path, count in long.items() if path not in LONG_FILES}
    assert not LONG_FILES.keys() - long.keys(), "no longer long: take them off the list"


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = [
        f"{name(path)}: …{content[match.start() : match.end() + 30]!r}"
        for path in repository_files()
        for content in [path.read_bytes()]
        for match in MACHINE_PATH.finditer(content)
    ]
    assert not found, "\n".join(found)


def test_readme_leads_every_reader_on() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| *I want to … *\| *go to … *\|\n\|[-:| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table, "README.md lacks the table | I want to … | go to … |"
    for row in table[1].splitlines():
        last = row.strip().strip("|").split("|")[-1]
        places = re.findall(r"\]\(([^)#]+)", last) or re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.\w+)`", last)
        assert places, f"leads nowhere: {row}"
        assert not [place for place in places if ":" not in place and not (ROOT / place).exists()], row


def test_every_pass_has_a_text_test() -> None:
    from irc.passes.registry import PASSES

    names = {each.name for each in PASSES}
    assert len(names) == len(PASSES), "two passes share a name"
    tested: set[str] = set()
    for path in (ROOT / "tests" / "passes").glob("*.irc"):
        # `fold-constants.irc` tests fold-constants, not a pass named fold: the longest name wins.
        tested.add(max((each for each in names if path.stem.startswith(each)), key=len, default=""))
    assert not names - tested


# The runtime stands alone


def test_an_artifact_runs_without_the_compiler(tmp_path: Path) -> None:
    compile_it = """
import sys, irc
irc.compile(sys.argv[1], target="cpu", opt_level=2).save("digits.irc")
"""
    run_it = """
import sys, numpy, irc
with irc.load("digits.irc") as program:
    logits = program.run({"x": numpy.load(sys.argv[1])})["logits"]
assert logits.shape == (1, 10), logits.shape
print(*[name for name in sys.argv[2:] if name in sys.modules])
"""
    run_python(compile_it, str(ROOT / "examples" / "digits.onnx"), folder=tmp_path)
    imported = run_python(run_it, str(ROOT / "examples" / "digit.npy"), *COMPILER, folder=tmp_path)
    assert imported == ""


def test_importing_the_runtime_brings_in_no_compiler(tmp_path: Path) -> None:
    code = "import sys, irc.runtime; print(*[name for name in sys.argv[1:] if name in sys.modules])"
    assert run_python(code, *COMPILER, folder=tmp_path) == ""
