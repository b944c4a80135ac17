"""Random programs of calls, as networks have them: chains with skips, branches that join, buffers of like sizes."""

from __future__ import annotations

import random

from irc.ir import DType
from irc.lowering.tvm.kernel import Kernel
from irc.lowering.tvm.places import Buffer, Call, Storage


def call(*buffers: Buffer) -> Call:
    """A call that reads all but the last of the buffers, which it fills."""
    return Call(Kernel("", 1, len(buffers)), buffers, ())


def buffer(byte_count: int, storage: Storage = Storage.ARENA) -> Buffer:
    return Buffer(DType.U8, byte_count, storage)


def random_calls(seed: int) -> list[Call]:
    """A network: each call reads what was made shortly before, at times something far back; a few have borders zeroed first."""
    chance = random.Random(seed)
    made = [buffer(4096, Storage.INPUT)]
    calls: list[Call] = []
    size = 64 << chance.randrange(4, 12)
    for _ in range(chance.randrange(10, 120)):
        size = max(64, chance.choice((size, size, size, size * 2, size // 2, size * 3 // 4)))
        taken = [made[-1]] if chance.random() < 0.7 else [chance.choice(made[-4:])]
        if chance.random() < 0.3:
            taken.append(chance.choice(made[-8:]))
        if chance.random() < 0.05:
            taken.append(chance.choice(made))
        result = buffer(size)
        if chance.random() < 0.2:
            calls.append(call(result))
        calls.append(call(*dict.fromkeys(taken), result))
        made.append(result)
    calls.append(call(made[-1], buffer(64, Storage.OUTPUT)))
    return calls
