"""Losses of PyTorch, segmentation-models-pytorch and pytorch-metric-learning, with their gradients."""

import sys
import types
from importlib.metadata import distribution

import numpy as np

PACKAGES = ("torch==2.13.0", "segmentation-models-pytorch==0.6.0", "pytorch-metric-learning==2.9.0")


def values():
    import torch
    import torch.nn.functional as F
    from pytorch_metric_learning import losses as metric_losses
    from pytorch_metric_learning import miners

    # Only its losses: the package itself imports timm and torchvision, whose operators need a matching build of torch.
    package = types.ModuleType("segmentation_models_pytorch")
    package.__path__ = [str(distribution("segmentation-models-pytorch").locate_file(package.__name__))]
    sys.modules[package.__name__] = package
    from segmentation_models_pytorch import losses as smp

    rng = np.random.default_rng(7)
    stored = {}

    def store(name, loss, *arrays):
        """Store the inputs, the value and the gradient of the sum with respect to the first input."""
        inputs = [torch.tensor(array) for array in arrays]
        inputs[0].requires_grad_()
        value = loss(*inputs)
        value.sum().backward()
        stored.update({f"{name}_{i}": array for i, array in enumerate(arrays)})
        stored.update({f"{name}_value": value.detach().numpy(), f"{name}_gradient": inputs[0].grad.numpy()})

    def normal(*shape, scale=1.0):
        return (scale * rng.normal(size=shape)).astype(np.float32)

    logits, yes = normal(6, 4, scale=3), (rng.random((6, 4)) < 0.4).astype(np.float32)
    weight = np.array([0.5, 1.0, 3.0, 8.0], np.float32)
    bce = F.binary_cross_entropy_with_logits
    store("bce", lambda x, y: bce(x, y, reduction="none"), logits, yes)
    store("bce_weighted", lambda x, y, w: bce(x, y, pos_weight=w, reduction="none"), logits, yes, weight)
    store("smooth_l1", lambda x, y: F.smooth_l1_loss(x, y, beta=0.3, reduction="none"), logits, normal(6, 4))
    store("poisson", lambda x, y: F.poisson_nll_loss(x, y, reduction="none"), normal(8), rng.poisson(3, 8).astype("f4"))

    pixels, classes = normal(2, 5, 6, 3, scale=2), rng.integers(3, size=(2, 5, 6))

    def per_image(loss):
        return lambda x, y: torch.stack([loss(x[i : i + 1].movedim(-1, 1), y[i : i + 1]) for i in range(len(x))])

    store("dice", per_image(smp.DiceLoss("multiclass", smooth=1.0)), pixels, classes)
    store("tversky", per_image(smp.TverskyLoss("multiclass", smooth=1.0, alpha=0.3, beta=0.7)), pixels, classes)
    store("lovasz", per_image(smp.LovaszLoss("multiclass", per_image=True)), pixels, classes)
    only = np.where(classes == 2, 0, classes)  # a class that is absent
    store("lovasz_absent", per_image(smp.LovaszLoss("multiclass", per_image=True)), pixels, only)
    flat = pixels[..., 0]
    focal = smp.FocalLoss("binary", alpha=0.25, gamma=2.0, reduction="none")
    store("focal", lambda x, y: focal(x, y).reshape(x.shape), flat, (classes > 0).astype("f4"))

    def ctc(x, y, steps, lengths):
        return F.ctc_loss(x.log_softmax(-1).movedim(1, 0), y, steps, lengths, blank=2, reduction="none")

    labels = np.where(rng.integers(5, size=(3, 4)) == 2, 3, rng.integers(3, 6, size=(3, 4)))
    labels[0, :2] = 4  # equal neighbours need a blank between them
    store("ctc", ctc, normal(3, 9, 6), labels, np.array([9, 7, 8]), np.array([4, 2, 3]))

    anchors, positives, negatives = normal(5, 3), normal(5, 3), normal(5, 3)
    triplet = lambda a, p, n: F.triplet_margin_loss(a, p, n, margin=1.5, eps=0.0, reduction="none")
    store("triplet", triplet, anchors, positives, negatives)

    embeddings, names = normal(10, 3), np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3])
    from pytorch_metric_learning.distances import LpDistance

    plain = LpDistance(normalize_embeddings=False)
    loss = metric_losses.TripletMarginLoss(margin=0.7, distance=plain)
    hard = miners.BatchHardMiner(distance=plain)
    semi = miners.TripletMarginMiner(margin=0.7, type_of_triplets="semihard", distance=plain)
    store("mined_hard", lambda x, y: loss(x, y, hard(x, y)), embeddings, names)
    store("mined_semi_hard", lambda x, y: loss(x, y, semi(x, y)), embeddings, names)
    store("mined_all", lambda x, y: loss(x, y), embeddings, names)
    cosines = lambda q, k: F.normalize(q) @ F.normalize(k).T
    nce = lambda q, k: F.cross_entropy(cosines(q, k) / 0.2, torch.arange(5), reduction="none")
    store("info_nce", nce, normal(5, 4), normal(5, 4))

    # The library's loss is linear in the distance; Hadsell et al. 2006 have half of its square.
    from pytorch_metric_learning.reducers import DoNothingReducer

    linear = metric_losses.ContrastiveLoss(
        pos_margin=0, neg_margin=1.2, distance=plain, reducer=DoNothingReducer()
    )  # fmt: skip

    def contrastive(first, second, same):
        count, rows = len(first), torch.arange(len(first))
        pairs = (rows[same], count + rows[same], rows[~same], count + rows[~same])
        found = linear(torch.cat([first, second]), torch.zeros(2 * count), pairs)
        value = torch.zeros(count)
        for part, places in (("pos_loss", rows[same]), ("neg_loss", rows[~same])):
            value = value.index_put((places,), found[part]["losses"] ** 2 / 2)
        return value

    store("contrastive", contrastive, normal(8, 3), normal(8, 3), np.arange(8) % 2 == 0)
    return stored
