"""Data set cards: facts, measured faults, and Croissant that the mlcroissant package accepts and reads."""

import hashlib
import json

import pytest

from research.__main__ import main
from research.data.packaged import NAMES, packaged_set
from research.errors import UserError
from research.explore import card
from tests.data.test_packaged import as_adult  # noqa: F401  (a fixture)
from tests.explore.tables import N, people
from tests.explore.test_advice import csv
from tests.explore.test_page import HOSTILE, read

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib")
STATED = {
    "description": "People.", "origin": "A survey of 2020.", "licence": "CC0", "consent": "All agreed.",
    "faults": ("Ages are rounded.",),
}  # fmt: skip


def croissant(made):
    return json.loads(made.metadata.read_text())


def checked(made):
    """Return the data set as mlcroissant reads it; it raises an error for wrong metadata."""
    import mlcroissant

    return mlcroissant.Dataset(jsonld=str(made.metadata))


def test_a_card_has_the_stated_facts_and_the_measured_ones(tmp_path):
    path = csv(tmp_path / "people.csv", people())
    made = card(path, target="income", out=tmp_path / "out" / "card.html", **STATED)
    text = read(made).text
    for words in ("A survey of 2020.", "CC0", "All agreed.", "Ages are rounded.", "240 all", "has infinite numbers"):
        assert words in text
    assert "not stated" not in text and made.not_stated == []
    assert made.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and made.sha256 in text
    found = croissant(made)
    assert found["license"] == "CC0" and found["rai:dataLimitations"] == ["Ages are rounded."]
    assert found["distribution"][0]["contentUrl"] == "../people.csv"


def test_what_is_not_stated_is_named(tmp_path, capsys):
    path = csv(tmp_path / "people.csv", people())
    assert main(["card", str(path), "--licence", "CC0", "--out", str(tmp_path / "card.html")]) == 0
    assert "Not stated: description, origin, consent" in capsys.readouterr().out
    assert (tmp_path / "card.html").read_text().count("not stated") == 4


def test_mlcroissant_reads_the_records_of_a_file(tmp_path):
    columns = people(joined=[f"2020-01-{1 + i % 28:02}" for i in range(N)], fare=None, **{"a b/ü": list(range(N))})
    made = card(csv(tmp_path / "people.csv", columns), target="income", out=tmp_path / "card.html", **STATED)
    data = checked(made)
    assert not data.metadata.ctx.issues.errors
    rows = list(data.records("records"))
    assert len(rows) == N
    at = rows[3]
    assert at["records/a%20b%2F%C3%BC"] == 3 and at["records/city"] == columns["city"][3].encode()
    assert at["records/height"] == pytest.approx(columns["height"][3])
    assert rows[0]["records/age"] is None
    assert list(data.records("splits")) == [{"splits/name": "all", "splits/records": N}]


def test_a_file_has_the_stated_format(tmp_path):
    path = csv(tmp_path / "people.records", people())
    made = card(path, format="csv", out=tmp_path / "card.html")
    assert croissant(made)["distribution"][0]["encodingFormat"] == "text/csv"
    assert len(list(checked(made).records("records"))) == N


def test_a_table_in_memory_and_hostile_names_are_valid(tmp_path):
    made = card({HOSTILE: [HOSTILE, "b"] * 20, "y": range(40)}, faults=(HOSTILE,), out=tmp_path / "card.html")
    assert "<script>alert(1)" in read(made).text and "distribution" not in croissant(made)
    columns = list(checked(made).records("columns"))
    assert [row["columns/name"] for row in columns] == [HOSTILE, "y"]
    assert columns[1]["columns/type"] == "sc:Integer"


def test_the_facts_of_a_packaged_set_come_from_it(as_adult, tmp_path):  # noqa: F811
    made = card("adult", target="label", split="test", out=tmp_path / "card.html")
    text = read(made).text
    assert "2 train, 1 test" in text and "CC0" in text and "https://example.org; read from toy-set 1.0 (pip)" in text
    assert made.fingerprint in text and made.not_stated == ["consent"]
    assert len(made.source.table) == 1 and croissant(made)["recordSet"][0]["data"][1]["splits/records"] == 1
    checked(made)
    with pytest.raises(UserError, match="licence= is known of adult"):
        card("adult", licence="MIT", out=tmp_path / "card.html")
    with pytest.raises(UserError, match="unknown split of adult 'tset'.*Did you mean 'test'"):
        card("adult", split="tset", out=tmp_path / "card.html")


@pytest.mark.parametrize("name", NAMES)
def test_consent_and_faults_are_sentences(name):
    found = packaged_set(name)
    assert all(fault.endswith(".") and fault[0] in "`0123456789" + fault[0].upper() for fault in found.faults)
    assert not found.consent.endswith(".")
