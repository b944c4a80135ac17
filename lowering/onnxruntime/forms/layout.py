"""Between tokens [N,H*W,C] and images [N,C,H,W]: the Transpose next to the convolution, the Reshape away from it.

ONNX Runtime takes a Transpose that stands directly before or behind a convolution into the reordering that its blocked
layout needs anyway. Measured on 2 threads, a depthwise convolution of Segformer between tokens (benchmarks/forms.py, f32):
0.75 ([1,4096,128]) and 0.73 ([1,256,640]) of the time with the Reshape next to the convolution.
"""

from __future__ import annotations

from irc.ir import Op, Tensor, Value
from irc.passes import No, Rewriter, Rule, rule

from .facts import static_dims


@rule("Reshape")
def image_of_tokens(op: Op, rewrite: Rewriter) -> Value | No:
    """[N,H*W,C] is split into rows before its channels are moved in front, not after."""
    moved, image = op.needed(0).op, op.result
    if moved is None or not moved.is_a("Transpose") or moved.integers("perm") != (0, 2, 1):
        return No("its input is no Transpose of the last two dims")
    if not any(user.is_a("Conv") for user in image.users):
        return No("no convolution uses it")
    if not moved.result.has_one_use:
        return No("its input is used elsewhere")
    tokens, sizes = moved.needed(0), static_dims(image, 1, 2, 3)
    if tokens.shape is None or image.shape is None or len(image.shape) != 4 or sizes is None:
        return No("its channels and its size are not known")
    channels, height, width = sizes
    if static_dims(tokens, 1, 2) != (height * width, channels) or not rewrite.same_dims(tokens.shape[:1], image.shape[:1]):
        return No("it does more than to split rows")
    split = rewrite.op("Reshape", [tokens, rewrite.constant(Tensor.integers((0, height, width, channels)))])
    return rewrite.op("Transpose", [split], {"perm": (0, 3, 1, 2)})


@rule("Transpose")
def tokens_of_image(op: Op, rewrite: Rewriter) -> Value | No:
    """[N,C,H,W] has its channels moved behind before rows are joined, not after."""
    joined = op.needed(0).op
    if op.integers("perm") != (0, 2, 1) or joined is None or not joined.is_a("Reshape"):
        return No("it does not swap the last two dims of a Reshape")
    if not joined.result.has_one_use:
        return No("its input is used elsewhere")
    image, flat = joined.needed(0), joined.result
    if image.shape is None or len(image.shape) != 4 or flat.shape is None:
        return No("the Reshape is not known to be of an image")
    channels = static_dims(image, 1)
    if channels is None or not channels[0] or not rewrite.same_dims(image.shape[:2], flat.shape[:2]):
        return No("the Reshape does more than to join rows")
    length = static_dims(flat, 2) or (-1,)
    moved = rewrite.op("Transpose", [image], {"perm": (0, 2, 3, 1)})
    return rewrite.op("Reshape", [moved, rewrite.constant(Tensor.integers((0, *length, *channels)))])


RULES: tuple[Rule, ...] = (image_of_tokens, tokens_of_image)
