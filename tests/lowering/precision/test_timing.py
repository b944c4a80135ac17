"""Times by pattern: each kernel counts to the sites it stands for, and to nothing twice."""

from __future__ import annotations

import pytest

from irc.ir import capture
from irc.lowering import CompileOptions, find_engine, find_target
from irc.lowering.job import Job
from irc.lowering.precision.lowered import everywhere, with_forms
from irc.lowering.precision.timing import build, origins_of, timed_in_turns, times_of
from irc.passes.precision import Form
from irc.runtime import EngineFailure, Kernel, Profile, Program, Provenance

from ..models import F32, info, model, node, normal


def profile(*kernels: tuple[str, float, str]) -> Profile:
    """A profile of kernels: their op, milliseconds, and origins with commas between them."""
    made = [Kernel(op, op, ms, 1.0, (Provenance(op, op, tuple(from_.split(","))),), (), ()) for op, ms, from_ in kernels]
    return Profile("onnxruntime", 1, 4, 10.0, tuple(made), ())


def test_kernels_count_to_their_patterns() -> None:
    origins = {"first": ("a",), "second": ("b",), "both": ("a", "b")}
    found = times_of(profile(("MatMul", 1.0, "first,relu"), ("MatMul", 2.0, "second"), ("Softmax", 4.0, "softmax")), origins)
    assert found.by_pattern == {"a": 1.0, "b": 2.0}
    assert found.whole == 10.0


def test_a_kernel_for_several_patterns_is_shared_out() -> None:
    origins = {"first": ("a",), "second": ("b",), "both": ("a", "b")}
    assert times_of(profile(("MatMul", 3.0, "first,second")), origins).by_pattern == {"a": 1.5, "b": 1.5}
    assert times_of(profile(("MatMul", 3.0, "both,first")), origins).by_pattern == {"a": 1.5, "b": 1.5}


def test_kernels_that_only_convert_are_counted() -> None:
    found = times_of(profile(("QuantizeLinear", 1.0, "first"), ("MatMul", 1.0, "first")), {"first": ("a",)})
    assert found.conversions == {"a": 1}
    assert found.by_pattern == {"a": 2.0}


@pytest.mark.parametrize("form", [Form.F32, Form.BF16])
def test_real_kernels_are_found_again(form: Form) -> None:
    nodes = [node("MatMul", ["x", "v"], ["a"], name="first"), node("Softmax", ["a"], ["y"], name="softmax")]
    captured = capture(model(nodes, [info("x", F32, [8, 16])], [info("y", F32, [8, 16])], {"v": normal(16, 16)}))
    origins = origins_of(captured)
    assert list(origins) == ["first"]
    job = Job(CompileOptions(opt_level=3), find_target("cpu"))
    program = build(with_forms(captured, everywhere(captured, form)), find_engine("onnxruntime"), job)
    assert isinstance(program, Program)
    with program:
        (times,) = timed_in_turns([program], {"x": normal(8, 16)}, captured)
    assert set(times.by_pattern) == set(origins["first"])
    assert 0 < times.by_pattern[origins["first"][0]] <= times.whole
    assert bool(times.conversions) == (form is Form.BF16)


def test_without_times_of_kernels_the_whole_is_shared_out_by_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("MatMul", ["x", "v"], ["a"], name="first"), node("MatMul", ["a", "w"], ["y"], name="second")]
    weights = {"v": normal(16, 16), "w": normal(16, 48)}
    captured = capture(model(nodes, [info("x", F32, [8, 16])], [info("y", F32, [8, 48])], weights))

    def refuse(*_: object) -> Profile:
        raise EngineFailure("kernels on a GPU are not timed one by one")

    monkeypatch.setattr(Program, "profile", refuse)
    program = build(captured, find_engine("onnxruntime"), Job(CompileOptions(opt_level=3), find_target("cpu")))
    assert isinstance(program, Program)
    with program:
        (times,) = timed_in_turns([program], {"x": normal(8, 16)}, captured)
    first, second = times.by_pattern.values()
    assert second == pytest.approx(3 * first)
    assert first + second == pytest.approx(times.whole)
