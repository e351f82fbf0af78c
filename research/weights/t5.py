"""T5, T5 1.1 and Flan-T5 in the layout of transformers (`T5ForConditionalGeneration`)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from research.errors import UserError
from research.layers.activations import gelu_tanh
from research.weights.layout import Layout
from research.weights.options import check_options

MODEL = "T5"
ARCHITECTURES = ("t5",)
# {name in a config.json: (activation, gated)}
FEED_FORWARD = {"relu": (jax.nn.relu, False), "gated-gelu": (gelu_tanh, True), "gated-silu": (jax.nn.silu, True)}


def transformers(
    *, vocabulary=32_128, width=512, depth=6, decoder_depth=None, heads=8, head_width=64, hidden=2048,
    activation: Callable = jax.nn.relu, gated=False, tied=True, scaled=None, buckets=32, max_distance=128,
    epsilon=1e-6, dropout=0.0,
) -> Layout:  # fmt: skip
    """Return the layout of a `T5` with these arguments. Raises UserError for an activation without a name there."""
    names = [name for name, pair in FEED_FORWARD.items() if pair == (activation, gated)]
    if not names:
        raise UserError(f"transformers has no name for T5 with {activation}, gated={gated}; it has {[*FEED_FORWARD]}.")
    decoder_depth = decoder_depth or depth
    table = {"embed": "shared", **({} if tied else {"head": "lm_head"})}
    for part, number, last in (("encoder", depth, 1), ("decoder", decoder_depth, 2)):
        table[f"{part}/norm"] = f"{part}.final_layer_norm"
        table[f"{part}/bias/embed"] = f"{part}.block.0.layer.0.SelfAttention.relative_attention_bias"
        inner = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
        layer = {
            "attention_norm": "0.layer_norm",
            **{f"attention/{name}": f"0.SelfAttention.{name[0]}" for name in ("q", "k", "v", "out")},
            "feed_forward_norm": f"{last}.layer_norm",
            **{f"feed_forward/{ours}": f"{last}.DenseReluDense.{theirs}" for ours, theirs in inner.items()},
        }
        if part == "decoder":
            layer["cross_attention_norm"] = "1.layer_norm"
            layer |= {f"cross_attention/{name}": f"1.EncDecAttention.{name[0]}" for name in ("q", "k", "v", "out")}
        for i in range(number):
            table |= {f"{part}/blocks/{i}/{ours}": f"{part}.block.{i}.layer.{name}" for ours, name in layer.items()}
    config = {
        "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "vocab_size": vocabulary,
        "d_model": width, "d_kv": head_width, "d_ff": hidden, "num_layers": depth,
        "num_decoder_layers": decoder_depth, "num_heads": heads, "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": max_distance, "dropout_rate": dropout, "layer_norm_epsilon": epsilon,
        "feed_forward_proj": names[0], "tie_word_embeddings": tied,
        "scale_decoder_outputs": tied if scaled is None else scaled, "is_encoder_decoder": True, "pad_token_id": 0,
        "eos_token_id": 1, "decoder_start_token_id": 0, "dtype": "float32",
    }  # fmt: skip
    copies = {f"{part}.embed_tokens.weight": "shared.weight" for part in ("encoder", "decoder")}
    if tied:
        copies["lm_head.weight"] = "shared.weight"
    return Layout(
        table=table, config=config, tied=copies, ignored=r"EncDecAttention\.relative_attention_bias\.weight$"
    )  # fmt: skip


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `T5`, except for dropout, for a config.json of transformers.

    Raises UserError for another architecture, and for an option that `T5` does not support.
    """
    check_options(config, model_type=ARCHITECTURES, feed_forward_proj=tuple(FEED_FORWARD))
    activation, gated = FEED_FORWARD[config.get("feed_forward_proj", "relu")]
    names = {
        "vocabulary": ("vocab_size", 32_128), "width": ("d_model", 512), "depth": ("num_layers", 6),
        "heads": ("num_heads", 8), "head_width": ("d_kv", 64), "hidden": ("d_ff", 2048),
        "buckets": ("relative_attention_num_buckets", 32), "max_distance": ("relative_attention_max_distance", 128),
        "epsilon": ("layer_norm_epsilon", 1e-6), "tied": ("tie_word_embeddings", True),
    }  # fmt: skip
    found = {ours: config.get(theirs, default) for ours, (theirs, default) in names.items()}
    found["decoder_depth"] = config.get("num_decoder_layers") or found["depth"]
    # A T5 1.1 that transformers initialised has one matrix for both ends, but is not scaled.
    found["scaled"] = config.get("scale_decoder_outputs", found["tied"])
    return {**found, "activation": activation, "gated": gated}
