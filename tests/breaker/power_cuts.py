"""Power cuts at random moments of a run, in a model of a disk: see `disk.py`."""

import io
import random

from research import events, verbs
from tests.breaker.bench import SAVE_EVERY, VICTIM, resumed_step, same, train
from tests.breaker.disk import Disk

CUTS, EVENTS = 6, 700  # cuts of one run; changes of its folder, about


def attempt(bench, rng) -> str:
    """Train once and note what cuts at random moments would leave; each of them is resumed to the end."""
    run, cuts, saved, count = bench.scratch / "run", [], [0], [0]
    moments = {rng.randrange(EVENTS) for _ in range(CUTS)}

    def on_event():
        count[0] += 1
        if count[0] in moments:
            cuts.append((bench.scratch / f"cut-{len(cuts)}", saved[-1], count[0]))
            disk.cut(cuts[-1][0], random.Random(rng.random()))

    def note(event):
        if isinstance(event, events.Saved):
            saved.append(event.step)

    run.mkdir()
    with Disk(run, on_event=on_event) as disk:
        verbs.train(VICTIM, run_dir=run, report=False, stream=io.StringIO(), listen=[lambda *_: note])
    same(run, bench.finished)
    for folder, newest, moment in cuts:
        text = train(folder)
        assert resumed_step(text) >= newest - 2 * SAVE_EVERY or "already finished" in text, (
            f"after the cut at event {moment} of {count[0]}, at which step {newest} was the last save: {text}"
        )
        same(folder, bench.finished)
    return f"{len(cuts)} cuts, recovered"
