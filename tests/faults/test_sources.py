"""The recorded source is the source that ran, and a copy of it finds the data beside the original."""

import shutil
import sys
import types
from pathlib import Path

import pytest

from research.errors import UserError
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


WAYS = {  # of an experiment to import RATE from a module beside it: {path: text}, with "mine.py" or a longer path to it
    "relative": {"pkg/__init__.py": "", "pkg/mine.py": "from .helper import RATE", "pkg/helper.py": "RATE = 1"},
    "a relative module": {"pkg/__init__.py": "", "pkg/mine.py": "from . import helper as h\nRATE = h.RATE",
                          "pkg/helper.py": "RATE = 1"},
    "two packages up": {"pkg/__init__.py": "", "pkg/a/__init__.py": "", "pkg/a/mine.py": "from ..b.helper import RATE",
                        "pkg/b/__init__.py": "", "pkg/b/helper.py": "RATE = 1"},
    "through a package": {"mine.py": "from pkg import RATE", "pkg/__init__.py": "from .a import *",
                          "pkg/a.py": "from .helper import RATE", "pkg/helper.py": "RATE = 1"},
    "a namespace package": {"mine.py": "import ns.sub.helper\nRATE = ns.sub.helper.RATE",
                            "ns/sub/helper.py": "RATE = 1"},
    "import_module": {"mine.py": "import importlib\nRATE = importlib.import_module('helper').RATE",
                      "helper.py": "RATE = 1"},
    "relative import_module": {
        "pkg/__init__.py": "", "pkg/helper.py": "RATE = 1",
        "pkg/mine.py": "from importlib import import_module\nRATE = import_module('.helper', __package__).RATE"},
    "a computed name": {"mine.py": "import importlib\nRATE = importlib.import_module('hel' + 'per').RATE",
                        "helper.py": "RATE = 1"},
    "a computed name in a helper": {
        "mine.py": "from middle import RATE", "helper.py": "RATE = 1",
        "middle.py": "import importlib\nRATE = importlib.import_module('hel' + 'per').RATE"},
    "another folder on the path": {
        "mine.py": "import sys\nfrom pathlib import Path\nsys.path.insert(0, str(Path(__file__).parent / 'lib'))\n"
                   "try:\n    from helper import RATE\nfinally:\n    sys.path.pop(0)",
        "lib/helper.py": "RATE = 1"},
}  # fmt: skip


def lay_out(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        end = "\n\n\ndef experiment():\n    return RATE\n" if path.endswith("mine.py") else "\n"
        (folder / path).write_text(text + end)
    return folder / next(path for path in files if path.endswith("mine.py"))


@pytest.mark.parametrize("way", WAYS)
def test_every_source_that_runs_is_recorded_and_its_copy_runs_anywhere(tmp_path, way):
    file = lay_out(tmp_path / "original", WAYS[way])
    loaded, again = load(file), load(file)
    assert loaded.function() == again.function() == 1
    root = file.parents[loaded.path.count("/")]
    assert sorted(loaded.sources.values()) == sorted((root / path).read_text() for path in WAYS[way])
    assert again.sources == loaded.sources, "also if its modules are imported already"
    source = tmp_path / "run" / "source"
    write_sources(source, loaded)
    assert load(source / loaded.path).function() == 1 and load(source / loaded.path).sources == loaded.sources
    helper = next(root.rglob("helper.py"))
    helper.write_text("RATE = 2\n")
    edited = load(file)
    assert edited.function() == 2 and edited.sources != loaded.sources
    if way == "another folder on the path":  # it names the folder of the original
        with pytest.raises(
            UserError, match=r"lib/helper.py is not the source that the run in .* recorded as helper.py"
        ):
            load(source / loaded.path)
    else:
        assert load(source / loaded.path).function() == 1
    carried = Path(shutil.move(tmp_path / "run", tmp_path / "carried")) / "source"
    shutil.rmtree(tmp_path / "original")
    assert load(carried / loaded.path).function() == 1


@pytest.mark.parametrize("origin", [b"/no/such/folder", b"", b"\xff\xfe\0"])
def test_a_copy_on_another_machine_finds_the_data_beside_itself(folder, tmp_path, origin):
    source = tmp_path / "source"
    write_sources(source, load(folder / "mine.py"))
    (source / ".origin").write_bytes(origin)
    shutil.copy(folder / "table.csv", source)
    shutil.rmtree(folder)
    assert load(source / "mine.py").function() == (0.1, "1,2")


def test_a_module_of_a_library_is_not_recorded(tmp_path):
    file = lay_out(tmp_path, {"mine.py": "import importlib\nimportlib.import_module('colo' + 'rsys')\nRATE = 1"})
    assert list(load(file).sources) == ["mine.py"]


def test_the_command_line_is_not_recorded_although_multiprocessing_names_it_again(tmp_path, monkeypatch):
    """`import multiprocessing` adds the file of `python -m research` as __mp_main__, below the root in a checkout."""
    (tmp_path / "command.py").write_text("")
    main = types.ModuleType("__main__")
    main.__file__ = str(tmp_path / "command.py")
    monkeypatch.setitem(sys.modules, "__mp_main__", main)
    monkeypatch.delitem(sys.modules, "__mp_main__")  # until the file is imported; afterwards it is put back
    monkeypatch.setitem(sys.modules, "main_of_the_test", main)
    text = "import sys\nsys.modules['__mp_main__'] = sys.modules['main_of_the_test']\nRATE = 1"
    assert list(load(lay_out(tmp_path, {"mine.py": text})).sources) == ["mine.py"]
