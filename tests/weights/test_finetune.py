"""The README's path from a folder of weights to a fine-tuned network and back, on a tiny BERT."""

import glob
import json
import re
import shlex

import numpy as np

from research.__main__ import main
from research.runs.opened import open_run
from research.weights.folders import read_config
from tests.test_readme import BLOCKS, TEXT
from tests.weights.disk import Case, arrays_in


def test_the_readmes_commands(tmp_path, monkeypatch, capsys, one_device):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    case = Case("transformers_bert", tmp_path / "tiny", part="bert_both/")
    rng = np.random.default_rng(0)
    rows = [{"tokens": [*rng.integers(3, 31, 7).tolist(), 0, 0], "label": i % 2} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "finetune.py").write_text(dict(BLOCKS)["finetune.py"])
    commands = re.findall(r"^python -m research ((?:train finetune|weights export).*)$", TEXT, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        words = [found for word in shlex.split(command, comments=True) for found in glob.glob(word) or [word]]
        assert main([*words, *(["--source", "tiny", "--no-report"] if "finetune.py" in command else [])]) == 0
    written, config = arrays_in(tmp_path / "out"), read_config(tmp_path / "out")
    assert config["architectures"] == ["BertForSequenceClassification"] and len(config["id2label"]) == 2
    kept = {name for name in case.arrays if not name.startswith("cls.")}
    assert set(written) == kept | {"classifier.weight", "classifier.bias"}
    opened = open_run(glob.glob("runs/finetune-*-s0")[0])
    np.testing.assert_array_equal(written["classifier.weight"], opened.trained.params["classifier"]["kernel"].T)
    for name in kept:  # three small steps from where it started
        assert 0 < np.abs(written[name] - case.arrays[name]).max() < 1e-3 or name.endswith(
            "token_type_embeddings.weight"
        )
