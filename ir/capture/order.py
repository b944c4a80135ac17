"""Nodes in an order that defines before it uses: the file's own where that does, else a stable topological order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import onnx

from ..diagnostics import ModelError


def in_order(nodes: Sequence[onnx.NodeProto], is_defined: Callable[[str], bool], where: str) -> Sequence[onnx.NodeProto]:
    """The nodes sorted; `is_defined` knows the names defined before the first of them.

    Raises ModelError naming a cycle. A name nothing defines is left for the caller to report where it is used.
    """
    makers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.output:
            if name:
                makers[name] = index
    needs: list[set[int]] = []
    sorted_already = True
    for index, node in enumerate(nodes):
        needed = {makers[name] for name in used_names(node) if name in makers}
        sorted_already = sorted_already and all(maker < index for maker in needed)
        needs.append(needed)
    return nodes if sorted_already else _sorted(nodes, needs, where)


def used_names(node: onnx.NodeProto) -> Iterable[str]:
    """The names a node uses: its inputs and whatever its bodies take from outside."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from _free_names(attribute.g)
        for graph in attribute.graphs:
            yield from _free_names(graph)


def _free_names(graph: onnx.GraphProto) -> Iterable[str]:
    pending: list[tuple[onnx.GraphProto, frozenset[str]]] = [(graph, frozenset())]
    while pending:
        current, outer = pending.pop()
        own = {v.name for v in current.input} | {t.name for t in current.initializer}
        own.update(t.values.name for t in current.sparse_initializer)
        own.update(name for node in current.node for name in node.output)
        known = outer | own
        for node in current.node:
            yield from (name for name in node.input if name not in known)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append((attribute.g, known))
                pending.extend((body, known) for body in attribute.graphs)
        yield from (output.name for output in current.output if output.name not in known)


def _sorted(nodes: Sequence[onnx.NodeProto], needs: list[set[int]], where: str) -> list[onnx.NodeProto]:
    import heapq

    users: list[list[int]] = [[] for _ in nodes]
    missing = [len(needed) for needed in needs]
    for index, needed in enumerate(needs):
        for maker in needed:
            users[maker].append(index)
    ready = [index for index, count in enumerate(missing) if count == 0]
    heapq.heapify(ready)
    order: list[onnx.NodeProto] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(nodes[index])
        for user in users[index]:
            missing[user] -= 1
            if missing[user] == 0:
                heapq.heappush(ready, user)
    if len(order) < len(nodes):
        stuck = [nodes[i].name or nodes[i].op_type for i, count in enumerate(missing) if count]
        raise ModelError(f"the graph is cyclic through {', '.join(stuck[:5])}", location=f"graph '{where}'")
    return order
