"""Whatever is wrong with a line, a file or a model ends in one sentence, the right exit code, and nothing half-written."""

from __future__ import annotations

import io
import itertools
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from .models import F32, Said, Shell, custom, cyclic, info, mistyped, mlp, model, node, normal, relu

USAGE, BAD_MODEL, UNSUPPORTED, ENGINE = 2, 3, 4, 5
CLASS_NAMES = re.compile(r"Traceback|\b[A-Z]\w+(Error|Exception|Failure)\b|PosixPath|<class|File \"|numpy\.ndarray")


def complaint(said: Said, code: int) -> str:
    """The one error on stderr, after the demands that every error has to meet."""
    assert said.code == code, (said.code, said.err)
    assert said.err.startswith("irc: error: "), said.err
    assert said.err.count("irc: error: ") == 1, said.err
    assert not CLASS_NAMES.search(said.err), said.err
    assert said.out == ""
    text = said.err.removeprefix("irc: error: ").strip()
    assert "  (" not in text
    assert "()" not in text
    assert "None" not in text
    return text


def refuse(shell: Shell, code: int, *arguments: object) -> str:
    """Run a command line that must fail and leave every file as it was; what it says."""
    before = shell.files()
    text = complaint(shell.run(*arguments), code)
    assert shell.files() == before
    return text


def write(shell: Shell, name: str, content: bytes) -> None:
    """Write a file into the folder."""
    (shell.folder / name).write_bytes(content)


def array(value: object, *, pickled: bool = False) -> bytes:
    """The bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(value), allow_pickle=pickled)
    return buffer.getvalue()


def archive(**values: object) -> bytes:
    """The bytes of a .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **values)
    return buffer.getvalue()


# Command lines


LINES = [
    ("", "no verb is given", "irc --help"),
    ("bogus", "there is no verb 'bogus'", "compile"),
    ("compil good.onnx", "there is no verb 'compil'", "did you mean compile?"),
    ("compile", "MODEL is missing", "irc compile --help"),
    ("compare good.onnx", "OTHER is missing", "irc compare --help"),
    ("compile good.onnx more", "too much on the line: more", "irc compile --help"),
    ("compile good.onnx --wat", "no option '--wat'", "--stats"),
    ("compile good.onnx --no-such-thing", "no option '--no-such-thing'", ""),
    ("compile good.onnx -O 7", "-O is wrong", "less than or equal to 3"),
    ("compile good.onnx -O9", "-O is wrong", "less than or equal to 3"),
    ("compile good.onnx -Ofast", "-O is wrong", "valid integer"),
    ("compile good.onnx -O", "'-O' requires an argument", "--help"),
    ("compile good.onnx --threads 0", "--threads is wrong", "greater than or equal to 1"),
    ("compile good.onnx --threads many", "--threads is wrong", "valid integer"),
    ("compile good.onnx --rewrite-limit -1", "--rewrite-limit is wrong", "greater than or equal to 0"),
    ("compile good.onnx --target gpu", "no target 'gpu'", "cpu, arm64, cuda"),
    ("compile good.onnx --target edge.toml", "no file 'edge.toml'", "irc targets"),
    ("targets cpuu", "no target 'cpuu'", "did you mean cpu?"),
    ("compile good.onnx --target cpuu", "no target 'cpuu'", "did you mean cpu?"),
    ("compile good.onnx --engine onnxruntim", "no engine 'onnxruntim'", "did you mean onnxruntime?"),
    ("compile good.onnx --engine tensorrt", "no engine 'tensorrt'", "onnxruntime"),
    ("compile good.onnx --disable-pass csee", "no pass or rewrite 'csee'", "did you mean cse?"),
    ("opt good.onnx --disable-pass zzz", "no pass or rewrite 'zzz'", "irc passes --rewrites"),
    ("opt good.onnx --print-ir-after csee", "no pass 'csee' to print", "did you mean cse?"),
    ("compile good.onnx --shape x", "'x' is no shape", "INPUT:1x3x224x224"),
    ("compile good.onnx --shape x:1xtwo", "'x:1xtwo' is no shape", "INPUT:1x3x224x224"),
    ("compile good.onnx --shape x:-1x4", "'x:-1x4' is no shape", "?"),
    ("compile good.onnx --shape z:1x4", "no input 'z'", "it has x"),
    ("compile good.onnx --shape x:1x5", "no dim of 4 can be 5", ""),
    ("compile good.onnx --shape x:4", "cannot have 1 dims", ""),
    ("compile good.onnx --dim N", "'N' is no dim", "NAME=NUMBER"),
    ("compile good.onnx --dim N=", "'N=' is no dim", "NAME=NUMBER"),
    ("compile good.onnx --dim N=9..2", "'N=9..2' is no dim", "LOW..HIGH"),
    ("compile good.onnx --dim M=3", "no dim 'M'", "it has N"),
    ("opt good.onnx --dim M=3", "no dim 'M'", "it has N"),
    ("compile good.onnx --load missing.py", "no file 'missing.py'", "Python file"),
    ("compile good.onnx -o .", "'.' is a directory", "name of a file"),
    ("compile good.onnx -o missing/good.irc", "no directory 'missing'", "make it"),
    ("compile good.onnx -o /proc/good.irc", "nothing can be written to the directory '/proc'", "give -o a place"),
    ("compile .", "'.' is a directory", "MODEL is a file"),
    ("compile good.onnx --precision int8 --html good.irc", "is where the artifact goes", "another name"),
    ("compile good.onnx -o good.onnx", "'good.onnx' ends in .onnx", "irc opt"),
    ("opt good.onnx -o good.txt", "ends neither in .onnx nor in .irtext", "better.onnx"),
    ("opt good.onnx -o missing/better.onnx", "no directory 'missing'", "make it"),
    ("opt good.onnx --dump-ir good.onnx", "'good.onnx' is a file", "directory"),
    ("inspect good.onnx --html missing/page.html", "no directory 'missing'", "make it"),
    ("inspect good.onnx --html good.onnx", "is the model itself", "another name"),
    ("inspect good.onnx --weights w.safetensors", "--ir is not given", "add --ir"),
    ("inspect missing.irc", "no file 'missing.irc'", ".onnx"),
    ("run missing.irc", "no file 'missing.irc'", "irc compile"),
    ("run good.onnx --dim N=3", "none are asked for", "--random"),
    ("run good.onnx --random --dim M=3", "no open dim 'M'", "it has N"),
    ("run good.onnx --random -o good.onnx", "'good.onnx' is a file", "directory"),
    ("run good.onnx --random --seed -1", "--seed is wrong", "0"),
    ("bench missing.irc", "no file 'missing.irc'", ".irc"),
    ("bench good.onnx --against missing.irc", "no file 'missing.irc'", ".irc"),
    ("bench good.onnx --rounds 1", "--rounds is wrong", "2"),
    ("bench good.onnx --seconds 0", "--seconds is wrong", "0.01"),
    ("bench good.onnx --inputs missing.npz", "no file 'missing.npz'", ".npz"),
    ("bench good.onnx --dim M=3", "no open dim 'M'", "it has N"),
    ("compile good.onnx -O", "'-O' requires an argument", "`irc compile --help`"),
    ("compile good.onnx --provider Abacus", "no provider 'Abacus'", "here are "),
    (
        "compile good.onnx --provider CPUExecutionProvder",
        "no provider 'CPUExecutionProvder'",
        "did you mean CPUExecutionProvider?",
    ),
    ("compare good.onnx missing.onnx", "no file 'missing.onnx'", "path"),
    ("compare good.onnx missing.irc", "no file 'missing.irc'", "irc compile"),
    ("compare good.onnx good.onnx --tolerance little", "--tolerance is wrong", "number"),
    ("compare good.onnx good.onnx --tolerance -1", "--tolerance is wrong", "0"),
    ("compare good.onnx good.onnx --trials 0", "--trials is wrong", "1"),
    ("passes --level O9", "no level 'O9'", "O0, O1, O2, O3"),
]


@pytest.mark.parametrize(("line", "what", "way_out"), LINES, ids=[line or "nothing" for line, _, _ in LINES])
def test_a_wrong_command_line(shell: Shell, line: str, what: str, way_out: str) -> None:
    text = refuse(shell, USAGE, *line.split())
    assert what in text
    assert way_out in text


def test_a_target_that_an_engine_does_not_serve(shell: Shell) -> None:
    text = refuse(shell, UNSUPPORTED, "compile", "good.onnx", "--target", "cuda", "--engine", "openvino")
    assert "openvino does not serve the target cuda" in text
    assert "(use --" in text


PIPELINES = [
    ("O2, csee", "there is no pass 'csee'", "did you mean cse?", 4),
    ("cse cse", "a comma is expected here", "", 4),
    ("cse,,cse", "a pass name is expected here", "fold-constants{max-bytes=1024}", 4),
    ("fold-constants{max-byts=1}", "no option 'max-byts'", "did you mean max-bytes?", 15),
    ("fold-constants{max-bytes=many}", "no int", "", 15),
    ("O2{x=1}", "has no options", "", 2),
]


@pytest.mark.parametrize("verb", ["compile", "opt"])
@pytest.mark.parametrize(("pipeline", "what", "way_out", "column"), PIPELINES, ids=[p for p, *_ in PIPELINES])
def test_a_wrong_pipeline_is_pointed_at(shell: Shell, verb: str, pipeline: str, what: str, way_out: str, column: int) -> None:
    text = refuse(shell, USAGE, verb, "good.onnx", "-p", pipeline)
    assert what in text
    assert way_out in text
    shown, caret = text.splitlines()[1:3]
    assert shown.removeprefix("  ") == pipeline
    assert caret.removeprefix("  ") == " " * column + "^"


@pytest.mark.parametrize(
    ("source", "what"),
    [("def f(:\n", "fails to import"), ("x = 1\n", "defines no pass"), ("import missing_package\n", "missing_package")],
)
@pytest.mark.parametrize("verb", ["compile", "opt", "passes"])
def test_a_wrong_file_of_passes(shell: Shell, verb: str, source: str, what: str) -> None:
    (shell.folder / "mine.py").write_text(source)
    before = shell.files()
    said = shell.run(verb, *([] if verb == "passes" else ["good.onnx"]), "--load", "mine.py")
    assert said.code == USAGE
    assert said.err.startswith("irc: error: mine.py: ")  # it may name what the user's own code raised
    assert what in said.err
    assert "Traceback" not in said.err
    assert shell.files() == before


# Models


BAD_MODELS = {
    "missing": (USAGE, "no file 'bad.onnx'"),
    "directory": (USAGE, "is not a regular file"),
    "empty": (BAD_MODEL, "empty"),
    "truncated": (BAD_MODEL, "truncated"),
    "random": (BAD_MODEL, "not an ONNX file"),
    "text": (BAD_MODEL, "not an ONNX file"),
    "zeros": (BAD_MODEL, ""),
    "cyclic": (BAD_MODEL, "one, two"),
    "undefined": (BAD_MODEL, "'nobody', which nothing defines"),
    "mistyped": (BAD_MODEL, "sum: Add is mistyped"),
    "custom": (UNSUPPORTED, "wizards::Magic at wand"),
}


def spoil(shell: Shell, kind: str, name: str = "bad.onnx") -> None:
    """Put a bad model of some kind into the folder."""
    made = {"cyclic": cyclic, "undefined": lambda: relu([4], "nobody"), "mistyped": mistyped, "custom": custom}
    if kind in made:
        shell.save(name, made[kind]())
    elif kind == "directory":
        (shell.folder / name).mkdir()
    elif kind != "missing":
        whole = mlp().SerializeToString()
        noise = np.random.default_rng(0).bytes(500)
        contents = {"empty": b"", "truncated": whole[:90], "random": noise, "text": b"hello, world\n" * 9, "zeros": bytes(99)}
        write(shell, name, contents[kind])


@pytest.mark.parametrize("kind", BAD_MODELS)
@pytest.mark.parametrize("verb", ["compile", "run", "compare", "bench", "opt", "inspect"])
def test_a_bad_model(shell: Shell, verb: str, kind: str) -> None:
    spoil(shell, kind)
    write(shell, "bad.irc", b"old")
    code, what = BAD_MODELS[kind]
    if kind == "custom" and verb in ("opt", "inspect"):
        assert shell.run(verb, "bad.onnx").code == 0  # what no engine runs can still be looked at and rewritten
        return
    extra = {"run": ["--random"], "compare": ["good.onnx"], "opt": ["-o", "better.onnx"]}.get(verb, [])
    assert what in refuse(shell, code, verb, "bad.onnx", *extra)


def test_an_op_without_a_kernel_is_listed_with_its_place(shell: Shell) -> None:
    shell.save("custom.onnx", custom())
    text = refuse(shell, UNSUPPORTED, "compile", "custom.onnx")
    assert "wizards::Magic at wand: no kernel" in text
    assert "register a pass" in text


def test_many_ops_without_a_kernel_are_cut_short(shell: Shell) -> None:
    names = ["x", *(f"v{i}" for i in range(29)), "y"]
    nodes = [node("Magic", [a], [b], name=f"at {a}", domain="wizards") for a, b in itertools.pairwise(names)]
    message = model(nodes, [info("x", F32, [4])], [info("y", F32, [4])], domains={"wizards": 1})
    shell.save("custom.onnx", message)
    text = refuse(shell, UNSUPPORTED, "compile", "custom.onnx")
    assert text.count("wizards::Magic at ") == 20
    assert "..." in text


@pytest.mark.parametrize("verb", ["compile", "opt", "why", "bisect", "inspect", "run"])
def test_ir_as_text_is_no_model(shell: Shell, verb: str) -> None:
    shell.good("opt", "good.onnx", "-o", "good.irtext")
    assert "'good.irtext' is IR as text (read it in Python" in refuse(shell, USAGE, verb, "good.irtext")


# Feeds


FEEDS = {
    "x.npy": array(np.ones((2, 4), np.float32)),
    "double.npy": array(np.ones((2, 4))),
    "narrow.npy": array(np.ones((2, 3), np.float32)),
    "flat.npy": array(np.ones(4, np.float32)),
    "pickled.npy": array(np.array([{}], object), pickled=True),
    "cut.npy": array(np.ones((2, 4), np.float32))[:140],
    "text.npy": b"no numbers here",
    "empty.npy": b"",
    "x.npz": archive(x=np.ones((2, 4), np.float32)),
    "extra.npz": archive(x=np.ones((2, 4), np.float32), z=np.ones(1)),
    "none.npz": archive(),
    "pickled.npz": archive(x=np.array([{}], object)),
    "cut.npz": archive(x=np.ones((2, 4), np.float32))[:100],
    "text.npz": b"no numbers here",
    "damaged.npz": archive(x=np.ones((2, 4), np.float32)).replace(b"\x00\x00\x80\x3f", b"\x00\x00\x80\x40", 1),
}
WRONG_FEEDS = [
    ([], "input 'x' is missing", "--input x=FILE.npy, or let --random"),
    (["--input", "x=missing.npy"], "no file 'missing.npy'", ".npy"),
    (["--input", "x"], "'x' names no input and file", "NAME=FILE.npy"),
    (["--input", "x="], "'x=' names no input and file", "NAME=FILE.npy"),
    (["--input", "=x.npy"], "'=x.npy' names no input and file", "NAME=FILE.npy"),
    (["--input", "xx=x.npy"], "no input 'xx'", "did you mean x?"),
    (["--input", "image=x.npy"], "no input 'image'", "its inputs are x"),
    (["--input", "x=x.npy", "--input", "x=x.npy"], "given twice", "once"),
    (["--input", "x=double.npy"], "element type f64, but the model wants f32", "astype"),
    (["--input", "x=narrow.npy"], "3 in dim 1", "f32[N,4]"),
    (["--input", "x=flat.npy"], "rank 1", "f32[N,4]"),
    (["--input", "x=pickled.npy"], "never unpickled", "save"),
    (["--input", "x=cut.npy"], "damaged or cut short", "again"),
    (["--input", "x=text.npy"], "no .npy file", "numpy.save"),
    (["--input", "x=empty.npy"], "no .npy file", "numpy.save"),
    (["--input", "x=x.npz"], "several arrays", "--inputs x.npz"),
    (["--inputs", "x.npy"], "single array", "--input NAME=x.npy"),
    (["--inputs", "extra.npz"], "no input 'z'", "its inputs are x"),
    (["--inputs", "none.npz"], "input 'x' is missing", "--input"),
    (["--inputs", "pickled.npz"], "never unpickled", "save"),
    (["--inputs", "cut.npz"], "damaged or cut short", "again"),
    (["--inputs", "text.npz"], "no .npz file", "numpy.savez"),
    (["--inputs", "damaged.npz"], "damaged or cut short", "again"),
    (["--inputs", "missing.npz"], "no file 'missing.npz'", ".npz"),
]


@pytest.mark.parametrize(("flags", "what", "way_out"), WRONG_FEEDS, ids=[" ".join(f) or "none" for f, _, _ in WRONG_FEEDS])
def test_wrong_feeds(shell: Shell, flags: list[str], what: str, way_out: str) -> None:
    for name, content in FEEDS.items():
        write(shell, name, content)
    text = refuse(shell, USAGE, "run", "good.onnx", "-o", "results", *flags)
    assert what in text
    assert way_out in text


@pytest.mark.parametrize("name", ["x.npy", "extra.npz", "cut.npz", "text.npz", "none.npz", "pickled.npz", "damaged.npz"])
@pytest.mark.parametrize("verb", ["compile", "bisect"])
def test_wrong_inputs_to_check_with(shell: Shell, verb: str, name: str) -> None:
    write(shell, name, FEEDS[name])
    assert refuse(shell, USAGE, verb, "good.onnx", "--inputs", name).startswith(name)


@pytest.mark.parametrize("name", ["x.npy", "extra.npz", "cut.npz", "none.npz"])
def test_wrong_feeds_of_bench(shell: Shell, name: str) -> None:
    write(shell, name, FEEDS[name])
    text = refuse(shell, USAGE, "bench", "good.onnx", "--inputs", name)
    assert "--input " not in text  # bench has no such flag
    assert "--random" not in text


# Artifacts


def damage(shell: Shell, kind: str) -> None:
    """Put a damaged artifact of some kind at `bad.irc`."""
    shell.good("compile", "good.onnx", "-o", "whole.irc")
    path = shell.folder / "whole.irc"
    content = bytearray(path.read_bytes())
    path.unlink()
    if kind == "directory":
        (shell.folder / "bad.irc").mkdir()
        return
    if kind == "other zip":
        with zipfile.ZipFile(shell.folder / "bad.irc", "w") as other:
            other.writestr("hello", "world")
        return
    if kind == "flipped weight":
        content[content.index(normal(4, 3).tobytes()) + 5] ^= 1
    if kind == "flipped manifest":
        content[content.index(b'"opt_level"') + 2] ^= 1
    write(shell, "bad.irc", {"empty": b"", "truncated": bytes(content[:5000])}.get(kind, bytes(content)))


@pytest.mark.parametrize("kind", ["empty", "truncated", "other zip", "flipped weight", "flipped manifest", "directory"])
@pytest.mark.parametrize("verb", ["run", "inspect", "compare", "bench"])
def test_a_damaged_artifact(shell: Shell, verb: str, kind: str) -> None:
    damage(shell, kind)
    extra = {"run": ["--random"], "compare": ["good.onnx"]}.get(verb, [])
    assert "bad.irc" in refuse(shell, BAD_MODEL, verb, "bad.irc", *extra)


def test_an_artifact_is_no_model(shell: Shell) -> None:
    shell.good("compile", "good.onnx")
    assert "zip file and not an ONNX model" in refuse(shell, BAD_MODEL, "compile", "good.irc", "-o", "again.irc")
    assert "is the model itself" in refuse(shell, USAGE, "compile", "good.irc")


@pytest.mark.parametrize("flags", [["-o", "x.npz"], ["--html", "x.npz"]])
def test_samples_are_not_written_over(shell: Shell, flags: list[str]) -> None:
    write(shell, "x.npz", archive(x=np.ones((4, 4), np.float32)))
    line = ["compile", "good.onnx", "--precision", "int8", "--calib", "x.npz", *flags]
    assert "'x.npz' is read here and would be overwritten" in refuse(shell, USAGE, *line)


# Comparing


def test_models_with_other_names_are_not_compared(shell: Shell) -> None:
    shell.save("other.onnx", relu([4]))
    shell.save("renamed.onnx", model([node("Relu", ["a"], ["y"])], [info("a", F32, ["N", 4])], [info("y", F32, ["N", 4])]))
    assert "4" in refuse(shell, USAGE, "compare", "good.onnx", "other.onnx")
    assert "different inputs: x against a" in refuse(shell, USAGE, "compare", "good.onnx", "renamed.onnx")


def test_answers_that_differ_end_in_exit_code_1(shell: Shell) -> None:
    shell.save("other.onnx", mlp(1.5))
    said = shell.run("compare", "good.onnx", "other.onnx")
    assert said.code == 1
    assert "differs" in said.out
    assert said.err.startswith("irc: error: output 'y' differs")
    assert Path("good.onnx").exists()
