"""An experiment as a file: its function, and the sources that it is made of."""

import ast
import importlib.util
import inspect
import io
import sys
import tokenize
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError, nearest


class Loaded(NamedTuple):
    """An experiment file: its function `experiment`, its name, what its docstring says, and the sources
    {path below the root: text} it is made of.
    """

    function: Callable
    name: str
    doc: str
    sources: Mapping[str, str]
    file: str

    def __fspath__(self):
        return self.file


def load(file) -> Loaded:
    """The experiment of a Python file: its function `experiment`, and the sources that it imports beside it.

    A Loaded is given back as it is: a command executes the file once. Raises UserError where the file, or the function
    in it, is missing.
    """
    if isinstance(file, Loaded):
        return file
    file = Path(file).absolute()
    if not file.is_file():
        near = nearest(file.name, [p.name for p in file.parent.glob("*.py")] if file.parent.is_dir() else [])
        raise UserError(f"no experiment file {file}.{near}")
    root = file.parent
    while (root / "__init__.py").exists():
        root = root.parent
    relative = file.relative_to(root)
    name = ".".join(relative.with_suffix("").parts)
    for other in [m for m in sys.modules if m.split(".")[0] == name.split(".")[0] and "." in name]:
        known = getattr(sys.modules[other], "__file__", None)
        if known and not Path(known).is_relative_to(root):
            del sys.modules[other]  # the same package of another root, such as a run's copy of its source
    sys.path.insert(0, str(root))
    try:
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{file}, line {error.lineno}: {error.msg}") from error
    finally:
        sys.path.remove(str(root))
    function = getattr(module, "experiment", None)
    if not inspect.isfunction(function):
        raise UserError(f"{file} has no function experiment(*, ...) -> Experiment.")
    short = name.removeprefix("experiments.")
    doc = inspect.getdoc(module) or inspect.getdoc(function) or ""
    return Loaded(function, short, doc, _sources(root, relative), str(file))


def _sources(root, relative) -> dict[str, str]:
    """The file and all that it imports from beneath its root, but the library itself."""
    found, todo = {}, [relative]
    while todo:
        path = todo.pop()
        if str(path) in found or path.parts[0] == "research" or not (root / path).is_file():
            continue
        found[str(path)] = read_source(root / path)
        for node in ast.walk(ast.parse(found[str(path)])):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in names:
                parts = Path(*module.split("."))
                todo += [parts.with_suffix(".py"), parts / "__init__.py"]
        todo += [parent / "__init__.py" for parent in path.parents if str(parent) != "."]
    return dict(sorted(found.items()))


def read_source(path) -> str:
    """The text of a Python file by Python's own rules: a byte-order mark and a `coding:` line count."""
    return importlib.util.decode_source(Path(path).read_bytes())


def write_sources(folder, sources: Mapping[str, str]):
    """Writes {path below the folder: text of a Python file}, each in the encoding that its text declares."""
    for path, text in sources.items():
        copy = Path(folder, path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        encoding, _ = tokenize.detect_encoding(io.BytesIO(text.encode()).readline)
        copy.write_text(text, encoding=encoding)


def read_sources(folder) -> dict[str, str]:
    """What `write_sources` wrote."""
    return {path.relative_to(folder).as_posix(): read_source(path) for path in sorted(Path(folder).rglob("*.py"))}


def experiments(folder="experiments") -> dict[str, str]:
    """{file: its one-line summary} for every experiment below a folder. Nothing is imported.

    A file that is not Python is left out, and a line on stderr says so. Raises UserError if nothing is left.
    """
    found = {}
    for path in sorted(Path(folder).rglob("*.py")):
        try:
            tree = ast.parse(read_source(path))
        except (SyntaxError, ValueError, OSError) as error:
            print(f"{path} is left out, since it cannot be read: {error}", file=sys.stderr)
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == "experiment":
                text = ast.get_docstring(tree) or ast.get_docstring(node) or ""
                found[str(path)] = text.split("\n")[0]
    if not found:
        raise UserError(f"no experiment below {Path(folder).absolute()}.")
    return found
