"""Vision Transformers in the layouts of timm, transformers (`ViTForImageClassification`) and torchvision.

All of them need `ViT(activation=gelu)`, learned positions and a class token, without a representation layer.
"""

import re
from collections.abc import Mapping
from typing import Any

from research.errors import UserError
from research.layers.activations import gelu, gelu_tanh
from research.models import vit
from research.weights.layout import At, Layout
from research.weights.options import check_options, class_names, num_classes_of, timm_entries

SIZES = {
    "tiny": vit.TI, "small": vit.S, "base": vit.B, "large": {"width": 1024, "depth": 24, "heads": 16},
}  # fmt: skip
MODEL = "ViT"
ARCHITECTURES = ("vit", *(f"vit_{name}_patch*" for name in SIZES))
ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_tanh, "gelu_pytorch_tanh": gelu_tanh}


def timm(
    *, size=224, patch=16, channels=3, width=384, depth=12, heads=6, num_classes=1000, activation=gelu, epsilon=1e-6
) -> Layout:  # fmt: skip
    """Return the layout of a `ViT` with these arguments.

    Networks that timm has no name for are written without a config.json.
    """
    table = _stem("", cls="cls_token", positions="pos_embed", embed="patch_embed.proj", patch=patch, channels=channels,
                  width=width)  # fmt: skip
    table |= {"norm": "norm", "head": "head"}
    for i in range(depth):
        table |= _block(i, f"blocks.{i}", norms=("norm1", "norm2"), out="attn.proj", up="mlp.fc1", down="mlp.fc2")
        table |= {f"blocks/{i}/attention/{name}": At(f"blocks.{i}.attn.qkv", part=n) for n, name in enumerate("qkv")}
    sizes = {"width": width, "depth": depth, "heads": heads}
    named = [name for name in SIZES if SIZES[name] == sizes and (channels, activation, epsilon) == (3, gelu, 1e-6)]
    known = named and (patch, size) in ((16, 224), (16, 384), (32, 224), (32, 384))
    name = f"vit_{named[0]}_patch{patch}_{size}" if known else None
    config = {"architecture": name, "global_pool": "token", **timm_entries(num_classes, size)} if name else {}
    return Layout(table=table, config=config)


def torchvision(
    *, size=224, patch=16, channels=3, width=384, depth=12, heads=6, num_classes=1000, activation=gelu, epsilon=1e-6
) -> Layout:  # fmt: skip
    """Return the layout of a `ViT` with these arguments; torchvision has no config.json."""
    table = _stem("", cls="class_token", positions="encoder.pos_embedding", embed="conv_proj", patch=patch,
                  channels=channels, width=width)  # fmt: skip
    table |= {"norm": "encoder.ln", "head": "heads.head"}
    for i in range(depth):
        there = f"encoder.layers.encoder_layer_{i}"
        table |= _block(
            i, there, norms=("ln_1", "ln_2"), out="self_attention.out_proj", up="mlp.0", down="mlp.3"
        )  # fmt: skip
        for n, name in enumerate("qkv"):
            for array, theirs in (("kernel", "weight"), ("bias", "bias")):
                at = At(f"{there}.self_attention.in_proj_{theirs}", part=n)
                table[f"blocks/{i}/attention/{name}/{array}"] = at
    # Files of older versions have other names for the layers of the perceptron.
    aliases = {r"mlp\.linear_1\.": "mlp.0.", r"mlp\.linear_2\.": "mlp.3."}
    return Layout(table=table, config={}, aliases=aliases)


def transformers(
    *, size=224, patch=16, channels=3, width=384, depth=12, heads=6, num_classes=1000, activation=gelu, epsilon=1e-6
) -> Layout:  # fmt: skip
    """Return the layout of a `ViT` with these arguments."""
    table = _stem("vit.embeddings.", cls="cls_token", positions="position_embeddings",
                  embed="patch_embeddings.projection", patch=patch, channels=channels, width=width)  # fmt: skip
    table |= {"norm": "vit.layernorm", "head": "classifier"}
    for i in range(depth):
        there = f"vit.encoder.layer.{i}"
        table |= _block(
            i, there, norms=("layernorm_before", "layernorm_after"), out="attention.output.dense",
            up="intermediate.dense", down="output.dense",
        )  # fmt: skip
        for name, theirs in (("q", "query"), ("k", "key"), ("v", "value")):
            table[f"blocks/{i}/attention/{name}"] = f"{there}.attention.attention.{theirs}"
    config = {
        "architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": size, "patch_size": patch,
        "num_channels": channels, "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads,
        "intermediate_size": 4 * width, "hidden_act": "gelu" if activation is gelu else "gelu_new",
        "layer_norm_eps": epsilon, "qkv_bias": True, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        **class_names(num_classes), "dtype": "float32",
    }  # fmt: skip
    return Layout(table=table, config=config, prefix="vit.")


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `ViT`, except for dropout, for a config.json of transformers or timm.

    Raises UserError for another architecture, and for an option that `ViT` does not support.
    """
    if "architecture" in config:
        found = re.fullmatch(rf"vit_({'|'.join(SIZES)})_patch(\d+)_(\d+)", str(config["architecture"]))
        if not found:
            raise UserError(
                f"the architecture {config['architecture']!r} of the config is not supported; expected "
                f"vit_SIZE_patchN_M with the sizes {', '.join(SIZES)}."
            )
        check_options(config, model_type=(found[0],), global_pool=("token",), model_args=({},))
        sizes = {**SIZES[found[1]], "patch": int(found[2]), "size": int(found[3]), "activation": gelu}
        return {**sizes, "num_classes": config.get("num_classes", 1000)}
    width = config.get("hidden_size", 768)
    check_options(
        config, model_type="vit", intermediate_size=(4 * width,), qkv_bias=(True,), hidden_act=tuple(ACTIVATIONS)
    )
    names = {"size": "image_size", "patch": "patch_size", "channels": "num_channels", "depth": "num_hidden_layers",
             "heads": "num_attention_heads", "epsilon": "layer_norm_eps"}  # fmt: skip
    defaults = {"size": 224, "patch": 16, "channels": 3, "depth": 12, "heads": 12, "epsilon": 1e-12}
    return {
        "width": width, **{ours: config.get(theirs, defaults[ours]) for ours, theirs in names.items()},
        "activation": ACTIVATIONS[config.get("hidden_act", "gelu")], "num_classes": num_classes_of(config),
    }  # fmt: skip


def _stem(prefix, *, cls, positions, embed, patch, channels, width) -> dict[str, At]:
    """Return the table of the patches, the class token and the positions."""
    kernel = At(f"{prefix}{embed}.weight", axes=(3, 2, 0, 1), split=(patch, patch, channels, width))
    return {
        "cls": At(f"{prefix}{cls}", shape=(1, 1, ...)),
        "positions": At(f"{prefix}{positions}", shape=(1, ...)),
        "embed/kernel": kernel,
        "embed/bias": At(f"{prefix}{embed}.bias"),
    }


def _block(i, there, *, norms, out, up, down) -> dict[str, str]:
    """Return the table of a block, except for queries, keys and values."""
    return {
        f"blocks/{i}/attention_norm": f"{there}.{norms[0]}",
        f"blocks/{i}/feed_forward_norm": f"{there}.{norms[1]}",
        f"blocks/{i}/attention/out": f"{there}.{out}",
        f"blocks/{i}/feed_forward/up": f"{there}.{up}",
        f"blocks/{i}/feed_forward/down": f"{there}.{down}",
    }
