"""The LSTM against its equations written out in numpy, step by step."""

import jax
import numpy as np
import pytest
from flax import nnx

from research.layers.recurrent import LSTMLayer
from research.model import from_nnx
from research.models.lstm import LSTM
from tests.models.fresh import fresh

RNG = np.random.default_rng(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(x, params, keep):
    """torch.nn.LSTM's equations for one layer, in f64: [T, B, F] -> [T, B, H]."""
    w, b, u = (np.asarray(x, np.float64) for x in (params["input"]["kernel"], params["input"]["bias"],
                                                    params["recurrent"]["kernel"]))  # fmt: skip
    width = len(u)
    h, c, outputs = np.zeros((x.shape[1], width)), np.zeros((x.shape[1], width)), []
    for now, kept in zip(x, keep, strict=True):
        h, c = h * kept[:, None], c * kept[:, None]
        z = now @ w + b + h @ u
        i, f, o = (sigmoid(z[:, n * width : (n + 1) * width]) for n in (0, 1, 3))
        c = f * c + i * np.tanh(z[:, 2 * width : 3 * width])
        h = o * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_the_equations_and_packed_documents(monkeypatch, backend):
    """On CPU the input's product is made step by step, elsewhere at once."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    model = from_nnx(lambda rngs: LSTM(vocabulary=7, width=5, depth=2, rngs=rngs))
    params, stats = fresh(model, scale=0.7)
    tokens, segments = (
        RNG.integers(0, 7, (3, 6)),
        np.array([[1, 1, 1, 1, 1, 1], [1, 1, 2, 2, 2, 3], [1, 2, 2, 2, 0, 0]]),
    )
    keep = np.concatenate([np.zeros((1, 3)), (segments[:, 1:] == segments[:, :-1]).T]).astype(float)
    for given, kept in ((None, np.ones((6, 3))), (segments, keep)):
        x = np.asarray(params["embed"]["embedding"], np.float64)[tokens.T]
        for layer in ("0", "1"):
            x = by_hand(x, params["layers"][layer], kept)
        head = params["head"]
        expected = x.swapaxes(0, 1) @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"])
        traced = jax.jit(model.apply).lower(params, stats, tokens, given)
        assert ("tensor<6x3x20xf32>" in traced.as_text()) == (backend == "gpu")  # z of all steps
        found, _ = traced.compile()(params, stats, tokens, given)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_number_of_parameters():
    for arguments, count in (({}, 256 * 256 + 2 * (2 * 256 * 1024 + 1024) + 256 * 256 + 256), ({"depth": 1}, 656_640)):
        params, _ = jax.eval_shape(from_nnx(lambda rngs, a=arguments: LSTM(**a, rngs=rngs)).init, jax.random.key(0))
        assert sum(x.size for x in jax.tree.leaves(params)) == count


def test_how_it_starts():
    layer = LSTMLayer(3, 4, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer.input.bias[...], np.repeat([0, 1, 0, 0], 4))
    for gate in np.split(np.asarray(layer.recurrent.kernel[...]), 4, 1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(4), atol=1e-5)


@pytest.mark.parametrize("token", [-1, 7])
def test_a_token_out_of_range_makes_what_follows_nan(token):
    model = from_nnx(lambda rngs: LSTM(vocabulary=7, width=5, depth=1, rngs=rngs))
    params, stats = fresh(model)
    logits = jax.jit(model.apply)(params, stats, np.array([[1, 2, token, 3]]))[0]
    assert np.isnan(logits).all(-1).tolist() == [[False, False, True, True]]
