"""What is minimised: makers of a Loss, `(params, ctx) -> (scalar, Out)`.

An experiment takes one as `loss=`. A maker takes Models and options, and gives a pure function whose randomness comes
from `ctx.key`. `metrics["loss"]` is a Mean whose value is the scalar; examples of mask 0 have no weight.
Terms that are array functions are in `research.losses`. An objective with a memory (a queue) is a Technique.

    supervised        classify, regress, language, multi_task (uncertainty, grad_norm), deep_supervision
    Loss -> Loss      adversarial, trades, mix (mixup, cutmix), maml, elastic (continual learning)
    self-supervised   simclr, moco, byol, masked_patches, masked_tokens
    few labels        pseudo_label, fixmatch (alignment), mean_teacher, distil (teacher)
    other domains     domain_adversarial, mmd
    generative        gan, vae

To add one, copy `classify.py`; for `Loss -> Loss`, `adversarial.py`; with a memory, `moco.py`.
"""
