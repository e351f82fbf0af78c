"""LLaMA, Mistral, Qwen2 and Qwen3 in the layouts of transformers (`LlamaForCausalLM`, ...)."""

from collections.abc import Collection, Mapping
from typing import Any

from research.errors import UserError, format_names, unknown
from research.layers.rotary import Linear, Llama3, Scaling, Yarn
from research.weights.layout import Layout
from research.weights.options import check_options

QKV = ("q", "k", "v")
# The values of entries that the config.json of an architecture may omit.
DEFAULTS = {
    "llama": {"vocab_size": 32_000, "max_position_embeddings": 2048, "intermediate_size": 11_008},
    "mistral": {
        "vocab_size": 32_000, "max_position_embeddings": 131_072, "intermediate_size": 14_336,
        "num_key_value_heads": 8, "sliding_window": 4096,
    },
    "qwen2": {
        "vocab_size": 151_936, "max_position_embeddings": 32_768, "intermediate_size": 22_016,
        "num_key_value_heads": 32,
    },
    "qwen3": {
        "vocab_size": 151_936, "max_position_embeddings": 32_768, "intermediate_size": 22_016,
        "num_key_value_heads": 32, "head_dim": 128,
    },
}  # fmt: skip
MODEL = "LLaMA"
ARCHITECTURES = tuple(DEFAULTS)
CLASSES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def transformers(
    *, vocabulary=32_000, length=4096, width=4096, depth=32, heads=32, kv_heads=None, head_width=None, hidden=11_008,
    rope_base=10_000.0, rope_scaling: Scaling | None = None, epsilon=1e-5, window=None,
    use_bias: bool | Collection[str] = False, qk_norm=False, tied=False,
) -> Layout:  # fmt: skip
    """Return the layout of a `LLaMA` with these arguments.

    The architecture follows from them: Qwen3 has `qk_norm`, Qwen2 a bias in q, k and v, Mistral a window, and LLaMA
    none of these. Raises UserError for options that no architecture combines.
    """
    layer = {
        "attention_norm": "input_layernorm",
        "feed_forward_norm": "post_attention_layernorm",
        **{f"attention/{name}": f"self_attn.{name[0]}_proj" for name in (*QKV, "out")},
        **({f"attention/{name}_norm": f"self_attn.{name}_norm" for name in "qk"} if qk_norm else {}),
        **{f"feed_forward/{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")},
    }
    table = {"embed": "model.embed_tokens", "norm": "model.norm", **({} if tied else {"head": "lm_head"})}
    for i in range(depth):
        table |= {f"blocks/{i}/{ours}": f"model.layers.{i}.{theirs}" for ours, theirs in layer.items()}
    model_type = _model_type(window=window, use_bias=use_bias, qk_norm=qk_norm)
    head_width = head_width or width // heads
    if model_type == "qwen2" and head_width * heads != width:
        raise UserError(f"Qwen2 has heads of width {width // heads}, width / heads; these have width {head_width}.")
    config = {
        "architectures": [f"{CLASSES[model_type]}ForCausalLM"], "model_type": model_type, "vocab_size": vocabulary,
        "max_position_embeddings": length, "hidden_size": width, "num_hidden_layers": depth,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads or heads, "head_dim": head_width,
        "intermediate_size": hidden, "hidden_act": "silu", "rms_norm_eps": epsilon, "tie_word_embeddings": tied,
        "rope_theta": rope_base, "rope_scaling": _rope_config(rope_scaling), "attention_dropout": 0.0,
        "dtype": "float32",
    }  # fmt: skip
    if model_type == "mistral":
        config["sliding_window"] = window
    if model_type == "llama":
        config |= {"attention_bias": bool(use_bias), "mlp_bias": False}
    tied_names = {"lm_head.weight": "model.embed_tokens.weight"} if tied else {}
    return Layout(
        table=table, config=config, prefix="model.", tied=tied_names, ignored=r"rotary_emb\.inv_freq$"
    )  # fmt: skip


def _model_type(*, window, use_bias, qk_norm) -> str:
    kind = use_bias if isinstance(use_bias, bool) else tuple(sorted(use_bias, key="qkvout".find))
    known = {
        (None, False, True): "qwen3", (None, QKV, False): "qwen2", (None, False, False): "llama",
        (None, True, False): "llama",
    }  # fmt: skip
    if window and not kind and not qk_norm:
        return "mistral"
    if (window, kind, bool(qk_norm)) not in known:
        raise UserError(
            f"no architecture of transformers combines window={window}, use_bias={use_bias} and qk_norm={qk_norm}; "
            "use one of them at most (use_bias: True, or q, k and v)."
        )
    return known[window, kind, bool(qk_norm)]


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `LLaMA`, except for dropout, for a config.json of transformers.

    Raises UserError for another architecture, and for an option that `LLaMA` does not support.
    """
    depth = config.get("num_hidden_layers", 32)
    check_options(
        config, model_type=ARCHITECTURES, hidden_act=("silu",), mlp_bias=(False,), use_sliding_window=(False,),
        layer_types=(None, ["full_attention"] * depth), partial_rotary_factor=(1.0,),
    )  # fmt: skip
    kind = config["model_type"]
    if kind == "qwen3":
        check_options(config, model_type=kind, attention_bias=(False,))
    get = lambda name, otherwise=None: config.get(name, DEFAULTS[kind].get(name, otherwise))
    width, heads = get("hidden_size", 4096), get("num_attention_heads", 32)
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    return {
        "vocabulary": get("vocab_size"),
        "length": get("max_position_embeddings"),
        "width": width,
        "depth": depth,
        "heads": heads,
        "kv_heads": get("num_key_value_heads") or heads,
        "head_width": get("head_dim") or width // heads,
        "hidden": get("intermediate_size"),
        "rope_base": float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))),
        "rope_scaling": _rope_scaling(rope, length=get("max_position_embeddings")),
        "epsilon": get("rms_norm_eps", 1e-6),
        "window": get("sliding_window") if kind == "mistral" else None,
        "use_bias": QKV if kind == "qwen2" else bool(get("attention_bias", False)),
        "qk_norm": kind == "qwen3",
        "tied": bool(get("tie_word_embeddings", False)),
    }


# {field of a scaling: its name in a config.json}
LLAMA3 = {
    "factor": "factor", "length": "original_max_position_embeddings", "low": "low_freq_factor",
    "high": "high_freq_factor",
}  # fmt: skip
YARN = {
    "factor": "factor", "length": "original_max_position_embeddings", "fast": "beta_fast", "slow": "beta_slow",
    "attention_factor": "attention_factor",
}  # fmt: skip
SCALINGS = {"linear": (Linear, {"factor": "factor"}), "llama3": (Llama3, LLAMA3), "yarn": (Yarn, YARN)}


def _rope_config(scaling: Scaling | None) -> dict[str, Any] | None:
    """Return the entry `rope_scaling` of a config.json, in which both versions 4 and 5 of transformers read it."""
    if scaling is None:
        return None
    for kind, (build, names) in SCALINGS.items():
        if isinstance(scaling, build):
            values = {theirs: getattr(scaling, ours) for ours, theirs in names.items()}
            return {"rope_type": kind, **{name: value for name, value in values.items() if value is not None}}
    raise UserError(f"transformers has no name for the scaling {scaling!r}; expected Linear, Llama3 or Yarn.")


def _rope_scaling(rope: Mapping[str, Any], *, length: int) -> Scaling | None:
    """Return the scaling of rotary frequencies for the rotary entries of a config.json."""
    rope = {name: value for name, value in rope.items() if name != "rope_theta" and value is not None}
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    if kind == "default":
        return None
    if kind not in SCALINGS:
        raise unknown("rope_type of the config", kind, ("default", *SCALINGS))
    build, names = SCALINGS[kind]
    rope.pop("type", None)
    if kind == "yarn":
        rope.setdefault("original_max_position_embeddings", length)
    if extra := sorted(set(rope) - set(names.values())):
        raise UserError(
            f"the option {extra[0]}={rope[extra[0]]!r} of {kind} in the config is not supported; supported are "
            f"{format_names(list(names.values()))}."
        )
    return build(**{ours: rope[theirs] for ours, theirs in names.items() if theirs in rope})
