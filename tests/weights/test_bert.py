"""BERT, RoBERTa, DistilBERT and ALBERT of transformers, with every head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.layers.stack import Stack
from research.losses import cross_entropy
from research.model import from_nnx
from research.models.bert import BERT, Encoded
from research.weights import bert
from tests.models.fresh import size_of_blocks
from tests.weights.disk import Case, arrays_in, safetensors

HEADS = {"": {}, "masked": {"masked": True}, "classes": {"num_classes": 2}, "both": {"masked": True, "num_classes": 2}}
NAMES = ("bert", "bert_both", "roberta_classes", "distilbert_masked", "albert_both")
SLOW = ("bert_classes", "roberta_masked", "distilbert_classes", "albert_masked", "albert_classes")


def opened(name, tmp_path):
    """A case, the arguments of its network, and its layout."""
    case = Case("transformers_bert", tmp_path, part=f"{name}/")
    architecture, _, head = name.partition("_")
    arguments = bert.arguments(case.config, **HEADS[head])
    return case, arguments, getattr(bert, architecture)(**arguments)


def inputs(case, name, padding):
    """Padded rows, and the types of tokens of the networks that have them."""
    tokens, segments = np.where(case.truth["mask"] > 0, case.truth["tokens"], padding), case.truth["mask"]
    types = None if name.startswith(("roberta", "distilbert")) else case.truth["types"]
    return tokens, segments, None, types


def loss(out, truth):
    """The loss that transformers computes for its heads, which are averages over the chosen tokens and over rows."""
    if isinstance(out, Encoded):
        return jnp.square(out.states[:, 0]).sum()
    tokens, classes = (out, None) if isinstance(out, jax.Array) and out.ndim == 3 else (None, out)
    if isinstance(out, tuple):
        tokens, classes = out
    total = 0.0
    if tokens is not None:
        chosen = truth["labels"] >= 0
        total += (cross_entropy(tokens, truth["labels"] * chosen) * chosen).sum() / chosen.sum()
    return total if classes is None else total + cross_entropy(classes, truth["classes"]).mean()


def outputs(out, truth):
    """Pairs of ours and theirs."""
    if isinstance(out, Encoded):
        return [(out.states, truth["last_hidden_state"]), (out.pooled, truth["pooler_output"])]
    if isinstance(out, tuple):
        classes = truth.get("seq_relationship_logits", truth.get("sop_logits"))
        return [(out.tokens, truth["prediction_logits"]), (out.classes, classes)]
    return [(out, truth["logits"])]


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_equals_transformers_and_returns_the_same_file(tmp_path, name):
    case, arguments, layout = opened(name, tmp_path)
    trained = case.loaded(from_nnx(lambda rngs: BERT(**arguments, rngs=rngs)), layout)
    x = inputs(case, name, arguments["padding"])

    def total(params):
        out = trained.apply(params, {}, *x)[0]
        return loss(out, case.truth), out

    (value, out), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(trained.params)
    real = case.truth["mask"] > 0
    for ours, theirs in outputs(out, case.truth):
        if ours.ndim == 3:
            ours, theirs = ours[real], theirs[real]
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(value, case.truth["loss"], rtol=1e-5)
    np.testing.assert_allclose(gradient["place"]["embedding"], case.truth["gradient"], atol=1e-5)
    if name == "bert":  # their bare network is written without the prefix
        case.arrays = {layout.prefix + key: x for key, x in case.arrays.items()}
    config = case.check_round_trip(trained, layout)
    assert bert.arguments(config, **HEADS[name.partition("_")[2]]) == arguments
    assert config["architectures"] == case.config["architectures"]
    assert {key: case.config.get(key, value) for key, value in config.items() if "label" not in key}.items() <= (
        config.items()
    )


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "albert"])
def test_published_parameter_counts(tmp_path, name):
    from research.models import bert as sizes

    count = Case("transformers_bert", tmp_path, part="bert/").truth[f"count/{name}"]
    assert size_of_blocks(BERT, **getattr(sizes, f"{name.upper()}_BASE")) == count
    published = {"bert": 109_482_240, "roberta": 124_645_632, "distilbert": 66_362_880, "albert": 11_683_584}
    assert count == published[name]


def test_tokens_of_padding_are_found_without_segments(tmp_path):
    case, arguments, layout = opened("roberta_classes", tmp_path)
    trained = case.loaded(from_nnx(lambda rngs: BERT(**arguments, rngs=rngs)), layout)
    tokens, *_ = inputs(case, "roberta", 1)
    np.testing.assert_allclose(
        jax.jit(lambda trained, *x: trained(*x))(trained, tokens), case.truth["logits"], atol=1e-5
    )


def test_a_classifier_starts_from_a_pretrained_network(tmp_path):
    """The head of another task is dropped, and the new one is drawn."""
    case, arguments, _ = opened("bert_both", tmp_path)
    arguments = bert.arguments(case.config, num_classes=5)
    model, layout = from_nnx(lambda rngs: BERT(**arguments, rngs=rngs)), bert.bert(**arguments)
    with pytest.raises(UserError, match="2 arrays of the network are not in the checkpoint: classifier/bias needs cla"):
        case.loaded(model, layout, drop=r"^cls\.")
    trained = case.loaded(model, layout, drop=r"^cls\.", skip="^classifier/")
    assert isinstance(trained.params["classifier"]["kernel"], jax.ShapeDtypeStruct)
    np.testing.assert_array_equal(trained.params["pooler"]["bias"], case.arrays["bert.pooler.dense.bias"])


def test_old_names_and_copies(tmp_path):
    case, arguments, layout = opened("bert_both", tmp_path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for name, x in case.arrays.items()
    }
    old["bert.embeddings.position_ids"] = np.arange(12)[None]
    old["cls.predictions.decoder.weight"] = case.arrays["bert.embeddings.word_embeddings.weight"]
    old["cls.predictions.decoder.bias"] = case.arrays["cls.predictions.bias"]
    safetensors(tmp_path / "model.safetensors", old)
    case.check_round_trip(case.loaded(from_nnx(lambda rngs: BERT(**arguments, rngs=rngs)), layout), layout)


def test_stacked_blocks(tmp_path):
    case, arguments, layout = opened("bert_classes", tmp_path)
    trained = case.loaded(from_nnx(lambda rngs: BERT(**arguments, stack=Stack, rngs=rngs)), layout)
    out = jax.jit(lambda trained, *x: trained(*x))(trained, *inputs(case, "bert", 0))
    np.testing.assert_allclose(out, case.truth["logits"], atol=1e-5)
    case.check_round_trip(trained, layout)
    assert set(arrays_in(tmp_path / "out")) == set(case.arrays)


def test_options_that_the_network_lacks_are_named():
    with pytest.raises(UserError, match="num_hidden_groups=2 of the config is not supported; expected 1"):
        bert.arguments({"model_type": "albert", "num_hidden_groups": 2})
    with pytest.raises(UserError, match="position_embedding_type='relative_key' of the config is not supported"):
        bert.arguments({"model_type": "bert", "position_embedding_type": "relative_key"})
    with pytest.raises(UserError, match="'xlnet' is not known. .*Known: bert, roberta, distilbert, albert"):
        bert.arguments({"model_type": "xlnet"})
