"""Measures for evaluations, and `finish` functions that compute metrics from every score.

A `measure_*` function returns the measure of an Eval: `measure(trained, batch) -> {name: metric state | Rows}`. A
metric state is a tuple of sums with a `value()`. States add up, thus the result is exact for any batch size and any
number of devices. `finish` functions run on the host and compute metrics that need every score. Some measures reuse the
loss of an objective, therefore this subpackage may import `research.objectives`.

    classes      classification, curves (ROC, precision-recall), hierarchy, scores, slices, difference (tests)
    labels       multi_label (several per example)
    numbers      regression
    survival     survival (concordance)
    tokens       language, masked_tokens, preference (pairs of responses)
    words        word_vectors (similarity, analogies, neighbours), on the host
    search       retrieval (ranks of the texts that answer queries)
    texts        texts (the `finish` of an Eval), bleu, chrf, rouge (with stem), edits (WER, CER), answers (SQuAD)
    pairs        translation (the loss of an encoder-decoder, and the targets that it decodes)
    tags         tagging, entities (BIO, IOBES), attachment (dependency trees)
    features     probe, adaptation (few-shot: gradient steps, prototypes)
    raters       agreement (Fleiss' kappa, Krippendorff's alpha)
    samples      generative

Metrics of texts are functions of two lists, `bleu(hypotheses, references)`, that return a state; `text_scores` makes a
`finish` of them. To add a measure, copy `regression.py`; for a metric of texts, `chrf.py`.
"""
