"""Fine-tune a LLaMA of 1.1 billion parameters with LoRA on Python's own source code, on any mesh.

LoRA (Hu et al. 2021, arXiv:2106.09685) trains low-rank updates of the kernels of q and v: the optimizer has moments of
these alone, 1.1 million parameters. The network is TinyLlama (Zhang et al. 2024, arXiv:2401.02385); the splits of the
text are by file. The first command predicts the memory and the least time of a step, on TPUs that are not present. The
third starts from the weights that the second one gets; any LLaMA of transformers will do. Without a source, the network
starts from random numbers and reads bytes.

    python -m research plan experiments/language/llama_lora.py --topology v5e:2x4 --fsdp 8
    hf download TinyLlama/TinyLlama_v1.1
    python -m research train experiments/language/llama_lora.py --source TinyLlama/TinyLlama_v1.1 --fsdp 8

Expected of the first command, for each of eight TPU v5e: 1.74 GiB in all, with 525 MiB of frozen weights (4.1 GiB on
one), 0.7 MiB of factors and 1.4 MiB of moments; at least 192 ms for a step of 16 rows of 1,024 tokens. Nothing was
trained, and nothing is claimed of the quality. Time of the plan: a minute of CPU time.
"""

import functools

import optax

from research.core import Eval
from research.data import batches, column, eval_batches, pack, stdlib_text
from research.data.text.tokenizer import byte_tokenizer, read_tokenizer
from research.duration import percent
from research.experiment import Experiment
from research.layers.stack import Stack
from research.metrics.language import measure_language
from research.model import from_nnx
from research.models.llama import TINYLLAMA_1B, LLaMA, rules
from research.objectives.language import language
from research.optim.schedules import warmup_cosine
from research.weights import llama
from research.weights.folders import read_config
from research.weights.load import weights
from research.wrappers.lora import lora
from research.wrappers.mixed_precision import mixed_precision


def experiment(
    *,
    source: str = "",
    depth: int = 22,
    width: int = 2048,
    hidden: int = 5632,
    rank: int = 8,
    length: int = 1024,
    batch_size: int = 16,
    steps: int = 200,
    learning_rate: float = 2e-4,
    fsdp: int = 1,
    tensor: int = 1,
) -> Experiment:
    """A LLaMA in bfloat16 whose frozen weights are stored in f32; each layer's activations are computed again.

    source: folder or repository of a LLaMA of transformers; its sizes replace depth, width and hidden
    rank: rank of the updates
    length: context length in tokens
    fsdp: devices over which the weights and the batch are sharded
    tensor: devices over which heads and hidden units are sharded
    """
    sizes = {**TINYLLAMA_1B, "depth": depth, "width": width, "hidden": hidden}
    start, tokenizer = None, byte_tokenizer()
    if source:
        sizes, tokenizer = llama.arguments(read_config(source)), read_tokenizer(source)
        start = weights(source, llama.transformers(**sizes), skip="lora_[ab]$", cast=True)
    train, test = (
        pack(
            tokenizer.encode_all([bytes(x).decode(errors="replace") for x in column(stdlib_text(split), "text")]),
            length,
        )
        for split in ("train", "test")
    )
    stack = functools.partial(Stack, remat="nothing_saveable")
    model = mixed_precision(from_nnx(lambda rngs: LLaMA(**sizes, stack=stack, rngs=rngs)))
    model = lora(model, "attention/[qv]/kernel$", rank=rank, alpha=2.0 * rank)
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=language(model),
        learning_rate=warmup_cosine(learning_rate, steps=steps, warmup=steps // 20),
        optimizer=optax.adam,
        source=batches(train, batch_size),
        steps=steps,
        init_from=start,
        evals={"test": Eval(eval_batches(test, batch_size), measure_language(), every=percent(50))},
        mesh={"data": -1, "fsdp": fsdp, "tensor": tensor},
        rules=rules(tied=sizes.get("tied", False), use_bias=bool(sizes.get("use_bias"))),
    )
