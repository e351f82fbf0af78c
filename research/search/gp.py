"""Gaussian-process search: propose the knobs with the largest expected improvement.

optuna's own Gaussian-process sampler needs PyTorch; this one needs scikit-learn, which is already a dependency.
"""

import warnings

import numpy as np
from scipy import stats

from research.search.space import Choices, Range, Space

STARTUP = 8  # random trials before the first proposal
CANDIDATES, NEAR = 2000, 500  # candidate points: uniform in the space, and near the best trials
LENGTHS, NOISE = (0.05, 10.0), (1e-6, 0.3)  # bounds of the length scales (in the unit cube) and of the noise


def propose(space: Space, trials, *, mode: str, seed) -> dict | None:
    """Propose knobs {name: value} that maximise expected improvement (Jones et al. 1998) under a Matern-5/2 process.

    Metric values are replaced by the normal scores of their ranks, so that one diverged trial does not flatten the
    differences between the rest. Running trials are assumed to score as the model predicts, so that parallel workers
    explore different points. Returns None while fewer than `STARTUP` trials have a value. `seed` is any seed that
    numpy's generator accepts.
    """
    finished = [t for t in trials if t.state.is_finished() and t.value is not None and "same_as" not in t.user_attrs]
    if len(finished) < STARTUP:
        return None
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    rng = np.random.default_rng(seed)
    points = np.stack([encode(space, t.params) for t in finished])
    values = np.asarray([t.value for t in finished]) * (1 if mode == "max" else -1)
    scores = stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values))
    kernel = ConstantKernel(1.0) * Matern(np.ones(points.shape[1]), LENGTHS, nu=2.5) + WhiteKernel(1e-3, NOISE)
    process = GaussianProcessRegressor(kernel, n_restarts_optimizer=1, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length scale at its bound only means an irrelevant knob
        process.fit(points, scores)
        if running := [encode(space, t.params) for t in trials if t.state.name == "RUNNING" and t.params]:
            points, scores = np.vstack([points, running]), np.append(scores, process.predict(np.stack(running)))
            process.set_params(kernel=process.kernel_, optimizer=None).fit(points, scores)
    best = [finished[i].params for i in np.argsort(-values)[:5]]
    candidates = [_draw(space, rng) for _ in range(CANDIDATES)]
    candidates += [_draw(space, rng, around=best[i % len(best)]) for i in range(NEAR)]
    mean, deviation = process.predict(np.stack([encode(space, point) for point in candidates]), return_std=True)
    noise = process.kernel_.k2.noise_level  # the deviation includes it, but noise is not improvement
    deviation = np.sqrt(np.maximum(deviation**2 - noise, 0))
    return candidates[int(np.argmax(expected_improvement(mean, deviation, scores.max())))]


def expected_improvement(mean, deviation, best):
    """Compute E[max(0, f - best)] for normal f with this mean and standard deviation (arrays of one shape)."""
    z = (mean - best) / np.maximum(deviation, 1e-9)
    return deviation * (z * stats.norm.cdf(z) + stats.norm.pdf(z))


def encode(space: Space, params) -> np.ndarray:
    """Encode the searched knobs as a point of the unit cube; a choice has one axis per value (one-hot)."""
    point = []
    for name, spec in space.searched.items():
        if isinstance(spec, Choices):
            point += [float(params[name] == value and type(params[name]) is type(value)) for value in spec.values]
        else:
            point.append(_scaled(spec, params[name]))
    return np.asarray(point)


def _scaled(spec: Range, value) -> float:
    scale = np.log if spec.log else float
    return (scale(value) - scale(spec.low)) / (scale(spec.high) - scale(spec.low))


def _draw(space, rng, around=None) -> dict:
    """Draw a random setting of the knobs, anywhere in the space or near `around`."""
    point = {}
    for name, spec in space.searched.items():
        if isinstance(spec, Choices):
            keep = around is not None and rng.random() < 0.8
            point[name] = around[name] if keep else spec.values[rng.integers(len(spec.values))]
            continue
        position = rng.random() if around is None else np.clip(_scaled(spec, around[name]) + 0.05 * rng.normal(), 0, 1)
        low, high = (np.log(spec.low), np.log(spec.high)) if spec.log else (spec.low, spec.high)
        value = low + position * (high - low)
        value = float(np.exp(value)) if spec.log else float(value)
        value = round(value) if isinstance(spec.low, int) else value
        point[name] = min(max(value, spec.low), spec.high)
    return point
