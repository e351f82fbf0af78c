"""Quality of generated examples compared with real examples, and likelihood bounds of latent-variable models."""

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
    """The fraction of fake examples that look real, and the fraction of real examples that the fakes cover."""

    precision: float
    recall: float


def measure_samples(generate: Callable | None = None, *, inputs: str = "image", latents: str = "latent") -> Callable:
    """Return the measure of an Eval whose batches hold a real example and a latent: flat rows of real and fake.

    `generate(params, stats, z)` returns the fake examples (default: the experiment's `apply`). Add
    `finish=compare_samples()`.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        z = field(batch, latents)
        fake = generate(trained.params, trained.stats, z) if generate else trained(z)
        real = field(batch, inputs)
        rows = {"real": real.reshape(len(real), -1), "fake": fake.reshape(len(real), -1)}
        return {"rows": Rows(rows, example_weights(batch, len(real)))}

    return measure


def compare_samples(*, neighbours: int = 3) -> Callable:
    """Return the `finish` of an Eval with rows of real and fake: precision, recall and frechet."""

    def finish(results: Mapping) -> dict[str, float]:
        real, fake = (np.asarray(results["rows"][name], np.float64) for name in ("real", "fake"))
        scores = precision_recall(real, fake, neighbours=neighbours)
        return {**scores._asdict(), "frechet": frechet(real, fake)}

    return finish


def precision_recall(
    real: Float[np.ndarray, "rows features"], fake: Float[np.ndarray, "samples features"], *, neighbours: int = 3
) -> PrecisionRecall:
    """Compute improved precision and recall of two sets of points (Kynkäänniemi et al. 2019, equations 1 and 2).

    A fake point counts as real if it lies in the ball of any real point. The radius of a ball is the distance to the
    k-th nearest real point, with k = `neighbours`. Recall exchanges real and fake. Raises UserError for fewer than k +
    1 points.
    """
    from scipy.spatial.distance import cdist

    if min(len(real), len(fake)) <= neighbours:
        raise UserError(f"{len(real)} real and {len(fake)} fake points; expected more than neighbours={neighbours}.")

    def covered(points: Float[np.ndarray, "rows features"], by: Float[np.ndarray, "samples features"]) -> float:
        # Use cdist for both: balls of repeated points have radius 0. The nearest point is the point itself.
        radii = np.partition(cdist(by, by), neighbours, axis=1)[:, neighbours]
        return float((cdist(points, by) <= radii).any(1).mean())

    return PrecisionRecall(covered(fake, real), covered(real, fake))


def frechet(real: Float[np.ndarray, "rows features"], fake: Float[np.ndarray, "samples features"]) -> float:
    """Compute the Fréchet distance of two Gaussians fitted to points (Heusel et al. 2017, equation 6).

    The trace of the matrix square root is the sum of roots of the eigenvalues of a symmetric product. These stay real
    if there are more features than points.
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
    """Return the measure of a VAE's Eval: negative_elbo and negative_bound, in nats per example.

    negative_bound is the importance-weighted bound from `samples` draws (Burda et al. 2016, equation 8). It is tighter
    than the ELBO, and tends to the likelihood as `samples` grows. The noise is the same for all batches and
    evaluations.
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
