"""BERT, RoBERTa, DistilBERT and ALBERT in the layouts of transformers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.layers.activations import gelu, gelu_tanh
from research.weights.layout import Layout
from research.weights.options import check_options, class_names

ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_tanh, "gelu_pytorch_tanh": gelu_tanh, "relu": jax.nn.relu}


class Family(NamedTuple):
    """The names of one architecture: our modules at the first level, in a block, and in the heads."""

    prefix: str
    embeddings: Mapping[str, str]
    layer: str
    block: Mapping[str, str]
    masked: Mapping[str, str]
    decoder: str
    classifier: Mapping[str, str]
    pretraining: Mapping[str, str]
    architectures: tuple[str, str, str, str]  # of the bare network, masked, classes, and both


EMBEDDINGS = {
    "embed": "embeddings.word_embeddings", "place": "embeddings.position_embeddings",
    "type": "embeddings.token_type_embeddings", "embed_norm": "embeddings.LayerNorm",
}  # fmt: skip
BERT_BLOCK = {
    "attention/q": "attention.self.query", "attention/k": "attention.self.key", "attention/v": "attention.self.value",
    "attention/out": "attention.output.dense", "attention_norm": "attention.output.LayerNorm",
    "feed_forward/up": "intermediate.dense", "feed_forward/down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}  # fmt: skip
FAMILIES = {
    "bert": Family(
        prefix="bert.", embeddings=EMBEDDINGS | {"pooler": "pooler.dense"}, layer="encoder.layer.{}", block=BERT_BLOCK,
        masked={"dense": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm",
                "bias": "cls.predictions.bias"},
        decoder="cls.predictions.decoder", classifier={"classifier": "classifier"},
        pretraining={"classifier": "cls.seq_relationship"},
        architectures=("BertModel", "BertForMaskedLM", "BertForSequenceClassification", "BertForPreTraining"),
    ),
    "roberta": Family(
        prefix="roberta.", embeddings=EMBEDDINGS | {"pooler": "pooler.dense"}, layer="encoder.layer.{}",
        block=BERT_BLOCK,
        masked={"dense": "lm_head.dense", "norm": "lm_head.layer_norm", "bias": "lm_head.bias"},
        decoder="lm_head.decoder", classifier={"pooler": "classifier.dense", "classifier": "classifier.out_proj"},
        pretraining={}, architectures=("RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification", ""),
    ),
    "distilbert": Family(
        prefix="distilbert.", embeddings=EMBEDDINGS, layer="transformer.layer.{}",
        block={
            "attention/q": "attention.q_lin", "attention/k": "attention.k_lin", "attention/v": "attention.v_lin",
            "attention/out": "attention.out_lin", "attention_norm": "sa_layer_norm", "feed_forward/up": "ffn.lin1",
            "feed_forward/down": "ffn.lin2", "feed_forward_norm": "output_layer_norm",
        },
        masked={"dense": "vocab_transform", "norm": "vocab_layer_norm", "bias": "vocab_projector.bias"},
        decoder="vocab_projector", classifier={"pooler": "pre_classifier", "classifier": "classifier"}, pretraining={},
        architectures=("DistilBertModel", "DistilBertForMaskedLM", "DistilBertForSequenceClassification", ""),
    ),
    "albert": Family(
        prefix="albert.",
        embeddings=EMBEDDINGS | {"pooler": "pooler", "widen": "encoder.embedding_hidden_mapping_in"},
        layer="encoder.albert_layer_groups.0.albert_layers.{}",
        block={
            "attention/q": "attention.query", "attention/k": "attention.key", "attention/v": "attention.value",
            "attention/out": "attention.dense", "attention_norm": "attention.LayerNorm", "feed_forward/up": "ffn",
            "feed_forward/down": "ffn_output", "feed_forward_norm": "full_layer_layer_norm",
        },
        masked={"dense": "predictions.dense", "norm": "predictions.LayerNorm", "bias": "predictions.bias"},
        decoder="predictions.decoder", classifier={"classifier": "classifier"},
        pretraining={"classifier": "sop_classifier.classifier"},
        architectures=("AlbertModel", "AlbertForMaskedLM", "AlbertForSequenceClassification", "AlbertForPreTraining"),
    ),
}  # fmt: skip
MODEL = "BERT"
ARCHITECTURES = tuple(FAMILIES)
COMMON = {
    "vocabulary": ("vocab_size", 30_522), "length": ("max_position_embeddings", 512), "width": ("hidden_size", 768),
    "depth": ("num_hidden_layers", 12), "heads": ("num_attention_heads", 12), "hidden": ("intermediate_size", 3072),
    "token_types": ("type_vocab_size", 2), "activation": ("hidden_act", "gelu"), "epsilon": ("layer_norm_eps", 1e-12),
    "padding": ("pad_token_id", 0), "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
}  # fmt: skip
# Our arguments, and their options with the defaults.
OPTIONS = {
    "bert": COMMON,
    "roberta": COMMON | {"vocabulary": ("vocab_size", 50_265), "padding": ("pad_token_id", 1)},
    "distilbert": {
        "vocabulary": ("vocab_size", 30_522), "length": ("max_position_embeddings", 512), "width": ("dim", 768),
        "depth": ("n_layers", 6), "heads": ("n_heads", 12), "hidden": ("hidden_dim", 3072),
        "activation": ("activation", "gelu"), "padding": ("pad_token_id", 0), "dropout": ("dropout", 0.1),
        "attention_dropout": ("attention_dropout", 0.1),
    },
    "albert": COMMON | {
        "vocabulary": ("vocab_size", 30_000), "embedding_width": ("embedding_size", 128),
        "width": ("hidden_size", 4096), "heads": ("num_attention_heads", 64), "hidden": ("intermediate_size", 16_384),
        "activation": ("hidden_act", "gelu_new"), "dropout": ("hidden_dropout_prob", 0.0),
        "attention_dropout": ("attention_probs_dropout_prob", 0.0),
    },
}  # fmt: skip


def bert(**arguments) -> Layout:
    """Return the layout of a `BERT` with these arguments, as BERT."""
    return _layout("bert", **arguments)


def roberta(**arguments) -> Layout:
    """Return the layout of a `BERT` with these arguments, as RoBERTa. Its pooler is a part of the classifier."""
    return _layout("roberta", **arguments)


def distilbert(**arguments) -> Layout:
    """Return the layout of a `BERT` with these arguments, as DistilBERT. Its pooler is a part of the classifier."""
    return _layout("distilbert", **arguments)


def albert(**arguments) -> Layout:
    """Return the layout of a `BERT` with these arguments, as ALBERT."""
    return _layout("albert", **arguments)


def _layout(
    architecture, *, vocabulary=30_522, length=512, width=768, depth=12, heads=12, hidden=None, token_types=2,
    first_position=0, embedding_width=None, shared=False, pooler=jnp.tanh, masked=False, num_classes=None,
    activation=gelu, epsilon=1e-12, padding=None, dropout=0.0, attention_dropout=0.0,
) -> Layout:  # fmt: skip
    family = FAMILIES[architecture]
    table = {ours: family.prefix + theirs for ours, theirs in family.embeddings.items()}
    for i in range(1 if shared else depth):
        there = family.prefix + family.layer.format(i)
        table |= {f"blocks/{i}/{ours}": f"{there}.{theirs}" for ours, theirs in family.block.items()}
    table |= {f"masked/{ours}": theirs for ours, theirs in family.masked.items()}
    table |= family.pretraining if masked else family.classifier if num_classes else {}
    head = family.architectures[masked + 2 * bool(num_classes)]
    tied = {f"{family.decoder}.weight": table["embed"] + ".weight"}
    if not family.masked["bias"].startswith(family.decoder):
        tied[f"{family.decoder}.bias"] = family.masked["bias"]
    sizes = {
        "vocabulary": vocabulary, "length": length, "width": width, "depth": depth, "heads": heads,
        "hidden": hidden or 4 * width, "token_types": token_types, "epsilon": epsilon, "padding": padding,
        "embedding_width": embedding_width, "dropout": dropout, "attention_dropout": attention_dropout,
        "activation": next(name for name, function in ACTIVATIONS.items() if function is activation),
    }  # fmt: skip
    config = {"architectures": [head], "model_type": architecture}
    config |= {theirs: sizes[ours] for ours, (theirs, _) in OPTIONS[architecture].items()}
    if num_classes and not masked:
        config |= class_names(num_classes)
    return Layout(
        table=table, config={**config, "dtype": "float32"}, prefix=family.prefix, tied=tied,
        ignored=r"embeddings\.(position|token_type)_ids$",
        aliases={r"LayerNorm\.gamma$": "LayerNorm.weight", r"LayerNorm\.beta$": "LayerNorm.bias"},
    )  # fmt: skip


def arguments(config: Mapping[str, Any], *, masked: bool = False, num_classes: int | None = None) -> dict[str, Any]:
    """Return the arguments of `BERT` for a config.json of transformers, with the heads that you choose.

    Without a head the network has a pooler, if the architecture has one. The dropout before the classifier is that of
    the blocks. Raises UserError for another architecture, and for an option that `BERT` does not support.
    """
    check_options(
        config, model_type=ARCHITECTURES, position_embedding_type=("absolute",), is_decoder=(False,),
        add_cross_attention=(False,), tie_word_embeddings=(True,), sinusoidal_pos_embds=(False,),
        num_hidden_groups=(1,), inner_group_num=(1,), hidden_act=tuple(ACTIVATIONS), activation=tuple(ACTIVATIONS),
    )  # fmt: skip
    architecture = config["model_type"]
    sizes = {ours: config.get(theirs, default) for ours, (theirs, default) in OPTIONS[architecture].items()}
    sizes["activation"] = ACTIVATIONS[sizes["activation"]]
    if architecture == "roberta":
        sizes["first_position"] = sizes["padding"] + 1
    if architecture == "distilbert":
        sizes["token_types"] = 0
    if architecture == "albert":
        sizes["shared"] = True
    pooler = jnp.tanh if num_classes or not masked else None
    if architecture == "distilbert":
        pooler = jax.nn.relu if num_classes and not masked else None
    return {**sizes, "pooler": pooler, "masked": masked, "num_classes": num_classes}
