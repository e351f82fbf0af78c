"""The measures of evaluations.

A `measure_*` maker gives the measure of an Eval: `measure(trained, batch) -> {name: metric state | Rows}`. A metric
state is a tuple of sums with a `value()`; states add up, thus batches of any size and any number of devices give the
exact number. A `finish` computes on the host the numbers that need all rows at once. This subpackage stands above
`research.objectives`, because some measures are an objective's own loss.

    classes      classification, scores (ROC, F1, composite), slices, difference (significance tests)
    numbers      regression
    tokens       language, masked_tokens
    features     probe, adaptation (few-shot)
    samples      generative

To add one, copy `regression.py`.
"""
