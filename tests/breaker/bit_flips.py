"""Bit flips in every kind of file of a run folder. Each verb then gives the right result or says what is wrong."""

import shutil

from tests.breaker.bench import same
from tests.breaker.shown import TRAIN, difference, expected, notices, shown

# A group is chosen first, because most files belong to arrays and metadata.
GROUPS = {
    "arrays": "checkpoints/*/state/**/*",
    "metadata": "checkpoints/*/meta/*",
    "checkpoint": "checkpoints/*/*",
    "metrics.jsonl": "metrics.jsonl",
    "timing.jsonl": "timing.jsonl",
    "status.json": "status.json",
    "run.json": "run.json",
    "source": "source/**/*",
    "evaluations": "evaluations/*",
    "evaluated": "evaluated/*/*",
    "tensorboard": "events.out.tfevents.*",
}


def attempt(bench, rng, *, pattern=None) -> str:
    """Flip one bit, of a random file or of one that `pattern` selects, and run every verb.

    A run that stopped midway is trained to its end.
    """
    original = rng.choice([bench.finished, bench.midway])
    undamaged = expected(bench, original)
    found = {
        group: [path for path in sorted(original.glob(pattern or glob)) if path.is_file() and path.stat().st_size]
        for group, glob in GROUPS.items()
    }
    group = rng.choice([group for group, files in found.items() if files])
    files = found[group]
    newest = [path for path in files if f"checkpoints/{_newest(original)}/" in path.as_posix()]
    name = rng.choice(newest if newest and rng.random() < 0.8 else files).relative_to(original)
    run = shutil.copytree(original, bench.scratch / "run")
    flip(run / name, rng)
    noticed, silent = False, []
    for words, before in undamaged.items():
        if words[0] == "report" and rng.random() < 0.7:  # drawing takes seconds
            continue
        now = shown(words, run, bench.finished)
        noticed = noticed or notices(now, before=before)
        alike = now == before or (words == TRAIN and original == bench.midway)  # it may resume from another step
        if not alike and not notices(now, before=before):
            silent.append(f"{words[0]}: {difference(now, before)}")
    if original == bench.midway and "error: " not in now and not notices(now):
        try:
            same(run, bench.finished)
        except Exception as error:
            silent.append(f"train: {error}")
    assert not silent, f"a bit of {name} ({original.name}) silently changed {'; '.join(silent)}"
    return f"{group}: " + ("noticed" if noticed else "no effect")


def _newest(run):
    return max(int(path.name) for path in run.glob("checkpoints/*") if path.name.isdigit())


def flip(path, rng):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
