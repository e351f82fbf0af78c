"""The table of scale: its models, its arithmetic, and a run that goes on where it stopped."""

import json
import math

import jax
import pytest

from research.errors import UserError
from tests.benchmarks import scale

COUNTED = {"flops": 197e12, "bytes": 819e9 / 2, "transfers": {"all-reduce": [3, 200e9 / 4]}}


def test_the_sizes_are_those_of_gpt_3():
    count = lambda s: s.depth * (12 * s.width**2 + 13 * s.width) + (s.vocabulary + s.length + 2) * s.width
    made = scale.experiment(scale.SMALL, strategy="data", devices=1, rows=1)
    shapes = jax.tree.leaves(jax.eval_shape(made.init, jax.random.key(0))[0])
    assert sum(math.prod(x.shape) for x in shapes) == count(scale.SMALL)
    published = {"350M": 356e6, "1.3B": 1.3e9, "7B": 6.7e9}
    assert {name: count(size) for name, size in scale.SIZES.items()} == pytest.approx(published, rel=0.015)


def test_the_meshes_take_all_devices():
    for strategy in scale.STRATEGIES:
        assert all(math.prod(scale.mesh_of(strategy, n).values()) == n for n in (1, 2, 8, 64, 256))


def test_a_run_goes_on_where_it_stopped_and_keeps_reasons(tmp_path, monkeypatch):
    calls = []

    def build(made, *, devices):
        calls.append(made.source.size)
        raise UserError("too large")

    monkeypatch.setattr(scale, "SLICES", {"v5e": {8: "2x4"}})
    monkeypatch.setattr(scale, "SIZES", {"350M": scale.SMALL})
    monkeypatch.setattr(scale, "topology_devices", lambda name: name)
    monkeypatch.setattr(scale, "build", build)
    path = tmp_path / "tpu.jsonl"
    scale.table(path, search=False)
    assert calls == [16, 8] * 4  # two rows per chip, then one
    lines = scale.read(path)
    assert [line["reason"] for line in lines] == ["too large"] * 4 and lines[0]["versions"]["jax"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:3]))
    scale.table(path, search=True)
    assert calls[8:] == [16, 8] and len(scale.read(path)) == 4


def test_the_page_shows_the_roofline_the_reason_and_what_is_missing():
    about = {"time": "2026", "versions": {"jax": "1.2"}}
    row = {"size": "350M", "chip": "v5e", "devices": 8, "strategy": "data", "rows": 2, "bytes": {"total": 2**31}}
    failed = {"size": "7B", "chip": "v5e", "devices": 8, "strategy": "data", "rows": 1, "reason": "it is too large"}
    shown = scale.page([{**about, **row, "executed": COUNTED, "largest": 96}, {**about, **failed}], [])
    model = (6 * (12 * 24 * 1024**2 + 50_304 * 1024) + 12 * 24 * 2048 * 1024) * 2048 * 2
    line = f"2 | 2.0 | 197.00 | all-reduce 50,000.0 | **1,000.0** | 500.0 | 250.0 | {model / 197e12:.0%} | 96 |"
    assert f"| 350M | data | {line}" in shown
    assert "| 7B | data | 1 | it is too large |" in shown and "| 1.3B | fsdp | | not computed |" in shown


def test_the_page_compares_a_prediction_with_measured_times():
    line = {"time": "2026", "versions": {}, "machine": {"processor": "Chip", "cores": 2}, "load": 1.0, "devices": 2,
            "strategy": "fsdp", "bytes": {"total": 2**20}, "executed": COUNTED, "seconds": [2.0, 4.0, 8.0],
            "roofline": [[1.0, 0.5, 0.5], [1.0, 2.0, 0.0], [4.0, 0, 0]]}  # fmt: skip
    shown = scale.page([], [line])
    assert "| 2,000.0 | 3,000.0 | 4,000.0 (3,000.0 - 6,000.0) | 0.50 |" in shown
