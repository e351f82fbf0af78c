"""Every file in experiments/ is built, stepped and evaluated on mock records of its data set's true spec.

A new file needs nothing here; where its default size is slow to compile, give it small knobs in TINY.
"""

import functools
import itertools
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import research.data
from research import verbs
from research.core import Trained
from research.data import arrays
from research.data.packaged import packaged_set
from research.data.text import vectors
from research.evaluate import evaluator
from research.experiment import build
from research.runs import opened
from research.runs.experiment_file import load
from research.tree import shapes

ROOT = Path(__file__).parent.parent
FILES = [path for path in sorted((ROOT / "experiments").rglob("*.py")) if path.name != "__init__.py"]
TINY = {
    "selfsupervised/contrastive": {"images": 100, "batch_size": 8, "epochs": 1},
    "selfsupervised/masked_patches": {"images": 100, "batch_size": 8, "epochs": 1, "width": 32, "depth": 1},
    "selfsupervised/masked_tokens": {"width": 32, "depth": 1, "length": 16, "batch_size": 8, "steps": 4},
    "generative/gan": {"hidden": 16, "steps": 20},
    "generative/vae": {"hidden": 16, "steps": 20},
    "meta/maml": {"queries": 1, "batch_size": 2, "steps": 4},
    "digits": {"channels": (4, 4), "epochs": 1},
    "privacy/dp_sgd": {"epsilon": 1.0, "batch_size": 16, "epochs": 1, "width": 4, "microbatch": 8},
    "vision/cifar10_resnet": {"depth": 8, "width": 4, "batch_size": 8, "steps": 4},
    "vision/imagenet_vit": {"width": 64, "depth": 1, "size": 32, "batch_size": 8, "epochs": 1},
    "vision/fashion_mnist": {"width": 8, "batch_size": 20, "epochs": 1},
    "vision/fashion_speedrun": {"batch_size": 8, "epochs": 1},
    "rl/ppo_cartpole": {"environments": 4, "length": 16, "rollouts": 2, "rounds": 1, "epochs": 1, "num_minibatches": 2},
    "rl/dqn_cartpole": {"steps": 40, "rounds": 1},
    "rl/grid_world": {"steps": 200},
    "federated/fedavg": {"examples": 100, "clients": 10, "per_round": 2, "epochs": 1, "hidden": (8,), "steps": 4},
    "robust/adversarial": {"channels": (2, 2), "batch_size": 8, "attack_steps": 1, "tested": 100, "epochs": 1},
    "language/gpt_parallel": {"width": 48, "depth": 1, "length": 32, "steps": 4},
    "language/llama_lora": {"width": 64, "depth": 1, "hidden": 16, "length": 32, "batch_size": 4, "steps": 20},
    "language/gpt_stdlib": {"width": 48, "depth": 1, "length": 32, "steps": 4, "sample_length": 16},
    "continual": {"width": 16, "epochs": 1},
    "multi_task": {"width": 16, "epochs": 1},
    "adaptation": {"width": 16, "epochs": 1},
    "distil": {"wide": (8,), "images": 100, "batch_size": 8, "steps": 4},
    "active": {"steps": 4},
    "wrong_labels": {"epochs": 1},
    "label_review": {"epochs": 1},
    "tabular/adult": {"hidden": 8, "rare": 2, "batch_size": 64, "epochs": 1},
    "tabular/breast_cancer": {"hidden": 4, "folds": 2, "epochs": 1},
    "tabular/yeast": {"hidden": 4, "epochs": 1},
    "tabular/published_splits": {"hidden": 4, "epochs": 1},
    "tabular/rare_class": {"hidden": 4, "steps": 4},
    "tabular/soybean": {"hidden": 4, "epochs": 1},
    "tabular/survival": {"hidden": 4, "batch_size": 64, "epochs": 1},
    "multiple_instances": {"hidden": 4, "epochs": 1},
    "language/chinese": {"width": 4, "hidden": 4, "batch_size": 4, "epochs": 1},
    "language/manual_questions": {"glove": False, "width": 4, "hardest": 2, "batch_size": 8, "epochs": 1},
    "language/topics": {"hidden": 4, "entries": 8, "epochs": 1},
    "language/sentiment": {"epochs": 1},
    "language/sentiment_domains": {"width": 4, "epochs": 1},
    "language/questions": {"filters": 2, "epochs": 1},
    "language/few_shot": {"ways": 2, "queries": 1, "batch_size": 2, "steps": 4},
    "language/parts_of_speech": {"width": 4, "hidden": 4, "batch_size": 4, "epochs": 1},
    "language/bert": {"width": 32, "depth": 1, "length": 16, "batch_size": 4, "steps": 4},
    "language/fine_tune_bert": {"width": 32, "depth": 1, "length": 8, "batch_size": 4, "epochs": 1},
    "language/dialogue": {"vocabulary": 300, "width": 32, "depth": 1, "length": 48, "batch_size": 4, "steps": 4},
    "language/dependency_trees": {"width": 4, "hidden": 4, "batch_size": 4, "epochs": 1},
    "language/pronunciation": {"width": 4, "batch_size": 4, "epochs": 1},
    "language/translation": {"vocabulary": 300, "width": 8, "depth": 1, "batch_size": 4, "epochs": 1},
    "semi/fixmatch": {"features": 8, "labels_per_class": 4, "unlabelled": 100, "batch_size": 8, "ratio": 2, "steps": 4},
}
CATEGORIES = {
    "adult": {
        "workclass": ("Private", None, "State-gov"), "education": ("Bachelors", "11th"),
        "marital_status": ("Divorced", "Widowed"),
        "occupation": ("Sales", "Tech-support"), "relationship": ("Husband", "Wife"), "race": ("White", "Black"),
        "sex": ("Male", "Female"), "native_country": ("Cuba", "Japan"), "income": (*["<=50K"] * 4, ">50K"),
    },
    "letter": {"letter": tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")},
    "dna": {"label": ("n", "ei", "ie")},
    "shuttle": {"label": (*["Rad.Flow"] * 9, "Fpv.Open")},
    "flchain": {"sex": ("F", "M"), "mgus": ("no", "yes"), "death": ("alive", "dead")},
    "soybean": {
        "label": ("rust", "blight", "mildew"),
        **{field: ("0", None, "1") for field in packaged_set("soybean").fields if field != "label"},
    },
    "brown": {
        "document": tuple(f"ca{number:02d}" for number in range(40)), "text": ("The dog ran .", "A cat ran ."),
        "tags": ("at nn vbd .", "at nn-hl vbd .")
    },
    "turkish_trees": {
        "document": tuple(f"doc{number}" for number in range(41)), "domain": ("web", "wiki"),
        "text": ("Bu iyi .", "O ev ."), "heads": ("2 0 2", "2 0 2"), "relations": ("nsubj root p",)
    },
    "cmudict": {"word": ("cat", "b", "o", "tree"), "phonemes": ("K AE1 T", "B IY1", "OW1", "T R IY1")},
    "debian_italian": {"english": ("a game of chess", "files for a game"), "italian": ("scacchi", "file per un gioco")},
    "people_daily": {"text": ("江 泽民 在 北京 。", "新华社 记者 来 。 天津"), "tags": ("nr nr p ns w", "nt n v w ns")},
    "python_manual": {
        "file": ("faq/design", "library/re", "c-api/list"), "title": ("Why a dog?", "dog(a, b)", "cat"),
        "text": ("The dog is here. It barks at the cats all night long.", "A dog runs fast.", "A cat sleeps now."),
    },
    "reuters_r8": {"label": ("earn", "grain"), "text": ("profit of the year", "wheat and rice", "loss")},
    "reuters_r52": {"text": tuple(f"profit of the year {number}" for number in range(40))},
    "rated_sentences": {
        "document": tuple(f"{number}" for number in range(40)), "sentiment": (-1.5, 2.0, 0.5),
        "text": ("a bad film", "a good film", "not bad"),
    },
    "movie_dialogues": {"statement": ("How are you?", "Where is he?", "Go!"), "reply": ("Fine.", "I do not know.")},
    "newsgroups": {
        "label": tuple(f"group {number}" for number in range(20)), "text": ("a cat and a dog ran", "the dog sat")
    },
    "trec_questions": {"coarse": ("HUM", "NUM"), "text": ("Who was it ?", "How many are there ?")},
}  # fmt: skip


def name_of(path):
    return str(path.relative_to(ROOT / "experiments").with_suffix(""))


@pytest.fixture
def mocked(monkeypatch, tmp_path):
    """Random records with the fields, shapes and dtypes of every TFDS set; enough for the largest split.

    They repeat after 300: TFDS makes them slowly, one by one.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.testing.mocking import RandomFakeGenerator

    made = functools.cache(RandomFakeGenerator.__getitem__)
    monkeypatch.setattr(RandomFakeGenerator, "__getitem__", lambda self, index: made(self, index % 300))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = research.data.tfds_source
    read = lambda name, split, **options: made_up(name) if name in CATEGORIES else source(name, split, **options)
    monkeypatch.setattr(research.data, "tfds_source", read)
    for name in [name for name in sys.modules if name.startswith("experiments.")]:
        monkeypatch.delitem(sys.modules, name)  # it has the functions of a test before this one
    words = vectors.Vectors(("the", "a", "film", "how"), np.eye(4, 50, dtype=np.float32))
    monkeypatch.setattr(vectors, "glove_6b", lambda: words)
    with tfds.testing.mock_data(num_examples=5_200):
        yield


def made_up(name):
    """Records of a packaged table with these categories: random texts, as TFDS makes them, are not a few classes."""
    columns = {}
    for i, (field, kind) in enumerate(packaged_set(name).fields.items()):
        values = CATEGORIES[name].get(field) or [kind((row * (i + 3)) % 17) for row in range(17)]
        columns[field] = [values[row % len(values)] for row in range(600)]
    return arrays(**columns)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_it_builds_steps_and_evaluates(path, mocked, request):
    knobs = TINY.get(name_of(path), {})
    loaded = load(path)
    experiment = loaded.function(**opened.knob_values(loaded, knobs))
    built = build(experiment, seed=0, devices=jax.devices()[:1])
    state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
    state, sums = built.step(state, sums, batch_at(0))
    assert np.isfinite(float(sums.total.sum["loss"].value())) and int(state.step) == experiment.stride
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(state.params))
    programs = {}  # evaluations of one measure on records of one form are one program, which runs once
    for name, ev in experiment.evals.items():
        form = str({field: (values.dtype, values.shape[1:]) for field, values in ev.source(0).items()})
        programs[ev.measure, ev.view, ev.finish, form] = name
    for name in programs.values():
        ev = experiment.evals[name]
        # A probe needs records of several classes.
        first = Short(ev.source, ev.source.size if ev.finish else 20)
        results = evaluator(ev._replace(source=first), experiment.apply, mesh=built.mesh)(state)
        assert all(np.isfinite(value) for value in results.numbers.values()), name
        assert results.numbers or results.texts
    claimed = {claim.metric.partition("/")[0] for claim in experiment.claims}
    assert claimed <= set(experiment.evals)
    if experiment.predict:
        # Shapes alone: the commands compile it as part of an evaluation.
        rows = jax.eval_shape(experiment.predict, Trained(experiment.apply, state.params, state.stats), batch_at(0))
        assert {len(value) for value in rows.values()} == {len(next(iter(batch_at(0).values())))}


class Short:
    """The first records of the first batch of an evaluation source."""

    def __init__(self, source, most):
        self.source, self.size = source, min(most, source.size)
        self.examples, self.data = source.examples, source.data

    def __len__(self):
        return 1

    def __call__(self, step, rows=slice(None)):
        return {name: values[: self.size][rows] for name, values in self.source(step).items()}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_its_docstring_says_what_how_and_what_to_expect(path):
    loaded = load(path)
    lines = loaded.doc.split("\n")
    assert lines[0].endswith(".") and len(lines[0]) < 110
    assert f"python -m research train experiments/{name_of(path)}.py" in loaded.doc
    assert "time" in loaded.doc.lower() or "minute" in loaded.doc
    assert str(path.relative_to(ROOT)) in verbs.experiments(ROOT / "experiments").__repr__()
    commands = [line.strip() for line in lines if "research train experiments" in line]
    for command in commands:
        words = command.split("train ")[1].split()[1:]
        pairs = [(flag[2:].replace("-", "_"), value) for flag, value in itertools.pairwise(words) if flag[:2] == "--"]
        knobs = {name: value for name, value in pairs if name not in verbs.RUN_OPTIONS}
        opened.knob_values(loaded, knobs)


def test_preferences_start_from_the_frozen_model(mocked):
    """Before the first step of DPO, the policy is the reference: no margin, and the loss is log 2."""
    knobs = TINY["language/dialogue"] | {"stage": "dpo"}
    loaded = load(ROOT / "experiments/language/dialogue.py")
    experiment = loaded.function(**opened.knob_values(loaded, knobs))
    built = build(experiment, seed=0, devices=jax.devices()[:1])
    state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
    ev = experiment.evals["test_pairs"]
    before = evaluator(ev._replace(source=Short(ev.source, 20)), experiment.apply, mesh=built.mesh)(state).numbers
    assert before["margin"] == 0 and before["accuracy"] == 0.5
    state, sums = built.step(state, sums, batch_at(0))
    assert float(sums.total.sum["loss"].value()) == pytest.approx(np.log(2))
    assert {name.rpartition("/")[2] for name in shapes(state.params)} == {"lora_a", "lora_b"}
