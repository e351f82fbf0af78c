"""How a gradient is estimated: `Loss -> GradFn` and `GradFn -> GradFn`, with `GradFn = (params, ctx) -> (grads, Out)`.

An experiment takes one as `grad_fn=`. They compose: `accumulate(private(loss, ...), 4)`. In a stated limit each equals
`research.core.gradient`, and `tests/test_limits.py` checks it. An estimator with a memory is a Technique.

    memory and devices   accumulate (microbatches), averaged (over a named axis), loss_scale (float16)
    communication        compressed (top_k, int8, sign), delayed (stale gradients)
    federated            federated (rounds of clients), secure (masked sums)
    privacy              private (DP-SGD)
    flat minima          sharpness (SAM, ASAM)

To add one, copy `sharpness.py`; with a memory, `delayed.py`.
"""
