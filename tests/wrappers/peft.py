"""The GPT-2 whose outputs with the methods of peft are stored, as ours."""

import jax
import numpy as np

from research.model import from_nnx
from research.models.gpt import GPT
from tests.decoding.gpt2 import params_of
from tests.truth import load
from tests.truth._checkpoint import drawn, from_text

TRUTH = load("peft_gpt")
GPT2 = from_nnx(lambda rngs: GPT(vocabulary=31, length=12, width=16, depth=2, heads=4, rngs=rngs))
PARAMS = params_of(
    {
        f"transformer.{name.removeprefix('transformer.')}": x
        for name, x in drawn(from_text(TRUTH["shapes"]), seed=int(TRUTH["seed"])).items()
    },
    depth=2,
)


def outputs_and_gradient(model, params, stats):
    """The logits, and the gradient of the mean of their squares."""

    def total(params):
        logits = model.apply(params, stats, TRUTH["tokens"])[0]
        return (logits**2).mean(), logits

    gradient, logits = jax.jit(jax.grad(total, has_aux=True))(params)
    return np.asarray(logits), jax.tree.map(np.asarray, gradient)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
