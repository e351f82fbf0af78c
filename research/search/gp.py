"""Gaussian-process search: the setting of the knobs from which most improvement is expected.

optuna's own needs PyTorch; this one needs scikit-learn, which is here anyway.
"""

import warnings

import numpy as np
from scipy import stats

from research.search.space import Choices, Range, Space

STARTUP = 8  # trials at random
CANDIDATES, NEAR = 2000, 500  # points at which the expected improvement is compared; of them around the best trials
LENGTHS, NOISE = (0.05, 10.0), (1e-6, 0.3)  # bounds of the length scales (the unit cube is the space) and the noise


def propose(space: Space, trials, *, mode: str, seed) -> dict | None:
    """Knobs {name: value} that maximise expected improvement (Jones et al. 1998) under a Matern-5/2 process.

    Values are replaced by normal scores of their ranks, so that a diverged trial does not flatten the rest. Trials
    that run are taken to be as good as the model expects, so that workers do not crowd. None while fewer than
    `STARTUP` trials have a value. `seed` is anything that numpy's generator takes.
    """
    done = [t for t in trials if t.state.is_finished() and t.value is not None and "same_as" not in t.user_attrs]
    if len(done) < STARTUP:
        return None
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    rng = np.random.default_rng(seed)
    known = np.stack([encode(space, t.params) for t in done])
    values = np.asarray([t.value for t in done]) * (1 if mode == "max" else -1)
    scores = stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values))
    kernel = ConstantKernel(1.0) * Matern(np.ones(known.shape[1]), LENGTHS, nu=2.5) + WhiteKernel(1e-3, NOISE)
    process = GaussianProcessRegressor(kernel, n_restarts_optimizer=1, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length scale at its bound says that a knob does not matter
        process.fit(known, scores)
        if running := [encode(space, t.params) for t in trials if t.state.name == "RUNNING" and t.params]:
            known, scores = np.vstack([known, running]), np.append(scores, process.predict(np.stack(running)))
            process.set_params(kernel=process.kernel_, optimizer=None).fit(known, scores)
    best = [done[i].params for i in np.argsort(-values)[:5]]
    points = [_drawn(space, rng) for _ in range(CANDIDATES)]
    points += [_drawn(space, rng, around=best[i % len(best)]) for i in range(NEAR)]
    mean, deviation = process.predict(np.stack([encode(space, point) for point in points]), return_std=True)
    noise = process.kernel_.k2.noise_level  # it is in the deviation, and no trial can improve on it
    deviation = np.sqrt(np.maximum(deviation**2 - noise, 0))
    return points[int(np.argmax(expected_improvement(mean, deviation, scores.max())))]


def expected_improvement(mean, deviation, best):
    """E[max(0, f - best)] for f normal with that mean and standard deviation (arrays of one shape)."""
    z = (mean - best) / np.maximum(deviation, 1e-9)
    return deviation * (z * stats.norm.cdf(z) + stats.norm.pdf(z))


def encode(space: Space, params) -> np.ndarray:
    """The searched knobs as a point of the unit cube: a choice has an axis for each of its values."""
    point = []
    for name, of in space.searched.items():
        if isinstance(of, Choices):
            point += [float(params[name] == value and type(params[name]) is type(value)) for value in of.values]
        else:
            point.append(_share(of, params[name]))
    return np.asarray(point)


def _share(of: Range, value) -> float:
    scale = np.log if of.log else float
    return (scale(value) - scale(of.low)) / (scale(of.high) - scale(of.low))


def _drawn(space, rng, around=None) -> dict:
    """A setting at random: anywhere, or near another one."""
    point = {}
    for name, of in space.searched.items():
        if isinstance(of, Choices):
            stay = around is not None and rng.random() < 0.8
            point[name] = around[name] if stay else of.values[rng.integers(len(of.values))]
            continue
        share = rng.random() if around is None else np.clip(_share(of, around[name]) + 0.05 * rng.normal(), 0, 1)
        low, high = (np.log(of.low), np.log(of.high)) if of.log else (of.low, of.high)
        value = low + share * (high - low)
        value = float(np.exp(value)) if of.log else float(value)
        value = round(value) if isinstance(of.low, int) else value
        point[name] = min(max(value, of.low), of.high)
    return point
