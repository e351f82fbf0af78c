"""Batches out: which records come at which step, as pure functions of (seed, step, row).

`source.py` has the protocols: a TrainingSource is `source(seed)(step, rows=) -> batch`, an EvaluationSource
is `source(step, rows=) -> batch` with a mask. Nothing is restored: random access makes resuming exact.

    training      batches, mixture, paired (with unlabelled), poisson, clients (federated), few_shot, sequence
    evaluation    batches (eval_batches)
    records       splits (stratified, shuffled, folds)
    the loop      prefetch, process_rows

To add a training source, copy `paired.py`.
"""
