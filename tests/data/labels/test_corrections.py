"""Corrections of labels: the view, its fingerprint and its record; proposals as a table; the annotation guide."""

import numpy as np
import pytest

from research.data import arrays, batches, column, corrected, eval_batches, labelled, mapped, subset
from research.data.fingerprint import fingerprint
from research.data.labels import proposals
from research.data.labels.corrections import Correction, append_corrections, base_rows, read_corrections
from research.data.labels.guide import read_guide
from research.data.labels.proposals import Proposal, decided_class, read_proposals, write_proposals
from research.errors import UserError

DATA = arrays(image=np.arange(24, dtype=np.float32).reshape(6, 4), label=np.array([0, 1, 2, 0, 1, 2], np.int32))
NAMES = ("0", "1", "2")


def change(record, old, new, annotator="ann"):
    return Correction(record, old, new, annotator, "2030-01-02T03:04:05+00:00", "looks so")


def recorded(path, *changes, data=DATA, classes=NAMES):
    append_corrections(path, changes, data=fingerprint(data), classes=classes)
    return path


@pytest.fixture
def file(tmp_path):
    return recorded(tmp_path / "corrections.jsonl", change(1, "1", "2"), change(4, "1", "0"))


def test_every_way_of_reading_gives_the_corrected_labels_and_the_data_stay(file):
    data = corrected(DATA, file)
    expected = [0, 2, 2, 0, 0, 2]
    assert [int(data[i]["label"]) for i in range(len(data))] == expected
    assert [int(row["label"]) for row in data.__getitems__([4, 1])] == [0, 2]
    np.testing.assert_array_equal(column(data, "label"), expected)
    np.testing.assert_array_equal(column(data, "image"), DATA.columns["image"])
    taken = data.take_columns(np.array([4, 5, 1]))
    np.testing.assert_array_equal(taken["label"], [0, 2, 2])
    part = subset(data, [4, 3])
    np.testing.assert_array_equal(eval_batches(part, 2)(0)["label"], [0, 0])
    assert eval_batches(part, 2)(0)["label"].dtype == np.int32
    np.testing.assert_array_equal(np.sort(batches(data, 6)(0)(0)["label"]), np.sort(expected))
    np.testing.assert_array_equal(DATA.columns["label"], [0, 1, 2, 0, 1, 2])
    base, rows, path = base_rows(part)
    assert base is DATA and rows.tolist() == [4, 3] and path == file


def test_the_fingerprint_is_that_of_data_with_these_labels(file):
    same = arrays(image=DATA.columns["image"], label=np.array([0, 2, 2, 0, 0, 2], np.int32))
    assert fingerprint(corrected(DATA, file)) == fingerprint(same) != fingerprint(DATA)


def test_data_that_state_their_own_fingerprint_get_another_one(tmp_path):
    class Sampled(list):
        content = "a"

        def content_fingerprint(self):
            return {"records": len(self), "read": 2, "fields": {"label": self.content}, "unordered": "b"}

    data = Sampled(DATA[i] for i in range(6))
    first = corrected(data, recorded(tmp_path / "1.jsonl", change(1, "1", "2"), data=data))
    other = corrected(data, recorded(tmp_path / "2.jsonl", change(1, "1", "0"), data=data))
    found = [fingerprint(one) for one in (data, first, other)]
    assert len({one["fields"].get("corrections of label") for one in found}) == 3
    assert len({one["unordered"] for one in found}) == 3


def test_classes_with_names_are_recorded_by_name(tmp_path):
    data = labelled([{"x": 1.0, "species": name} for name in ("ant", "bee", "ant")], "species")
    file = recorded(tmp_path / "c.jsonl", change(2, "ant", "bee"), data=data, classes=("ant", "bee"))
    found = corrected(data, file)
    assert [int(found[i]["label"]) for i in range(3)] == [0, 1, 1] and found.classes == ("ant", "bee")


def test_later_lines_continue_from_earlier_ones_which_stay(file):
    before = file.read_text()
    recorded(file, change(1, "2", "0", "bob"))
    assert file.read_text().startswith(before) and file.read_text().count("\n") == 4
    assert int(corrected(DATA, file)[1]["label"]) == 0
    assert [c.annotator for c in read_corrections(file).changes] == ["ann", "ann", "bob"]
    with pytest.raises(UserError, match="record 1 was given as '2', but bob changed it to '0'"):
        recorded(file, change(1, "2", "1"))
    assert len(read_corrections(file).changes) == 3


def test_corrections_of_other_data_are_refused(file):
    other = mapped(subset(DATA, [0, 1, 2]), lambda record: record)
    with pytest.raises(UserError, match="other data: the data set has 3 records instead of 6.*before it is split"):
        corrected(other, file)
    with pytest.raises(UserError, match="corrections of other data"):
        recorded(file, change(0, "0", "1"), data=subset(DATA, [0, 1, 2]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"record": 3, "from": "2", "to": "1", "annotator": "a", "time": "t", "reason": ""}',
         "changes record 3 from '2', but its label is '0'"),
        ('{"record": 3, "from": "0", "to": "11", "annotator": "a", "time": "t", "reason": ""}',
         "unknown class of record 3 .*'11'. Did you mean '1'"),
        ('{"record": 9, "from": "0", "to": "1", "annotator": "a", "time": "t", "reason": ""}',
         "line 4: record 9 of 6 records"),
        ('{"record": true, "from": "0", "to": "1", "annotator": "a", "time": "t", "reason": ""}',
         "line 4: expected the number of a record"),
        ('{"record": 3, "from": "0"}', "line 4 is not a correction: KeyError"),
        ("no", "line 4 is not a correction: JSONDecodeError"),
    ],
)  # fmt: skip
def test_damaged_records_name_the_line(file, line, message):
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(UserError, match=message):
        corrected(DATA, file)


def test_another_file_is_none(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(UserError, match="line 1 does not describe a data set"):
        corrected(DATA, tmp_path / "c.jsonl")


PROPOSED = [Proposal(7, "3", "8", 0.91), Proposal(2, "1", "7", 0.8)]


def test_decisions_survive_a_second_review(tmp_path):
    path = tmp_path / "proposals.csv"
    assert write_proposals(path, PROPOSED) == PROPOSED == read_proposals(path)
    text = path.read_text()
    assert text.startswith("record,given,proposed,confidence,decision,reason\n7,3,8,0.9100,,\n")
    path.write_text(text.replace("0.9100,,", "0.9100,accept,a closed loop").replace("0.8000,,", "0.8000,4,"))
    again = write_proposals(path, [Proposal(5, "0", "6", 0.7), Proposal(7, "3", "8", 0.95)])
    assert again == read_proposals(path)
    assert [(p.record, p.decision, p.reason) for p in again] == [
        (5, "", ""),
        (7, "accept", "a closed loop"),
        (2, "4", ""),
    ]
    assert again[1].confidence == 0.95


def test_tables_of_a_spreadsheet_are_read(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes("\ufeffrecord;given;proposed;confidence;decision\r\n7; 3;8;0,91;accept\r\n;;;;\r\n".encode())
    assert read_proposals(path) == [Proposal(7, "3", "8", 0.91, "accept")]


def test_decisions_are_classes():
    decide = lambda decision: decided_class(PROPOSED[0]._replace(decision=decision), [*"0123456789"])
    assert [decide(d) for d in ("", "accept", "reject", "5")] == [None, "8", "3", "5"]
    with pytest.raises(UserError, match="unknown decision for record 7 'acept'. Did you mean 'accept'"):
        decide("acept")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'record'"),
        ("record,given,proposed,confidence\n", "has no column 'decision'"),
        ("record,given,proposed,confidence,decision\n1,a,b,0.5,\n1,a,b,0.5,\n", "line 3: record 1 is also in line 2"),
        ("record,given,proposed,confidence,decision\nx,a,b,0.5,\n", "line 2: invalid literal"),
        ("record,given,proposed,confidence,decision\n1,a\n", "line 2: 'confidence'"),
        ("record,given,proposed,confidence,decision\n" + "x" * 200_000, "is not CSV: field larger"),
    ],
)
def test_tables_that_are_none_name_the_line(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        proposals.read_proposals(tmp_path / "p.csv")


GUIDE = """
text = "Look twice."

[classes.0]
rules = ["One loop.", "No tail."]
examples = ["round", 3]

[classes.1]
rules = ["A stroke."]

[classes."2"]
rules = ["A foot."]
"""


def guide(tmp_path, text):
    (tmp_path / "guide.toml").write_text(text)
    return read_guide(tmp_path / "guide.toml", classes=NAMES, records=6)


def test_a_guide_has_the_rules_of_every_class(tmp_path):
    found = guide(tmp_path, GUIDE)
    assert found.text == "Look twice." and list(found.classes) == list(NAMES)
    assert found.classes["0"] == (("One loop.", "No tail."), ("round", 3)) and found.classes["1"].examples == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[classes.1]", "[classes.11]", "unknown class of .*guide.toml '11'. Did you mean '1'"),
        ("[classes.1]\nrules", "[classes.1]\nrule", "class '1' has no rules; expected"),
        ("text", "txet", "unknown entry of .* 'txet'. Did you mean 'text'"),
        ('"Look twice."', "3", "text is 3; expected a str"),
        (
            '["A stroke."]',
            '["A stroke."]\nexample = []',
            "unknown entry of .*class '1' 'example'. Did you mean 'examples'",
        ),
        ("3]", "6]", "the example 6 is none of the 6 records"),
        ("3]", "true]", "has True; expected texts"),
        ("[classes.1]", "[classes.1", "is not TOML"),
    ],
)
def test_a_guide_that_does_not_fit_is_an_error(tmp_path, old, new, message):
    with pytest.raises(UserError, match=message):
        guide(tmp_path, GUIDE.replace(old, new))
