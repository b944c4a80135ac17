"""`irc bench` where something is in the way of measuring: models that are not alike, and contestants that fail."""

from __future__ import annotations

import numpy as np

from .models import F32, Shell, info, model, node


def complaint(shell: Shell, *arguments: object) -> str:
    """What a wrong command line is told."""
    said = shell.run(*arguments)
    assert said.code == 2, said.err
    return said.err


def test_bench_measures_errors_between_forms_of_one_model(shell: Shell) -> None:
    shell.save("other.onnx", model([node("Relu", ["a"], ["y"])], [info("a", F32, [4])], [info("y", F32, [4])]))
    shell.save("further.onnx", model([node("Relu", ["x"], ["z"])], [info("x", F32, [4])], [info("z", F32, [4])]))
    shell.good("compile", "good.onnx")
    text = complaint(shell, "bench", "good.irc", "--against", "good.onnx", "--against", "other.onnx")
    assert "'other.onnx' and 'good.onnx' have different inputs: a against x (" in text
    text = complaint(shell, "bench", "good.irc", "--against", "further.onnx")
    assert "'good.irc' and 'further.onnx' have different outputs: y against z (" in text


def test_bench_names_the_file_that_fails(shell: Shell) -> None:
    shell.save(
        "torn.onnx",
        model([node("Reshape", ["x", "s"], ["y"])], [info("x", F32, ["N"])], [info("y", F32, [2])], {"s": np.array([2])}),
    )
    shell.good("compile", "torn.onnx")
    for line in ("torn.irc", "torn.onnx"):
        said = shell.run("bench", line, "--dim", "N=3")
        assert said.code == 5
        assert said.err.startswith(f"irc: error: {line}: ")
