"""What is learnt from samples: the Gram matrices of products, by halves."""

from __future__ import annotations

import numpy as np

from irc.lowering.precision.learning import HalvedGram


def test_every_other_sample_goes_to_the_other_half() -> None:
    gram = HalvedGram(-1)
    assert gram.matrices is None
    samples = np.random.default_rng(0).standard_normal((4, 7, 3)).astype(np.float32)
    for sample in samples:
        gram.see(sample)
    halves = [sum(sample.T @ sample for sample in samples[start::2]) for start in range(2)]
    assert gram.matrices is not None
    np.testing.assert_allclose(gram.matrices, np.stack(halves), rtol=1e-5)


def test_a_single_sample_is_no_half() -> None:
    gram = HalvedGram(-1)
    gram.see(np.eye(3, dtype=np.float32))
    assert gram.matrices is not None
    assert gram.matrices.shape == (3, 3)
