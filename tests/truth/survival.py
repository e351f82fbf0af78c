"""The partial likelihood of statsmodels with both treatments of ties, and the concordance of scikit-survival."""

import numpy as np

PACKAGES = ("statsmodels==0.15.0", "scikit-survival==0.28.0")


def values():
    from sksurv.metrics import concordance_index_censored
    from statsmodels.duration.hazard_regression import PHReg

    rng = np.random.default_rng(5)
    features = rng.normal(size=(40, 3)).astype(np.float32)
    weights = np.array([0.8, -0.5, 0.3], np.float32)
    times = np.ceil(rng.exponential(np.exp(-features @ weights)) * 5).astype(np.float32)  # many are equal
    events = rng.random(40) < 0.7
    stored = {"features": features, "weights": weights, "times": times, "events": events}
    for ties in ("breslow", "efron"):
        model = PHReg(times, features, status=events, ties=ties)
        stored[f"{ties}_loss"] = -model.loglike(weights)
        stored[f"{ties}_gradient"] = -model.score(weights)
        stored[f"{ties}_fitted"] = model.fit().params
    h = np.round(features @ weights, 1)
    stored |= {"hazards": h, "c_index": concordance_index_censored(events, times, h)[0]}
    return stored
