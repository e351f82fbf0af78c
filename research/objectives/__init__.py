"""Training objectives: functions that make a Loss, `(params, ctx) -> (scalar, Out)`.

Pass the Loss to an experiment as `loss=`. These functions take Models and options; the Loss is pure, and its randomness
comes from `ctx.key`. `metrics["loss"]` is a Mean whose value is the scalar; examples of mask 0 have no weight. Loss
terms on arrays are in `research.losses`. An objective with a memory, such as a queue, is a Technique.

    supervised        classify, multi_label, regress, language (also pairs), multi_task (uncertainty, grad_norm),
                      deep_supervision
    Loss -> Loss      adversarial, mix (mixup, cutmix), maml, elastic (continual learning)
    robust            trades
    embeddings        triplets, retrieve (texts for a query)
    times to events   survival
    words             tag, dependencies (trees)
    self-supervised   simclr, moco, byol, masked_patches, masked_tokens
    few labels        pseudo_label, fixmatch (alignment), mean_teacher, distil (teacher), prototypes (few-shot)
    other domains     domain_adversarial, mmd
    word vectors      word_vectors (skip-gram, CBOW, GloVe)
    generative        gan, vae
    preferences       preference (DPO, IPO)

To add one, copy `classify.py`; copy `adversarial.py` for `Loss -> Loss`, and `moco.py` for one with a memory.
"""
