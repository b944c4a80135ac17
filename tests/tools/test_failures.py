"""What goes wrong outside the input: a full disk, an interrupt, a defect of irc, a model that takes its process down."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from irc.tools.cli import child, compiling, inspecting, models, opt

from .models import Shell, endless
from .test_wrong_input import ENGINE, USAGE, refuse


def full(*_: object, **__: object) -> None:
    """What the system says when nothing more fits."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


WRITERS = [
    ("compile good.onnx -o old.irc", "old.irc"),
    ("opt good.onnx -o old.onnx", "old.onnx"),
    ("opt good.onnx -o old.irtext", "old.irtext"),
    ("inspect good.onnx --html old.html", "old.html"),
    ("inspect good.onnx --ir --weights old.safetensors", "old.safetensors"),
    ("run good.onnx --random -o results", "y.npy"),
]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(("line", "name"), WRITERS, ids=lambda value: str(value))
def test_a_full_disk_leaves_what_was_there(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, line: str, name: str, call: str
) -> None:
    (shell.folder / "results").mkdir()
    for old in ("old.irc", "old.onnx", "old.irtext", "old.html", "old.safetensors", "results/y.npy"):
        (shell.folder / old).write_bytes(b"old")
    if "--weights" in line and call == "fsync":
        pytest.skip("safetensors writes that file without asking us")
    with monkeypatch.context() as patch:
        patch.setattr(f"os.{call}", full)
        text = refuse(shell, USAGE, *line.split())
    assert name in text
    assert "no space left on device (check the path, the permissions and the space left)" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_directory(shell: Shell) -> None:
    (shell.folder / "locked").mkdir(mode=0o500)
    assert "permission denied" in refuse(shell, USAGE, "compile", "good.onnx", "-o", "locked/good.irc")


def test_outputs_are_written_all_or_none(shell: Shell) -> None:
    items = onnx.helper.make_node("SplitToSequence", ["x"], ["parts"])
    relu = onnx.helper.make_node("Relu", ["x"], ["a"])
    tensor = onnx.helper.make_tensor_type_proto(1, [2, 4])
    outputs = [
        onnx.helper.make_value_info("a", tensor),
        onnx.helper.make_tensor_sequence_value_info("parts", 1, None),
    ]
    graph = onnx.helper.make_graph([items, relu], "g", [onnx.helper.make_value_info("x", tensor)], outputs)
    shell.save("parts.onnx", onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)]))
    text = refuse(shell, 4, "run", "parts.onnx", "--random", "-o", "results")
    assert "output 'parts' is no array" in text
    assert not (shell.folder / "results").exists()


# Interrupts and defects


def fail_with(error: BaseException) -> Any:
    """A function that raises."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_an_interrupt(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compile_options", fail_with(KeyboardInterrupt()))
    assert refuse(shell, 130, "compile", "good.onnx") == "stopped"


def test_too_little_memory(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compile_options", fail_with(MemoryError()))
    assert "not enough memory" in refuse(shell, ENGINE, "compile", "good.onnx")
    monkeypatch.setenv("IRC_CHILD", "1")
    assert "more memory than an untrusted one" in refuse(shell, 3, "compile", "good.onnx")


@pytest.mark.parametrize(
    ("line", "module", "function"),
    [
        ("compile good.onnx -O1", compiling, "compile_options"),
        ("opt good.onnx", opt, "compile_options"),
        ("run good.onnx --random", models, "open_program"),
        ("inspect good.onnx", inspecting, "open_subject"),
    ],
)
def test_a_defect_leaves_a_reproducer(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, line: str, module: Any, function: str
) -> None:
    monkeypatch.setattr(module, function, fail_with(ZeroDivisionError("nobody thought of this")))
    said = shell.run(*line.split())
    assert said.code == ENGINE
    assert said.err.startswith("irc: error: irc itself failed: ZeroDivisionError: nobody thought of this")
    assert "Traceback" not in said.err
    place = re.search(r"defect of irc; (\S+) says", said.err)
    assert place is not None
    folder = Path(place[1])
    assert sorted(path.name for path in folder.iterdir()) == ["details.json", "reproduce.sh", "traceback.txt"]
    assert "nobody thought of this" in (folder / "traceback.txt").read_text()
    script = (folder / "reproduce.sh").read_text()
    assert f"cd {shell.folder}\nirc {line} --debug\n" in script


def test_a_defect_where_nothing_can_be_written(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "open_subject", fail_with(ZeroDivisionError("oh")))
    monkeypatch.setattr("tempfile.mkdtemp", full)
    said = shell.run("inspect", "good.onnx")
    assert said.code == ENGINE
    assert "run it again with --debug" in said.err


def test_debug_prints_the_traceback(shell: Shell) -> None:
    said = shell.run("--debug", "compile", "missing.onnx")
    assert said.code == USAGE
    assert "Traceback" in said.err
    assert said.err.splitlines()[-1].startswith("irc: error: there is no file 'missing.onnx'")


def test_a_reader_who_has_enough_is_no_error(shell: Shell) -> None:
    command = f"{shell.python} -m irc.tools.cli passes --rewrites --json | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=shell.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_terminal_without_dashes_is_no_error(shell: Shell) -> None:
    said = shell.process("targets", PYTHONIOENCODING="ascii")
    assert said.code == 0, said.err
    assert said.err == ""


# Untrusted models


def test_a_good_model_may_be_untrusted(shell: Shell) -> None:
    out = shell.good("compile", "good.onnx", "--untrusted")
    assert "good.irc: " in out
    shell.good("run", "good.irc", "--random", "--untrusted")


def test_errors_of_the_child_arrive_once(shell: Shell) -> None:
    assert "no file 'missing.onnx'" in refuse(shell, USAGE, "--untrusted", "compile", "missing.onnx")
    said = shell.run("--untrusted", "--debug", "compile", "missing.onnx")
    assert said.code == USAGE
    assert said.err.startswith("Traceback")


def test_an_untrusted_model_that_never_ends(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.save("endless.onnx", endless())
    monkeypatch.setattr(child, "CPU_SECONDS", 3)
    text = refuse(shell, 3, "compile", "endless.onnx", "--untrusted")
    assert text.startswith("the model took more than 3 s of processor time")


def test_an_untrusted_model_that_sleeps(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.save("endless.onnx", endless())
    monkeypatch.setattr(child, "WALL_SECONDS", 1)
    assert refuse(shell, 3, "compile", "endless.onnx", "--untrusted").startswith("the model took more than 1 s")


def test_an_untrusted_model_that_wants_too_much_memory(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = onnx.numpy_helper.from_array(np.zeros(1 << 28, np.int8), "w")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"], name="sum")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [info("x", 3, [1])], [info("y", 3, [1 << 28])], [weight])
    shell.save("large.onnx", onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)]))
    monkeypatch.setattr(child, "ADDRESS_SPACE", 400 << 20)
    assert "more memory than an untrusted one may have" in refuse(shell, 3, "compile", "large.onnx", "--untrusted")


class Doomed(subprocess.Popen[bytes]):
    """A process that crashes as native code does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.send_signal(signal.SIGSEGV)


def test_an_untrusted_model_that_kills_its_reader(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.save("endless.onnx", endless())
    monkeypatch.setattr(subprocess, "Popen", Doomed)
    text = refuse(shell, 3, "compile", "endless.onnx", "--untrusted")
    assert text.startswith("the model brought the process that read it down (SIGSEGV)")


class Interrupted(subprocess.Popen[bytes]):
    """A process that the terminal has told to stop along with us, and that dies of being told again."""

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None:
            raise KeyboardInterrupt
        super().wait()
        return -signal.SIGINT


def test_an_interrupt_of_what_is_untrusted(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    assert shell.run("compile", "good.onnx", "--untrusted").code == 130


def test_passes_that_end_the_process(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text("import sys\nsys.exit(0)\n")
    assert "ended irc with exit code 0" in refuse(shell, USAGE, "opt", "good.onnx", "--load", "mine.py")
