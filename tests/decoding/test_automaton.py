import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Trained
from research.decoding.automaton import constrained, over_tokens, regex, words
from research.decoding.beam import beam_search
from research.decoding.decoder import recomputed
from research.decoding.regex import compile_regex
from research.decoding.sampling import generate
from research.errors import UserError

BYTES = [bytes([i]) for i in range(256)]
# Pattern, and an alphabet of which all texts of up to five characters are tried.
PATTERNS = (
    ("(ab|a)*b?", "abc"), ("a{2}", "ab"), ("a{1,3}b{,2}", "ab"), ("a{2,}", "ab"), ("(?:a|b)+c", "abc"), ("", "a"),
    ("[^a\\n]b", "ab\n"), (".\\.", "a.\n"), ("[]a-c-]+", "]ac-d"), ("\\d+(\\.\\d+)?", "1.a"), ("\\w\\s\\S", "a b"),
    ("(a*)*b", "ab"), ("(a|)b", "ab"), ("é|[ü]x", "éüx"), (".é", "éa"), ("[^x]", "éxa"), ("a{}", "a{}"),
    ("\\W\\D", "a1_é"), ("a|", "ab"), ("(a?b){2}", "ab"), ("\\t", "\tt"), ("[\\d.]+", "1.a"),
)  # fmt: skip


def accepts(automaton, text):
    state = 0
    for byte in text:
        state = automaton.next[state, byte]
        if state < 0:
            return False
    return bool(automaton.accepting[state])


@pytest.mark.parametrize(("pattern", "alphabet"), PATTERNS)
def test_an_automaton_accepts_what_python_matches(pattern, alphabet):
    automaton = compile_regex(pattern)
    for size in range(6):
        for text in map("".join, itertools.product(alphabet, repeat=size)):
            assert accepts(automaton, text.encode()) == bool(re.fullmatch(pattern, text, re.ASCII)), text


def test_a_dot_matches_characters_and_not_bytes():
    automaton = compile_regex(".")
    for text in ("é", "€", "😀", "\U0010ffff", "\ud7ff", "\ue000"):
        assert accepts(automaton, text.encode())
    for wrong in (b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\xc3\xa9\xa9"):
        assert not accepts(automaton, wrong)


def test_transitions_without_an_accepting_state_are_removed():
    automaton = over_tokens(compile_regex("ab|ac"), [b"a", b"b", b"d"])
    assert (automaton.next[0] >= 0).tolist() == [True, False, False]
    assert automaton.distance.tolist()[:1] == [2]


@pytest.mark.parametrize("pattern", ["^a", "a$", "(?=a)", "a*?", "(a)\\1", "\\bword", "[à-ü]", "[^é]", "a**", "("])
def test_other_syntax_is_an_error(pattern):
    with pytest.raises(UserError, match="the pattern"):
        compile_regex(pattern)


def test_an_automaton_that_is_too_large_is_an_error():
    with pytest.raises(UserError, match="more than 10,000 states"):
        compile_regex("(a|b)*a(a|b){14}")


def uniform(params, stats, tokens, *, train=False):
    return jnp.zeros((*tokens.shape, len(params))), {}


@pytest.mark.parametrize("pattern", ["-?\\d{1,3}(\\.\\d+)?", '"(\\\\.|[^"\\\\\\n])*"', "(GET|PUT) /\\w*"])
def test_every_sample_matches_the_pattern(pattern):
    """Also with tokens of several bytes, and if the room ends before the text would."""
    vocabulary = [*BYTES, b"", b"12", b'."', b"GET ", b"T /"]
    end = 256
    rule = constrained(regex(pattern, vocabulary=vocabulary), end=end)
    decoder = recomputed(Trained(uniform, np.zeros(len(vocabulary)), {}))
    prompts, lengths = jnp.zeros((64, 1), jnp.int32), jnp.ones(64, jnp.int32)
    found = jax.jit(lambda d, k: generate(d, prompts, lengths=lengths, count=12, rules=(rule,), key=k, end=end))(
        decoder, jax.random.key(0)
    )
    texts = [
        b"".join(vocabulary[token] for token in row[:length])
        for row, length in zip(*map(np.asarray, found), strict=True)
    ]
    # Bytes of UTF-8 that are no character have become part of no text.
    assert all(re.fullmatch(pattern, text.decode(), re.ASCII) for text in texts)
    assert len(set(texts)) > 20


def test_a_list_of_words_is_completed_and_ranked():
    """A beam search over three words gives their exact probabilities."""
    table = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    bigram = lambda params, stats, tokens, *, train=False: (params[tokens], {})
    decoder, end = recomputed(Trained(bigram, jnp.asarray(table), {})), 5
    listed = [[1, 2, 3], [1, 2], [4]]
    rule = constrained(words(listed, vocabulary=6), end=end)
    options = dict(lengths=np.array([1]), count=4, beams=3, end=end, length_penalty=0.0)
    found = jax.jit(lambda d: beam_search(d, np.array([[0]]), rules=(rule,), **options))(decoder)
    log_p = np.log(np.exp(table) / np.exp(table).sum(-1, keepdims=True))
    scores = {tuple(w): sum(log_p[a, b] for a, b in itertools.pairwise([0, *w, end])) for w in listed}
    ranked = sorted(scores, key=scores.get, reverse=True)
    rows = zip(np.asarray(found.tokens[0]).tolist(), np.asarray(found.lengths[0]), strict=True)
    assert [tuple(row[:length]) for row, length in rows] == ranked
    np.testing.assert_allclose(found.scores[0], [scores[word] for word in ranked], rtol=1e-5)


def test_errors_name_what_is_wrong():
    with pytest.raises(UserError, match="token 7 is not in the vocabulary of 6"):
        words([[7]], vocabulary=6)
    with pytest.raises(UserError, match="matches no sequence"):
        regex("x", vocabulary=[b"a", b"b"])
    with pytest.raises(UserError, match="also reads the end token"):
        constrained(regex("a+", vocabulary=[b"a", b"b"]), end=0)
    decoder = recomputed(Trained(uniform, np.zeros(3), {}))
    options = dict(lengths=jnp.array([1]), end=2)
    rule = constrained(regex("a{5}", vocabulary=[b"a", b"b", b""]), end=2)
    with pytest.raises(UserError, match="has 5 tokens; there is room for 4"):
        generate(decoder, jnp.array([[0]]), count=4, rules=(rule,), **options)
    with pytest.raises(UserError, match="the automaton has 2 tokens and the network has 3"):
        rule = constrained(words([[0]], vocabulary=2), end=1)
        generate(decoder, jnp.array([[0]]), count=4, rules=(rule,), **options)
