"""`torch.compile(backend="irc")` as a specification: which graphs are compiled, when again, and what is left to eager mode."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import pytest

for package in ("torch", "onnxscript"):
    pytest.importorskip(package, reason=f"{package} is not installed (the extra 'torch')")

import torch  # noqa: E402  it may be missing
import torch.nn.functional as F  # noqa: E402, N812  the custom of its users
from torch import nn  # noqa: E402

from irc import IrcError  # noqa: E402
from irc.torch.backends import FallbackWarning, backend  # noqa: E402

from .compiled import Counter, Net, compiled, fresh, make_counter, same  # noqa: E402, F401

# Finding it


def test_torch_finds_the_backend_by_its_name() -> None:
    if importlib.util.find_spec("irc") is None or not importlib.metadata.entry_points(group="console_scripts", name="irc"):
        pytest.skip("irc is used without being installed, so that nothing can be registered")
    (entry,) = importlib.metadata.entry_points(group="torch_dynamo_backends", name="irc")
    assert entry.load() is backend
    net, x = Net().eval(), torch.randn(2, 4)
    same(torch.compile(net, backend="irc")(x), net(x))


def test_a_module_is_compiled_whole(counter: Counter) -> None:
    net, x = Net().eval(), torch.randn(2, 4)
    same(compiled(net, backend=counter, fullgraph=True)(x), net(x))
    assert counter.graphs == len(counter.programs) == 1
    assert {"first.weight", "second.weight", "shift"} <= set(compiled_constants(net))


def compiled_constants(net: nn.Module) -> list[str]:
    """The names of the weights of the captured graph."""
    from irc.ir.capture.torch.dynamo import DynamoGraph

    names: list[str] = []

    def look(gm: Any, inputs: Any) -> Any:
        graph = DynamoGraph(gm, inputs).capture(inputs).captured.graph
        names.extend(op.results[0].name for op in graph if op.is_constant)
        return gm.forward

    torch._dynamo.reset()
    torch.compile(net, backend=look)(torch.randn(2, 4))
    return names


def test_ops_know_the_line_and_the_module_they_come_from() -> None:
    from irc.ir.capture.torch.dynamo import DynamoGraph

    found: list[str] = []

    def look(gm: Any, inputs: Any) -> Any:
        graph = DynamoGraph(gm, inputs).capture(inputs).captured.graph
        found.extend(str(op.location) for op in graph if op.name in ("Gemm", "MatMul", "Relu"))
        return gm.forward

    torch.compile(Net().eval(), backend=look)(torch.randn(2, 4))
    line = Net.forward.__code__.co_firstlineno + 1
    places = [text.partition("compiled.py:")[2] for text in found]
    assert places == [f"{line} (first) linear", f"{line} relu", f"{line} (second) linear_1"]


# Options


def test_options_are_the_words_of_irc_compile(counter: Counter) -> None:
    options = {"opt_level": 1, "threads": 1, "verify": "nothing", "disable": ["fold-constants"], "target": "cpu"}
    net, x = Net().eval(), torch.randn(2, 4)
    same(compiled(net, options=options)(x), net(x))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"options": {"opt_levle": 3}}, "no option 'opt_levle' .did you mean opt_level"),
        ({"options": {"opt_level": 7}}, "no optimization level 7"),
        ({"options": {"dims": {"batch": 2}}}, "'dims' is no option of the backend"),
        ({"options": {"frozen": "yes"}}, "frozen cannot be 'yes'"),
        ({"mode": "max-autotun"}, "no mode 'max-autotun' .did you mean max-autotune"),
    ],
)
def test_wrong_options_are_one_clear_error(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=says) as caught:
        compiled(Net(), **settings)(torch.randn(2, 4))
    assert isinstance(caught.value.inner_exception, IrcError)


# Shapes


def test_a_second_size_is_compiled_once_more_and_then_all_sizes_are_known(counter: Counter) -> None:
    net = Net().eval()
    fast = compiled(net, backend=counter)
    for rows, programs in ((2, 1), (2, 1), (3, 2), (7, 2), (31, 2)):
        x = torch.randn(rows, 4)
        same(fast(x), net(x))
        assert len(counter.programs) == programs
    assert str(counter.programs[1].inputs[0].type) == "f32[x_dim0,4]"


@pytest.mark.filterwarnings("error::irc.torch.backends.FallbackWarning")
@pytest.mark.parametrize("dynamic", [None, True])
def test_a_decoder_takes_sequences_of_any_length(dynamic: bool | None) -> None:
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed (extra 'bench')")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=1, n_embd=16, n_head=2, vocab_size=20, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    fast, mine, its = compiled(model, dynamic=dynamic), None, None
    for length in (5, 9, 1):
        ids = torch.randint(0, 20, (2, length))
        wanted, made = model(ids, past_key_values=its), fast(ids, past_key_values=mine)
        same(made.logits, wanted.logits)
        mine, its = made.past_key_values, wanted.past_key_values


def test_dynamic_from_the_start(counter: Counter) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU()).eval()
    fast = compiled(net, backend=counter, dynamic=True)
    for rows in (2, 3, 7):
        x = torch.randn(rows, 4)
        same(fast(x), net(x))
    assert len(counter.programs) == 1


def test_sizes_and_numbers_that_the_caller_computes_with(counter: Counter) -> None:
    def function(x: torch.Tensor, times: int, scale: float) -> Any:
        return x.reshape(-1).repeat(times) * scale, x.shape[0] * 2 + times

    fast = compiled(function, backend=counter, dynamic=True)
    for rows, times, scale in ((2, 3, 0.5), (4, 3, 0.5), (4, 5, 1.5)):
        x = torch.randn(rows, 3)
        found, expected = fast(x, times, scale), function(x, times, scale)
        same(found[0], expected[0])
        assert found[1] == expected[1]


def test_a_size_that_the_export_cannot_keep_open_is_guarded(counter: Counter) -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.shape[0] == 2 else x * 3

    net = Fixed().eval()
    fast = compiled(net, backend=counter, dynamic=True)
    for rows in (2, 3, 4, 2):
        x = torch.randn(rows, 4)
        same(fast(x), net(x))


# Graph breaks


def test_a_graph_break_makes_two_graphs(counter: Counter) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x)
            if h.sum() > 0:  # decided by a value
                return self.left(h)
            return self.right(h)

    net = Branching().eval()
    fast = compiled(net, backend=counter)
    x = torch.randn(2, 4)
    for each in (x, -x, x):
        same(fast(each), net(each))
    assert counter.graphs == len(counter.programs) >= 2


# Gradients


def test_training_is_refused_in_one_sentence() -> None:
    net = compiled(Net())
    with torch.enable_grad(), pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as caught:
        net(torch.randn(2, 4))
    first, second, *_ = str(caught.value).splitlines()
    assert first.endswith("raised:")
    assert "this graph is for training" in second
    assert "under torch.no_grad() or torch.inference_mode()" in second


def test_what_requires_no_gradient_is_compiled_with_gradients_on(counter: Counter) -> None:
    net, x = Net().eval().requires_grad_(False), torch.randn(2, 4)
    with torch.enable_grad():
        same(compiled(net, backend=counter)(x), net(x))
    assert len(counter.programs) == 1


def test_no_grad_may_be_inside_of_the_module(counter: Counter) -> None:
    class Inside(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return super().forward(x)

    net, x = Inside().eval(), torch.randn(2, 4)
    with torch.enable_grad():
        same(compiled(net, backend=counter)(x), net(x))
    assert len(counter.programs) == 1


def test_inference_mode(counter: Counter) -> None:
    with torch.inference_mode():
        net = Net().eval()  # its weights are inference tensors, whose changes nobody counts
        fast = compiled(net, backend=counter)
        x = torch.randn(2, 4)
        same(fast(x), net(x))
        net.second.weight.mul_(2)
        same(fast(x), net(x))
        outside = Net().eval()
    assert len(counter.programs) == 1
    torch._dynamo.reset()
    ordinary = Net().eval()
    fast = compiled(ordinary, backend=counter)
    with torch.inference_mode():
        x = torch.randn(2, 4)
        same(fast(x), ordinary(x))
    same(fast(torch.ones(2, 4)), ordinary(torch.ones(2, 4)))
    same(compiled(outside)(torch.ones(2, 4)), outside(torch.ones(2, 4)))


# Eager mode


@torch.library.custom_op("irc_backend_test::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@twice.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def test_an_op_without_translation_runs_in_eager_mode_after_one_warning() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return twice(x).relu()

    fast, x = compiled(function), torch.randn(3)
    line = function.__code__.co_firstlineno + 1
    with pytest.warns(FallbackWarning, match=rf"irc_backend_test::twice at .*test_torch_backend.py:{line}") as seen:
        found = [fast(x), fast(x)]
    same(found, [function(x)] * 2)
    assert len(seen) == 1


def test_layers_in_training_mode_run_in_eager_mode() -> None:
    net = torch.compile(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train(), backend=backend)
    with pytest.warns(FallbackWarning, match="batch_norm runs in training mode"):
        net(torch.randn(5, 4))
    dropping = torch.compile(nn.Dropout(0.5).train(), backend=backend)
    with pytest.warns(FallbackWarning, match="dropout runs in training mode"):
        dropping(torch.randn(5, 4))


def test_random_numbers_are_those_of_torch() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)

    fast, x = compiled(function), torch.zeros(4)
    torch.manual_seed(1)
    with pytest.warns(FallbackWarning, match="random"):
        found = fast(x)
    torch.manual_seed(1)
    same(found, function(x))


def test_an_engine_that_fails_at_a_call_leaves_the_graph_to_eager_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    from irc.runtime import EngineFailure, Program

    failing: list[bool] = []
    run = Program.run_in_order

    def run_or_fail(program: Program, feeds: Any) -> Any:
        if failing:
            raise EngineFailure("out of memory", location="linear")
        return run(program, feeds)

    monkeypatch.setattr(Program, "run_in_order", run_or_fail)
    net, x = Net().eval(), torch.randn(2, 4)
    fast = compiled(net)
    same(fast(x), net(x))
    failing.append(True)
    with pytest.warns(FallbackWarning, match="linear: out of memory") as seen:
        found = [fast(x), fast(x)]
    same(found, [net(x)] * 2)
    assert len(seen) == 1


def test_attention_with_functional_names_is_compiled(counter: Counter) -> None:
    def function(q: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, q, q)

    q = torch.randn(1, 2, 5, 4)
    same(compiled(function, backend=counter)(q), function(q))
    assert [op.name for op in counter.programs[0] if not op.is_constant].count("Attention") <= 1


def test_tensor_subclasses_are_left_to_eager_mode() -> None:
    from irc.ir.capture.torch.dynamo import DynamoGraph

    class Marked(torch.Tensor):
        pass

    def look(gm: Any, inputs: Any) -> Any:
        with pytest.raises(IrcError, match="'x' is a Marked, and irc takes ordinary tensors"):
            DynamoGraph(gm, [each.as_subclass(Marked) for each in inputs]).check()
        return gm.forward

    torch.compile(lambda x: x + 1, backend=look)(torch.randn(3))
