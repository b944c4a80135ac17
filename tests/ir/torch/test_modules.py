"""A captured module computes what the module computes, for any input it was captured for, with the module's own weights."""

from __future__ import annotations

from typing import Any

import pytest

from irc.ir import UnsupportedError, UsageError, parse_origin
from irc.ir.capture.torch import capture_torch, is_torch_source
from irc.ir.text import parse_graph, print_graph

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'torch')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra 'torch')")
nn = torch.nn


def perceptron() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


class Encoder(nn.Module):
    """Two named parts, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4)])

    def forward(self, x: Any) -> Any:
        x = torch.tanh(self.first(x))
        return self.layers[0](self.layers[0](x))


# Agreement


def test_a_perceptron_agrees(captured: Any, agrees: Any) -> None:
    module = perceptron()
    program = captured(module, torch.rand(2, 4))
    x = torch.rand(2, 4)
    agrees(program(x), module(x))
    assert program.ops == ["Gemm", "Relu", "Gemm"]


@pytest.mark.parametrize("batch", [0, 1, 2, 7])
def test_a_dynamic_batch_agrees_at_every_size(captured: Any, agrees: Any, batch: int) -> None:
    module = perceptron()
    program = captured(module, torch.rand(2, 4), dynamic_shapes={"input": {0: "batch"}})
    x = torch.rand(batch, 4)
    agrees(program(x), module(x))


def test_composites_stay_whole(captured: Any, agrees: Any) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.mix = nn.LayerNorm(8), nn.GroupNorm(2, 4)

        def forward(self, x: Any) -> Any:
            x = nn.functional.gelu(self.mix(self.norm(x)))[:, None]
            return nn.functional.scaled_dot_product_attention(x, x, x)

    module, x = Block(), torch.rand(2, 4, 8)
    program = captured(module, x, dynamic_shapes={"x": {0: "batch"}})
    agrees(program(x), module(x))
    assert {"LayerNormalization", "GroupNormalization", "Gelu", "Attention"} <= set(program.ops)


def test_attention_with_a_learned_mask_translates(captured: Any, agrees: Any) -> None:
    class Biased(nn.Module):  # as T5 and Swin have it
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.rand(1, 2, 5, 5))

        def forward(self, x: Any) -> Any:
            heads = x.view(x.shape[0], 5, 2, 4).transpose(1, 2)
            mixed = nn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=self.bias)
            return mixed.transpose(1, 2).contiguous().view(x.shape[0], 5, 8)

    module, x = Biased(), torch.rand(2, 5, 8)
    agrees(captured(module, x, dynamic_shapes={"x": {0: "batch"}})(x), module(x))


def test_one_key_head_broadcasts_over_the_query_heads(captured: Any, agrees: Any) -> None:
    class OneHead(nn.Module):
        def forward(self, query: Any, key: Any) -> Any:
            return nn.functional.scaled_dot_product_attention(query, key, key)

    inputs = torch.rand(2, 4, 5, 8), torch.rand(2, 1, 5, 8)
    agrees(captured(OneHead(), *inputs)(*inputs), OneHead()(*inputs))


@pytest.mark.parametrize(("kind", "op"), [("LSTM", "LSTM"), ("GRU", "GRU")])
def test_a_recurrent_layer_stays_one_op_of_any_length(captured: Any, agrees: Any, kind: str, op: str) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = getattr(nn, kind)(3, 5, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.cell(x)[0]

    module = Recurrent().eval()
    program = captured(module, torch.rand(2, 4, 3), dynamic_shapes={"x": {0: "batch", 1: "time"}})
    assert program.ops.count(op) == 1
    assert program.inputs == {"x": "f32[batch,time,3]"}
    x = torch.rand(3, 7, 3)
    agrees(program(x), module(x))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_of_embeddings_needs_no_loop(captured: Any, agrees: Any, mode: str) -> None:
    module = nn.EmbeddingBag(10, 4, mode=mode)
    program = captured(module, torch.tensor([1, 2, 4, 5, 4]), torch.tensor([0, 2]), dynamic_shapes=({0: "n"}, {0: "bags"}))
    assert "Loop" not in program.ops
    values, offsets = torch.tensor([3, 3, 9, 1, 0, 2]), torch.tensor([0, 0, 4])
    agrees(program(values, offsets), module(values, offsets))


def test_a_padded_bag_leaves_its_padding_out(captured: Any, agrees: Any) -> None:
    module = nn.EmbeddingBag(10, 4, mode="mean", padding_idx=3)
    inputs = torch.tensor([3, 3, 9, 1, 3, 2]), torch.tensor([0, 2, 4])
    with torch.no_grad():
        agrees(captured(module, *inputs)(*inputs), module(*inputs))


def test_a_mask_of_one_row_counts_for_every_query(captured: Any, agrees: Any) -> None:
    class Masked(nn.Module):
        def forward(self, x: Any, mask: Any) -> Any:
            return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    inputs = torch.rand(2, 2, 5, 8), torch.tensor([True, True, False, True, False]).expand(2, 1, 1, 5)
    agrees(captured(Masked(), *inputs)(*inputs), Masked()(*inputs))


def test_a_number_minus_an_integer_tensor_is_a_float(captured: Any, agrees: Any) -> None:
    class Inverted(nn.Module):
        def forward(self, mask: Any) -> Any:
            return 1.0 - mask, 1 - mask

    mask = torch.tensor([0, 1, 1])
    agrees(captured(Inverted(), mask)(mask), Inverted()(mask))


def test_control_flow_becomes_an_if(captured: Any, agrees: Any) -> None:
    class Choice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            return torch.cond(x.sum() > 0, lambda x: self.scale(x), lambda x: x - 1, (x,))

    module = Choice().eval()
    program = captured(module, torch.ones(3))
    assert "If" in program.ops
    for x in (torch.ones(3), -torch.ones(3)):
        agrees(program(x), module(x))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_float_types_go_through(captured: Any, dtype: str) -> None:
    kind = getattr(torch, dtype)
    module = nn.Linear(4, 4).to(kind)
    program = captured(module, torch.rand(2, 4, dtype=kind))
    x = torch.rand(2, 4, dtype=kind)
    feeds = program.capture.calling.to_feeds((x,))
    assert program.capture.calling.to_result([feeds["input"]]).equal(x)
    assert str(program.graph.inputs[0].type).startswith({"float16": "f16", "bfloat16": "bf16", "float64": "f64"}[dtype])


# What may come in


def test_a_traced_graph_module_is_taken(captured: Any, agrees: Any) -> None:
    module = Encoder().eval()
    traced = torch.fx.symbolic_trace(module)
    x = torch.rand(2, 4)
    agrees(captured(traced, x, dynamic_shapes={"x": {0: "batch"}})(x), module(x))


def test_an_exported_program_is_taken_as_it_is(captured: Any, agrees: Any) -> None:
    class Pair(nn.Module):
        def forward(self, x: Any, *, scale: Any, twice: bool = False) -> Any:
            return {"y": x * scale, "n": 3, "size": x.shape[0]}

    batch = torch.export.Dim("batch")
    dims = {"x": {0: batch}, "scale": None, "twice": None}
    inputs = {"scale": torch.rand(1), "twice": False}
    exported = torch.export.export(Pair(), (torch.rand(2, 3),), inputs, dynamic_shapes=dims)
    program = captured(exported, dynamic_shapes=dims)
    assert program.inputs == {"x": "f32[batch,3]", "scale": "f32[1]"}
    x = torch.rand(5, 3)
    agrees(program(x, **inputs), Pair()(x, **inputs))
    agrees(program(x, twice=False, scale=inputs["scale"]), Pair()(x, **inputs))


def test_a_saved_program_needs_trust(tmp_path: Any) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(perceptron().eval(), (torch.rand(2, 4),)), path)
    assert is_torch_source(path)
    with pytest.raises(UsageError, match="may run any code"):
        capture_torch(path)
    assert capture_torch(path, trust_pickle=True).graph.input_names == ["input"]


def test_a_file_that_is_no_program_is_a_bad_model(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    from irc.ir import ModelError

    path = tmp_path / "model.pt2"
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="no exported program"):
        capture_torch(path, trust_pickle=True)
    assert capfd.readouterr() == ("", "")


def test_training_is_refused() -> None:
    with pytest.raises(UsageError, match="training mode") as caught:
        capture_torch(nn.Dropout().train(), (torch.rand(2),))
    assert ".eval()" in str(caught.value)
    module = perceptron().eval()
    module[1].train()
    with pytest.raises(UsageError, match="its part '1'"):
        capture_torch(module, (torch.rand(2, 4),))


def test_a_program_exported_in_training_mode_is_refused() -> None:
    exported = torch.export.export(nn.Sequential(nn.Dropout()).train(), (torch.rand(2),))
    with pytest.raises(UsageError, match="training mode"):
        capture_torch(exported)


def test_weights_without_values_are_refused() -> None:
    with pytest.raises(UsageError, match="meta device"):
        capture_torch(nn.Linear(2, 2, device="meta").eval(), (torch.rand(2),))


def test_control_flow_on_values_is_refused_with_the_line(capfd: Any) -> None:
    class Branch(nn.Module):
        def forward(self, x: Any) -> Any:
            if x.sum() > 0:
                return x
            return -x

    with pytest.raises(UnsupportedError) as caught:
        capture_torch(Branch().eval(), (torch.rand(3),))
    place = parse_origin(caught.value.location or "")
    assert place is not None
    assert place.file.endswith("test_modules.py")
    assert "torch.cond" in (caught.value.hint or "")
    assert "def forward" not in "".join(capfd.readouterr()), "torch's partial graph is not for the user"


def test_anything_else_is_refused() -> None:
    with pytest.raises(UsageError, match="no PyTorch program"):
        capture_torch(lambda x: x, (torch.rand(2),))


# Weights


def test_weights_stay_where_they_are() -> None:
    module = nn.Linear(64, 64).eval()
    graph = capture_torch(module, (torch.rand(2, 64),)).graph
    held = {op.result.name: op.value for op in graph if op.is_constant}
    assert held["weight"].array.ctypes.data == module.weight.data_ptr()
    assert not held["weight"].array.flags.writeable


def test_tied_weights_are_one_constant() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.head = nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: Any) -> Any:
            return self.head(self.embed(x))

    graph = capture_torch(Tied().eval(), (torch.tensor([1, 2]),)).graph
    assert len([op for op in graph if op.is_constant and op.value.shape == (10, 4)]) == 1


def test_weights_outlive_the_module() -> None:
    module = nn.Linear(256, 256, bias=False).eval()
    expected = module.weight.detach().clone()
    graph = capture_torch(module, (torch.rand(2, 256),)).graph
    del module
    (weight,) = [op.value for op in graph if op.is_constant and op.result.name == "weight"]
    assert torch.equal(torch.tensor(weight.array), expected)


# Locations


def test_every_op_knows_its_line_its_module_and_its_node(captured: Any) -> None:
    program = captured(Encoder(), torch.rand(2, 4), dynamic_shapes={"x": {0: "batch"}})
    origins = {op.location.name: parse_origin(op.location.name) for op in program.graph if not op.is_constant}
    assert all(origin and origin.file.endswith("test_modules.py") and origin.line for origin in origins.values())
    assert not any(origin.file.startswith("/") for origin in origins.values() if origin)
    assert [origin.module for origin in origins.values() if origin] == ["first", "", "layers.0", "layers.0"]
    assert [origin.node for origin in origins.values() if origin] == ["linear", "tanh", "linear_1", "linear_2"]


def test_locations_survive_the_text_form(captured: Any) -> None:
    graph = captured(Encoder(), torch.rand(2, 4)).graph
    again = parse_graph(print_graph(graph))
    assert [str(op.location) for op in again] == [str(op.location) for op in graph]
