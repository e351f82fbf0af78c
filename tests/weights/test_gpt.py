import jax
import numpy as np
import pytest

from research.errors import UserError
from research.layers.stack import Stack
from research.losses import cross_entropy
from research.model import from_nnx
from research.models.gpt import GPT
from research.weights import gpt
from tests.weights.disk import Case, safetensors, shapes


@pytest.fixture
def case(tmp_path):
    return Case("transformers_gpt", tmp_path)


def network(case, **options):
    return from_nnx(lambda rngs: GPT(**gpt.arguments(case.config), **options, rngs=rngs))


def loss(trained, params, tokens):
    logits, _ = trained.apply(params, trained.stats, tokens)
    return cross_entropy(logits[:, :-1], tokens[:, 1:]).mean(), logits


@pytest.mark.parametrize("stack", [None, Stack])
def test_equals_transformers_and_returns_the_same_file(case, stack):
    model, layout = network(case, stack=stack), gpt.transformers(**gpt.arguments(case.config))
    trained = case.loaded(model, layout)
    grads = jax.jit(jax.value_and_grad(lambda params, x: loss(trained, params, x), has_aux=True))
    (value, logits), gradient = grads(trained.params, case.truth["tokens"])
    np.testing.assert_allclose(logits, case.truth["logits"], atol=1e-5)
    np.testing.assert_allclose(value, case.truth["loss"], rtol=1e-6)
    np.testing.assert_allclose(gradient["place"]["embedding"], case.truth["gradient"], atol=1e-6)
    config = case.check_round_trip(trained, layout)
    same = ("model_type", "architectures", "vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "dtype")
    assert {name: config[name] for name in same} == {name: case.config[name] for name in same}
    assert gpt.arguments(config) == gpt.arguments(case.config)


def test_files_of_the_bare_network_with_buffers_and_the_tied_head(case):
    arrays = {f"module.{name.removeprefix('transformer.')}": x for name, x in case.arrays.items()}
    arrays["module.h.0.attn.bias"] = np.ones((1, 1, 12, 12), np.float32)
    safetensors(case.folder / "model.safetensors", arrays)
    layout = gpt.transformers(**gpt.arguments(case.config))
    np.testing.assert_array_equal(
        case.loaded(network(case), layout).params["embed"]["embedding"], case.arrays["transformer.wte.weight"]
    )
    tied = {**case.arrays, "lm_head.weight": case.arrays["transformer.wte.weight"]}
    safetensors(case.folder / "model.safetensors", tied)
    case.loaded(network(case), layout)
    safetensors(case.folder / "model.safetensors", {**tied, "lm_head.weight": tied["lm_head.weight"] + 1})
    with pytest.raises(UserError, match=r"lm_head.weight differs from transformer.wte.weight"):
        case.loaded(network(case), layout)


def test_options_that_the_network_lacks_are_named(case):
    assert gpt.arguments({"model_type": "gpt2"})["width"] == 768
    with pytest.raises(UserError, match="scale_attn_by_inverse_layer_idx=True of the config is not supported"):
        gpt.arguments({**case.config, "scale_attn_by_inverse_layer_idx": True})
    with pytest.raises(UserError, match="'gpt2-xl' is not known. Did you mean 'gpt2'"):
        gpt.arguments({**case.config, "model_type": "gpt2-xl"})
    with pytest.raises(UserError, match="'qwen3', which research.weights.llama reads; expected 'gpt2'"):
        gpt.arguments({**case.config, "model_type": "qwen3"})


def test_defaults_are_those_of_the_network():
    like, _ = shapes(from_nnx(lambda rngs: GPT(rngs=rngs)))
    layout = gpt.transformers()
    assert like["embed"]["embedding"].shape == (layout.config["vocab_size"], layout.config["n_embd"])
    assert gpt.arguments(layout.config) == {
        "vocabulary": 50_257,
        "length": 1024,
        "width": 768,
        "depth": 12,
        "heads": 12,
    }
