"""A damaged metrics.jsonl is noticed by a restart and by reports; nothing of it is lost without a message."""

import json

import jax
import pytest

from research import events
from research.experiment import build
from research.files import write_json
from research.loop import run
from research.runs.checkpoint import Checkpoints
from research.runs.reader import read_run
from research.runs.record import Record
from tests import toys


@pytest.fixture(scope="module")
def built():
    return build(toys.experiment(), seed=3, devices=jax.devices()[:1])


def train(built, folder, *, calls=None):
    """Train the toy, or stop it at the given number of calls of `interrupted`; return the messages."""
    left, messages = [calls or 10**6], []

    def interrupted():
        left[0] -= 1
        return left[0] < 0

    def tell(event):
        messages.extend([event.text] if isinstance(event, events.Message) else [])

    folder.mkdir(exist_ok=True)
    with Record(folder / "metrics.jsonl") as record, Checkpoints(folder / "checkpoints") as checkpoints:
        run(built, checkpoints=checkpoints, record=record, tell=tell, interrupted=interrupted)
    write_json(folder / "run.json", {})
    return messages


@pytest.fixture(scope="module")
def whole(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(built, folder)
    assert read_run(folder).problems == []
    return (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)


def digit(lines):
    at = lines[1].rindex(b"}") - 1
    return [lines[0], lines[1][:at] + bytes([lines[1][at] ^ 1]) + lines[1][at + 1 :], *lines[2:]]


DAMAGE = {  # (change of the lines, the number of a line that is lost, words)
    "a digit": (digit, None, "{n} of {n} lines can be read and stay"),
    "a brace": (lambda lines: [lines[0], lines[1].replace(b"{", b"["), *lines[2:]], 1, "{m} of {n} lines can be"),
    "no text": (lambda lines: [lines[0], b"\xff" + lines[1][1:], *lines[2:]], 1, "{m} of {n} lines can be"),
    "a line less": (lambda lines: [lines[0], *lines[2:]], 1, "bytes; it had"),
    "the end": (lambda lines: [*lines[:-1], lines[-1][:10]], -1, "bytes; it had"),
    "nothing left": (lambda lines: [], None, "metrics.jsonl has 0 bytes; it had"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_is_set_aside_and_its_lines_that_can_be_read_stay(built, whole, tmp_path, kind):
    change, lost, words = DAMAGE[kind]
    folder, path = tmp_path / "run", tmp_path / "run" / "metrics.jsonl"
    train(built, folder, calls=50)
    before = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join(change(before))
    path.write_bytes(damaged)
    (problem,) = read_run(folder).problems[-1:]
    assert problem.startswith("metrics.jsonl ") and f"the checkpoint of step {saved(folder)}" in problem
    if change(before):
        assert read_run(folder).metrics, "a reader skips only what is damaged"
    notices = [text for text in train(built, folder) if "metrics" in text]
    assert len(notices) == 1 and notices[0].startswith(problem) and "damaged/metrics-0.jsonl is a copy" in notices[0]
    assert words.format(n=len(before), m=len(before) - 1) in notices[0]
    assert (folder / "damaged" / "metrics-0.jsonl").read_bytes() == damaged
    kept = [line for line in change(before) if readable(line)]
    assert path.read_bytes() == b"".join([*kept, *whole[len(before) :]])
    assert read_run(folder).problems == [], "the new checkpoints seal the new content"
    assert lost is None or len(kept) == len(before) - 1


def saved(folder):
    return max(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def readable(line):
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def test_lines_after_the_checkpoint_are_not_damage(built, whole, tmp_path):
    train(built, tmp_path / "run", calls=50)
    with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 1000, "train/loss": 1.0}\n{"step": 10')
    assert not [text for text in train(built, tmp_path / "run") if "metrics" in text]
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == b"".join(whole)
    assert not (tmp_path / "run" / "damaged").exists()
