"""What happens to weights and their updates: optax transformations, schedules, averages, decisions.

    optimizers    muon, memory (state in 16 bits, or in the host's memory)
    schedules     schedules (step -> value)
    masks         decay (which parameters weight decay applies to)
    averages      ema, averaging (stochastic weight averaging), target (a lagging copy): Techniques with a `view`
    decisions     observe (early stopping, plateau): Techniques with an `observe`

To add one, copy `schedules.py`; with a memory, `ema.py`.
"""
