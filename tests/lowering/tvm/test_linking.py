"""Linking: one library of all kernels and the program, the same bytes every time, by whatever compiler there is."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import shutil
import sys
from pathlib import Path

import pytest

from irc.ir import UnsupportedError
from irc.lowering.tvm import linking
from irc.lowering.tvm.linking import compiler, link
from irc.runtime import EngineFailure

from .running import c_object, needs_compiler

HERE = "x86_64-linux-gnu"
ELSEWHERE = "aarch64-linux-gnu"


KERNEL = "void irc_one(int task, int *p) { p[task] = 1; }\nvoid helper(void) {}"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is one that the tests speak of."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("sys.platform", "linux")


def only(monkeypatch: pytest.MonkeyPatch, *names: str, zig: bool = False) -> None:
    """Nothing is installed but compilers of these names, and zig where said so."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in names else None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if zig and name == "ziglang" else None)


# What is linked


@needs_compiler
def test_kernels_and_the_program_are_found_by_name_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "program.so").write_bytes(link([c_object(KERNEL)], native()))
    library = ctypes.CDLL(str(tmp_path / "program.so"))
    for name in ("irc_one", "irc_open", "irc_run", "irc_close"):
        assert hasattr(library, name)
    for name in ("helper", "serve", "take"):
        assert not hasattr(library, name)


@needs_compiler
def test_the_same_objects_make_the_same_bytes_in_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    objects = [c_object(KERNEL), c_object("void irc_two(int task, int *p) { p[task] = 2; }")]
    one = link(objects, native())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert link(objects, native()) == one
    assert b"irc-scratch" not in one


@needs_compiler
def test_objects_may_each_bring_the_same_helper(tmp_path: Path) -> None:
    """TVM puts its conversions of f16 into every object, as weak symbols."""
    weak = "__attribute__((weak)) float __extendhfsf2(short x) { return x; }\n"
    link([c_object(weak + KERNEL), c_object(weak + "void irc_two(int task) { (void)task; }")], native())


@needs_compiler
def test_a_symbol_that_nothing_has_is_found_when_linking(tmp_path: Path) -> None:
    missing = c_object("void TVMBackendAllocWorkspace(void); void irc_one(int task) { TVMBackendAllocWorkspace(); }")
    with pytest.raises(EngineFailure, match=r"could not be linked: .*TVMBackendAllocWorkspace"):
        link([missing], native())


@needs_compiler
def test_what_is_no_object_is_refused_in_the_words_of_the_compiler() -> None:
    with pytest.raises(EngineFailure, match=r"^\S*cc: the kernels could not be linked: .*0\.o"):
        link([b"this is no object"], native())


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs the extra zig")
def test_zig_links_for_another_architecture() -> None:
    one = link([], ELSEWHERE)
    assert one[:4] == b"\x7fELF"
    assert int.from_bytes(one[18:20], "little") == 183  # EM_AARCH64
    assert link([], ELSEWHERE) == one


def native() -> str:
    """LLVM's name of this machine."""
    return f"{platform.machine()}-linux-gnu"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "p.c:1:10: fatal error: pthread.h: No such file\n 1 | #include\ncompilation terminated.",
            "p.c:1:10: fatal error: pthread.h",
        ),
        ("/usr/bin/ld: 0.o: file format not recognized\ncollect2: error: ld returned 1 exit status\n", "/usr/bin/ld: 0.o"),
        ("ld.lld: error: undefined symbol: f\n>>> referenced by 0.o", "ld.lld: error: undefined symbol: f"),
        ("", "it ended with exit code 3"),
    ],
)
def test_of_what_a_compiler_says_the_line_that_tells_most_is_told(
    said: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "said").write_text(said)
    script = f"cat {tmp_path}/said >&2; exit 3"
    monkeypatch.setattr(linking, "compiler", lambda triple: ("sh", "-c", script))
    with pytest.raises(EngineFailure, match=f"^sh: the kernels could not be linked: {told}"):
        link([], HERE)


# Which compiler links


@pytest.mark.usefixtures("here")
def test_the_compiler_of_the_system_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "gcc", "clang", zig=True)
    assert compiler(HERE) == ("/usr/bin/gcc",)


@pytest.mark.usefixtures("here")
def test_zig_links_where_there_is_no_other_and_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, zig=True)
    assert compiler(HERE)[:5] == (sys.executable, "-m", "ziglang", "cc", "-target")
    only(monkeypatch, "cc", zig=True)
    assert compiler(ELSEWHERE)[-1].startswith(ELSEWHERE)


@pytest.mark.usefixtures("here")
def test_a_cross_compiler_of_the_system_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "cc", f"{ELSEWHERE}-gcc", zig=True)
    assert compiler(ELSEWHERE) == (f"/usr/bin/{ELSEWHERE}-gcc",)


@pytest.mark.usefixtures("here")
def test_without_any_compiler_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    with pytest.raises(UnsupportedError, match=r"no C compiler for x86_64.* \(pip install 'irc-compiler\[zig\]', .* cc\)"):
        compiler(HERE)
    only(monkeypatch, "cc")
    with pytest.raises(UnsupportedError, match=r"no C compiler for aarch64-linux-gnu .* aarch64-linux-gnu-gcc"):
        compiler(ELSEWHERE)


def test_a_compiler_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking, "compiler", lambda triple: ("/there/is/none",))
    with pytest.raises(EngineFailure, match=r"^/there/is/none: the compiler cannot be started"):
        link([], HERE)
