"""The weights of a GPT-2 of transformers as ours, and the GPT-2 whose generated sequences are stored."""

import numpy as np

from research.core import Trained
from research.model import from_nnx
from research.models.gpt import GPT
from tests.truth import load

SIZES = dict(vocabulary=12, length=24, width=8, depth=2, heads=2)
TRUTH = load("transformers_logits")


def gpt2() -> Trained:
    arrays = {name.removeprefix("gpt2/"): x for name, x in TRUTH.items() if name.startswith("gpt2/")}
    return Trained(from_nnx(lambda rngs: GPT(**SIZES, rngs=rngs)).apply, params_of(arrays, depth=SIZES["depth"]), {})


def params_of(arrays, *, depth: int) -> dict:
    """Our params from the state dict of a GPT2LMHeadModel."""
    there = lambda name: arrays[f"transformer.{name}"]
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

    return {
        "embed": {"embedding": there("wte.weight")}, "place": {"embedding": there("wpe.weight")},
        "blocks": {str(i): block(f"h.{i}") for i in range(depth)}, "norm": norm("ln_f"),
    }  # fmt: skip
