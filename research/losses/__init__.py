"""Losses as array functions: one f32 value per example or per entry, not reduced.

A loss is `loss(outputs, targets) -> values`. A loss with parameters is made first, `focal(2.0)(logits, labels)`. Logits
are unnormalised; integer labels out of range give NaN, and wrong shapes raise UserError. `objectives` turns these
functions into the Loss of an experiment, for example `classify(model, per_example=losses.focal(2.0))`, and weights
examples and classes there.

    one label          cross_entropy, focal, multiclass_hinge, class_balanced (weights of classes); hits
    yes or no, several labels    binary_cross_entropy, binary_focal, hinge
    wrong labels       generalized, symmetric, bootstrapped, forward_corrected
    regions            tversky, dice, lovasz
    numbers            squared_error, absolute_error, huber, smooth_l1, log_cosh, quantile, poisson, tweedie
    embeddings         contrastive, triplet, mined_triplet, info_nce; l2_normalize
    preferences        dpo, ipo
    trees of classes   ancestors, hierarchical
    sequences          ctc
    survival           cox
    distributions      kl_divergence, entropy
    sums               combined

To add a loss, copy `binary.py`.
"""

from research.losses.binary import binary_cross_entropy, binary_focal, hinge
from research.losses.classification import (
    check_labels,
    class_balanced,
    cross_entropy,
    entropy,
    focal,
    hits,
    kl_divergence,
    multiclass_hinge,
)
from research.losses.combined import combined
from research.losses.embeddings import check_mining, contrastive, info_nce, l2_normalize, mined_triplet, triplet
from research.losses.hierarchy import ancestors, hierarchical
from research.losses.preference import dpo, ipo
from research.losses.regions import dice, lovasz, tversky
from research.losses.regression import (
    absolute_error,
    check_targets,
    huber,
    log_cosh,
    poisson,
    quantile,
    smooth_l1,
    squared_error,
    tweedie,
)
from research.losses.sequences import ctc
from research.losses.survival import cox
from research.losses.wrong_labels import bootstrapped, forward_corrected, generalized, symmetric

__all__ = [
    "absolute_error",
    "ancestors",
    "binary_cross_entropy",
    "binary_focal",
    "bootstrapped",
    "check_labels",
    "check_mining",
    "check_targets",
    "class_balanced",
    "combined",
    "contrastive",
    "cox",
    "cross_entropy",
    "ctc",
    "dice",
    "dpo",
    "entropy",
    "focal",
    "forward_corrected",
    "generalized",
    "hierarchical",
    "hinge",
    "hits",
    "huber",
    "info_nce",
    "ipo",
    "kl_divergence",
    "l2_normalize",
    "log_cosh",
    "lovasz",
    "mined_triplet",
    "multiclass_hinge",
    "poisson",
    "quantile",
    "smooth_l1",
    "squared_error",
    "symmetric",
    "triplet",
    "tversky",
    "tweedie",
]
