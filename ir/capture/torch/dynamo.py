"""The graphs that torch.compile hands to a backend, made ready for capture: weights become constants again.

Law: what the capture takes for granted and dynamo does not yet, such as a size that cannot stay open, becomes a guard of
dynamo's, so that other inputs are compiled anew instead of being answered wrongly.
"""

# pyright: basic
from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch._guards import tracing as traced_by
from torch._subclasses.fake_tensor import FakeTensor

from ...diagnostics import UnsupportedError, UsageError
from ...types import DType, TensorType
from . import TorchCapture, capture_torch
from .calling import Returned
from .locations import origin_of
from .replaying import Given, Known, Replay, Size, Slot, Traced, Weight, described, identifier
from .trees import unique
from .views import Views, views_of_inputs
from .weights import Snapshot, select

_NATIVE = {DType.F32, DType.F64, DType.F16, DType.I64, DType.I32, DType.BOOL}


class DynamoGraph:
    """A graph from dynamo, and what each of its placeholders stands for."""

    def __init__(self, module: torch.fx.GraphModule, examples: Sequence[Any]) -> None:
        self.module = module
        self._examples = tuple(examples)
        _shorten_module_paths(module.graph)
        self._placeholders = module.graph.find_nodes(op="placeholder")
        self._fakes = [n.meta.get("example_value", x) for n, x in zip(self._placeholders, examples, strict=True)]
        self._numbers: dict[str, float] = {}
        self.slots = tuple(self._slots())
        self.weights = tuple(place for place, slot in enumerate(self.slots) if isinstance(slot, Weight))
        self.views: Views = views_of_inputs(module, self._fakes)

    @property
    def output_count(self) -> int:
        """The number of results."""
        outputs: Any = self.module.graph.output_node().args[0]
        return len(outputs)

    @property
    def is_abstract(self) -> bool:
        """Whether there is nothing to compute: all tensors are fake or on the meta device."""
        tensors = [example for example in self._examples if isinstance(example, torch.Tensor)]
        return bool(tensors) and any(isinstance(each, FakeTensor) or each.device.type == "meta" for each in tensors)

    def refuse_training(self) -> None:
        """Raise UsageError for a graph that is to be differentiated."""
        for node in self.module.graph.output_node().all_input_nodes:
            value = node.meta.get("example_value")
            if isinstance(value, torch.Tensor) and value.requires_grad:
                raise UsageError(
                    "this graph is for training, its results require gradients, and irc compiles inference only",
                    location=origin_of(node).text or None,
                    hint="call the compiled module under torch.no_grad() or torch.inference_mode()",
                )

    def check(self) -> None:
        """Raise UnsupportedError for a graph that irc must not lower: of other devices, or in training mode."""
        for node, slot, example in zip(self._placeholders, self.slots, self._examples, strict=True):
            if isinstance(example, torch.Tensor):
                _check_tensor(described(slot), example, node)
        for node in self.module.graph.nodes:
            if _in_training(node):
                name = getattr(node.target, "__name__", str(node.target))
                raise UnsupportedError(f"{name} runs in training mode", location=origin_of(node).text, hint="call .eval()")

    def capture(self, args: Sequence[Any], variable: frozenset[int] = frozenset()) -> DynamoCapture:
        """The graph for these arguments, as dynamo passes them; the weights at the places `variable` are inputs of it.

        A weight that the program writes to, or whose changes cannot be seen, is an input too. Raises UnsupportedError.
        """
        traced = Traced(self.module, self.slots, self._numbers, self.views.places)
        variable |= {place for place in self.weights if args[place].is_inference()}
        while True:
            replay = Replay(traced, args, variable)
            captured = _captured(replay)
            kept = {state.name for state in captured.calling.state}
            written = {place for place in self.weights if described(self.slots[place]) in kept} - variable
            if not kept:
                break
            if not written:
                raise UnsupportedError(f"the graph changes '{min(kept)}' in place, which is no input of it")
            variable |= written
        if self.views and any(getattr(leaf, "written", None) is not None for leaf in captured.calling.inputs):
            raise UnsupportedError("the graph changes an input in place and returns a view of it")
        return DynamoCapture(captured, replay.places, tuple(p for p in self.weights if p not in variable))

    def guard(self, capture: DynamoCapture) -> None:
        """Have dynamo guard what the capture fixed: sizes that cannot stay open, sizes that are the same, and ranges."""
        seen: dict[str, Any] = {}
        for place, value in zip(capture.places, capture.captured.graph.inputs, strict=True):
            for size, dim in zip(self._fakes[place].shape, value.shape or (), strict=False):
                if isinstance(size, torch.SymInt):
                    _guard_size(size, str(dim), seen, capture.captured)

    def _slots(self) -> Generator[Slot]:
        carried = _carriers(self._fakes)
        paths = [_weight_path(node) for node in self._placeholders]
        taken = {path for path in paths if path}
        names = iter(unique((_input_name(n) for n, p in zip(self._placeholders, paths, strict=True) if not p), taken))
        for node, fake, path in zip(self._placeholders, self._fakes, paths, strict=True):
            name = "" if path else next(names)
            if isinstance(fake, torch.SymInt):
                at = carried.get(str(fake.node.expr))
                yield Size(*at) if at else Known(int(fake))
            elif isinstance(fake, (torch.SymFloat, torch.SymBool)):
                yield Known(float(fake) if isinstance(fake, torch.SymFloat) else bool(fake))
            elif not isinstance(fake, torch.Tensor):
                yield Known(fake)
            elif self._is_number(node):
                yield Known(None)
            elif path:
                yield Weight(path)
            else:
                yield Given(name, tuple(axis for axis, size in enumerate(fake.shape) if isinstance(size, torch.SymInt)))

    def _is_number(self, node: torch.fx.Node) -> bool:
        """Whether a placeholder is a Python float wrapped as a tensor, whose value is then fixed."""
        users = list(node.users)
        values = [user.meta.get("example_value") for user in users if user.target == "item"]
        numbers = [float(value) for value in values if isinstance(value, torch.SymFloat)]
        if not users or len(numbers) < len(users):
            return False
        self._numbers.update(zip((user.name for user in users), numbers, strict=True))
        return True


@dataclass(frozen=True)
class DynamoCapture:
    """A captured graph, the places of the arguments that it takes, and those of the weights that are constants of it."""

    captured: TorchCapture
    places: tuple[int, ...]
    constants: tuple[int, ...]

    def examples(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments the graph takes, to check its program with; copies, which nothing that is written in place reaches."""
        return tuple(args[place].detach().clone() for place in self.places)

    def caller(self, run: Callable[[dict[str, Any]], Sequence[Any]]) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """How to call the graph's program with all arguments that dynamo passes, by `run` as in `CallingConvention.call`."""
        calling, take = self.captured.calling, select(self.places)
        kinds = [value.type for value in self.captured.graph.outputs]
        plain = all(isinstance(kind, TensorType) and kind.shape and kind.dtype in _NATIVE for kind in kinds)
        order = [leaf.index for leaf in calling.outputs if isinstance(leaf, Returned) and not leaf.number]
        if not plain or len(order) < len(calling.outputs) or len(kinds) > len(order):
            return lambda args: calling.call(run, take(args), {})
        to_feeds, from_numpy = calling.to_feeds, torch.from_numpy

        def call(args: Sequence[Any]) -> Sequence[Any]:
            outputs = run(to_feeds(take(args)))
            return [from_numpy(outputs[index]) for index in order]

        return call


def _captured(replay: Replay) -> TorchCapture:
    try:
        with _undisturbed():
            return capture_torch(replay.module, replay.inputs, None, replay.open_dims or None)
    except UsageError as error:  # the user passes nothing to the capture, so that there is nothing wrong with the use
        raise UnsupportedError(error.message, location=error.location) from error


@contextlib.contextmanager
def _undisturbed() -> Generator[None]:
    """Run a block apart from dynamo's own trace, whose guards and modes would mix with those of the export."""
    with traced_by(None), torch.inference_mode(False), torch.no_grad():
        yield


def _guard_size(size: torch.SymInt, dim: str, seen: dict[str, Any], captured: TorchCapture) -> None:
    if not dim.isidentifier():  # a number, or an expression in other sizes, which is rare
        int(size)
        return
    if dim in seen:
        bool(size == seen[dim])
        return
    seen[dim] = size
    low, high = captured.ranges.get(dim, (0, None))
    if low > 0:
        bool(size >= low)
    if high is not None:
        bool(size <= high)


def _carriers(fakes: Sequence[Any]) -> dict[str, tuple[int, int]]:
    """Where each symbol can be read: the first placeholder and dim that is that size."""
    found: dict[str, tuple[int, int]] = {}
    for place, fake in enumerate(fakes):
        if isinstance(fake, torch.Tensor):
            for axis, size in enumerate(fake.shape):
                if isinstance(size, torch.SymInt):
                    found.setdefault(str(size.node.expr), (place, axis))
    return found


def _weight_path(node: torch.fx.Node) -> str:
    """The path of the module's tensor that a placeholder stands for; "" for what the caller passes."""
    if not node.meta.get("tensor_dict", {}).get("_dynamo_static_input_type"):
        return ""
    source = node.meta["grapharg"].source.name
    first, *keys = _path(source).split(".")
    return ".".join((identifier(first), *keys))


def _path(source: str) -> str:
    """The path in the user's module that dynamo's name for a thing in it tells: `L['self']._modules['a'].b` is `a.b`."""
    plain = re.sub(r"^L\['self'\]|^[LG]\b|\._(?:modules|parameters|buffers)\b|__dict__", "", source)
    return ".".join(re.findall(r"\w+", plain)) or source


def _shorten_module_paths(graph: torch.fx.Graph) -> None:
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if stack:
            node.meta["nn_module_stack"] = {
                key: (_path(entry[0]) if entry[0] != "L['self']" else "", *entry[1:]) for key, entry in stack.items()
            }


def _input_name(node: torch.fx.Node) -> str:
    """What the caller's variable is called, as far as dynamo's name for it tells."""
    return identifier(re.sub(r"^[lL]_|_+$", "", node.name))


def _check_tensor(name: str, tensor: torch.Tensor, node: torch.fx.Node) -> None:
    what = None
    if tensor.device.type != "cpu":
        what = f"is on {tensor.device}, and irc compiles for CPU tensors"
    elif type(tensor) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
        what = f"is a {type(tensor).__name__}, and irc takes ordinary tensors"
    if what is not None:
        user = next(iter(node.users), node)
        raise UnsupportedError(f"'{name}' {what}", location=origin_of(user).text or None)


def _in_training(node: torch.fx.Node) -> bool:
    """Whether a node calls a layer as in training: dropout that drops, batch norm that counts."""
    if node.op != "call_function":
        return False
    if node.target is torch.nn.functional.scaled_dot_product_attention:
        rate = node.kwargs.get("dropout_p", node.args[4] if len(node.args) > 4 else 0.0)
        return isinstance(rate, float) and rate > 0
    if not isinstance(node.target, FunctionType):
        return False
    try:
        given = inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments
    except (TypeError, ValueError):  # no signature, or one that is looser than the call
        return False
    return given.get("training") is True and given.get("p") != 0


__all__ = ["DynamoCapture", "DynamoGraph", "Snapshot", "select"]
