"""Ring attention by itself; in a model and against one device it is in tests/distributed/test_sharding.py."""

import jax
import numpy as np
import pytest

from research.distributed.sharding import make_mesh, place, under
from research.errors import UserError
from research.layers.attention import attention, causal_mask, segment_mask
from research.layers.ring import ring_attention

RNG = np.random.default_rng(0)
Q, K, V = (RNG.normal(size=(2, 8, 2, 4)).astype(np.float32) * 3 for _ in range(3))
SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1, 2]])


def mesh_of(**axes):
    return make_mesh(axes, devices=jax.devices()[:4])


@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_values_and_gradients_are_those_of_plain_attention(segments):
    seen = causal_mask(8) if segments is None else causal_mask(8) & segment_mask(segments)

    def graded(function, inputs=(Q, K, V)):
        return jax.jit(jax.value_and_grad(lambda *x: (function(*x) ** 3).sum(), argnums=(0, 1, 2)))(*inputs)

    plain = graded(lambda q, k, v: attention(q, k, v, mask=seen))
    ring = lambda q, k, v: ring_attention(q, k, v, mask=segments)
    mesh = mesh_of(context=4)
    alone, ring = graded(ring), graded(under(mesh, ring), place((Q, K, V), mesh))
    for found in (alone, ring):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), found, plain)


def test_what_cannot_be_split_is_refused():
    mesh = make_mesh({"context": 3}, devices=jax.devices()[:3])
    with pytest.raises(UserError, match="rows of 8 tokens cannot be split over 3 devices"):
        jax.eval_shape(under(mesh, ring_attention), Q, K, V)

    def inside(*inputs):
        whole = jax.P()
        run = jax.shard_map(ring_attention, in_specs=(whole,) * 3, out_specs=whole, axis_names={"pipeline"})
        return run(*inputs)

    with pytest.raises(UserError, match="does not run inside a pipeline"):
        jax.eval_shape(under(mesh_of(pipeline=2, context=2), inside), Q, K, V)
