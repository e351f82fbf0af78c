"""The command-line parser: finds verbs, parses their arguments and calls them. See `research.cli` for the contract."""

import argparse
import ast
import importlib
import inspect
import itertools
import re
import shutil
import textwrap
import typing
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError, no_exit, unknown
from research.runs.knobs import Parser, add_arguments, as_metavar, convert, knobs_of
from research.system.provenance import versions

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
FIRST = ("training", "trained", "checking", "studies", "data")  # the order in --help; all other files follow


class Verb(NamedTuple):
    """A verb: its module, which is imported only when the verb runs, its function and its one-line summary."""

    module: str
    function: str
    summary: str


def verbs() -> dict[str, Verb]:
    """Return {verb: Verb} for all files in `cli/`. The files are parsed, not imported, which keeps `--help` fast."""
    result = {}
    for path in sorted(FOLDER.glob("[!_]*.py"), key=_help_order):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name, doc in _verb_functions(tree):
            summary = (doc or "").split("\n")[0]
            words = [path.stem, name[len(path.stem) + 1 :]] if name.startswith(f"{path.stem}_") else [name]
            title = " ".join(word.rstrip("_").replace("_", "-") for word in words)
            result[title] = Verb(f"research.cli.{path.stem}", name, summary)
    return result


def _help_order(path):
    return (FIRST.index(path.stem) if path.stem in FIRST else len(FIRST), path.stem)


def _verb_functions(tree):
    """Yield (name, docstring) of each function of a parsed file that is a verb."""
    exported, imported = [], {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            exported = ast.literal_eval(node.value)
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            imported[alias.asname or alias.name] = (node.module, alias.name)
    for name in exported:
        if name in imported:
            module, original = imported[name]
            source = ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_text("utf-8"))
            function = next(n for n in source.body if isinstance(n, ast.FunctionDef) and n.name == original)
            yield name, ast.get_docstring(function)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, ast.get_docstring(node)


def run(arguments) -> int:
    """Run a command line (without the program name) and return the exit status. Raises UserError for a mistake."""
    available = verbs()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m research VERB ... (VERB --help: show arguments; --version; --debug: show tracebacks)\n")
        _print_summaries(available)
        return 0
    if arguments[0] == "--version":
        print("\n".join(f"{name} {version}" for name, version in versions().items()))
        return 0
    name, *rest = arguments
    if name == "launch":
        raise UserError("`launch` is a program of its own: python -m launch --help.")
    if actions := {verb: found for verb, found in available.items() if verb.startswith(f"{name} ")}:
        if rest[:1] in ([], ["-h"], ["--help"]):
            print(f"usage: python -m research {name} ACTION ...\n")
            _print_summaries(actions)
            return 0
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name not in available:
        raise unknown("verb", name, available)
    module = importlib.import_module(available[name].module)
    if prepare := getattr(module, "_before_loading", None):
        prepare()
    function = getattr(module, available[name].function)
    positional, keyword = parsed(function, rest, prog=f"python -m research {name}")
    with no_exit(f"`{name}`"):
        status = function(*positional, **keyword)
    return status if isinstance(status, int) else 0


def _print_summaries(found):
    """Print the verbs with their summaries, in groups by file."""
    width = max(map(len, found))
    for _, group in itertools.groupby(found.items(), key=lambda item: item[1].module):
        print("\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in group), end="\n\n")


def parsed(function, arguments, *, prog: str):
    """Parse a command line into (positional, keyword) arguments of `function`. Raises UserError for a mistake."""
    parser = Parser(prog=prog, description=_description(function))
    parameters = _parameters(function)
    for name, (parameter, kind, flag, metavar, text) in parameters.items():
        _add_argument(parser, name, parameter, kind, flag=flag, metavar=metavar, text=text)
    knobs, experiments = {}, {}
    if _accepts_knobs(function):
        files = [a for a in arguments if a.endswith(".py") and not a.startswith("-")]
        if len(files) == 1:
            from research.runs.experiment_file import load

            loaded = experiments[files[0]] = load(files[0])
            knobs = knobs_of(loaded.function)
            if reserved := set(knobs) & {action.dest for action in parser._actions}:
                raise UserError(f"{files[0]}: rename the knob {min(reserved)!r}; it is an option of `{prog}`.")
            add_arguments(parser, knobs)
            parser.help_command = f"{prog} {files[0]} --help"
            parser.description += f"\n\n{_reflowed(loaded.doc)}" if loaded.doc else ""
    values = vars(parser.parse_args(arguments))
    positional, keyword = [], {}
    for name, (parameter, kind, *_) in parameters.items():
        value = values[name]
        if typing.get_origin(kind) is list:
            value = [experiments.get(x, x) for x in value]
        elif isinstance(value, str):
            value = experiments.get(value) or convert(name, value, kind)
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            keyword[name] = value
        else:
            positional.append(value)
    return positional, {**keyword, **{name: values[name] for name in knobs if name in values}}


def _add_argument(parser, name, parameter, kind, *, flag, metavar, text):
    """Add a parameter of a verb to the parser."""
    is_list = typing.get_origin(kind) is list
    required = parameter.default is inspect.Parameter.empty
    without_default = required or kind is bool or parameter.default in (None, "", ())
    default = "" if without_default else f" (default {parameter.default})"
    hidden = not text and parameter.kind is inspect.Parameter.KEYWORD_ONLY
    text = argparse.SUPPRESS if hidden else (text + (default if "default" not in text else "")).replace("%", "%%")
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        count = ("+" if required else "*") if is_list else (None if required else "?")
        parser.add_argument(name, metavar=metavar or name.upper(), nargs=count, default=_default(parameter), help=text)
    elif kind is bool:
        action = "store_false" if parameter.default else "store_true"
        flag = flag or ("--no-" if parameter.default else "--") + name.replace("_", "-")
        parser.add_argument(flag, dest=name, action=action, help=text)
    else:
        more = {"nargs": "+", "action": "extend"} if is_list else {}
        flag, metavar = flag or "--" + name.replace("_", "-"), metavar or as_metavar(kind)
        parser.add_argument(flag, dest=name, metavar=metavar, default=_default(parameter), help=text, **more)


def _default(parameter):
    if parameter.default is inspect.Parameter.empty:
        return None
    return list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default


def _parameters(function) -> dict:
    """Return {name: (parameter, type, flag, metavar, help)} for the parameters that the command line can set.

    The attribute `options_of` of a verb names another function whose parameters it accepts too.
    """
    result = {}
    for source in (getattr(function, "options_of", None), function):
        if source is None:
            continue
        kinds = typing.get_type_hints(source)
        for name, parameter in inspect.signature(source).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD or name not in kinds:
                continue
            line = re.search(rf"^\s*{name}(?: \((--[\w-]+)?\s*([^)]*)\))?: (.+)$", source.__doc__ or "", re.MULTILINE)
            flag, metavar, text = line.groups() if line else (None, None, "")
            result[name] = (parameter, kinds[name], flag, metavar, text)
    return result


def _accepts_knobs(function) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def _description(function) -> str:
    """Return the docstring without the paragraphs of parameter help and those for Python callers."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    excluded = re.compile(r"\w+(?: \([^)]*\))?: |From Python|Raises ")
    return _reflowed("\n\n".join(text for text in paragraphs if not excluded.match(text)))


def _reflowed(text):
    """Fill each paragraph to the width of the terminal; paragraphs with indented lines (tables, commands) stay."""
    width = shutil.get_terminal_size().columns - 2
    filled = (p if re.search(r"^\s", p, re.MULTILINE) else textwrap.fill(p, width) for p in text.split("\n\n"))
    return "\n\n".join(filled)
