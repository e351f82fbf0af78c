"""The GPT-2 whose generated sequences are stored: its weights as ours."""

import numpy as np

from research.core import Trained
from research.model import from_nnx
from research.models.gpt import GPT
from tests.truth import load

SIZES = dict(vocabulary=12, length=24, width=8, depth=2, heads=2)
TRUTH = load("transformers_logits")


def gpt2(**options) -> Trained:
    model = from_nnx(lambda rngs: GPT(**SIZES, **options, rngs=rngs))
    there = lambda name: TRUTH[f"gpt2/transformer.{name}"]
    linear = lambda name: {"kernel": there(f"{name}.weight"), "bias": there(f"{name}.bias")}  # Conv1D is [in, out]
    norm = lambda name: {"scale": there(f"{name}.weight"), "bias": there(f"{name}.bias")}

    def block(name):
        qkv = {part: np.split(x, 3, axis=-1) for part, x in linear(f"{name}.attn.c_attn").items()}
        attention = {letter: {part: x[i] for part, x in qkv.items()} for i, letter in enumerate("qkv")}
        return {
            "attention_norm": norm(f"{name}.ln_1"), "feed_forward_norm": norm(f"{name}.ln_2"),
            "attention": attention | {"out": linear(f"{name}.attn.c_proj")},
            "feed_forward": {"up": linear(f"{name}.mlp.c_fc"), "down": linear(f"{name}.mlp.c_proj")},
        }  # fmt: skip

    params = {
        "embed": {"embedding": there("wte.weight")}, "place": {"embedding": there("wpe.weight")},
        "blocks": {str(i): block(f"h.{i}") for i in range(SIZES["depth"])}, "norm": norm("ln_f"),
    }  # fmt: skip
    return Trained(model.apply, params, {})
