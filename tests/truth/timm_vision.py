"""A ResNet and a ViT of timm, and a ViT of torchvision: names, logits and a gradient for random weights."""

import numpy as np

from tests.truth._checkpoint import as_text, drawn, import_torchvision

PACKAGES = ("torch==2.13.0", "torchvision==0.28.0", "timm==1.0.31")
SEED = 5


def values():
    import torch

    torchvision, _library = import_torchvision()
    from timm.models.resnet import Bottleneck, ResNet
    from timm.models.vision_transformer import VisionTransformer

    images = np.random.RandomState(1).standard_normal((2, 16, 16, 3)).astype(np.float32)
    their_vit = torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=4, hidden_dim=16, mlp_dim=64, num_classes=3
    )
    resnet = ResNet(Bottleneck, (1, 2), channels=(64, 128), num_classes=3)
    resnet.layer3 = resnet.layer4 = torch.nn.Identity()  # its forward pass expects four stages
    models = {
        "resnet": resnet,
        "vit": VisionTransformer(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=4, num_classes=3),
        "torchvision": their_vit,
    }
    stored = {"images": images}
    for name, model in models.items():
        shapes = {key: list(x.shape) for key, x in model.state_dict().items()}
        weights = {key: torch.tensor(x) for key, x in drawn(shapes, seed=SEED).items()}
        model.load_state_dict(weights)
        model.eval()
        x = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
        logits = model(x)
        logits.square().sum().backward()
        stored |= {
            f"{name}/shapes": as_text(shapes),
            f"{name}/config": as_text({}),
            f"{name}/seed": SEED,
            f"{name}/logits": logits.detach().numpy(),
            f"{name}/gradient": x.grad.numpy().transpose(0, 2, 3, 1),
        }
    return stored
