import io
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.cli.generate import generate as verb
from research.core import Trained
from research.data.text.byte_text import BEGIN
from research.data.text.tokenizer import byte_tokenizer
from research.decoding.decoder import cached, recomputed
from research.decoding.rules import temperature
from research.decoding.sampling import generate
from research.decoding.text import decoder_of, generated_text, text_stream, token_stream
from research.errors import UserError
from research.model import from_nnx
from research.models.gpt import GPT
from research.models.lstm import LSTM
from research.models.mlp import MLP
from research.verbs import train
from tests.models.fresh import fresh

BYTES = byte_tokenizer()
EXPERIMENT = """
import numpy as np
import optax
from research.core import Eval
from research.data import batches, eval_batches
from research.data.text.byte_text import VOCABULARY, byte_rows
from research.experiment import Experiment
from research.metrics.language import measure_language
from research.model import from_nnx
from research.models.gpt import GPT
from research.objectives.language import language

def experiment() -> Experiment:
    rows = byte_rows([np.frombuffer("äöü€😀 ".encode() * 20, np.uint8)], 32)
    model = from_nnx(lambda rngs: GPT(vocabulary=VOCABULARY, length=32, width=32, depth=1, heads=2, rngs=rngs))
    return Experiment(init=model.init, apply=model.apply, loss=language(model), optimizer=optax.adam(1e-2),
                      source=batches(rows, 8), steps=200,
                      evals={"rows": Eval(eval_batches(rows, 8), measure_language())})
"""


def trained_of(build) -> Trained:
    model = from_nnx(build)
    return Trained(model.apply, *fresh(model))


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_device):
    folder = tmp_path_factory.mktemp("generate")
    (folder / "mine.py").write_text(EXPERIMENT)
    return train(folder / "mine.py", runs=folder / "runs", report=False, stream=io.StringIO()).folder


def test_pieces_are_whole_characters():
    text = "aé€😀z"
    pieces = list(text_stream(text.encode(), decode=BYTES.decode))
    assert pieces == list(text)
    # Bytes that are no character appear when the next one shows it, or at the end.
    assert list(text_stream(b"a\xe2\x82b", decode=BYTES.decode)) == ["a", "\ufffdb"]
    assert list(text_stream(b"a\xe2\x82", decode=BYTES.decode)) == ["a", "\ufffd"]
    assert list(text_stream(b"", decode=BYTES.decode)) == []


def escapes(params, stats, tokens, *, train=False):
    """A network that repeats the bytes of a terminal's escape sequence."""
    text = jnp.array([*b"\x1b[2J\r\n\x07x"])
    following = text[jnp.arange(tokens.shape[1]) % len(text)]
    return jax.nn.one_hot(jnp.broadcast_to(following, tokens.shape), 257) * 9.0, {}


def test_control_characters_are_visible():
    pieces = generated_text(Trained(escapes, {}, {}), "aaaaaaaa", tokenizer=BYTES, count=9)
    assert "".join(pieces) == "\\x1b[2J\\r\n\\x07x\\x1b"


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_the_stream_has_the_tokens_of_generate(kind):
    build = {"gpt": lambda rngs: GPT(vocabulary=257, length=24, width=8, depth=1, heads=2, rngs=rngs),
             "lstm": lambda rngs: LSTM(vocabulary=257, width=8, depth=1, rngs=rngs)}[kind]  # fmt: skip
    trained, ids = trained_of(build), [BEGIN, *b"def"]
    options = dict(count=8, rules=(temperature(0.8),), key=jax.random.key(0))
    decoder = decoder_of(trained, vocabulary=257, length=4, count=8)
    assert decoder.step is cached(trained).step
    whole = jax.jit(lambda d: generate(d, jnp.array([ids]), lengths=jnp.array([4]), **options).tokens[0])(decoder)
    assert list(token_stream(decoder, ids, **options)) == np.asarray(whole).tolist()
    text = "".join(generated_text(trained, "def", tokenizer=BYTES, **options))
    assert text.count("\ufffd") or len(text) >= 8  # a byte is a character, an escape, or part of an invalid sequence


def test_a_network_without_a_cache_is_run_on_the_whole_row():
    trained = Trained(escapes, {}, {})
    assert decoder_of(trained, vocabulary=257, length=2, count=2).step is recomputed(trained).step


def mean_of_all(params, stats, tokens, *, train=False):
    return jax.nn.one_hot(tokens, 257) + jax.nn.one_hot(tokens, 257).mean(1, keepdims=True), {}


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        (lambda: Trained(mean_of_all, {}, {}), "its logits depend on later tokens"),
        (lambda: Trained(lambda p, s, x, train: (jnp.zeros((1, 4, 7)), {}), {}, {}), "has 7 tokens and the tok"),
        (lambda: Trained(lambda p, s, x, train: (jnp.zeros((1, 10)), {}), {}, {}), r"output has the shape \(1, 10\)"),
        (lambda: trained_of(lambda rngs: MLP((8, 8, 1), hidden=(4,), num_classes=3, rngs=rngs)), "no language model"),
        (lambda: trained_of(lambda rngs: GPT(vocabulary=257, length=4, width=8, depth=1, heads=2, rngs=rngs)),
         "the prompt has 4 tokens, and 5 may follow: rows of 9 tokens are longer than the model's length of 4"),
        (lambda: trained_of(lambda rngs: GPT(vocabulary=257, length=3, width=8, depth=1, heads=2, rngs=rngs)),
         "the prompt has 4 tokens: rows of 4 tokens are longer than the model's length of 3"),
    ],
)  # fmt: skip
def test_networks_that_cannot_continue_a_text_are_errors(trained, message):
    with pytest.raises(UserError, match=message):
        next(generated_text(trained(), "abc", tokenizer=BYTES, count=5))


def test_an_empty_prompt_is_an_error():
    with pytest.raises(UserError, match="the prompt is empty"):
        next(generated_text(Trained(escapes, {}, {}), "", tokenizer=BYTES, count=5))


def test_the_verb_prints_a_continuation(run, capsys):
    printed = verb(str(run), prompt="äö", tokens=12, temperature=0.0)
    assert capsys.readouterr().out == printed + "\n"
    assert printed.startswith("ü€😀")
    again = [
        verb(str(run), prompt="äö", tokens=12, temperature=20.0, seed=seed, top_k=40, repetition=1.1)
        for seed in (1, 1, 2)
    ]
    assert again[0] == again[1] != again[2]
    with pytest.raises(UserError, match="tokens=0"):
        verb(str(run), prompt="x", tokens=0)


def test_the_command_reads_standard_input_and_streams(run):
    command = [sys.executable, "-m", "research", "generate", str(run), "--tokens", "12", "--temperature", "0"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    pieces = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        process.stdin.write("äö".encode())
        process.stdin.close()
        while piece := process.stdout.read1():
            pieces.append(piece.decode())  # no piece ends within a character
    assert process.returncode == 0
    assert re.match("ü€😀", "".join(pieces))
