"""Recurrent layers against PyTorch's, with lengths and gradients; packed rows and states against separate runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research.core import draw
from research.layers.recurrent import GRULayer, LSTMLayer, Recurrent, RNNLayer, final_outputs
from research.model import from_nnx
from tests.models.fresh import fresh
from tests.truth import load

TRUTH = load("torch_recurrent")
RNG = np.random.default_rng(0)
CASES = {
    "rnn_tanh": (RNNLayer, 2, True),
    "rnn_relu": (functools.partial(RNNLayer, activation=jax.nn.relu), 1, False),
    "lstm": (LSTMLayer, 2, False),
    "lstm_both": (LSTMLayer, 2, True),
    "lstm_projected": (functools.partial(LSTMLayer, projection=2), 2, True),
    "gru": (GRULayer, 2, False),
    "gru_both": (GRULayer, 2, True),
}


def stack(layer, *, depth=2, bidirectional=False, features=3, width=4, dropout=0.0):
    return from_nnx(
        lambda rngs: Called(
            Recurrent(
                layer, features, width, depth=depth, bidirectional=bidirectional, dropout=dropout, rngs=rngs
            )  # fmt: skip
        )
    )


class Called(nnx.Module):
    """A Recurrent as a model with positional inputs."""

    def __init__(self, recurrent):
        self.recurrent = recurrent

    def __call__(self, x, state=None, segments=None, lengths=None, *, train, rngs=None):
        return self.recurrent(x, state=state, segments=segments, lengths=lengths, train=train, rngs=rngs)


def ours(name, of, *, depth, bidirectional):
    """The stored weights, or their gradients, of PyTorch in the form of our params."""
    biased = name.startswith("gru")

    def layer(suffix):
        get = lambda leaf: TRUTH.get(f"{name}/{of}/{leaf}_{suffix}")
        # The gradient of the one bias is that of either.
        both = get("bias_ih") + get("bias_hh") if of == "params" and not biased else get("bias_ih")
        found = {"input": {"kernel": get("weight_ih").T, "bias": both}, "recurrent": {"kernel": get("weight_hh").T}}
        if biased:
            found["recurrent"]["bias"] = get("bias_hh")
        if get("weight_hr") is not None:
            found["projection"] = {"kernel": get("weight_hr").T}
        return found

    params = {"layers": {str(i): layer(f"l{i}") for i in range(depth)}}
    if bidirectional:
        params["backward"] = {str(i): layer(f"l{i}_reverse") for i in range(depth)}
    return {"recurrent": params}


def as_state(name, which, *, depth, bidirectional):
    parts = [TRUTH[key] for key in (f"{name}/{which}/0", f"{name}/{which}/1") if key in TRUTH]
    directions = 1 + bidirectional
    pick = lambda row: tuple(part[row] for part in parts) if len(parts) > 1 else parts[0][row]
    return tuple(tuple(pick(i * directions + d) for d in range(directions)) for i in range(depth))


@pytest.mark.parametrize(("name", "backend"), [*((name, "cpu") for name in CASES), ("gru_both", "gpu")])
def test_outputs_states_and_gradients_are_those_of_pytorch(name, backend, monkeypatch):
    """On CPU the input's product is made step by step, elsewhere at once."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    layer, depth, bidirectional = CASES[name]
    form = dict(depth=depth, bidirectional=bidirectional)
    model = stack(layer, **form)
    params = ours(name, "params", **form)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, jax.eval_shape(model.init, jax.random.key(0))[0])

    def total(params, x):
        (outputs, final), _ = model.apply(params, {}, x, as_state(name, "start", **form), None, TRUTH["lengths"])
        return (outputs * TRUTH[f"{name}/weights"]).sum(), (outputs, final)

    (_, (outputs, final)), (found, at_x) = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(params, TRUTH["x"])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    close(outputs, TRUTH[f"{name}/outputs"])
    jax.tree.map(close, final, as_state(name, "final", **form))
    close(at_x, TRUTH[f"{name}/gradient"])
    jax.tree.map(close, found, ours(name, "gradients", **form))
    last = final_outputs(final)
    close(last, np.concatenate([jax.tree.leaves(s)[0] for s in as_state(name, "final", **form)[-1]], -1))


@pytest.mark.parametrize("layer", [RNNLayer, LSTMLayer, GRULayer])
def test_documents_of_a_packed_row_do_not_see_each_other(layer):
    model = stack(layer, bidirectional=True)
    params, stats = fresh(model, scale=0.7)
    x = RNG.normal(size=(1, 6, 3)).astype(np.float32)
    parts = slice(0, 2), slice(2, 5), slice(5, 6)

    @jax.jit
    def both(x):
        packed = model.apply(params, stats, x, None, np.array([[1, 1, 2, 2, 2, 3]]))[0][0]
        return packed, [model.apply(params, stats, x[:, part])[0][0] for part in parts]

    packed, alone = both(x)
    for part, expected in zip(parts, alone, strict=True):
        np.testing.assert_allclose(packed[:, part], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [RNNLayer, LSTMLayer, GRULayer])
def test_a_run_continues_from_a_state(layer):
    model = stack(layer)
    params, stats = fresh(model, scale=0.7)
    x = RNG.normal(size=(2, 5, 3)).astype(np.float32)

    @jax.jit
    def both(x):
        first, state = model.apply(params, stats, x[:, :2])[0]
        # The first document of the second part is the one that the state belongs to.
        second, state = model.apply(params, stats, x[:, 2:], state, np.ones((2, 3), int))[0]
        return model.apply(params, stats, x)[0], (jnp.concatenate([first, second], 1), state)

    (whole, last), (parts, state) = both(x)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), state, last)


def test_dropout_is_between_the_layers_and_only_in_training():
    x = RNG.normal(size=(2, 5, 3)).astype(np.float32)
    for depth, changes in ((1, False), (2, True)):
        model = stack(GRULayer, depth=depth, dropout=0.5)
        params, stats = fresh(model)
        apply = jax.jit(model.apply, static_argnames="train")
        plain, dropped = (apply(params, stats, x, key=draw(0), train=train)[0][0] for train in (False, True))
        assert (np.asarray(plain) != dropped).any() == changes


@pytest.mark.parametrize(("layer", "state"), [(RNNLayer, "bfloat16"), (LSTMLayer, "float32"), (GRULayer, "float32")])
def test_in_16_bits_a_state_that_accumulates_stays_in_32(layer, state):
    model = stack(layer, depth=1)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), fresh(model)[0])
    outputs, last = jax.eval_shape(model.apply, params, {}, jnp.zeros((2, 3, 3), jnp.bfloat16))[0]
    assert outputs.dtype == jnp.bfloat16 and jax.tree.leaves(last)[-1].dtype == state


@pytest.mark.parametrize(("layer", "gates"), [(RNNLayer, 1), (LSTMLayer, 4), (GRULayer, 3)])
def test_how_recurrent_matrices_start(layer, gates):
    kernel = np.asarray(layer(3, 4, rngs=nnx.Rngs(0)).recurrent.kernel[...])
    for gate in np.split(kernel, gates, 1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(4), atol=1e-5)
