"""Sample batches from data sets: the records of a batch are a pure function of (seed, step, row).

`source.py` defines the protocols. A TrainingSource is `source(seed)(step, rows=) -> batch`; an EvaluationSource is
`source(step, rows=) -> batch`, with a mask. Sources have no state to restore: random access makes resuming exact.

    training      batches, mixture, paired (with unlabelled), poisson, clients (federated), few_shot, sequence,
                  by_length (few entries of padding)
    evaluation    batches (eval_batches)
    splits        splits (stratified, shuffled, grouped, chronological, folds, nested_folds, time_folds)
    the loop      prefetch, process_rows

To add a training source, copy `paired.py`.
"""
