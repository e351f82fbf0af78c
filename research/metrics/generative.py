"""How good generated examples are, beside real ones; and how likely a latent-variable model finds real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.axes import Array, Float, Key
from research.core import Model, Rows, Trained, draw, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field
from research.objectives.vae import bernoulli, divergence, posterior, sample


class PrecisionRecall(NamedTuple):
    """The share of fakes that look real, and the share of real examples that the fakes cover."""

    precision: float
    recall: float


def measure_samples(generate: Callable | None = None, *, inputs: str = "image", latents: str = "latent") -> Callable:
    """The measure of an Eval on real examples with a latent beside each: rows of real and fake, flat.

    `generate(params, stats, z)` gives the fakes; without it the experiment's `apply` does. `finish` them by
    `compare_samples`.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        z = field(batch, latents)
        fake = generate(trained.params, trained.stats, z) if generate else trained(z)
        real = field(batch, inputs)
        rows = {"real": real.reshape(len(real), -1), "fake": fake.reshape(len(real), -1)}
        return {"rows": Rows(rows, example_weights(batch, len(real)))}

    return measure


def compare_samples(*, neighbours: int = 3) -> Callable:
    """The `finish` of an Eval with rows of real and fake: precision, recall and frechet of its fakes."""

    def finish(results: Mapping) -> dict[str, float]:
        real, fake = (np.asarray(results["rows"][name], np.float64) for name in ("real", "fake"))
        scores = precision_recall(real, fake, neighbours=neighbours)
        return {**scores._asdict(), "frechet": frechet(real, fake)}

    return finish


def precision_recall(
    real: Float[np.ndarray, "rows features"], fake: Float[np.ndarray, "samples features"], *, neighbours: int = 3
) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, equations 1 and 2) of points.

    A point counts as real if it lies in the ball of any real point that reaches to its k-th nearest real one; and the
    other way round. Raises UserError for fewer than k + 1 points.
    """
    from scipy.spatial.distance import cdist

    if min(len(real), len(fake)) <= neighbours:
        raise UserError(f"{neighbours} neighbours need more points than {len(real)} real and {len(fake)} fake ones.")

    def covered(points: Float[np.ndarray, "rows features"], by: Float[np.ndarray, "samples features"]) -> float:
        # By one arithmetic: the radii of repeated points are 0. A point's nearest is itself.
        radii = np.partition(cdist(by, by), neighbours, axis=1)[:, neighbours]
        return float((cdist(points, by) <= radii).any(1).mean())

    return PrecisionRecall(covered(fake, real), covered(real, fake))


def frechet(real: Float[np.ndarray, "rows features"], fake: Float[np.ndarray, "samples features"]) -> float:
    """The Fréchet distance of two Gaussians fitted to points (Heusel et al. 2017, equation 6).

    The square root's trace is that of the eigenvalues of a symmetric product, which stay real if there are more
    features than points.
    """

    def moments(
        x: Float[np.ndarray, "rows features"],
    ) -> tuple[Float[np.ndarray, " features"], Float[np.ndarray, "features features"]]:
        return x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))

    (mean_a, a), (mean_b, b) = moments(real), moments(fake)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * cross)


def measure_likelihood(
    encoder: Model | Callable, decoder: Model | Callable, *, likelihood: Callable = bernoulli, samples: int = 1,
    inputs: str = "image",
) -> Callable:  # fmt: skip
    """The measure of an Eval of a VAE: negative_elbo and, of `samples` draws, negative_bound (Burda et al. 2016,
    equation 8), both in nats an example. The bound is tighter than the ELBO and tends to the likelihood.

    The noise is the same for all batches and evaluations.
    """
    encode, decode = (getattr(model, "apply", model) for model in (encoder, decoder))

    def measure(trained: Trained, batch: Mapping) -> dict:
        x = field(batch, inputs)
        weights = example_weights(batch, len(x))
        q = posterior(encode(trained.params["encoder"], trained.stats, x, train=False)[0])

        def terms(key: Key[Array, ""]) -> tuple[Float[Array, "batch"], Float[Array, "batch"]]:
            z = sample(key, q)
            log_p = likelihood(decode(trained.params["decoder"], trained.stats, z, train=False)[0], x)
            unit = (z - q.mean) * jnp.exp(-0.5 * q.log_variance)
            ratio = 0.5 * jnp.sum(unit**2 + q.log_variance - z**2, -1)  # log p(z) - log q(z | x)
            return log_p, log_p + ratio

        log_p, log_weights = jax.vmap(terms)(draw(0, "likelihood", jnp.arange(samples)))
        elbo = log_p.mean(0) - divergence(q)
        bound = jax.nn.logsumexp(log_weights, axis=0) - np.log(samples)
        return {"negative_elbo": weighted_mean(-elbo, weights), "negative_bound": weighted_mean(-bound, weights)}

    return measure
