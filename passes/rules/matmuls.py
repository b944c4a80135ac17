"""MatMul and Gemm with constant weights that absorb affine steps per column, and one another.

Law: nothing widens. A merger that would multiply more than what it replaces is left undone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irc.ir import Attribute, Op, Tensor, Value, shapes

from ..base import Contract
from ..rewriter import No, Rewriter, Rule, rule
from .affine import (
    AFFINE,
    FLOATS,
    MOST_COMPUTED,
    Floats,
    Step,
    along,
    behind,
    bias_of,
    copies_too_much,
    first_operand_made_by,
    never_infinite,
    plus,
    rounded,
    scaled,
    step_of,
    times,
)

PRODUCTS = ("MatMul", "Gemm")


@dataclass(frozen=True)
class Product:
    """x @ weight * alpha + bias: a MatMul or Gemm whose second operand is constant, and the Add of a constant behind a MatMul.

    `weight` is stored as [columns, inner] where `transposed`. `rank` is the least number of dims of x and of the result.
    """

    op: Op
    weight: Tensor
    transposed: bool
    bias: Floats | None
    rank: int

    @property
    def source(self) -> Value:
        """x."""
        return self.op.needed(0)

    @property
    def alpha(self) -> float:
        """What the product is multiplied with."""
        alpha = self.op.attributes.get("alpha", 1.0) if self.op.name == "Gemm" else 1.0
        return alpha if isinstance(alpha, float) else 1.0

    @property
    def inner(self) -> int:
        """The last dim of x."""
        return self.weight.shape[-1 if self.transposed else -2]

    @property
    def columns(self) -> int:
        """The last dim of the result."""
        return self.weight.shape[-2 if self.transposed else -1]

    @property
    def matrix(self) -> Floats:
        """The weight as [..., inner, columns], with alpha."""
        array = self.weight.array.astype(np.float64) * self.alpha
        return array.swapaxes(-1, -2) if self.transposed else array

    def along_columns(self, numbers: Floats | None) -> Floats | None:
        """Numbers for each column, shaped to broadcast to the stored weight."""
        return numbers if numbers is None or not self.transposed else numbers[:, None]

    def along_inner(self, numbers: Floats | None) -> Floats | None:
        """Numbers for each element of x's last dim, shaped to broadcast to the stored weight."""
        return numbers if numbers is None or self.transposed else numbers[:, None]


def product_of(op: Op) -> Product | No:
    """A MatMul or Gemm with a constant second operand, and where it is a Gemm, a constant bias per column or none."""
    weight = op.constant_operand(1)
    if weight is None or weight.dtype not in FLOATS or len(weight.shape) < 2 or not weight.size:
        return No("its weight is not constant")
    if op.name == "MatMul":
        shape = op.results[0].shape
        return Product(op, weight, False, None, 1 if shape is None else len(shape))
    transposed = op.integer("transB", 0) == 1
    if op.operand(2) is None:
        return Product(op, weight, transposed, None, 2)
    constant = op.constant_operand(2)
    bias = None if constant is None else along(constant, 2, -1, weight.shape[0 if transposed else 1])
    if bias is None:
        return No("its bias is not one number for each column")
    beta = op.attributes.get("beta", 1.0)
    return Product(op, weight, transposed, bias * (beta if isinstance(beta, float) else 1.0), 2)


def biased_product_of(op: Op) -> Product | No:
    """A product, or MatMul and the Add of one constant number for each column, where only the Add uses the MatMul."""
    if not op.is_a("Add"):
        return product_of(op)
    maker = first_operand_made_by(op, ("MatMul",))
    if maker is None:
        return No("it adds to no MatMul that only it uses")
    found = product_of(maker)
    constant = op.constant_operand(1 if op.operands[0] is maker.result else 0)
    if isinstance(found, No) or constant is None:
        return found if isinstance(found, No) else No("what is added is not constant")
    bias = along(constant, found.rank, -1, found.columns)
    if bias is None:
        return No("what is added is not one number for each column")
    return Product(maker, found.weight, False, bias, found.rank)


def rebuilt(
    found: Product, source: Value | None, weight: Tensor | No, bias: Floats | None, rewrite: Rewriter, alpha: float
) -> Value | No:
    """The product with another source, weight (stored as before) and bias: a Gemm where it was one or has a bias on rows."""
    if isinstance(weight, No):
        return weight
    vector = None if bias is None else bias_of(bias, found.columns, weight.dtype)
    if isinstance(vector, No):
        return vector
    kept = found.op.operand(1) if weight is found.weight else rewrite.constant(weight)
    if found.op.name == "Gemm" or (vector is not None and _has_rows(found)):
        attributes: dict[str, Attribute] = {k: v for k, v in found.op.attributes.items() if k not in ("alpha", "beta")}
        if alpha != 1.0:
            attributes["alpha"] = alpha
        return rewrite.op("Gemm", [source, kept, *([] if vector is None else [rewrite.constant(vector)])], attributes)
    product = rewrite.op("MatMul", [source, kept])
    return product if vector is None else rewrite.op("Add", [product, rewrite.constant(vector)])


@rule(*AFFINE, contract=Contract.REASSOCIATING)
def affine_after_product(op: Op, rewrite: Rewriter) -> Value | No:
    """s * (x @ w + b) + t = x @ (w * s) + (b * s + t), with s and t per column: BatchNorm, Mul, Div, Add, Sub, Neg."""
    maker = first_operand_made_by(op, (*PRODUCTS, "Add"))
    if maker is None:
        return No("no operand is a product that only it uses")
    if maker.is_a("MatMul") and maker.constant_operand(0) is not None:
        return _number_after(op, maker, rewrite)
    found = biased_product_of(maker)
    if isinstance(found, No):
        return found
    step = step_of(op, found.rank, -1, found.columns)
    if isinstance(step, No):
        return step
    if step.scale is not None and copies_too_much(found.op):
        return No("its weight is large and others use it too")
    if step.shift is not None and found.bias is None and found.op.name == "MatMul" and not _has_rows(found):
        return No("it adds to a MatMul that has no bias yet")
    bias = plus(None if found.bias is None else times(found.bias, step.scale), step.shift)
    weight = scaled(found.weight, found.along_columns(step.scale))
    return rebuilt(found, found.source, weight, bias, rewrite, found.alpha)


def _has_rows(found: Product) -> bool:
    """Whether x is a matrix, so that a Gemm can take it and a bias."""
    return found.rank == 2 and len(found.source.shape or ()) == 2 and len(found.weight.shape) == 2


def _number_after(op: Op, maker: Op, rewrite: Rewriter) -> Value | No:
    """(w @ x) * s = (w * s) @ x for a number s."""
    weight, shape = maker.constant_operand(0), op.results[0].shape
    step = step_of(op, 1 if shape is None else len(shape), -1, 1)
    return _number_into(weight, step, maker.operand(1), rewrite)


def _number_into(weight: Tensor | None, step: Step | No, source: Value | None, rewrite: Rewriter) -> Value | No:
    if isinstance(step, No):
        return step
    if weight is None or weight.dtype not in FLOATS or step.shift is not None or step.scale is None or step.scale.size != 1:
        return No("it is no multiplication by a number")
    product = scaled(weight, step.scale)
    return product if isinstance(product, No) else rewrite.op("MatMul", [rewrite.constant(product), source])


@rule(*PRODUCTS, contract=Contract.REASSOCIATING)
def affine_before_product(op: Op, rewrite: Rewriter) -> Value | No:
    """(s * x + t) @ w = x @ (s * w) + t @ w, with s and t per column of x, where that is no op more."""
    if op.is_a("MatMul") and op.constant_operand(0) is not None:
        return _number_before(op, rewrite)
    maker = op.needed(0).op
    if maker is None or not maker.is_a(*AFFINE) or not op.needed(0).has_one_use or op.integer("transA", 0):
        return No("its first operand is no affine step that only it uses")
    found = product_of(op)
    if isinstance(found, No):
        return found
    shape = op.needed(0).shape
    step = step_of(maker, 1 if shape is None else len(shape), -1, found.inner)
    if isinstance(step, No):
        return step
    own = step.operand.shape
    if _varies(step) and (own is None or not own or own[-1] != found.inner):
        return No("the columns in front of it are not known")
    if step.shift is not None and not _takes_terms(found):
        return No("it would take an op more to add")
    if step.scale is not None and copies_too_much(op):
        return No("its weight is large and others use it too")
    terms = None if step.shift is None else np.broadcast_to(step.shift, (found.inner,)) @ found.matrix
    weight = scaled(found.weight, found.along_inner(step.scale))
    return rebuilt(found, step.operand, weight, plus(found.bias, terms), rewrite, found.alpha)


def _number_before(op: Op, rewrite: Rewriter) -> Value | No:
    """w @ (x * s) = (w * s) @ x for a number s."""
    maker, shape = op.needed(1).op, op.needed(1).shape
    if maker is None or not maker.is_a(*AFFINE) or not op.needed(1).has_one_use:
        return No("its second operand is no affine step that only it uses")
    step = step_of(maker, 1 if shape is None else len(shape), -1, 1)
    return _number_into(op.constant_operand(0), step, None if isinstance(step, No) else step.operand, rewrite)


def _varies(step: Step) -> bool:
    return any(numbers is not None and numbers.size != 1 for numbers in (step.scale, step.shift))


def _takes_terms(found: Product) -> bool:
    """Whether what is added to the result costs no op: it is a Gemm, becomes one, or a constant is added to it anyway."""
    if len(found.weight.shape) != 2:
        return False
    if found.op.is_a("Gemm") or _has_rows(found):
        return True
    users = found.op.result.users if found.op.result.has_one_use else []
    return any(user.is_a("Add") and any(user.constant_operand(i) is not None for i in (0, 1)) for user in users)


@rule(*PRODUCTS, contract=Contract.REASSOCIATING)
def product_of_product(op: Op, rewrite: Rewriter) -> Value | No:
    """(x @ v + a) @ w + b = x @ (v @ w) + (a @ w + b), where that multiplies less and infinities cannot cancel.

    Where x holds an infinity, x @ v may hold two of opposite signs, whose sum is NaN.
    """
    maker = op.needed(0).op
    if maker is None or not maker.is_a(*PRODUCTS) or not op.needed(0).has_one_use:
        return No("its first operand is no product that only it uses")
    first, second = product_of(maker), product_of(op)
    if isinstance(first, No):
        return first
    if isinstance(second, No):
        return second
    if len(first.weight.shape) != 2 or len(second.weight.shape) != 2 or maker.integer("transA", 0) or op.integer("transA", 0):
        return No("they are no products of matrices, or of transposed ones")
    if first.inner * second.columns > first.weight.size + second.weight.size:
        return No("one would multiply more than both")
    if not never_infinite(first.source):
        return No("its input may hold infinities")
    if max(first.weight.byte_count, second.weight.byte_count) > MOST_COMPUTED:
        return No("a weight is too large to compute with")
    weight = rounded(first.matrix @ second.matrix, first.weight.dtype)
    if isinstance(weight, No):
        return weight
    bias = plus(None if first.bias is None else first.bias @ _widened(second, first), second.bias)
    if bias is None and op.is_a("MatMul"):
        return rewrite.op("MatMul", [first.source, rewrite.constant(weight)])
    vector = None if bias is None else bias_of(bias, second.columns, weight.dtype)
    if isinstance(vector, No):
        return vector
    return rewrite.op("Gemm", [first.source, rewrite.constant(weight), *([] if vector is None else [rewrite.constant(vector)])])


def _widened(second: Product, first: Product) -> Floats:
    """The second matrix, or its sums where the first bias is one number for all columns."""
    return second.matrix if first.bias is not None and first.bias.size > 1 else second.matrix.sum(axis=0, keepdims=True)


@rule("Add", contract=Contract.REASSOCIATING)
def sum_of_products(op: Op, rewrite: Rewriter) -> Value | No:
    """x @ w + b + (x @ u) @ v = x @ (w + u @ v) + b (low-rank updates, Hu et al. 2021), where infinities cannot cancel."""
    for index in (0, 1):
        update, base = op.needed(index), op.needed(1 - index).op
        if base is None or not op.needed(1 - index).has_one_use or not base.is_a("MatMul", "Add"):
            continue
        found = biased_product_of(base)
        if isinstance(found, No) or found.weight.byte_count > MOST_COMPUTED:
            continue
        chain = _chain_of(update)
        if chain is None or len(found.weight.shape) != 2 or chain[0] is not found.source:
            continue
        if not never_infinite(found.source):
            return No("its input may hold infinities")
        if chain[1].shape != found.weight.shape:
            return No("the products have other columns")
        return rebuilt(found, found.source, rounded(found.matrix + chain[1], found.weight.dtype), found.bias, rewrite, 1.0)
    return No("it adds no two products of one value")


def _chain_of(value: Value) -> tuple[Value, Floats] | None:
    """x and the matrix for x @ v, or x and u @ v for (x @ u) @ v, with constant u and v that are used here only."""
    matrix: Floats | None = None
    while value.op is not None and value.op.is_a("MatMul") and value.has_one_use:
        found = product_of(value.op)
        if isinstance(found, No) or len(found.weight.shape) != 2:
            break
        matrix = found.matrix if matrix is None else found.matrix @ matrix
        value = found.source
    return None if matrix is None else (value, matrix)


@rule("MatMul", contract=Contract.REASSOCIATING)
def expand_before_product(op: Op, rewrite: Rewriter) -> Value | No:
    """A product broadcasts by itself: matrices need not be repeated where the other operand has one for each."""
    for index in (0, 1):
        expand = op.needed(index).op
        if expand is None or not expand.is_a("Expand"):
            continue
        plain, wide, other, whole = (v.shape for v in (expand.needed(0), expand.result, op.needed(1 - index), op.result))
        if plain is None or wide is None or other is None or whole is None or min(len(plain), len(other)) < 2:
            return No("its shapes are not known")
        if not rewrite.same_dims(plain[-2:], wide[-2:]):
            return No("it is the matrix itself that is stretched")
        if not rewrite.same_dims(shapes.broadcast_shapes(plain[:-2], other[:-2]), whole[:-2]):
            return No("the other operand does not have as many matrices")
        operands = [expand.operand(0), op.operand(1)] if index == 0 else [op.operand(0), expand.operand(0)]
        return rewrite.op("MatMul", operands)
    return No("neither operand is an Expand")


RULES: tuple[Rule, ...] = (
    behind(affine_after_product, *PRODUCTS, "Add"),
    behind(affine_before_product, *AFFINE),
    behind(product_of_product, *PRODUCTS),
    behind(sum_of_products, "MatMul"),
    behind(expand_before_product, "Expand"),
)
