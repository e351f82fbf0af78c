"""GPT-2 in the layout of transformers (`GPT2LMHeadModel`)."""

from collections.abc import Mapping
from typing import Any

from research.weights.layout import At, Layout
from research.weights.options import check_options

MODEL = "GPT"
ARCHITECTURES = ("gpt2",)


def transformers(*, vocabulary=50_257, length=1024, width=768, depth=12, heads=12, dropout=0.0) -> Layout:
    """Return the layout of a `GPT` with these arguments."""
    table = {"embed": "transformer.wte", "place": "transformer.wpe", "norm": "transformer.ln_f"}
    for i in range(depth):
        # Their linear layers store [in, out], like ours.
        linear = lambda name, i=i, **part: At(f"transformer.h.{i}.{name}", axes=(0, 1), along=-1, **part)
        layers = {
            "attention_norm": f"transformer.h.{i}.ln_1",
            "feed_forward_norm": f"transformer.h.{i}.ln_2",
            **{f"attention/{name}": linear("attn.c_attn", part=n) for n, name in enumerate("qkv")},
            "attention/out": linear("attn.c_proj"),
            "feed_forward/up": linear("mlp.c_fc"),
            "feed_forward/down": linear("mlp.c_proj"),
        }
        table |= {f"blocks/{i}/{ours}": theirs for ours, theirs in layers.items()}
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": vocabulary, "n_positions": length,
        "n_embd": width, "n_layer": depth, "n_head": heads, "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5, "embd_pdrop": dropout, "resid_pdrop": dropout, "attn_pdrop": 0.0,
        "bos_token_id": vocabulary - 1, "eos_token_id": vocabulary - 1, "dtype": "float32",
    }  # fmt: skip
    return Layout(
        table=table, config=config, prefix="transformer.", tied={"lm_head.weight": "transformer.wte.weight"},
        ignored=r"\.attn\.(masked_)?bias$",
    )  # fmt: skip


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `GPT`, except for dropout, for a config.json of transformers.

    Raises UserError for another architecture, and for an option that `GPT` does not support.
    """
    width = config.get("n_embd", 768)
    check_options(
        config, model_type=ARCHITECTURES, activation_function=("gelu_new", "gelu_pytorch_tanh"),
        layer_norm_epsilon=(1e-5,), n_inner=(None, 4 * width), scale_attn_weights=(True,),
        scale_attn_by_inverse_layer_idx=(False,), add_cross_attention=(False,), tie_word_embeddings=(True,),
    )  # fmt: skip
    names = {"vocabulary": "vocab_size", "length": "n_positions", "depth": "n_layer", "heads": "n_head"}
    defaults = {"vocabulary": 50_257, "length": 1024, "depth": 12, "heads": 12}
    return {"width": width, **{ours: config.get(theirs, defaults[ours]) for ours, theirs in names.items()}}
