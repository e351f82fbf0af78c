"""Questions that take many runs of one experiment.

    cross_validation   the mean and spread over folds
    reproduce          claims against seeds, stored in experiments/reproductions/

Both call `research.verbs.train`; a finished run is not trained twice, so that a study continues where it was cut off.
The search over knobs is `research.search`. To add a study, copy `cross_validation.py`.
"""
