"""Generating token sequences from a network that predicts the next token.

A `Decoder` is two pure functions, `start(prompts)` and `step(state, tokens)`. Each returns a state and the logits of
the next token. Every search works with every Decoder. A `Rule` changes the logits before a token is chosen.
All functions can be jitted: shapes are fixed, prompts may have different lengths, and rows may end early. Pass the
Decoder as an argument of the jitted function, because it holds the weights.

    decoders        decoder (the type; a network with a cache, and one without), encoder_decoder (from a source)
    searches        sampling (greedy and random), beam, speculative (a small network drafts)
    rules           rules (temperature, top-k, top-p, min-p, repetition), automaton (grammars, word lists)
    grammars        regex (a regular expression as a finite automaton)
    text            text (the text of a language model as it is generated)
    paraphrases     infill (words of a text replaced by a masked language model)

To add a rule, copy `top_k` of `rules.py`.
"""
