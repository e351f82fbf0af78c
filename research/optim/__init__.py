"""Optimizers, schedules, weight averages and evaluation-driven decisions, built from optax transformations.

An optimizer is an optax transformation, a schedule is `step -> value`, and anything with a memory is a Technique.

    optimizers    muon, compact_state (state in 16 bits, or in host memory)
    schedules     schedules (step -> value)
    masks         decay (which parameters weight decay applies to)
    fine-tuning   layerwise (a learning rate by depth or by path), unfreezing (groups that are trained from a step on)
    averages      ema, averaging (stochastic weight averaging), target (a delayed copy): Techniques with a `view`
    decisions     observe (early stopping, plateau): Techniques with an `observe`

To add one, copy `schedules.py`; for one with a memory, copy `ema.py`.
"""
