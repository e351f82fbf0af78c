"""Train the GPT of gpt_stdlib.py with FSDP, tensor, pipeline, expert or context parallelism on any mesh.

    python -m research train experiments/language/gpt_parallel.py --fsdp 4 --tensor 2
    python -m research train experiments/language/gpt_parallel.py --pipeline 4 --microbatches 16
    python -m research train experiments/language/gpt_parallel.py --experts 8 --expert 8
    python -m research train experiments/language/gpt_parallel.py --length 8192 --batch-size 8 --context 8

Devices that no knob uses hold data-parallel replicas, each with its part of the batch. To try it without accelerators,
prefix the command with JAX_NUM_CPU_DEVICES=8.

Expected: the same loss as on one device, up to rounding, for the same model knobs. The quality of the trained model was
not measured and nothing is claimed. Time: that of gpt_stdlib.py, divided by the number of devices.
"""

import functools

import numpy as np
import optax

from research.core import Eval
from research.data import batches, column, eval_batches, stdlib_text, subset
from research.data.text.byte_text import BEGIN, VOCABULARY, byte_rows
from research.duration import percent
from research.experiment import Best, Experiment
from research.layers.attention import attention, causal_mask
from research.layers.ring import ring_attention
from research.layers.stack import Stack
from research.metrics.language import measure_language
from research.model import from_nnx
from research.models.gpt import GPT, rules
from research.objectives.language import language
from research.optim.decay import decay_mask
from research.optim.schedules import warmup_cosine


def experiment(
    *,
    width: int = 128,
    depth: int = 4,
    length: int = 128,
    batch_size: int = 32,
    steps: int = 900,
    learning_rate: float = 3e-3,
    experts: int = 0,
    fsdp: int = 1,
    tensor: int = 1,
    pipeline: int = 1,
    microbatches: int = 0,
    expert: int = 1,
    context: int = 1,
) -> Experiment:
    """A decoder with width / 32 attention heads, trained with AdamW.

    experts: experts per block, two active per token; 0 is a dense feed-forward layer
    fsdp: devices over which params, moments and the batch are sharded
    tensor: devices over which heads and hidden units are sharded
    pipeline: number of pipeline stages
    microbatches: microbatches per batch in the pipeline; 0 is four per stage
    expert: devices over which the experts and the batch are sharded
    context: devices over which each sequence is sharded; ring attention, except in a pipeline
    """
    # Ring attention does not run inside a pipeline; there, keys and values are gathered instead.
    ring = context > 1 and pipeline == 1
    train, valid, test = (
        byte_rows(column(stdlib_text(split), "text"), length) for split in ("train", "validation", "test")
    )
    valid_rows = subset(valid, np.arange(0, len(valid), max(1, len(valid) // 256)))
    model = from_nnx(
        lambda rngs: GPT(
            vocabulary=VOCABULARY, length=length, width=width, depth=depth, heads=max(1, width // 32),
            attend=ring_attention if ring else attention, mask=None if ring else causal_mask,
            experts={"number": experts} if experts else None,
            stack=functools.partial(Stack, microbatches=microbatches or 4 * pipeline) if pipeline > 1 else None,
            rngs=rngs,
        )
    )  # fmt: skip
    measure = measure_language(bytes_of=lambda labels: labels < BEGIN)
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=language(model),
        learning_rate=warmup_cosine(learning_rate, steps=steps, warmup=max(1, steps // 20)),
        optimizer=lambda rate: optax.adamw(rate, b2=0.98, weight_decay=0.01, mask=decay_mask()),
        source=batches(train, batch_size),
        steps=steps,
        evals={
            "valid": Eval(eval_batches(valid_rows, batch_size), measure, every=percent(20)),
            "test": Eval(eval_batches(test, batch_size), measure),
        },
        mesh={"data": -1, "fsdp": fsdp, "tensor": tensor, "pipeline": pipeline, "expert": expert, "context": context},
        rules=rules(experts=experts > 0),
        best=Best("valid/bits_per_byte", mode="min"),
    )
