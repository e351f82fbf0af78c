"""Classifiers and taggers of sequences, documents by hierarchical attention, ELMo and its loss."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from research.core import Ctx
from research.layers.recurrent import GRULayer
from research.model import from_nnx
from research.models.elmo import ELMo, ScalarMix
from research.models.hierarchical_attention import HierarchicalAttention
from research.models.rnn import RecurrentClassifier, RecurrentTagger
from research.objectives.language import both_directions, translation
from tests.models.fresh import fresh

RNG = np.random.default_rng(0)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def called(model):
    """The outputs of a Model, compiled."""
    return jax.jit(lambda *given: model.apply(*given)[0])


def softmax(scores):
    e = np.exp(scores - scores.max())
    return e / e.sum()


def test_padding_does_not_change_tags_or_classes():
    sizes = dict(vocabulary=9, num_classes=3, embedding=4, width=5, layer=GRULayer)
    short, longer = np.array([[3, 1, 8]]), np.array([[3, 1, 8, 0, 0]])
    for build in (RecurrentTagger, RecurrentClassifier):
        model = from_nnx(lambda rngs, build=build: build(**sizes, rngs=rngs))
        params, stats = fresh(model, scale=0.6)
        found = [called(model)(params, stats, tokens) for tokens in (short, longer)]
        close(found[1][:, :3] if build is RecurrentTagger else found[1], found[0])


def test_a_classifier_reads_the_last_output_of_each_direction():
    model = from_nnx(lambda rngs: RecurrentClassifier(vocabulary=9, num_classes=2, embedding=3, width=2, rngs=rngs))
    params, stats = fresh(model, scale=0.6)
    tagger = from_nnx(lambda rngs: RecurrentTagger(vocabulary=9, num_classes=2, embedding=3, width=2, rngs=rngs))
    unit = {"head": {"kernel": jnp.eye(4, 2), "bias": jnp.zeros(2)}}
    tokens = np.array([[3, 1, 8, 0]])
    tags = called(tagger)
    forward = tags(params["tagger"] | unit, stats, tokens)
    unit["head"]["kernel"] = jnp.eye(4, 2, -2)
    backward = tags(params["tagger"] | unit, stats, tokens)
    head = params["tagger"]["head"]
    expected = np.concatenate([forward[:, 2], backward[:, 0]], -1) @ head["kernel"] + head["bias"]
    close(called(model)(params, stats, tokens), expected)


def test_hierarchical_attention_is_two_levels_of_equations_5_to_10():
    """By the tagger, whose outputs have other tests, and the equations of the attention in numpy."""
    model = from_nnx(lambda rngs: HierarchicalAttention(vocabulary=9, num_classes=2, embedding=3, width=2, rngs=rngs))
    params, stats = fresh(model, scale=0.6)
    document = np.array([[[3, 1, 8], [5, 0, 0], [0, 0, 0]]])

    def pooled(x, attention):
        u = np.tanh(x @ attention["hidden"]["kernel"] + attention["hidden"]["bias"])
        return softmax((u @ attention["score"]["kernel"])[:, 0]) @ x

    def outputs(recurrent, x):
        tagger = from_nnx(
            lambda rngs: RecurrentTagger(
                vocabulary=1 + len(x), num_classes=4, embedding=x.shape[1], width=2, layer=GRULayer, rngs=rngs
            )  # fmt: skip
        )
        head = {"kernel": np.eye(4, dtype=np.float32), "bias": np.zeros(4, np.float32)}
        embed = {"embedding": np.pad(x, ((1, 0), (0, 0)))}
        given = {"embed": embed, "recurrent": recurrent, "head": head}
        return np.asarray(called(tagger)(given, {}, 1 + np.arange(len(x))[None])[0])

    table = np.asarray(params["embed"]["embedding"])
    sentences = [pooled(outputs(params["words"], table[s]), params["word_attention"]) for s in ([3, 1, 8], [5])]
    vector = pooled(outputs(params["sentences"], np.stack(sentences)), params["sentence_attention"])
    expected = vector @ params["head"]["kernel"] + params["head"]["bias"]
    classes = called(model)
    close(classes(params, stats, document)[0], expected)
    close(classes(params, stats, np.zeros_like(document))[0], params["head"]["bias"])


ELMO = dict(
    vocabulary=6, width=3, cells=4, depth=2, characters=7, embedding=2, filters=((1, 2), (2, 3)), highways=1
)  # fmt: skip


def test_each_direction_of_elmo_sees_one_side_of_its_document():
    model = from_nnx(lambda rngs: ELMo(**ELMO, rngs=rngs))
    params, stats = fresh(model, scale=0.6)
    words, segments = RNG.integers(1, 7, (1, 5, 4)), np.array([[1, 1, 1, 2, 2]])
    call = jax.jit(lambda words: model.apply(params, stats, words, segments)[0])
    plain, changed = call(words), call(np.concatenate([words[:, :1], 1 + words[:, 1:2] % 6, words[:, 2:]], 1))
    differs = [(np.abs(a - b)[0].max(-1) > 1e-7).tolist() for a, b in zip(plain, changed, strict=True)]
    assert differs == [[False, True, True, False, False], [True, True, False, False, False]]


def test_the_layers_of_elmo_are_its_character_encoder_and_lstms():
    graph, state = nnx.split(nnx.eval_shape(lambda: ELMo(**ELMO, rngs=nnx.Rngs(0))))
    model = nnx.merge(graph, jax.tree.map(lambda x: jnp.asarray(RNG.normal(size=x.shape), x.dtype), state))
    words = RNG.integers(1, 7, (2, 3, 4))

    @jax.jit
    def run(words):
        layers = model.layers(words)
        of = lambda stack, i, x, **options: stack[i](x.swapaxes(0, 1), **options)[0].swapaxes(0, 1)
        both = [
            jnp.concatenate([of(model.forward, i, x[..., :3]), of(model.backward, i, x[..., 3:], reverse=True)], -1)
            for i, x in enumerate(layers[:2])
        ]
        return layers, both

    layers, (first, second) = jax.device_get(run(words))
    assert layers.shape == (3, 2, 3, 6)
    close(layers[1], first)
    close(layers[2], layers[1] + second)
    encoder = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model.encoder, nnx.Param)))
    x = encoder["embed"]["embedding"][words]
    found = []
    for i, size in enumerate((1, 2)):
        kernel, bias = encoder["filters"][i]["kernel"], encoder["filters"][i]["bias"]
        windows = np.stack([x[:, :, j : j + size] for j in range(4 - size + 1)], 2)
        found.append((np.einsum("btpsc,sco->btpo", windows, kernel) + bias).max(2))
    x = np.maximum(np.concatenate(found, -1), 0)
    keep = 1 / (1 + np.exp(-(x @ encoder["gates"][0]["kernel"] + encoder["gates"][0]["bias"])))
    linear = encoder["highways"][0]
    x = keep * x + (1 - keep) * np.maximum(x @ linear["kernel"] + linear["bias"], 0)
    x = x @ encoder["project"]["kernel"] + encoder["project"]["bias"]
    close(layers[0], np.concatenate([x, x], -1))
    mix = ScalarMix(3)
    close(mix(layers), layers.mean(0))
    mix.weights[...], mix.gamma[...] = jnp.array([0.0, 50.0, 0.0]), jnp.array(2.0)
    close(mix(layers), 2 * layers[1])


def test_the_loss_of_both_directions_is_the_mean_over_the_predicted_words():
    forward, backward = RNG.normal(size=(2, 1, 4, 6)).astype(np.float32)
    batch = {
        "words": np.ones((1, 4, 3), int),
        "tokens": np.array([[5, 2, 3, 0]]),
        "segments": np.array([[1, 1, 2, 0]]),
        "positions": np.array([[0, 1, 0, 0]]),
    }
    loss = both_directions(lambda params, stats, words, segments, **_: ((forward, backward), stats))
    value, out = loss({}, Ctx(batch, {}, jax.random.key(0), jnp.int32(0)))
    # Of the three tokens, only 5 and 2 are neighbours of one document.
    expected = -np.log([softmax(forward[0, 0])[2], softmax(backward[0, 1])[5]])
    close(value, expected.mean())
    close([out.metrics["forward"].value(), out.metrics["backward"].value()], expected)


def test_the_loss_of_a_translation_predicts_each_target_token_but_the_first():
    logits = RNG.normal(size=(2, 3, 6)).astype(np.float32)
    batch = {
        "source": np.array([[3, 5, 0], [4, 0, 0]]),
        "target": np.array([[1, 5, 2, 0], [1, 2, 0, 0]]),
        "mask": np.ones(2),
    }

    def apply(params, stats, source, tokens, segments, **_):
        np.testing.assert_array_equal(tokens, batch["target"][:, :-1])
        np.testing.assert_array_equal(segments, [[1, 1, 0], [1, 0, 0]])
        return logits, stats

    ctx = lambda **changes: Ctx(batch | changes, {}, jax.random.key(0), jnp.int32(0))
    nats = -np.log([softmax(logits[0, 0])[5], softmax(logits[0, 1])[2], softmax(logits[1, 0])[2]])
    close(translation(apply)({}, ctx())[0], nats.mean())
    close(translation(apply)({}, ctx(mask=np.array([1.0, 0.0])))[0], nats[:2].mean())
