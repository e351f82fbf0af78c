"""Wrappers, `Model -> Model`, which change any Model from outside.

A wrapper takes a Model and returns one with the same `init(key)` and `apply(params, stats, *inputs, key=, train=)`. The
change therefore applies to training, evaluation, prediction and export. If a wrapper moves or adds parameters, its
`init` does so too. Wrappers compose; their docstrings state the order if it matters.

    inputs        preprocess (a fixed transformation)
    parameters    frozen (excluded from training, such as all but the last layers)
    fine-tuning   lora (low-rank updates of frozen kernels), adapters (bottlenecks), prompt (vectors before a row),
                  prefix (keys and values before a row), tuned (their common part)
    arithmetic    mixed_precision (16 bits)
    several       chain (models in sequence; part applies one of them), features (of a frozen network, for another)
    outputs       test_time (averages over augmented copies of an input)

To add one, copy `preprocess.py`; copy `adapters.py` if it adds parameters to frozen ones.
"""
