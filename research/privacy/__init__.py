"""The privacy cost of a training run.

The mechanism itself is `research.gradients.private` on batches of `research.data.sampling.poisson`. Needs the extra
`privacy`.

    accountant   epsilon for noise and steps, and the noise for a wanted epsilon
    ledger       the epsilon spent so far, among a run's metrics and evaluations

To add a mechanism, write its estimator in `research/gradients/` and its cost here; copy `accountant.py`.
"""
