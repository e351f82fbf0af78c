"""`Model -> Model`: changes from outside, of any model.

A wrapper takes a Model and gives one with the same `init(key)` and `apply(params, stats, *inputs, key=, train=)`, thus
the change holds in training, evaluation, prediction and export alike. Wrappers compose; the docstring says in which
order. If a wrapper moves or adds parameters, its `init` does so too.

    inputs        preprocess (a fixed transformation)
    parameters    frozen (kept out of the optimizer's reach)
    arithmetic    mixed_precision (16 bits)
    several       chain (models in a row, and a part of one)
    outputs       test_time (averages over changed copies of an input)

To add one, copy `preprocess.py`; `frozen.py` if it changes the parameters.
"""
