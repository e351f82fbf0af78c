"""GPT-2, LLaMA, Mistral, Qwen2, Qwen3 and T5 against transformers, with padded batches, in and out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research import losses
from research.errors import UserError
from research.layers.rotary import Linear, Llama3, Yarn
from research.layers.stack import Stack
from research.model import from_nnx
from research.models.gpt import GPT
from research.models.llama import LLAMA3_8B, LLaMA
from research.models.t5 import BASE_V11, T5
from research.weights import gpt, llama, t5
from tests.weights.disk import Case

LLAMAS = ("llama", "llama3", "qwen2", "qwen3", "mistral")


def opened(name, folder, **options):
    """The stored case, its network with their weights, and its layout."""
    case = Case("transformers_decoders", folder, part=f"{name}/")
    build, module = (GPT, gpt) if name == "gpt2" else (T5, t5) if name.startswith("t5") else (LLaMA, llama)
    arguments = module.arguments(case.config)
    model, layout = from_nnx(lambda rngs: build(**arguments, **options, rngs=rngs)), module.transformers(**arguments)
    return case, case.loaded(model, layout), layout


def check(case, trained, logits_of, *, labels, rows):
    """Compare logits, the mean loss and the gradient of the embedding; `rows` marks the tokens that are not padding."""

    def loss(params):
        logits = logits_of(params)
        each = losses.cross_entropy(logits[:, : labels.shape[1]], np.maximum(labels, 0))
        return jnp.sum(each * (labels >= 0)) / (labels >= 0).sum(), logits

    (value, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(trained.params)
    np.testing.assert_allclose(logits[rows], case.truth["logits"][rows], atol=1e-5)
    np.testing.assert_allclose(value, case.truth["loss"], rtol=1e-5)
    assert np.abs(case.truth["gradient"]).max() > 1e-3
    np.testing.assert_allclose(gradient["embed"]["embedding"], case.truth["gradient"], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("name", "stack"), [("gpt2", None), *((name, None) for name in LLAMAS), ("qwen2", Stack)])
def test_a_decoder_equals_transformers(name, stack, tmp_path):
    case, trained, layout = opened(name, tmp_path, stack=stack)
    tokens, lengths = case.truth["tokens"], case.truth["lengths"]
    rows = np.arange(tokens.shape[1]) < lengths[:, None]
    of = lambda params, tokens, rows: trained.apply(params, {}, tokens, rows.astype(int))[0]
    labels = np.where(rows, tokens, -1)[:, 1:]
    check(case, trained, lambda params: of(params, tokens, rows), labels=labels, rows=rows)
    if name != "gpt2":
        config = case.check_round_trip(trained, layout)
        assert llama.arguments(config) == llama.arguments(case.config)
        assert config["architectures"] == case.config["architectures"]
    # Greedy tokens: each is the most likely one after those before it.
    greedy, prompts = case.truth["greedy"], case.truth["prompts"]
    ends = prompts + greedy.shape[1] - prompts.max()
    logits = jax.jit(of)(trained.params, greedy, np.arange(greedy.shape[1]) < ends[:, None])
    for row, prompt, end, best in zip(greedy, prompts, ends, logits.argmax(-1), strict=True):
        np.testing.assert_array_equal(best[prompt - 1 : end - 1], row[prompt:end])


@pytest.mark.parametrize(("name", "stack"), [("t5", None), ("t5_gated", None), ("t5_gated", Stack)])
def test_t5_equals_transformers(name, stack, tmp_path):
    case, trained, layout = opened(name, tmp_path, stack=stack)
    source, labels = case.truth["source"], case.truth["labels"]
    source_segments = (np.arange(source.shape[1]) < case.truth["lengths"][:, None]).astype(int)
    shifted = np.pad(np.maximum(labels, 0), ((0, 0), (1, 0)))[:, :-1]
    of = lambda params, tokens: trained.apply(params, {}, source, tokens, source_segments)[0]
    check(case, trained, lambda params: of(params, shifted), labels=labels, rows=labels >= 0)
    config = case.check_round_trip(trained, layout)
    assert t5.arguments(config) == t5.arguments(case.config)
    greedy = case.truth["greedy"]  # begins with token 0
    np.testing.assert_array_equal(jax.jit(of)(trained.params, greedy).argmax(-1)[:, :-1], greedy[:, 1:])


@pytest.mark.parametrize("tied", [True, False])
def test_an_output_that_is_scaled_or_not_whether_tied_or_not(tied, tmp_path):
    """transformers writes T5 1.1 with `tie_word_embeddings` and without `scale_decoder_outputs`."""
    case, trained, _ = opened("t5_gated", tmp_path)
    trained.params["head"]["kernel"] = np.asarray(trained.params["embed"]["embedding"]).T
    run = lambda model, params: model.apply(params, {}, case.truth["source"], case.truth["labels"].clip(0))[0]
    expected = run(trained, trained.params)
    for scaled in (True, False):
        changed = {**case.config, "tie_word_embeddings": tied, "scale_decoder_outputs": scaled}
        arguments = t5.arguments(changed)
        assert t5.arguments(t5.transformers(**arguments).config) == arguments
        model = from_nnx(lambda rngs, arguments=arguments: T5(**arguments, rngs=rngs))
        params = {name: x for name, x in trained.params.items() if name != "head" or not tied}
        factor = arguments["width"] ** -0.5 if scaled else 1.0
        np.testing.assert_allclose(run(model, params), factor * expected, rtol=1e-4, atol=1e-5)


def test_a_packed_pair_of_documents_has_the_logits_of_each_alone(tmp_path):
    """The window and the rotary positions of Mistral; source and target of T5."""
    rng = np.random.default_rng(1)
    first, second = rng.integers(3, 37, (2, 1, 6))
    segments = np.array([[1] * 6 + [2] * 6])
    case, trained, _ = opened("mistral", tmp_path)
    of = jax.jit(functools.partial(trained.apply, trained.params, {}))
    packed = of(np.concatenate([first, second], 1), segments, np.tile(np.arange(6), 2)[None])[0]
    for i, document in enumerate((first, second)):
        np.testing.assert_allclose(packed[:, 6 * i : 6 * i + 6], of(document)[0], atol=1e-5)
    case, trained, _ = opened("t5", tmp_path)
    of = jax.jit(functools.partial(trained.apply, trained.params, {}))
    source, tokens = np.concatenate([first, second], 1), np.concatenate([second, first], 1)
    packed = of(source, tokens, segments, segments)[0]
    for i, (document, target) in enumerate(((first, second), (second, first))):
        np.testing.assert_allclose(packed[:, 6 * i : 6 * i + 6], of(document, target)[0], atol=1e-5)


def test_scalings_of_rotary_positions_are_read_and_written():
    for scaling in (None, Linear(2.0), Llama3(4.0, length=16), Yarn(4.0, length=16), Yarn(4.0, 16, 20.0, 2.0, 1.5)):
        config = llama.transformers(depth=1, rope_scaling=scaling, rope_base=500.0).config
        assert llama.arguments(config)["rope_scaling"] == scaling and llama.arguments(config)["rope_base"] == 500
    older = {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 5e5}
    assert llama.arguments(older)["rope_scaling"] == Linear(2.0) and llama.arguments(older)["rope_base"] == 5e5


def test_defaults_of_the_architectures():
    assert llama.arguments({"model_type": "mistral"})["window"] == 4096
    assert llama.arguments({"model_type": "qwen3"})["head_width"] == 128
    expected = {"vocabulary": 128_256, "kv_heads": 8, "hidden": 14_336, "length": 8192, "head_width": 128}
    assert expected.items() <= llama.arguments(llama.transformers(**LLAMA3_8B).config).items()
    found = t5.arguments(t5.transformers(**BASE_V11).config)
    assert BASE_V11.items() <= found.items() and found["decoder_depth"] == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gemma"}, "'gemma' is not known. Known: .*llama, mistral, qwen2, qwen3"),
        ({"model_type": "gpt2"}, "'gpt2', which research.weights.gpt reads; expected 'llama' or 'mistral'"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' of the config is not supported; expected 'silu'"),
        ({"mlp_bias": True}, "mlp_bias=True of the config is not supported"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window=True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types="),
        ({"rope_scaling": {"rope_type": "longrope"}}, "unknown rope_type of the config 'longrope'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "mscale": 1.0}}, "mscale=1.0 of yarn .* not supported"),
        ({"model_type": "qwen3", "attention_bias": True}, "attention_bias=True"),
    ],
)
def test_options_that_llama_lacks_are_named(change, message):
    with pytest.raises(UserError, match=message):
        llama.arguments({"model_type": "llama", **change})


def test_what_transformers_cannot_hold_is_refused():
    with pytest.raises(UserError, match="combines window=4, use_bias=.*; use one of them at most"):
        llama.transformers(window=4, use_bias=("q", "k", "v"))
    with pytest.raises(UserError, match="Qwen2 has heads of width 128"):
        llama.transformers(head_width=64, use_bias=("q", "k", "v"))
    with pytest.raises(UserError, match="no name for T5 with .*tanh.*relu"):
        t5.transformers(activation=jnp.tanh)
    with pytest.raises(UserError, match="feed_forward_proj='gelu' of the config is not supported"):
        t5.arguments({"model_type": "t5", "feed_forward_proj": "gelu"})


def test_options_that_do_not_fit_the_network_are_errors():
    with pytest.raises(UserError, match="window=4 needs a mask"):
        LLaMA(window=4, mask=None, rngs=nnx.Rngs(0))
