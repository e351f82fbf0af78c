"""Measures for evaluations, and `finish` functions that compute metrics from every score.

A `measure_*` function returns the measure of an Eval: `measure(trained, batch) -> {name: metric state | Rows}`. A
metric state is a tuple of sums with a `value()`. States add up, thus the result is exact for any batch size and any
number of devices. `finish` functions run on the host and compute metrics that need every score. Some measures reuse the
loss of an objective, therefore this subpackage may import `research.objectives`.

    classes      classification, curves (ROC, precision-recall), hierarchy, scores, slices, difference (tests)
    labels       multi_label (several per example)
    numbers      regression
    survival     survival (concordance)
    tokens       language, masked_tokens
    words        word_vectors (similarity, analogies, neighbours), on the host
    features     probe, adaptation (few-shot)
    raters       agreement (Fleiss' kappa, Krippendorff's alpha)
    samples      generative

To add a measure, copy `regression.py`.
"""
