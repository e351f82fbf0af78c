"""Trackers: one interface, and extras that say which one is missing."""

import importlib.util

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import masked_crc32c

from research import events
from research.errors import UserError
from research.evaluate import to_results
from research.tracking import trackers


def tensorboard_events(folder):
    """The events in the files of a run folder; their checksums are verified."""
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            body = data[at + 12 : at + 12 + length]
            assert masked_crc32c(body) == int.from_bytes(data[at + 12 + length : at + 16 + length], "little")
            yield Event.FromString(body)
            at += 16 + length


def test_every_number_reaches_a_tracker_under_its_name():
    found, closed = {}, []
    tell = trackers.scalar_writer(lambda step, numbers: found.update({(k, step): v for k, v in numbers.items()}),
                                  lambda: closed.append(True))  # fmt: skip
    tell(events.Interval(10, {"loss": 0.5}, {"steps_per_second": 3.0}))
    tell(events.Evaluated(10, "valid", to_results({"accuracy": 0.9, "text": "words", "matrix": [[1, 2]]})))
    tell(events.Saved(10))
    assert found == {("train/loss", 10): 0.5, ("timing/steps_per_second", 10): 3.0, ("valid/accuracy", 10): 0.9}
    assert not closed
    tell(events.Ended(10, "finished", {}))
    assert closed


def test_tensorboard_shows_a_run_by_name_with_its_knobs_and_texts(tmp_path):
    folder = tmp_path / "digits-1a2b-s3"
    folder.mkdir()
    tell = trackers.tensorboard(folder, {"knobs": {"rate": 0.1, "deep": True, "widths": [3, 4]}, "seed": 3})
    tell(events.Started(0, 10, lambda: 0))
    tell(events.Interval(10, {"loss": 0.5}, {"steps_per_second": 3.0}))
    tell(events.Evaluated(10, "valid", to_results({"accuracy": 0.9, "sample": "words"})))
    tell(events.Ended(10, "finished", {"valid": {"accuracy": 0.9}}))
    values = {(value.tag, event.step): value for event in tensorboard_events(folder) for value in event.summary.value}
    assert values["train/loss", 10].simple_value == 0.5 and np.isclose(values["valid/accuracy", 10].simple_value, 0.9)
    assert values["valid/sample/text_summary", 10].tensor.string_val == [b"words"]

    def plugin_data(tag):
        return HParamsPluginData.FromString(values[f"_hparams_/{tag}", 0].metadata.plugin_data.content)

    knobs = plugin_data("session_start_info").session_start_info.hparams
    assert knobs["rate"].number_value == 0.1 and knobs["deep"].bool_value is True
    assert knobs["widths"].string_value == "[3, 4]" and knobs["seed"].number_value == 3
    assert [info.name.tag for info in plugin_data("experiment").experiment.metric_infos] == ["valid/accuracy"]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_extra_is_named(name, tmp_path):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed here")
    with pytest.raises(UserError, match=rf"-e '.\[{name}\]'"):
        getattr(trackers, name)("project")(tmp_path, {"knobs": {}})
