"""Gradient estimators: `Loss -> GradFn` and `GradFn -> GradFn`, with `GradFn = (params, ctx) -> (grads, Out)`.

Pass one to an experiment as `grad_fn=`. Estimators compose: `accumulate(sam(gradient(loss)), 4)`. Each equals
`research.core.gradient` in a limit that its docstring states and `tests/test_limits.py` checks. An estimator with a
memory is a Technique.

    memory and devices   accumulate (microbatches), averaged (over a named axis), loss_scale (float16)
    communication        compressed (top_k, int8, sign), delayed (stale gradients)
    federated            federated (rounds of clients), secure (masked sums)
    privacy              private (DP-SGD)
    flat minima          sharpness (SAM, ASAM)

To add one, copy `sharpness.py`; for one with a memory, copy `delayed.py`.
"""
