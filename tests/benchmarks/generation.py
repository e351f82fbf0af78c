"""Greedy continuation of prompts by a GPT-2 with a key-value cache, ours and that of transformers, with equal weights.

A step generates `length - prompt` tokens for each row. `ours` chooses them in one call on the device, `ours-stream` in
one call a token, as `python -m research generate` does. The reported loss is the sum of the tokens: it shows whether
the contenders generate the same.
"""

import numpy as np

from tests.benchmarks import works
from tests.benchmarks.turns import Gate, serve, turns


def arrays(s) -> dict[str, np.ndarray]:
    """The state dict of a GPT2LMHeadModel, drawn at random; without its head, which is the embedding."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: 0.3 * rng.normal(size=shape).astype(np.float32) / np.float32(np.sqrt(shape[0]))
    made = {"wte": normal(s.vocabulary, s.width) * np.sqrt(s.vocabulary), "wpe": normal(s.length, s.width)}
    made = {f"{name}.weight": x.astype(np.float32) for name, x in made.items()}
    shapes = {"attn.c_attn": (s.width, 3 * s.width), "attn.c_proj": (s.width, s.width),
              "mlp.c_fc": (s.width, 4 * s.width), "mlp.c_proj": (4 * s.width, s.width)}  # fmt: skip
    for i in range(s.depth):
        for name, shape in shapes.items():
            made |= {f"h.{i}.{name}.weight": normal(*shape), f"h.{i}.{name}.bias": normal(shape[1])}
    for name in ["ln_f", *(f"h.{i}.{norm}" for i in range(s.depth) for norm in ("ln_1", "ln_2"))]:
        made |= {f"{name}.weight": np.ones(s.width, np.float32), f"{name}.bias": np.zeros(s.width, np.float32)}
    return {f"transformer.{name}": x for name, x in made.items()}


def prompts(s) -> np.ndarray:
    """Random prompts of one length; transformers would pad shorter ones on the left."""
    return np.random.default_rng(1).integers(s.vocabulary, size=(s.batch, s.prompt))


def _trained(s):
    from research.core import Trained
    from research.model import from_nnx
    from research.models.gpt import GPT
    from tests.decoding.gpt2 import params_of

    sizes = dict(vocabulary=s.vocabulary, length=s.length, width=s.width, depth=s.depth, heads=s.heads)
    model = from_nnx(lambda rngs: GPT(**sizes, rngs=rngs))
    import jax

    return Trained(model.apply, jax.device_put(params_of(arrays(s), depth=s.depth)), {})


def ours(work: works.Work, gate: Gate):
    """`generate` of all tokens in one call."""
    import jax
    import jax.numpy as jnp

    from research.decoding.decoder import cached
    from research.decoding.sampling import generate

    s, decoder = work.sizes, cached(_trained(work.sizes))
    given, lengths = jnp.asarray(prompts(s), jnp.int32), jnp.full(s.batch, s.prompt)
    step = jax.jit(lambda d: generate(d, given, lengths=lengths, count=s.length - s.prompt).tokens)
    turns(gate, lambda: step(decoder), wait=jax.block_until_ready, loss=lambda tokens: tokens.sum())


def ours_stream(work: works.Work, gate: Gate):
    """`token_stream`, which yields each token of a single row."""
    from research.decoding.decoder import cached
    from research.decoding.text import token_stream

    s, decoder = work.sizes, cached(_trained(work.sizes))
    given = prompts(s)[:1].tolist()[0]
    stream = lambda: list(token_stream(decoder, given, count=s.length - s.prompt))
    turns(gate, stream, wait=lambda tokens: tokens, loss=sum)


def transformers(work: works.Work, gate: Gate):
    """`GPT2LMHeadModel.generate` with its cache."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    s = work.sizes
    sizes = dict(n_positions=s.length, n_embd=s.width, n_layer=s.depth, n_head=s.heads, vocab_size=s.vocabulary)
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)).eval()
    model.load_state_dict({name: torch.tensor(x) for name, x in arrays(s).items()}, strict=False)
    given = torch.tensor(prompts(s))
    options = dict(attention_mask=torch.ones_like(given), max_new_tokens=s.length - s.prompt, do_sample=False)

    @torch.inference_mode()
    def step():
        return model.generate(given, pad_token_id=0, **options)[:, s.prompt :]

    turns(gate, step, wait=lambda tokens: tokens, loss=lambda tokens: tokens.sum())


if __name__ == "__main__":
    serve({"ours": ours, "ours-stream": ours_stream, "transformers": transformers})
