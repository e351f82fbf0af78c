"""Agreement of raters by statsmodels and krippendorff, and the consensus of a crowd by crowd-kit."""

import numpy as np

PACKAGES = ("statsmodels==0.15.0", "krippendorff==0.9.0", "crowd-kit==1.4.2")


def values():
    import krippendorff
    import pandas
    from crowdkit.aggregation import DawidSkene, MajorityVote
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    rng = np.random.default_rng(3)
    true = rng.integers(3, size=60)
    skill = np.array([0.9, 0.75, 0.6, 0.5, 0.8])
    wrong = (true + rng.integers(1, 3, size=(5, 60))) % 3
    ratings = np.where(rng.random((5, 60)) < skill[:, None], true, wrong)
    stored = {"ratings": ratings, "fleiss": fleiss_kappa(aggregate_raters(ratings.T)[0])}
    votes = np.where(rng.random((5, 60)) < 0.3, -1, ratings)
    stored["votes"] = votes
    numbers = np.where(votes < 0, np.nan, votes + 1.0)
    for level in ("nominal", "ordinal", "interval", "ratio"):
        stored[f"alpha_{level}"] = krippendorff.alpha(numbers, level_of_measurement=level)
    worker, task = np.nonzero(votes >= 0)
    frame = pandas.DataFrame({"worker": worker, "task": task, "label": votes[worker, task]})
    stored["shares"] = MajorityVote().fit_predict_proba(frame).sort_index()[[0, 1, 2]].to_numpy()
    model = DawidSkene(n_iter=1000, tol=1e-12)
    stored["probabilities"] = model.fit_predict_proba(frame).sort_index()[[0, 1, 2]].to_numpy()
    errors = model.errors_.sort_index()  # P(answer | truth), indexed by (worker, answer), one column a true label
    stored["confusion"] = np.stack([errors.loc[w].sort_index()[[0, 1, 2]].to_numpy().T for w in range(5)])
    return stored
