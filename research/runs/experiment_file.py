"""Loading an experiment file: its function `experiment`, and the source files that it consists of."""

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
    """A loaded experiment file.

    function: the function `experiment`
    name: the module name, without the prefix "experiments."
    doc: the docstring of the module or of the function
    sources: {path relative to the root: text} of the file and of all files that it imports from the root
    file: the absolute path
    """

    function: Callable
    name: str
    doc: str
    sources: Mapping[str, str]
    file: str

    def __fspath__(self):
        return self.file


def load(file) -> Loaded:
    """Load an experiment from a Python file, together with the sources that it imports from its root folder.

    A Loaded is returned unchanged; a command thus executes the file only once. Raises UserError if the file is missing,
    is not valid Python, or has no function `experiment`.
    """
    if isinstance(file, Loaded):
        return file
    file = Path(file).absolute()
    if not file.is_file():
        hint = nearest(file.name, [p.name for p in file.parent.glob("*.py")] if file.parent.is_dir() else [])
        raise UserError(f"there is no experiment file {file}.{hint}")
    root = file.parent
    while (root / "__init__.py").exists():
        root = root.parent
    relative = file.relative_to(root)
    name = ".".join(relative.with_suffix("").parts)
    for imported in [m for m in sys.modules if m.split(".")[0] == name.split(".")[0] and "." in name]:
        origin = getattr(sys.modules[imported], "__file__", None)
        if origin and not Path(origin).is_relative_to(root):
            del sys.modules[imported]  # the same package from another root, such as the source copy of a run
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
    """Return the sources of the file and of all files that it imports from its root, except the library itself."""
    sources, todo = {}, [relative]
    while todo:
        path = todo.pop()
        if str(path) in sources or path.parts[0] == "research" or not (root / path).is_file():
            continue
        sources[str(path)] = read_source(root / path)
        for node in ast.walk(ast.parse(sources[str(path)])):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in names:
                parts = Path(*module.split("."))
                todo += [parts.with_suffix(".py"), parts / "__init__.py"]
        todo += [parent / "__init__.py" for parent in path.parents if str(parent) != "."]
    return dict(sorted(sources.items()))


def read_source(path) -> str:
    """Read a Python file in the encoding that its byte-order mark or `coding:` line declares (default UTF-8)."""
    return importlib.util.decode_source(Path(path).read_bytes())


def write_sources(folder, sources: Mapping[str, str]):
    """Write {path relative to the folder: source text}, each file in the encoding that its text declares."""
    for path, text in sources.items():
        copy = Path(folder, path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        encoding, _ = tokenize.detect_encoding(io.BytesIO(text.encode()).readline)
        copy.write_text(text, encoding=encoding)


def read_sources(folder) -> dict[str, str]:
    """Read the sources that `write_sources` wrote."""
    return {path.relative_to(folder).as_posix(): read_source(path) for path in sorted(Path(folder).rglob("*.py"))}


def experiments(folder="experiments") -> dict[str, str]:
    """Return {file: one-line summary} for every experiment below a folder, without importing any file.

    A file that cannot be parsed is skipped with a message on stderr. Raises UserError if there is no experiment.
    """
    summaries = {}
    for path in sorted(Path(folder).rglob("*.py")):
        try:
            tree = ast.parse(read_source(path))
        except (SyntaxError, ValueError, OSError) as error:
            print(f"skipped {path}, which cannot be read: {error}", file=sys.stderr)
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == "experiment":
                text = ast.get_docstring(tree) or ast.get_docstring(node) or ""
                summaries[str(path)] = text.split("\n")[0]
    if not summaries:
        raise UserError(f"no experiment below {Path(folder).absolute()}.")
    return summaries
