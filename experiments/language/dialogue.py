r"""Tune a small LLaMA to reply: pretraining, LoRA on dialogues in a template, then preferences by DPO.

The lines are those of films (Cornell's movie dialogs, Danescu-Niculescu-Mizil & Lee 2011). `base` is a LLaMA (Touvron
et al. 2023) of 0.7 M parameters, trained on single lines. `lora` (Hu et al. 2021, arXiv:2106.09685) learns replies
to a line, inside a prompt template, by low-rank updates of all kernels. `dpo` (Rafailov et al. 2023, arXiv:2305.18290)
merges them and trains new ones, to prefer the reply of the film to its words in another order; the merged model is the
reference. Training, validation and test follow each other in the order of the films.
`python -m research prepare movie_dialogues` gets the data.

    python -m research train experiments/language/dialogue.py --run-dir runs/base
    python -m research train experiments/language/dialogue.py --stage lora --start runs/base --run-dir runs/lora
    python -m research train experiments/language/dialogue.py --stage dpo --start runs/lora --run-dir runs/dpo \
        --steps 40 --learning-rate 2e-4
    python -m research generate runs/lora --prompt $'User: How are you?\nAssistant: ' --temperature 0.7

Expected on the test films (ours; `lora` and `dpo` are means of 3 seeds, all from the first runs of the stage before):
bits per byte of the replies, the share of pairs in which the film's reply is more likely, and that in which its
likelihood has grown more than the other's (the implicit reward of DPO).

            bits per byte    more likely    implicit reward
    base    2.49             93.2 %
    lora    2.20             95.2 %
    dpo     2.21             95.2 %         88.1 %

The steps and the rate of `dpo` are the best of three in validation: longer or faster training raises the bits per byte
to 2.4 and 3.3, and the reward no further. The quality of generated replies was not measured. Time: one and a half
minutes of CPU time per stage.
"""

import functools
from typing import Literal

import jax.numpy as jnp
import numpy as np
import optax

from research import losses
from research.augment.text import shuffle_near
from research.core import Eval
from research.data import arrays, batches, column, eval_batches, pack_whole, subset, tfds_source
from research.data.text.dialogue import Template, dialogue_rows, encode_dialogue, preference_rows
from research.data.text.preparation import fit_text
from research.data.text.tokens import tokens
from research.duration import percent
from research.experiment import Claim, Experiment
from research.metrics.language import measure_language
from research.metrics.preference import measure_preference
from research.model import from_nnx
from research.models.llama import LLaMA
from research.objectives.language import language
from research.objectives.preference import preference
from research.optim.schedules import warmup_cosine
from research.runs.pretrained import pretrained
from research.wrappers.frozen import FROZEN
from research.wrappers.lora import lora

TEMPLATE = Template(user="<s>User: {}\n", assistant="Assistant: {}</s>")
CLAIMS = {
    "lora": (Claim("test/bits_per_byte", at_most=2.3, reference="ours: 2.49 before the low-rank updates"),),
    "dpo": (Claim("test_pairs/accuracy", at_least=0.8, reference="ours: 0.856 in validation; chance is 0.5"),),
}
ENDS = {"train": 0.85, "valid": 0.9, "test": 1.0}  # shares of the lines, in the order of the films


def experiment(
    *,
    stage: Literal["base", "lora", "dpo"] = "base",
    start: str = "",
    vocabulary: int = 2000,
    width: int = 128,
    depth: int = 2,
    length: int = 48,
    beta: float = 0.1,
    batch_size: int = 32,
    steps: int = 400,
    learning_rate: float = 3e-3,
) -> Experiment:
    """A decoder with width / 32 attention heads; all stages are evaluated on the replies of the test films.

    start: run folder of the stage before, with the same sizes
    length: tokens of a row; two thirds are for the line, one third for its reply, and longer ones are left out
    beta: strength of the KL penalty of DPO
    """
    parts = pairs_of_parts()
    lines = sorted({line for pair in parts["train"] for line in pair})
    prepare = fit_text(arrays(text=lines), tokens(length, kind="byte_bpe", vocabulary=vocabulary))
    tokenizer = prepare.encoder.tokenizer
    options = {"encode": functools.cache(tokenizer.encode), "template": TEMPLATE}
    count = lambda *texts: len(encode_dialogue(turns(*texts), **options).tokens)
    fits = lambda line, reply: count(line, "") <= length * 2 // 3 and count("", reply) - count("", "") <= length // 3
    parts = {name: [pair for pair in pairs if fits(*pair)] for name, pairs in parts.items()}
    replies = {name: dialogue_rows([turns(*pair) for pair in part], length, **options) for name, part in parts.items()}
    choices = lambda part: against_shuffled(parts[part], length=length, **options)

    network = dict(vocabulary=prepare.vocabulary, length=length, width=width, depth=depth, heads=max(1, width // 32))
    model = bare = from_nnx(lambda rngs: LLaMA(**network, hidden=3 * width, tied=True, rngs=rngs))
    train = pack_whole(tokenizer.encode_all([f"<s>{line}</s>" for line in lines]), length)
    loss, reference = language(bare), {}
    if stage != "base":
        model = lora(bare, r"^blocks/.*kernel$", rank=8, alpha=16)
        train, loss = replies["train"], language(model)
    if stage == "dpo":
        reference = dict(reference=bare, view=lambda state: (state.stats[FROZEN], {}))  # without the low-rank updates
        train, loss = choices("train"), preference(model, **reference, per_pair=losses.dpo(beta))
    sizes = jnp.array([len(tokenizer.decode([i]).encode()) for i in range(prepare.vocabulary)])
    measures = measure_language(bytes_of=sizes.__getitem__), measure_preference(**reference)

    def evals(part, **options):
        for kind, data, measure in zip(("", "_pairs"), (replies[part], choices(part)), measures, strict=True):
            rows = subset(data, np.arange(0, len(data), max(1, len(data) // 1024)))
            yield part + kind, Eval(eval_batches(rows, 64), measure, **options)

    return Experiment(
        init=model.init, apply=model.apply, loss=loss, source=batches(train, batch_size), steps=steps,
        learning_rate=warmup_cosine(learning_rate, steps=steps, warmup=steps // 20),
        optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.98)),
        init_from=pretrained(start, merge=stage == "dpo") if start else None, claims=CLAIMS[stage] if start else (),
        evals=dict([*evals("valid", every=percent(25)), *evals("test")]), preparation=prepare,
    )  # fmt: skip


def pairs_of_parts() -> dict[str, list[tuple[str, str]]]:
    """Return the pairs of a line and its reply of each part. The records are in the order of the films."""
    data = tfds_source("movie_dialogues", "train")
    pairs = [*filter(all, zip(*(column(data, name).tolist() for name in ("statement", "reply")), strict=True))]
    bounds = [0, *(int(share * len(pairs)) for share in ENDS.values())]
    return {name: pairs[start:end] for name, start, end in zip(ENDS, bounds[:-1], bounds[1:], strict=True)}


def turns(*texts: str) -> list[dict[str, str]]:
    """Return a dialogue of a line and perhaps its reply."""
    return [dict(role=role, content=text) for role, text in zip(("user", "assistant"), texts, strict=False)]


def against_shuffled(pairs, *, length: int, **options):
    """Return the rows that prefer each reply to its words in another order, where no word moves by more than 3."""
    rng, rows = np.random.default_rng(0), []
    for line, reply in pairs:
        other = " ".join(shuffle_near(rng, reply.split(), distance=3))
        if other != reply and len(encode_dialogue(turns(line, other), **options).tokens) <= length:
            rows.append((turns(line), reply, other))
    return preference_rows(*zip(*rows, strict=True), length=length, **options)
