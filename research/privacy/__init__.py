"""Privacy accounting: the privacy cost (epsilon) of a training run.

The mechanism itself is `research.gradients.private` on batches of `research.data.sampling.poisson`. Requires the extra
`privacy`.

    accountant   epsilon for a given noise and number of steps, and the noise for a target epsilon
    ledger       the epsilon spent so far, among a run's metrics and evaluations

To add a mechanism, write its estimator in `research/gradients/` and its accounting here; copy `accountant.py`.
"""
