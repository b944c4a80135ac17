"""Puts the flipped form of a region beside it, with transposes where the two forms meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from irc.ir import Attribute, Graph, Location, Op, Tensor, TensorType, Value, constant_op, make, types, via

from ..permutations import Permutation, compose, inverse, is_identity, permutation_of, permuted
from .flips import Flip
from .regions import Region


@dataclass
class Builder:
    """Builds the flipped ops of a region for the rewrite called `name`; `old` and `new` then give way to each other.

    Transposes and constants come from `location`.
    """

    region: Region
    flipped: Mapping[Op, Flip]
    name: str
    location: Location
    old: list[Value] = field(default_factory=list[Value])
    new: list[Value] = field(default_factory=list[Value])
    created: list[Op] = field(default_factory=list[Op])
    _forms: dict[tuple[Value, Permutation], Value] = field(default_factory=dict[tuple[Value, Permutation], Value])

    def build(self) -> list[Op]:
        """Make all there is to make; the flipped ops in an order in which each comes before its users."""
        order = self._in_order()
        for op in order:
            self._flip(op, self.region.flips[op])
        return order

    def _in_order(self) -> list[Op]:
        order: dict[Op, None] = {}
        opened: set[Op] = set()
        pending = list(self.flipped)
        while pending:
            op = pending[-1]
            makers = [value.op for value in op.operands if value is not None and value.op is not None]
            before = [maker for maker in makers if maker in self.flipped and maker not in opened]
            if op in opened or not before:
                order.setdefault(pending.pop())
            else:
                pending.extend(before)
            opened.add(op)
        return list(order)

    def _flip(self, op: Op, flip: Flip) -> None:
        operands: list[Value | None] = [None] * len(flip.operands)
        for index, (value, form) in enumerate(zip(op.operands, flip.operands, strict=False)):
            operands[index] = value if form is None or value is None else self._form(value, form)
        for index, tensor in flip.constants.items():
            operands[index] = self._insert(constant_op(tensor, self.location), op).result
        if flip.swapped:
            operands[:2] = reversed(operands[:2])
        attributes: dict[str, Attribute] = {**op.attributes, **flip.attributes}
        location = via(self.name, op.location)
        made = self._insert(make(op.name, operands, location, attributes=attributes, results=len(op.results)), op)
        for old, new, form in zip(op.results, made.results, flip.results, strict=True):
            new.name = old.name
            if form is None:
                new.type, new.content = types.merge(new.type, old.type), new.content or old.content
                self._swap(old, new)
            else:
                new.type = types.merge(new.type, _permuted(old, form))
                self._forms[old, form] = new
                self._leave(op, old, new, form)

    def _leave(self, op: Op, old: Value, new: Value, form: Permutation) -> None:
        """Give the users outside what they want of a flipped value."""
        back, plain = inverse(form), False
        for user, index in list(old.uses):
            if isinstance(user, Graph):
                plain = True
            elif user in self.flipped:
                plain = plain or self.region.flips[user].operands[index] is None
            elif user.is_a("Transpose") and user.graph is op.graph:
                outer = permutation_of(user)
                assert outer is not None
                combined = compose(outer, back)
                self._swap(user.result, new if is_identity(combined) else self._transpose(new, combined, op))
            else:
                plain = True
        if plain:
            exit_ = self._transpose(new, back, op)
            exit_.type = types.merge(exit_.type, old.type)
            self._swap(old, exit_)

    def _swap(self, old: Value, new: Value) -> None:
        self.old.append(old)
        self.new.append(new)

    def _form(self, value: Value, form: Permutation) -> Value:
        """The flipped form of a value: what there is of it already, or a Transpose right behind its maker."""
        known = self._forms.get((value, form))
        if known is None:
            known = self._forms[value, form] = self._make_form(value, form)
        return known

    def _make_form(self, value: Value, form: Permutation) -> Value:
        maker, graph = value.op, self.region.graph
        place = graph.first if maker is None or maker.graph is not graph else maker.next
        assert place is not None
        tensor = value.constant
        if tensor is not None:
            array = tensor.array.reshape((1,) * (len(form) - len(tensor.shape)) + tensor.shape).transpose(form)
            return self._insert(constant_op(Tensor.from_array(array, tensor.dtype), self.location, value.name), place).result
        back = permutation_of(maker) if maker is not None and maker.is_a("Transpose") and maker.graph is graph else None
        if maker is None or back is None:
            made = self._transpose(value, form, place)
            for user in value.users:  # one for all
                if user not in self.flipped and self.region.turns(user, value):
                    self._swap(user.result, made)
            return made
        combined = compose(form, back)
        source = maker.needed(0)
        return source if is_identity(combined) else self._transpose(source, combined, place)

    def _transpose(self, value: Value, form: Permutation, place: Op) -> Value:
        return self._insert(make("Transpose", (value,), self.location, attributes={"perm": form}), place).result

    def _insert(self, op: Op, place: Op) -> Op:
        self.created.append(op)
        return self.region.graph.insert(op, place)


def _permuted(value: Value, form: Permutation) -> types.Type:
    """The type of a value with its dims permuted."""
    kind = value.type
    assert isinstance(kind, TensorType)
    return kind if kind.shape is None else replace(kind, shape=tuple(permuted(kind.shape, form)))
