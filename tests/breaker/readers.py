"""Readers beside a training process that saves at every step: neither disturbs the other."""

from tests.breaker.bench import Process, same, train, train_words, verb

KNOBS = ("--save-every", "1", "--steps", "20")


def attempt(bench, rng) -> str:
    """Read in a loop, in random order, until the training process ends."""
    undisturbed, run = bench.scratch / "undisturbed", bench.scratch / "run"
    train(undisturbed, *KNOBS)
    reads = []
    trainer = Process(train_words(run, *KNOBS, "--pause", "0.03"), output=bench.scratch / "trainer.txt")

    def read():
        if list(run.glob("checkpoints/[0-9]*[0-9]")):
            words = rng.choice([
                ("evaluate", run, "--on", "valid"), ("evaluate", f"{run}@best"), ("predict", run, "test"),
                ("runs", run.parent), ("compare", bench.finished, run), ("doctor", run), ("report", run),
            ])  # fmt: skip
            code, text = verb(*words)
            assert code == (text.startswith("problem") if words[0] == "doctor" else 0), f"{words[0]}: {text}"
            reads.append(words[0])

    trainer.wait_for(read)
    code, text = trainer.end()
    assert code == 0, text
    assert reads, "the run ended before the first read"
    same(run, undisturbed)
    return "both undisturbed"
