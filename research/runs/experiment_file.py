"""Loading an experiment file: its function `experiment`, and the source files that it consists of."""

import ast
import hashlib
import importlib.util
import inspect
import io
import sys
import tokenize
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError, check_path, nearest, no_exit, own_line
from research.files import MOST_JSON, read_text

ORIGIN = ".origin"  # in a copy of sources, the folder of the originals


class Loaded(NamedTuple):
    """A loaded experiment file.

    function: the function `experiment`
    name: the module name, without the prefix "experiments."
    doc: the docstring of the module or of the function
    sources: {path below a root: text} of the file and of all files that it imports, except libraries
    path: the path of the file in `sources`
    file: the absolute path
    """

    function: Callable
    name: str
    doc: str
    sources: Mapping[str, str]
    path: str
    file: str

    def __fspath__(self):
        return self.file

    @property
    def files(self) -> list[str]:
        """The absolute paths of the sources."""
        return [self.file.removesuffix(self.path) + path for path in self.sources]


def load(file) -> Loaded:
    """Load an experiment from a Python file, together with the sources that it imports from its root folder.

    Sources are found by reading the import statements, and by observing which other modules below the root the file
    imports, such as by a computed name. After an edit, the modules are executed again, so that the recorded sources are
    those that run. The copy in a run folder finds data beside the original file: the original runs if it is unchanged,
    otherwise the copy runs with the `__file__` of the original, if that folder exists. A Loaded is returned unchanged;
    a command thus executes the file only once. Raises UserError if the file is missing, is not valid Python, fails, or
    has no function `experiment`, or if a copy imports a source that has changed.
    """
    if isinstance(file, Loaded):
        return file
    check_path(file, "the path of an experiment file")
    file = Path(file).absolute()
    if not file.is_file():
        hint = nearest(file.name, [p.name for p in file.parent.glob("*.py")] if file.parent.is_dir() else [])
        raise UserError(f"there is no experiment file {file}.{hint}")
    if file.suffix != ".py":
        raise UserError(f"{file} is not a Python file; expected an experiment such as experiments/digits.py.")
    root = file.parent
    while (root / "__init__.py").exists():
        root = root.parent
    relative = file.relative_to(root)
    name = ".".join(relative.with_suffix("").parts)
    is_copy = (root / ORIGIN).is_file()
    try:
        sources = read_sources(root) if is_copy else _sources(root, [relative])
    except SyntaxError as error:
        raise UserError(f"{error.filename or file}, line {error.lineno}: {error.msg}") from error
    original = Path((root / ORIGIN).read_text(encoding="utf-8", errors="replace")) if is_copy else root
    if not original.is_absolute() or not (original / relative).parent.is_dir():  # the copy was carried elsewhere
        original = root
    if original != root and _unchanged(original, sources):
        root, file = original, original / relative
    _forget_changed(root, sources, package=name.partition(".")[0] if "." in name else None)
    sys.path.insert(0, str(root))
    write_bytecode = sys.dont_write_bytecode
    # The signature of a run covers its copy of the sources, to which importing must not add files.
    sys.dont_write_bytecode = write_bytecode or (root / ORIGIN).is_file()
    before = set(sys.modules)
    try:
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        module.__file__ = str(original / relative)
        with no_exit("its import"), own_line([str(file), *(str(root / path) for path in sources)]):
            spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{file}, line {error.lineno}: {error.msg}") from error
    finally:
        sys.path.remove(str(root))
        sys.dont_write_bytecode = write_bytecode
    function = getattr(module, "experiment", None)
    if not inspect.isfunction(function):
        raise UserError(f"{file} has no function experiment(*, ...) -> Experiment.")
    imported = _imported(before, root, original)
    if is_copy:
        if changed := [path for path in imported if path in sources and sources[path] != read_source(imported[path])]:
            raise UserError(
                f"{imported[changed[0]]} is not the source that the run in {Path(root).parent} recorded as "
                f"{changed[0]}. Undo the change of that file."
            )
    else:
        computed = {path: read_source(source) for path, source in imported.items() if path not in sources}
        _executed.update({_module_name(path): source for path, source in computed.items()})
        sources = dict(sorted({**sources, **computed}.items()))
    short = name.removeprefix("experiments.")
    doc = inspect.getdoc(module) or inspect.getdoc(function) or ""
    return Loaded(function, short, doc, sources, relative.as_posix(), str(file))


_executed: dict[str, str] = {}  # the source of each module when an experiment last imported it
COMPUTED = ("import_module", "__import__", "sys.path")  # in a source that may import modules by computed names


def _imported(before, *roots) -> dict[str, Path]:
    """Return {path by the module's name: file} of the modules that are new and are not part of a library."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name in before or name.partition(".")[0] in ("research", "__mp_main__"):
            continue
        file = Path(getattr(module, "__file__", None) or "")
        own = file.suffix == ".py" and any(file.is_relative_to(root) for root in roots)
        library = "site-packages" in file.parts or file.is_relative_to(sys.base_prefix)
        if own and not library:
            path = Path(*name.split("."))
            found[str(path / "__init__.py" if file.name == "__init__.py" else path.with_suffix(".py"))] = file
    return found


def _module_name(path):
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def _forget_changed(root, sources, *, package):
    """Forget the imported modules of an experiment if one of them was edited, or comes from another folder.

    Modules of the `package` of the experiment that come from another folder, such as the source copy of a run, are
    forgotten too, even if the sources do not name them. If the sources may import modules by computed names, all
    modules that any experiment imported are forgotten.
    """
    paths = {_module_name(path): path for path in sources}
    text = {name: sources[path] for name, path in paths.items()}
    names = [name for name in sys.modules if name in text or name.partition(".")[0] == package]

    def is_elsewhere(name):
        file = getattr(sys.modules[name], "__file__", None)
        return file and (Path(file) != root / paths[name] if name in paths else not Path(file).is_relative_to(root))

    moved = list(filter(is_elsewhere, names))
    if any(word in source for source in sources.values() for word in COMPUTED):  # seen only if the module is executed
        moved += [name for name in sys.modules if name in _executed]
    edited = any(_executed.get(name, text[name]) != text[name] for name in names if name in text)
    for name in {*moved, *(name for name in names if name in text)} if moved or edited else ():
        parent, _, module = name.rpartition(".")
        if parent in sys.modules:  # `from package import module` would find the old module there
            vars(sys.modules[parent]).pop(module, None)
        del sys.modules[name]
    _executed.update(text)


def _unchanged(root, sources):
    try:
        return all(read_source(root / path) == text for path, text in sources.items())
    except (OSError, SyntaxError, ValueError):
        return False


def _sources(root, files) -> dict[str, str]:
    """Return the sources of files and of all files that they import from their root, except the library itself."""
    sources, todo = {}, list(files)
    while todo:
        path = todo.pop()
        if str(path) in sources or path.parts[0] == "research" or not (root / path).is_file():
            continue
        sources[str(path)] = read_source(root / path)
        for node in ast.walk(ast.parse(sources[str(path)], filename=str(root / path))):
            for module in _modules_in(node, path.parts[:-1]):
                parts = Path(*module.split("."))
                todo += [parts.with_suffix(".py"), parts / "__init__.py"]
        todo += [parent / "__init__.py" for parent in path.parents if str(parent) != "."]
    return dict(sorted(sources.items()))


def _modules_in(node, package) -> list[str]:
    """Return the modules that an import statement, or a call of `import_module` with a text, may import."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _absolute("." * node.level + (node.module or ""), package)
        return [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*")]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if function in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            return [_absolute(node.args[0].value, package)]
    return []


def _absolute(module, package):
    """Return the absolute name of a module that a file of `package` imports: `..a` is two packages up."""
    name = module.lstrip(".")
    level = len(module) - len(name)
    return ".".join([*package[: len(package) - level + 1], *filter(None, [name])]) if level else name


def read_source(path) -> str:
    """Read a Python file in the encoding that its byte-order mark or `coding:` line declares (default UTF-8)."""
    return importlib.util.decode_source(Path(path).read_bytes())


def source_digests(folder) -> dict[str, str]:
    """Return {path: SHA-256} of all files in the `source` of a run or sweep folder, which may come from anyone.

    Raises OSError for a link, a device or a file that is too large.
    """
    root, digests = Path(folder, "source"), {}
    for path in sorted(path for path in root.rglob("*") if not path.is_dir()):
        content = read_text(path, most=MOST_JSON, errors="surrogateescape").encode("utf-8", "surrogateescape")
        digests[path.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()
    return digests


def write_sources(folder, loaded: Loaded):
    """Copy the sources of an experiment to a folder, each file in the encoding that its text declares.

    The folder also records where the originals are, for data that lie beside them.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, ORIGIN).write_text(loaded.file.removesuffix(loaded.path), encoding="utf-8")
    for path, text in loaded.sources.items():
        copy = Path(folder, path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        encoding, _ = tokenize.detect_encoding(io.BytesIO(text.encode()).readline)
        copy.write_text(text, encoding=encoding)


def read_sources(folder) -> dict[str, str]:
    """Read the sources that `write_sources` wrote. Raises UserError for a file that is not text."""
    sources = {}
    for path in sorted(Path(folder).rglob("*.py")):
        try:
            sources[path.relative_to(folder).as_posix()] = read_source(path)
        except (SyntaxError, ValueError) as error:
            raise UserError(f"{path} is damaged: {error}.") from error
    return sources


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
