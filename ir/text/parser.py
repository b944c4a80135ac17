"""Text back to graphs, by the grammar in `ir.lark`; a mistake is shown in the text with a caret under it."""

# pyright: basic
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import lark
import numpy as np
from lark import Lark, Token, Tree

from .. import dims, infer, shapes
from ..diagnostics import ModelError
from ..dims import Dim
from ..graph import Graph, Op, Value, constant_op
from ..location import at
from ..operators import Attribute, EmptyList, Scalar
from ..proto import LIST_KIND_NAMES
from ..tensors import SparseTensor, Tensor
from ..types import BY_TEXT, UNKNOWN, DType, MapType, OptionalType, SequenceType, SparseType, TensorType, Type
from ..verify import check_op, verify
from .leaves import BadStringError, Node, location_of, op_identity, pairs, token_of, tree_of, unquote, value_name, word
from .weights import tensor_from_raw

_INT64 = range(-(2**63), 2**63)
Lookup: TypeAlias = Callable[[str], "memoryview | None"]


class TextError(ModelError):
    """A mistake in the text form; the message shows the line with a caret under the culprit."""

    def __init__(self, message: str, source: str, name: str, line: int, column: int, width: int) -> None:
        lines = source.splitlines()
        shown = lines[line - 1] if 0 < line <= len(lines) else ""
        caret = " " * (column - 1) + "^" * max(1, min(width, len(shown) - column + 1))
        self.line, self.column = line, column
        super().__init__(f"{message}\n{shown}\n{caret}", location=f"{name}:{line}:{column}")


def parse_graph(text: str, *, weights: Mapping[str, Tensor] | Lookup | None = None, name: str = "<text>") -> Graph:
    """The graph a text stands for, verified; types left out are inferred.

    `weights` finds elided constants by digest. Raises TextError pointing at the first mistake.
    """
    builder = _Builder(text, name, weights)
    try:
        tree = _parser().parse(text)
        graph = builder.graph(tree, None)
    except lark.exceptions.UnexpectedInput as error:
        raise builder.unexpected(error) from None
    except BadStringError as error:
        raise builder.error("this string is not written as JSON writes it", error.token) from None
    except RecursionError:
        raise ModelError("graphs or types are nested too deeply", location=name) from None
    verify(graph)
    return graph


@lru_cache(maxsize=1)
def _parser() -> Lark:
    grammar = Path(__file__).with_name("ir.lark").read_text()
    return Lark(grammar, parser="lalr", maybe_placeholders=True, propagate_positions=True)


class _Names:
    """The values in scope while a graph is read."""

    def __init__(self, outer: _Names | None) -> None:
        self.outer = outer
        self.values: dict[str, Value] = {}

    def find(self, name: str) -> Value | None:
        scope: _Names | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        return None


class _Builder:
    def __init__(self, text: str, name: str, weights: Mapping[str, Tensor] | Lookup | None) -> None:
        self.text = text
        self.name = name
        self.weights = weights
        self.opsets: dict[str, int] = {}

    def unexpected(self, error: lark.exceptions.UnexpectedInput) -> TextError:
        line, column = max(error.line, 1), max(error.column, 1)
        if isinstance(error, lark.exceptions.UnexpectedToken) and error.token.type == "$END":
            last = self.text.rstrip().splitlines() or [""]
            return TextError("the text ends too early", self.text, self.name, len(last), len(last[-1]) + 1, 1)
        width = len(error.token) if isinstance(error, lark.exceptions.UnexpectedToken) else 1
        return TextError("this does not belong here", self.text, self.name, line, column, width)

    def error(self, message: str, where: Node | Token) -> TextError:
        if isinstance(where, Token):
            return TextError(message, self.text, self.name, where.line or 1, where.column or 1, len(where))
        meta = where.meta
        if meta.empty:
            return TextError(message, self.text, self.name, 1, 1, 1)
        width = meta.end_column - meta.column if meta.end_line == meta.line else 1
        return TextError(message, self.text, self.name, meta.line, meta.column, width)

    def graph(self, tree: Node, outer: _Names | None) -> Graph:
        parts = list(tree.children)
        graph = Graph(word(tree_of(parts[0])))
        names = _Names(outer)
        trees = [part for part in parts[1:] if isinstance(part, Tree)]
        for part in trees:
            if part.data == "opsets":
                graph.opsets = {unquote(k): self._integer(v) for k, v in pairs(part)}
                self.opsets = graph.opsets
            elif part.data == "metadata":
                graph.metadata = {unquote(k): unquote(v) for k, v in pairs(part)}
        outputs: list[tuple[str, Type]] = []
        for part in trees:
            if part.data == "input":
                self._input(graph, part, names)
            elif part.data == "output":
                outputs.append((value_name(token_of(part.children[0])), self.type(tree_of(part.children[1]))))
            elif part.data == "constant":
                self._constant(graph, part, names)
            elif part.data == "operation":
                self._operation(graph, part, names)
            elif part.data == "return":
                operands = [tree_of(o) for o in part.children if o is not None]
                returned = [self._operand(operand, names) for operand in operands]
                if len(returned) != len(outputs):
                    raise self.error(f"{len(returned)} values are returned for {len(outputs)} outputs", part)
                for value, (output_name, kind), operand in zip(returned, outputs, operands, strict=True):
                    if value is None:
                        raise self.error("an output cannot be absent", operand)
                    graph.add_output(value, output_name, kind)
        return graph

    def _input(self, graph: Graph, part: Node, names: _Names) -> None:
        token, signature, kind, data = part.children
        name = value_name(token_of(token))
        input_type = self.type(tree_of(kind))
        default = None
        if data is not None:
            default = self._tensor(input_type, tree_of(data), part)
        value = graph.add_input(name if signature is None else unquote(token_of(signature)), input_type, default)
        value.name = name
        self._define(names, token_of(token), value)

    def _define(self, names: _Names, token: Token, value: Value) -> None:
        name = value_name(token)
        if name in names.values:
            raise self.error(f"{token} is defined twice", token)
        value.name = name
        names.values[name] = value

    def _operand(self, operand: Node, names: _Names) -> Value | None:
        token = token_of(operand.children[0])
        if token == "_":
            return None
        value = names.find(value_name(token))
        if value is None:
            raise self.error(f"{token} is not defined", token)
        return value

    def _constant(self, graph: Graph, part: Node, names: _Names) -> None:
        results, location, kind, data = part.children
        tensor = self._tensor(self.type(tree_of(kind)), tree_of(data), part)
        op = graph.append(constant_op(tensor, location_of(tree_of(location))))
        self._define(names, token_of(tree_of(results).children[0]), op.result)

    def _operation(self, graph: Graph, part: Node, names: _Names) -> None:
        results = part.children[0]
        trees = [child for child in part.children[1:] if isinstance(child, Tree)]
        operands = [self._operand(t, names) for t in trees if t.data == "operand"]
        attributes: dict[str, Attribute] = {}
        for entry in (t for t in trees if t.data == "attribute"):
            key = word(tree_of(entry.children[0]))
            if key in attributes:
                raise self.error(f"attribute '{key}' is given twice", entry)
            attributes[key] = self._attribute(tree_of(entry.children[1]), names)
        types = [self.type(t) for t in trees if t.data in _TYPES]
        locations = [location_of(t) for t in trees if t.data == "location"]
        tokens = [token_of(t) for t in results.children] if isinstance(results, Tree) else []
        if types and len(types) != len(tokens):
            raise self.error(f"{len(tokens)} results but {len(types)} types", part)
        domain, version, name = op_identity(trees[0])
        location = locations[0] if locations else at(f"{self.name}:{part.meta.line}")
        op = Op(name, operands, attributes, types or (UNKNOWN,) * len(tokens), location, domain=domain, version=version)
        graph.append(op)
        try:
            check_op(op, self.opsets)
            if types:
                if op.results:
                    op.results[0].content = shapes.infer_content(op)
            else:
                infer.refresh(op)
        except ModelError as error:
            raise self.error(error.message, trees[0]) from None
        for token, result in zip(tokens, op.results, strict=True):
            self._define(names, token, result)

    def _attribute(self, node: Node, names: _Names) -> Attribute:
        kind = node.data
        if kind == "graph":
            return self.graph(node, names)
        if kind == "list":
            return self._list(node, names)
        if kind == "empty_list":
            listed = token_of(node.children[0])
            if listed not in LIST_KIND_NAMES.values():
                raise self.error(f"there are no lists of {listed}", listed)
            return EmptyList(str(listed))
        if kind == "dense":
            return self._tensor(self.type(tree_of(node.children[0])), tree_of(node.children[1]), node)
        if kind == "sparse":
            shape_node, *rest = (tree_of(child) for child in node.children)
            shape = tuple(self._integer(t) for t in shape_node.children if t != "_")
            values, indices = (self._tensor(self.type(rest[i]), rest[i + 1], node) for i in (0, 2))
            return SparseTensor(values, indices, shape)
        if kind == "type_value":
            return self.type(tree_of(node.children[0]))
        token = token_of(node.children[0])
        if kind == "int_value":
            return self._integer(token)
        if kind == "float_value":
            return float(np.float32(token))
        if kind == "string_value":
            return unquote(token)
        return bytes.fromhex(token[2:])

    def _list(self, node: Node, names: _Names) -> Attribute:
        items: list[Scalar] = []
        for child in node.children:
            item = self._attribute(tree_of(child), names)
            if isinstance(item, (tuple, EmptyList)):
                raise self.error("a list cannot hold a list", tree_of(child))
            items.append(item)
        kinds = {str if isinstance(item, bytes) else type(item) for item in items}
        if len(kinds) > 1 and not all(issubclass(kind, Type) for kind in kinds):
            raise self.error("a list holds values of one kind", node)
        return tuple(items)

    def _integer(self, token: object) -> int:
        text = token_of(token)
        if len(text) > 20 or int(text) not in _INT64:
            raise self.error("this number does not fit 64 bits", text)
        return int(text)

    def _tensor(self, kind: Type, data: Node, where: Node) -> Tensor:
        if not isinstance(kind, TensorType) or kind.static_shape is None:
            raise self.error(f"a constant cannot be {kind}", where)
        dtype, shape = kind.dtype, kind.static_shape
        elements = math.prod(shape)
        if data.data == "digest":
            return self._elided(dtype, shape, token_of(data.children[0]))
        if data.data == "hex_data":
            raw = bytes.fromhex(str(data.children[0])[2:])
            if len(raw) != dtype.byte_count(elements):
                raise self.error(f"{len(raw)} bytes do not make {kind}", data)
            return Tensor(dtype, shape, memoryview(raw))
        tokens = [token_of(t) for t in data.children if t is not None]
        if len(tokens) != elements:
            raise self.error(f"{len(tokens)} elements do not make {kind}", data)
        if dtype is DType.STR:
            if not all(t.startswith('"') for t in tokens):
                raise self.error("an element is no str", data)
            return Tensor(dtype, shape, tuple(unquote(t).encode() for t in tokens))
        try:
            if dtype.is_integer:
                return Tensor.from_array(np.array([int(t) for t in tokens], dtype.numpy).reshape(shape), dtype)
            values = np.array([float(t) for t in tokens], np.float64)
        except (ValueError, OverflowError):
            raise self.error(f"an element is no {dtype.text}", data) from None
        return Tensor.from_array(values.astype(dtype.numpy).reshape(shape), dtype)

    def _elided(self, dtype: DType, shape: tuple[int, ...], token: Token) -> Tensor:
        digest = str(token)[1:]
        if isinstance(self.weights, Mapping):
            found = self.weights.get(digest)
            if found is not None:
                return found
        elif self.weights is not None:
            raw = self.weights(digest)
            if raw is not None:
                return tensor_from_raw(dtype, shape, raw)
        raise self.error("this constant was elided; give the weights saved with the text", token)

    def type(self, node: Node) -> Type:
        """The type a subtree stands for."""
        kind, children = node.data, node.children
        if kind == "unknown":
            return UNKNOWN
        if kind == "sequence":
            return SequenceType(self.type(tree_of(children[0])))
        if kind == "optional":
            return OptionalType(self.type(tree_of(children[0])))
        if kind == "sparse_type":
            inner = self.type(tree_of(children[0]))
            if not isinstance(inner, TensorType):
                raise self.error("only tensors are sparse", node)
            return SparseType(inner.dtype, inner.shape)
        token = token_of(children[0])
        dtype = BY_TEXT.get(str(token))
        if dtype is None:
            raise self.error(f"there is no dtype {token}", token)
        if kind == "map":
            return MapType(dtype, self.type(tree_of(children[1])))
        if kind == "unranked":
            return TensorType(dtype, None)
        return TensorType(dtype, tuple(self._dim(tree_of(d)) for d in children[1:] if d is not None))

    def _dim(self, node: Node) -> Dim:
        if node.data == "unknown_dim":
            return None
        if node.data == "number":
            return self._integer(node.children[0])
        if node.data == "symbol":
            return dims.named(str(node.children[0]))
        if node.data == "quoted_symbol":
            return dims.named(unquote(token_of(node.children[0])))
        if node.data == "term":
            return dims.product(self._dim(tree_of(f)) for f in node.children)
        if node.data == "call":
            function = dims.FUNCTIONS.get(str(node.children[0]))
            if function is None:
                raise self.error(f"there is no dim function {node.children[0]}", node)
            if len(node.children) != 3:
                raise self.error(f"{node.children[0]} takes two dims", node)
            first, second = (self._dim(tree_of(a)) for a in node.children[1:])
            return function(first, second)
        total: Dim = 0
        sign = -1 if node.data == "negative_sum" else 1
        for child in node.children:
            part = tree_of(child)
            if part.data == "sign":
                sign = -1 if part.children[0] == "-" else 1
                continue
            total = dims.add(total, dims.multiply(self._dim(part), sign))
        return total


_TYPES = frozenset({"tensor", "unranked", "sequence", "optional", "sparse_type", "map", "unknown"})
