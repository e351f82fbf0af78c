"""GPT-2 of transformers: names on disk, logits, loss and a gradient for random weights."""

import numpy as np

from tests.truth._checkpoint import as_text, drawn, reloaded, saved

PACKAGES = ("torch==2.13.0", "transformers==5.24.0", "safetensors==0.8.0")
SEED = 3


def values():
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=31, n_positions=12, n_embd=16, n_layer=2, n_head=4)
    shapes, written = saved(GPT2LMHeadModel(config))
    model = reloaded(GPT2LMHeadModel(config), drawn(shapes, seed=SEED))
    tokens = np.random.RandomState(0).randint(0, 31, (2, 11))
    out = model(torch.tensor(tokens), labels=torch.tensor(tokens))
    out.loss.backward()
    return {
        "shapes": as_text(shapes),
        "config": as_text(written),
        "seed": SEED,
        "tokens": tokens,
        "logits": out.logits.detach().numpy(),
        "loss": out.loss.item(),
        "gradient": model.transformer.wpe.weight.grad.numpy(),
    }
