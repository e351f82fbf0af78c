"""The verb that continues a text with a run's language model."""


def generate(
    run: str, *, prompt: str | None = None, tokens: int = 200, temperature: float = 1.0, top_k: int | None = None,
    top_p: float | None = None, min_p: float | None = None, repetition: float | None = None, seed: int = 0,
    trust: bool = False, stream=None,
) -> str:  # fmt: skip
    """Continue a text with a run's language model, and print the continuation as it is generated.

    It runs the Python source that is stored in the run folder.

    run: a run folder, for its newest checkpoint; or RUN@best, or RUN@STEP
    prompt (TEXT): the text to continue (default: standard input)
    tokens (N): the largest number of tokens to generate
    temperature: divides the logits; 0 selects the most likely token
    top_k (K): sample from the K most likely tokens
    top_p (P): sample from the most likely tokens with a total probability of P
    min_p (P): sample from tokens that are at least P times as likely as the most likely one
    repetition (PENALTY): make tokens that the text already has less likely; 1 changes nothing
    seed: the seed of the random numbers
    trust: run the source of a folder that you did not make on this machine
    """
    import sys

    import jax

    from research.decoding import rules
    from research.decoding.text import generated_text, tokenizer_of
    from research.errors import UserError, check_range
    from research.runs.opened import open_run

    check_range("generate", tokens=(tokens, 1, 2**31), temperature=(temperature, 0, float("inf")))
    makers = {
        "repetition": repetition, "temperature": temperature or None, "top_k": top_k, "top_p": top_p, "min_p": min_p,
    }  # fmt: skip
    chosen = tuple(getattr(rules, name)(value) for name, value in makers.items() if value is not None)
    if prompt is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise UserError("no prompt was given; expected --prompt TEXT, or a text on the standard input.")
        prompt = sys.stdin.read()
    opened = open_run(run, trust=trust)
    key = jax.random.key(seed) if temperature else None
    tokenizer = tokenizer_of(opened.experiment.preparation)
    pieces = generated_text(opened.trained, prompt, tokenizer=tokenizer, count=tokens, rules=chosen, key=key)
    text = []
    for piece in pieces:
        print(piece, end="", file=stream, flush=True)
        text.append(piece)
    print(file=stream)
    return "".join(text)
