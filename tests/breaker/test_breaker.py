"""A few attempts of each kind with fixed seeds, and tests of the fault injection itself."""

import os
import random
import shutil
import string

import pytest

from tests.breaker import bit_flips, names, paths, runner
from tests.breaker.bench import empty, make_bench, verb
from tests.breaker.disk import Disk

# {kind: seeds}; the first kill has all three signals. An image of ext4 takes too long here.
SEEDS = {
    "kills": [0], "power_cuts": [0], "bit_flips": range(2, 4), "readers": [0], "full_disk": [1], "names": range(3),
    "paths": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("kind", [kind for kind in SEEDS if SEEDS[kind]])
def test_faults_do_no_harm(bench, kind):
    for seed in SEEDS[kind]:
        outcome = runner.attempt(kind, bench, seed=seed)
        assert outcome.verdict != "wrong", f"repeat with {runner.repeat_command(outcome)}\n{outcome.text}"


@pytest.mark.parametrize("pattern", ["checkpoints/*/state/d/*", "checkpoints/*/meta/meta.json", "evaluations/*.npz"])
def test_a_flipped_bit_in_a_file_with_a_checksum_is_noticed(bench, pattern):
    """A random file is often one that nothing reads."""

    def noticed(seed):
        with empty(bench.scratch):
            return bit_flips.attempt(bench, random.Random(seed), pattern=pattern).endswith(": noticed")

    assert any(map(noticed, range(4)))


@pytest.mark.parametrize("target", ["classes", "evaluation", "quantity", "column"])
def test_a_name_that_utf_8_cannot_encode_is_refused(bench, target):
    with empty(bench.scratch):
        assert names.attempt(bench, random.Random(0), name="\udcff", target=target) == f"{target}: refused"


def test_every_punctuation_character_in_a_path_is_harmless(bench):
    every = "".join(c for c in string.punctuation + " äß\t\n" if c not in f"/{paths.PATTERNS}")
    with empty(bench.scratch):
        assert paths.attempt(bench, random.Random(0), characters=every) == "the same results"


@pytest.mark.parametrize("character", paths.PATTERNS)
def test_a_path_that_is_read_as_a_pattern_is_refused_before_the_run(bench, character):
    with empty(bench.scratch):
        assert paths.attempt(bench, random.Random(0), characters=character) == "refused before it began"


def test_doctor_names_a_file_that_it_cannot_read(bench):
    with empty(bench.scratch):
        run = shutil.copytree(bench.finished, bench.scratch / "run")
        (run / "evaluations" / "valid.npz").write_bytes(b"PK")
        assert "valid.npz cannot be read" in verb("doctor", run).text


def test_only_what_was_synced_survives_every_power_cut(tmp_path):
    """By the rules of POSIX for fsync: names and contents are safe after a sync of the folder and of the file."""
    root = tmp_path / "disk"
    root.mkdir()
    (root / "before").write_text("old")
    seen = {}
    with Disk(root, on_event=lambda: None) as disk:
        _sync(root / "before")
        (root / "safe").write_text("content")
        (root / "named").write_text("content")
        (root / "replaced.part").write_text("new")
        for path in (root / "safe", root):
            _sync(path)
        os.replace(root / "replaced.part", root / "before")
        with (root / "safe").open("a") as file:
            file.write(" and more")
        (root / "lost").write_text("content")
        (root / "folder").mkdir()
        for seed in range(200):
            disk.cut(tmp_path / str(seed), random.Random(seed))
            for path in (tmp_path / str(seed)).iterdir():
                seen.setdefault(path.name, []).append(path.read_text() if path.is_file() else "")
    assert len(seen["safe"]) == len(seen["named"]) == len(seen["before"]) == 200
    assert all(text.startswith("content") for text in seen["safe"]) and "content and more" in seen["safe"]
    assert {"", "content"} < set(seen["named"]), "empty, torn and whole"
    assert {"old", "new", ""} <= set(seen["before"]), "the old or the new file, which was not synced"
    assert 0 < len(seen["lost"]) < 200 and 0 < len(seen["folder"]) < 200


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_a_failure_counts_as_wrong_and_the_page_says_how_to_repeat_it(bench, monkeypatch):
    def broken(bench, rng):
        raise SystemExit(f"a number: {rng.random()}")

    monkeypatch.setattr(runner.module("kills"), "attempt", broken)
    first, again = (runner.attempt("kills", bench, seed=7) for _ in range(2))
    assert first.verdict == "wrong" and first.text == again.text
    assert "python -m tests.breaker kills --seed 7 --attempts 1" in runner.page([first], seed=7)
