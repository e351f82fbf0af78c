import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from research.errors import UserError
from research.layers.attention import MultiHeadAttention, attention, causal_mask, padding_mask, segment_mask
from research.layers.ring import ring_attention
from research.layers.rotary import rotate
from research.layers.transformer import Block
from research.model import from_nnx
from tests.models.fresh import fresh

INIT = nnx.initializers.normal(0.5)
X = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)


class Layer(nnx.Module):
    """Self-attention with a mask of its own."""

    def __init__(self, causal, *, rngs):
        self.inner = MultiHeadAttention(8, heads=2, kernel_init=INIT, rngs=rngs)
        self.causal = causal

    def __call__(self, x, *, train, rngs=None):
        return self.inner(x, mask=causal_mask(5) if self.causal else None, train=train)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_the_formula_head_by_head(causal):
    layer = from_nnx(lambda rngs: Layer(causal, rngs=rngs))
    params = fresh(layer)[0]["inner"]
    q, k, v = (X.astype(np.float64) @ params[n]["kernel"] + params[n]["bias"] for n in "qkv")
    allowed = np.tril(np.ones((5, 5))) if causal else np.ones((5, 5))
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        scores = q[..., h] @ k[..., h].swapaxes(1, 2) / np.sqrt(4)
        heads.append(scipy.special.softmax(np.where(allowed, scores, -np.inf), -1) @ v[..., h])
    expected = np.concatenate(heads, -1) @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(jax.jit(lambda x: layer.apply({"inner": params}, {}, x)[0])(X), expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_attention_and_its_gradient_are_those_of_jax(dtype):
    q, k, v = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 6, 4, 8)), dtype)
    mask = segment_mask(jnp.array([[1, 1, 2, 2, 2, 0], [1, 2, 2, 3, 3, 3]])) & causal_mask(6)

    def ours(q, k, v):
        return jnp.sum(jnp.sin(attention(q, k, v, mask=mask)).astype(jnp.float32))

    def theirs(q, k, v):
        return jnp.sum(jnp.sin(jax.nn.dot_product_attention(q, k, v, mask=mask)).astype(jnp.float32))

    for a, b in zip(*(jax.jit(jax.grad(f, (0, 1, 2)))(q, k, v) for f in (ours, theirs)), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(
            a.astype(np.float32), b.astype(np.float32), atol=1e-5 if dtype == jnp.float32 else 0.05
        )


def test_segments_attend_to_themselves_only():
    mask = np.asarray(segment_mask(np.array([[1, 1, 2, 0]])))
    np.testing.assert_array_equal(mask[0, 0], [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_dropout_draws_from_the_generator_of_the_call_and_only_in_training():
    model = from_nnx(lambda rngs: Block(8, heads=2, dropout=0.5, kernel_init=INIT, rngs=rngs))
    params, _ = fresh(model)
    run = jax.jit(lambda key, train: model.apply(params, {}, X, key=key, train=train)[0], static_argnums=1)
    one, same, other = (np.asarray(run(jax.random.key(seed), True)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert abs(one - other).max() > 0.1
    np.testing.assert_array_equal(run(jax.random.key(1), False), run(jax.random.key(2), False))


def test_dropout_is_on_both_branches():
    model = from_nnx(lambda rngs: Block(8, heads=2, dropout=1.0, kernel_init=INIT, rngs=rngs))
    params, _ = fresh(model)
    trained = jax.jit(lambda x: model.apply(params, {}, x, key=jax.random.key(0), train=True)[0])
    np.testing.assert_array_equal(trained(X), X)


def test_heads_that_do_not_divide_the_width_are_an_error():
    with pytest.raises(UserError, match="8 cannot be split over 3 heads"):
        jax.eval_shape(lambda: nnx.state(Block(8, heads=3, kernel_init=INIT, rngs=nnx.Rngs(0))))


def test_a_query_that_may_attend_to_nothing_gets_0_and_no_gradient():
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(2, 4, 2, 3)).astype(np.float32) for _ in range(3))
    mask = rng.random((2, 1, 4, 4)) < 0.5
    mask[:, :, 1], mask[0, :, 0] = False, True
    slopes = jax.grad(lambda *args: jnp.sum(attention(*args, mask=mask) ** 2), (0, 1, 2))
    found, (dq, dk, dv) = jax.jit(lambda *args: (attention(*args, mask=mask), slopes(*args)))(q, k, v)
    scores = np.einsum("bthd,bshd->bhts", q.astype(np.float64), k) / np.sqrt(3)
    weights = np.exp(scores) * mask  # exactly 0 if masked
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    np.testing.assert_allclose(found, np.einsum("bhts,bshd->bthd", weights, v), rtol=1e-4, atol=1e-6)
    assert (found[:, 1] == 0).all() and (dq[:, 1] == 0).all()
    assert all(np.isfinite(slope).all() and np.abs(slope).max() > 0.01 for slope in (dq, dk, dv))


def test_a_window_hides_keys_that_are_too_far():
    mask = np.asarray(causal_mask(6, window=3))
    distance = np.arange(6)[:, None] - np.arange(6)
    np.testing.assert_array_equal(mask, (distance >= 0) & (distance < 3))
    np.testing.assert_array_equal(causal_mask(6, window=6), causal_mask(6))


def test_padding_is_hidden_from_all_queries():
    np.testing.assert_array_equal(padding_mask(np.array([[1, 2, 0]]))[0, 0], [[True, True, False]])


def test_a_group_of_heads_shares_a_key_and_a_value():
    rng = np.random.default_rng(2)
    q, k, v = (rng.normal(size=(2, 5, heads, 4)).astype(np.float32) for heads in (6, 2, 2))
    both = jax.jit(lambda: (attention(q, k, v), attention(q, *(jnp.repeat(x, 3, axis=2) for x in (k, v)))))
    np.testing.assert_allclose(*both(), atol=1e-6)


def test_dropout_of_weights_is_that_of_an_explicit_mask():
    q, k, v = np.random.default_rng(3).normal(size=(3, 2, 5, 2, 4)).astype(np.float32)
    kept = np.random.default_rng(4).random((2, 2, 5, 5)) < 0.5
    found = jax.jit(lambda: attention(q, k, v, dropout=lambda w: jnp.where(kept, 2 * w, 0)))()
    weights = scipy.special.softmax(np.einsum("bthd,bshd->bhts", q, k) / 2, -1) * 2 * kept
    np.testing.assert_allclose(found, np.einsum("bhts,bshd->bthd", weights, v), atol=1e-5)
    model = from_nnx(lambda rngs: Block(8, heads=2, attention={"dropout": 1.0}, kernel_init=INIT, rngs=rngs))
    params, _ = fresh(model)
    params["feed_forward"]["down"] = jax.tree.map(np.zeros_like, params["feed_forward"]["down"])
    run = jax.jit(lambda train: model.apply(params, {}, X, key=jax.random.key(0), train=train)[0], static_argnums=0)
    np.testing.assert_allclose(run(True), X + params["attention"]["out"]["bias"], atol=1e-6)
    assert np.abs(run(True) - run(False)).max() > 0.1


def test_scores_depend_on_the_difference_of_rotary_positions():
    def build(rngs):
        attention = {"rope": rotate, "use_bias": ("q",), "head_width": 6, "kv_heads": 1}
        return Positioned(Block(8, heads=2, attention=attention, kernel_init=INIT, rngs=rngs))

    class Positioned(nnx.Module):
        def __init__(self, block):
            self.block = block

        def __call__(self, x, positions=None, *, train, rngs=None):
            return self.block(x, positions=positions, train=train)

    model = from_nnx(build)
    params, _ = fresh(model)
    assert {name for name, layer in params["block"]["attention"].items() if "bias" in layer} == {"q"}
    assert params["block"]["attention"]["k"]["kernel"].shape == (8, 6)
    run = jax.jit(lambda *inputs: model.apply(params, {}, *inputs)[0])
    np.testing.assert_allclose(run(X), run(X, np.arange(5) + 7), atol=1e-4)
    np.testing.assert_allclose(run(X), run(X, np.arange(5) + np.array([[0], [3]])), atol=1e-4)
    assert np.abs(run(X) - run(X, 2 * np.arange(5))).max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_heads": 3}, "kv_heads=3 does not divide heads=2"),
        ({"use_bias": ("q", "o")}, "unknown layer in use_bias 'o'.*Valid: k, out, q, v"),
        ({"attend": ring_attention, "scale": 1.0}, "ring_attention accepts no scale; use `attention`"),
        ({"rope": rotate, "head_width": 3}, "heads of even width; this width is 3"),
    ],
)
def test_options_that_do_not_fit_are_errors(options, message):
    model = from_nnx(lambda rngs: Block(8, heads=2, attention=options, kernel_init=INIT, rngs=rngs))
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda key: model.apply(*model.init(key), X), jax.random.key(0))


def test_ring_attention_shares_keys_as_attention_does():
    def build(rngs, **options):
        return Causal(MultiHeadAttention(8, heads=4, kv_heads=2, kernel_init=INIT, rngs=rngs, **options))

    class Causal(nnx.Module):
        def __init__(self, layer):
            self.layer = layer

        def __call__(self, x, *, train, rngs=None):
            mask = causal_mask(5) if self.layer.attend is attention else None
            return self.layer(x, mask=mask, train=train)

    plain, ring = (from_nnx(lambda rngs, o=o: build(rngs, **o)) for o in ({}, {"attend": ring_attention}))
    params, _ = fresh(plain)
    both = jax.jit(lambda: [model.apply(params, {}, X)[0] for model in (plain, ring)])
    np.testing.assert_allclose(*both(), atol=1e-5)
