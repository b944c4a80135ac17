"""An ONNX model as a graph: names become values, nodes become ops at the canonical opset, functions disappear into their calls.

Law: what is captured means what the file means; nothing is dropped but dead initializers, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import onnx
from onnx import AttributeProto

from .. import infer, proto, schema
from ..diagnostics import ModelError
from ..graph import Graph, Op, Value, constant_op
from ..location import Location, at
from ..operators import Attribute, EmptyList
from ..tensors import Tensor
from ..types import UNKNOWN, TensorType, Type
from ..verify import check_form, check_op
from .attributes import constant_tensor, guess_kind, text_of
from .names import node_location, utf8
from .onnx_file import Source
from .order import in_order
from .raise_opset import Node, raise_node
from .versions import check_function, check_versions, domain_of, opsets_of

AttributeMap = dict[str, AttributeProto]

_CONSTANT = onnx.defs.get_schema("Constant", schema.CANONICAL_OPSET)


@dataclass
class Scope:
    """The names one graph defines, and the scope around it."""

    graph: Graph
    opsets: dict[str, int]
    outer: Scope | None = None
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    declared: dict[str, onnx.TypeProto] = field(default_factory=dict[str, onnx.TypeProto])
    initializers: dict[str, Callable[[], Op]] = field(default_factory=dict[str, Callable[[], Op]])
    parameters: AttributeMap = field(default_factory=AttributeMap)
    prefix: str = ""
    depth: int = 0
    last_constant: Op | None = None

    def find(self, name: str) -> Value | None:
        """The value called `name` here or further out; an initializer becomes a constant when it is first asked for."""
        scope: Scope | None = self
        while scope is not None:
            value = scope.values.get(name)
            if value is not None:
                return value
            make = scope.initializers.pop(name, None)
            if make is not None:
                op = make()
                scope.place_constant(op)
                scope.values[name] = op.result
                return op.result
            scope = scope.outer
        return None

    def place_constant(self, op: Op) -> None:
        """Put a constant at the front of the graph, behind those already there."""
        after = self.graph.first if self.last_constant is None else self.last_constant.next
        self.last_constant = self.graph.append(op) if after is None else self.graph.insert(op, after)

    def define(self, name: str, value: Value) -> None:
        """Call `value` by `name`; raises ModelError when the name is taken."""
        if utf8(name) in self.values or name in self.initializers:
            raise ModelError(
                f"'{name}' is defined twice",
                location=f"graph '{self.graph.name}'",
                hint="every tensor needs its own name",
            )
        self.values[name] = value


def import_model(source: Source) -> Graph:
    """The graph of an opened model. Raises ModelError and UnsupportedError as `capture` does."""
    return _Importer(source).run()


class _Importer:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.model = source.message
        self.functions = {(domain_of(f.domain), f.name, f.overload): f for f in self.model.functions}
        self.nodes_left = _node_budget(source)
        self.tensors: dict[tuple[object, ...], list[Tensor]] = {}

    def run(self) -> Graph:
        model, graph = self.model, Graph(utf8(self.model.graph.name) or "main")
        opsets = opsets_of(model.opset_import)
        check_versions(model, opsets)
        for function in model.functions:
            check_function(function, opsets)
        graph.opsets = {domain: version for domain, version in opsets.items() if domain}
        for function in model.functions:
            for domain, version in opsets_of(function.opset_import).items():
                if domain:
                    graph.opsets.setdefault(domain, version)
        graph.metadata = {utf8(entry.key): utf8(entry.value) for entry in model.metadata_props}
        scope = Scope(graph, opsets)
        self.graph_into(model.graph, scope, overridable=model.ir_version >= 4)
        return graph

    def graph_into(self, message: onnx.GraphProto, scope: Scope, *, overridable: bool) -> None:
        """Fill `scope.graph` from a GraphProto."""
        if scope.depth > self.source.limits.depth:
            raise ModelError(f"graphs are nested more than {self.source.limits.depth} deep", location=scope.graph.name)
        scope.declared = {v.name: v.type for v in (*message.value_info, *message.output) if v.HasField("type")}
        self._initializers_and_inputs(message, scope, overridable)
        nodes = in_order(message.node, lambda name: scope.find(name) is not None, scope.graph.name)
        for node in nodes:
            self.node_into(node, scope)
        for output in message.output:
            if scope.depth == 0 and output.name in scope.graph.output_names:
                raise ModelError(f"output '{output.name}' is declared twice", location=f"graph '{scope.graph.name}'")
            value = scope.find(output.name)
            if value is None:
                raise ModelError(f"output '{output.name}' is not produced by any node", location=f"graph '{scope.graph.name}'")
            declared = self._declared_type(output.type, output.name)
            _check_declared(declared, value.type, f"output '{output.name}'")
            scope.graph.add_output(value, output.name, value.type if declared == UNKNOWN else declared)

    def _initializers_and_inputs(self, message: onnx.GraphProto, scope: Scope, overridable: bool) -> None:
        dense = {utf8(t.name): t for t in message.initializer}
        sparse = {utf8(s.values.name): s for s in message.sparse_initializer}
        seen: set[str] = set()
        for entry in message.input:
            if entry.name in seen:
                raise ModelError(f"input '{entry.name}' is declared twice", location=f"graph '{scope.graph.name}'")
            seen.add(entry.name)
            if entry.name in dense or entry.name in sparse:
                if not overridable:
                    continue
                default = (
                    self.source.tensor(dense[entry.name])
                    if entry.name in dense
                    else self.source.sparse(sparse[entry.name]).densified()
                )
                kind = self._declared_type(entry.type, entry.name)
                _check_declared(kind, default.type, f"input '{entry.name}'")
                scope.define(entry.name, scope.graph.add_input(entry.name, default.type if kind == UNKNOWN else kind, default))
                continue
            scope.define(entry.name, scope.graph.add_input(entry.name, self._declared_type(entry.type, entry.name)))
        for name, tensor in dense.items():
            if name not in scope.values:
                scope.initializers[name] = self._constant(tensor, name)
        for name, coordinates in sparse.items():
            if name not in scope.values and name not in dense:
                scope.initializers[name] = self._sparse_constant(coordinates, name)

    def _constant(self, message: onnx.TensorProto, name: str) -> Callable[[], Op]:
        return lambda: constant_op(self.share(self.source.tensor(message)), at(name), name)

    def _sparse_constant(self, message: onnx.SparseTensorProto, name: str) -> Callable[[], Op]:
        def make() -> Op:
            sparse = self.source.sparse(message)
            op = Op("Constant", (), {"sparse_value": sparse}, (sparse.type,), at(name))
            op.results[0].name = name
            return op

        return make

    def share(self, tensor: Tensor) -> Tensor:
        """An equal tensor seen before, or this one."""
        peers = self.tensors.setdefault(tensor.fingerprint(), [])
        for peer in peers:
            if peer.same_as(tensor):
                return peer
        peers.append(tensor)
        return tensor

    def _declared_type(self, message: onnx.TypeProto, name: str) -> Type:
        try:
            return proto.type_from_message(message, self.source.symbols)
        except ModelError as error:
            raise ModelError(error.message, location=f"value '{name}'") from None

    def node_into(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Append what a NodeProto means to `scope.graph`."""
        self.nodes_left -= 1
        if self.nodes_left < 0:
            raise ModelError(
                f"the model has more than {self.source.limits.nodes} nodes",
                hint="functions that call functions count too",
            )
        domain = domain_of(node.domain)
        function = self.functions.get((domain, node.op_type, node.overload))
        if function is not None:
            self._call(node, function, scope)
            return
        location = node_location(node, scope.prefix)
        operands = [self._operand(name, scope, location) for name in node.input]
        attributes = self._attributes(node, scope, location)
        if not utf8(node.op_type):
            raise ModelError("a node does not say which op it is", location=str(location))
        if node.op_type == "Constant" and not domain and "sparse_value" not in attributes:
            check_form(_CONSTANT, "Constant", operands, attributes, len(node.output), location)
            results = [scope.graph.append(constant_op(self.share(constant_tensor(attributes, location)), location)).result]
        else:
            results = self._emit(node, domain, operands, attributes, scope, location)
        for name, value in zip(node.output, results, strict=False):
            if name:
                value.name = value.name or name
                scope.define(name, value)

    def _emit(
        self,
        node: onnx.NodeProto,
        domain: str,
        operands: list[Value | None],
        attributes: dict[str, Attribute],
        scope: Scope,
        location: Location,
    ) -> list[Value]:
        version = scope.opsets.get(domain, 1)
        old = Node(
            node.op_type,
            version,
            operands,
            attributes,
            len(node.output),
            location,
            _builder(scope, location),
            _constants(scope, location),
        )
        if not domain:
            raise_node(old)
            if old.replacement is not None:
                return old.replacement
        while old.operands and old.operands[-1] is None:
            old.operands.pop()
        op = Op(old.name, old.operands, old.attributes, (UNKNOWN,) * len(node.output), location, domain=domain)
        if not domain and version > schema.CANONICAL_OPSET and not schema.fits_canonical(op, version):
            op.version = version
        scope.graph.append(op)
        check_op(op, scope.graph.outermost.opsets)
        declared = tuple(self._declared_result(name, scope) for name in node.output)
        try:
            infer.refresh(op, declared)
        except ModelError:
            if domain or version <= schema.CANONICAL_OPSET or op.version is not None:
                raise
            op.version = version  # what it makes is what only its own opset knows, such as a Cast to i2
            infer.refresh(op, declared)
        return op.results

    def _declared_result(self, name: str, scope: Scope) -> Type:
        message = scope.declared.get(name)
        return UNKNOWN if message is None else self._declared_type(message, name)

    def _operand(self, name: str, scope: Scope, location: Location) -> Value | None:
        if not name:
            return None
        value = scope.find(name)
        if value is None:
            raise ModelError(f"uses '{name}', which nothing defines", location=str(location))
        return value

    def _attributes(self, node: onnx.NodeProto, scope: Scope, location: Location) -> dict[str, Attribute]:
        attributes: dict[str, Attribute] = {}
        for message in node.attribute:
            name = utf8(message.name)
            if message.ref_attr_name:
                found = scope.parameters.get(message.ref_attr_name)
                if not scope.prefix:
                    raise ModelError(f"attribute '{name}' refers to a function's, outside of one", location=str(location))
                if found is None:
                    continue  # an optional parameter the call leaves out
                message = found
            if name in attributes:
                raise ModelError(f"attribute '{name}' is given twice", location=str(location))
            attributes[name] = self._attribute(message, scope, location)
        return attributes

    def _attribute(self, message: AttributeProto, scope: Scope, location: Location) -> Attribute:
        kind = message.type or guess_kind(message)
        if kind == AttributeProto.FLOAT:
            return message.f
        if kind == AttributeProto.INT:
            return message.i
        if kind == AttributeProto.STRING:
            return text_of(message.s)
        if kind == AttributeProto.TENSOR:
            return self.share(self.source.tensor(message.t))
        if kind == AttributeProto.GRAPH:
            return self._body(message.g, scope)
        if kind == AttributeProto.SPARSE_TENSOR:
            return self.source.sparse(message.sparse_tensor)
        if kind == AttributeProto.TYPE_PROTO:
            return self._declared_type(message.tp, message.name)
        items: tuple[Attribute, ...]
        if kind == AttributeProto.FLOATS:
            items = tuple(message.floats)
        elif kind == AttributeProto.INTS:
            items = tuple(message.ints)
        elif kind == AttributeProto.STRINGS:
            items = tuple(text_of(s) for s in message.strings)
        elif kind == AttributeProto.TENSORS:
            items = tuple(self.source.tensor(t) for t in message.tensors)
        elif kind == AttributeProto.SPARSE_TENSORS:
            items = tuple(self.source.sparse(s) for s in message.sparse_tensors)
        elif kind == AttributeProto.GRAPHS:
            items = tuple(self._body(g, scope) for g in message.graphs)
        elif kind == AttributeProto.TYPE_PROTOS:
            items = tuple(self._declared_type(t, message.name) for t in message.type_protos)
        else:
            raise ModelError(f"attribute '{message.name}' has the unknown type {kind}", location=str(location))
        return items or EmptyList(proto.LIST_KIND_NAMES[int(kind)])

    def _body(self, message: onnx.GraphProto, scope: Scope) -> Graph:
        body = Graph(utf8(message.name) or "body")
        # Until its op exists the body hangs in the air; domains' versions are looked up through the scope instead.
        body.opsets = scope.graph.outermost.opsets
        inner = Scope(body, scope.opsets, scope, parameters=scope.parameters, prefix=scope.prefix, depth=scope.depth + 1)
        self.graph_into(message, inner, overridable=False)
        body.opsets = {}
        return body

    def _call(self, node: onnx.NodeProto, function: onnx.FunctionProto, scope: Scope) -> None:
        """Put the body of a function in place of a call to it, under names of its own."""
        location = node_location(node, scope.prefix)
        if scope.depth > self.source.limits.depth:
            raise ModelError("it calls itself or is nested too deeply", location=f"function '{function.name}'")
        if len(location.name) > self.source.limits.name_length:
            raise ModelError("names are too long to be put together", location=f"function '{function.name}'")
        if len(node.input) > len(function.input):
            raise ModelError(
                f"'{function.name}' takes {len(function.input)} inputs, not {len(node.input)}", location=str(location)
            )
        if len(node.output) > len(function.output):
            message = f"'{function.name}' makes {len(function.output)} outputs, not {len(node.output)}"
            raise ModelError(message, location=str(location))
        parameters: AttributeMap = {a.name: a for a in function.attribute_proto}
        for attribute in node.attribute:
            target = scope.parameters.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
            if target is not None:
                parameters[attribute.name] = target
        opsets = {**scope.opsets, **opsets_of(function.opset_import)}
        inner = Scope(scope.graph, opsets, None, parameters=parameters, prefix=f"{location.name}/", depth=scope.depth + 1)
        absent: set[str] = set()
        for index, formal in enumerate(function.input):
            actual = self._operand(node.input[index], scope, location) if index < len(node.input) else None
            if actual is None:
                absent.add(formal)
            else:
                inner.values[formal] = actual
        for body_node in in_order(function.node, lambda name: name in inner.values or name in absent, function.name):
            self.node_into(_without(body_node, absent), inner)
        for name, formal in zip(node.output, function.output, strict=False):
            if not name:
                continue
            value = inner.values.get(formal)
            if value is None:
                raise ModelError(f"'{function.name}' does not define its output '{formal}'", location=str(location))
            value.name = name
            scope.define(name, value)


def _node_budget(source: Source) -> int:
    """How many nodes there may be: a small file whose functions call each other must not become a large graph."""
    if not source.message.functions:
        return source.limits.nodes
    size = source.message.ByteSize() if source.skeleton is None else len(source.skeleton.message)
    return min(source.limits.nodes, source.limits.nodes_inlined + 10 * size)


def _check_declared(declared: Type, actual: Type, where: str) -> None:
    """Refuse a declared dtype that is wrong, as engines do; a wrong shape is only a lie, which many models tell."""
    if isinstance(declared, TensorType) and isinstance(actual, TensorType) and declared.dtype is not actual.dtype:
        raise ModelError(f"it is declared {declared} but is {actual}", location=where)


def _without(node: onnx.NodeProto, absent: set[str]) -> onnx.NodeProto:
    if not absent.intersection(node.input):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for index, name in enumerate(copy.input):
        if name in absent:
            copy.input[index] = ""
    return copy


def _builder(scope: Scope, location: Location) -> Callable[[str, list[Value | None], dict[str, Attribute]], Value]:
    def build(name: str, operands: list[Value | None], attributes: dict[str, Attribute]) -> Value:
        return scope.graph.append(infer.make(name, operands, location, attributes=attributes)).result

    return build


def _constants(scope: Scope, location: Location) -> Callable[[Tensor], Value]:
    return lambda tensor: scope.graph.append(constant_op(tensor, location)).result
