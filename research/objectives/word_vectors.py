"""Word vectors: skip-gram and CBOW with negative sampling, and GloVe, on the params of `models.word_vectors`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from research.axes import Array, Float, Int, Key, Num
from research.core import Loss, Out, draw, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field


def negatives(
    key: Key[Array, ""], cumulative: Float[Array, " vocabulary"], *, shape: tuple[int, ...]
) -> Int[Array, "..."]:
    """Draw words from the distribution whose cumulative sums end at 1."""
    return jnp.searchsorted(cumulative, jax.random.uniform(key, shape), side="right").clip(0, len(cumulative) - 1)


def noise(counts: Num[Array, " vocabulary"], power: float = 0.75) -> Float[Array, " vocabulary"]:
    """Return the cumulative sums, f32, of the distribution proportional to counts ** power."""
    weights = np.asarray(counts, np.float64) ** power
    return np.asarray(np.cumsum(weights) / weights.sum(), np.float32)


def skip_gram(counts: Num[Array, " vocabulary"], *, samples: int = 5, power: float = 0.75) -> Loss:
    """Make the Loss of skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1310.4546, equation 4).

    A batch is one of `data.text.windows`. For a word w and each context c, with k `samples` n drawn from the noise
    distribution, counts ** `power` / sum, the loss is -log s(w . c) - sum_n log s(-w . n), s the logistic function. It
    is the mean over the pairs. Its optimum, without limit on the rank and for power 1, is w . c = PMI(w, c) - log k
    (Levy & Goldberg 2014). The key is folded with "negatives". Effect on `stats`: none.
    """
    cumulative = _cumulative(counts, samples, power)

    def loss(params, ctx):
        center, contexts = field(ctx.batch, "center"), field(ctx.batch, "contexts")
        drawn = negatives(draw(ctx.key, "negatives"), cumulative, shape=(*contexts.shape, samples))
        w, tables = params["words"][center], params["contexts"]
        real = jnp.einsum("bd,bcd->bc", w, tables[jnp.maximum(contexts, 0)])
        false = jnp.einsum("bd,bckd->bck", w, tables[drawn])
        values = -jax.nn.log_sigmoid(real) - jax.nn.log_sigmoid(-false).sum(-1)
        weights = (contexts >= 0) * example_weights(ctx.batch, len(center))[:, None]
        mean = weighted_mean(values, weights)
        return mean.value(), Out({}, {"loss": mean})

    return loss


def cbow(counts: Num[Array, " vocabulary"], *, samples: int = 5, power: float = 0.75) -> Loss:
    """Make the Loss of the continuous bag of words with negative sampling (Mikolov et al. 2013, arXiv:1301.3781).

    The mean h of the vectors `words` of the contexts predicts the center c: -log s(h . c) - sum_n log s(-h . n), with c
    and n in the table `contexts`, as in word2vec. The rest is as for `skip_gram`; the mean is over centers that have a
    context.
    """
    cumulative = _cumulative(counts, samples, power)

    def loss(params, ctx):
        center, contexts = field(ctx.batch, "center"), field(ctx.batch, "contexts")
        drawn = negatives(draw(ctx.key, "negatives"), cumulative, shape=(len(center), samples))
        real = (contexts >= 0).astype(jnp.float32)
        count = real.sum(-1)
        h = jnp.einsum("bc,bcd->bd", real / jnp.maximum(count, 1)[:, None], params["words"][jnp.maximum(contexts, 0)])
        tables = params["contexts"]
        score, false = jnp.einsum("bd,bd->b", h, tables[center]), jnp.einsum("bd,bkd->bk", h, tables[drawn])
        values = -jax.nn.log_sigmoid(score) - jax.nn.log_sigmoid(-false).sum(-1)
        mean = weighted_mean(values, (count > 0) * example_weights(ctx.batch, len(center)))
        return mean.value(), Out({}, {"loss": mean})

    return loss


def glove(*, largest: float = 100.0, power: float = 0.75) -> Loss:
    """Make the Loss of GloVe (Pennington, Socher & Manning 2014, equation 8) on batches of `cooccurrences`.

    For a pair with the count x, it is f(x) (w . c + b + b' - log x) ** 2 with f(x) = min(1, (x / `largest`) ** `power`)
    (equation 9), as the mean over the pairs that occur; the paper has the sum. Effect on `stats`: none. The key is not
    used.
    """

    def loss(params, ctx):
        row, column, count = (field(ctx.batch, name) for name in ("row", "column", "count"))
        score = jnp.einsum("bd,bd->b", params["words"][row], params["contexts"][column])
        error = score + params["word_bias"][row] + params["context_bias"][column] - jnp.log(count)
        weights = jnp.minimum(1.0, (count / largest) ** power)
        mean = weighted_mean(weights * error**2, example_weights(ctx.batch, len(row)))
        return mean.value(), Out({}, {"loss": mean})

    return loss


def _cumulative(counts, samples, power) -> Float[Array, " vocabulary"]:
    if samples < 1:
        raise UserError(f"samples={samples}; expected at least 1 negative word per pair.")
    return noise(counts, power)
