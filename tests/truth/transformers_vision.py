"""ResNets and a ViT of transformers: names on disk, logits and a gradient for random weights."""

import numpy as np

from tests.truth._checkpoint import as_text, drawn, import_torchvision, reloaded, saved

PACKAGES = ("torch==2.13.0", "torchvision==0.28.0", "transformers==5.24.0", "safetensors==0.8.0")
SEED = 5


def values():
    import torch

    _library = import_torchvision()
    import transformers

    resnet = {"num_labels": 3, "depths": [1, 2]}
    basic = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], layer_type="basic", **resnet)
    bottleneck = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[32, 64], layer_type="bottleneck", **resnet)
    vit = transformers.ViTConfig(
        image_size=16, patch_size=4, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        num_labels=3,
    )  # fmt: skip
    models = {
        "basic": transformers.ResNetForImageClassification(basic),
        "bottleneck": transformers.ResNetForImageClassification(bottleneck),
        "vit": transformers.ViTForImageClassification(vit),
    }
    images = np.random.RandomState(1).standard_normal((2, 16, 16, 3)).astype(np.float32)
    stored = {"images": images}
    for name, model in models.items():
        shapes, written = saved(model)
        model = reloaded(model, drawn(shapes, seed=SEED))
        x = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
        logits = model(x).logits
        logits.square().sum().backward()
        stored |= {
            f"{name}/shapes": as_text(shapes),
            f"{name}/config": as_text(written),
            f"{name}/seed": SEED,
            f"{name}/logits": logits.detach().numpy(),
            f"{name}/gradient": x.grad.numpy().transpose(0, 2, 3, 1),
        }
    return stored
