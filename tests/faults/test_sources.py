"""The recorded source is the source that ran, and a copy of it finds the data beside the original."""

import shutil
from pathlib import Path

import pytest

from research.runs.experiment_file import load, read_sources, write_sources

MINE = '''"""Mine."""
from pathlib import Path

import middle

TABLE = Path(__file__).parent / "table.csv"


def experiment(*, steps: int = 1):
    """Rate and table."""
    return middle.RATE, TABLE.read_text() if TABLE.exists() else None
'''


@pytest.fixture
def folder(tmp_path):
    """An experiment that imports a helper, which imports another one, and that reads a table beside it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.py").write_text(MINE)
    (tmp_path / "a" / "middle.py").write_text("from settings import RATE\n")
    (tmp_path / "a" / "settings.py").write_text("RATE = 0.1\n")
    (tmp_path / "a" / "table.csv").write_text("1,2")
    return tmp_path / "a"


def test_an_edited_helper_runs_as_it_is_recorded(folder):
    assert load(folder / "mine.py").function() == (0.1, "1,2")
    (folder / "settings.py").write_text("RATE = 7.0\n")
    again = load(folder / "mine.py")
    assert again.function()[0] == 7.0 and again.sources["settings.py"] == "RATE = 7.0\n"


def test_helpers_of_one_name_in_two_folders_are_two(folder, tmp_path):
    other = Path(shutil.copytree(folder, tmp_path / "b"))
    (other / "settings.py").write_text("RATE = 3.0\n")
    assert [load(one / "mine.py").function()[0] for one in (folder, other, folder)] == [0.1, 3.0, 0.1]


def test_a_helper_of_the_same_name_in_a_subfolder_is_another(folder):
    (folder / "settings.py").write_text("from pathlib import Path\n\nRATE = Path(__file__).parent.name\n")
    inner = Path(shutil.copytree(folder, folder / "inner"))
    assert [load(one / "mine.py").function()[0] for one in (inner, folder)] == ["inner", "a"]


def test_a_module_of_the_package_from_another_root_is_imported_anew(tmp_path):
    """Also one that no import statement names."""
    for root, rate in (("one", 1), ("two", 2)):
        package = tmp_path / root / "lab_of_two"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "rates.py").write_text(f"RATE = {rate}\n")
        (package / "exp.py").write_text(
            "import importlib\n\nrates = importlib.import_module('lab_of_two.rates')\n\n\n"
            "def experiment():\n    return rates.RATE\n"
        )
    assert [load(tmp_path / root / "lab_of_two" / "exp.py").function() for root in ("one", "two")] == [1, 2]


def test_an_edited_module_of_a_package_is_imported_anew(tmp_path):
    package = tmp_path / "lab_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "rates.py").write_text("RATE = 1\n")
    (package / "exp.py").write_text("from lab_of_mine import rates\n\n\ndef experiment():\n    return rates.RATE\n")
    assert load(package / "exp.py").function() == 1
    (package / "rates.py").write_text("RATE = 2\n")
    assert load(package / "exp.py").function() == 2


def test_modules_that_did_not_change_are_not_executed_again(folder):
    (folder / "settings.py").write_text("class RATE:\n    pass\n")
    first, second = load(folder / "mine.py").function()[0], load(folder / "mine.py").function()[0]
    assert first is second


def test_a_copy_finds_the_data_beside_the_original(folder, tmp_path):
    write_sources(tmp_path / "source", load(folder / "mine.py"))
    assert sorted(read_sources(tmp_path / "source")) == ["middle.py", "mine.py", "settings.py"]
    copy = tmp_path / "source" / "mine.py"
    assert load(copy).function() == (0.1, "1,2")
    (folder / "settings.py").write_text("RATE = 7.0\n")
    assert load(copy).function() == (0.1, "1,2"), "the copy runs, with the __file__ of the original"
    shutil.rmtree(folder)
    assert load(copy).function() == (0.1, None)
