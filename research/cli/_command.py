"""From a function to a command: finding verbs, reading arguments, running. The contract is in `research.cli`."""

import argparse
import ast
import importlib
import inspect
import itertools
import re
import typing
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError, unknown
from research.runs.knobs import Parser, add_arguments, convert, kind_name, knobs_of
from research.system.provenance import versions

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
FIRST = ("training", "trained", "checking", "studies", "data")  # in this order in --help, before those of the wings


class Verb(NamedTuple):
    """A verb: the file below `cli/` and the function in it (imported when it runs), and its one-line summary."""

    module: str
    function: str
    summary: str


def verbs() -> dict[str, Verb]:
    """{verb: Verb} of all files in `cli/`, read without importing them, so that `--help` is quick."""
    found = {}
    for path in sorted(FOLDER.glob("[!_]*.py"), key=_place):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name, doc in _public(tree):
            summary = (doc or "").split("\n")[0]
            found[name.rstrip("_").replace("_", "-")] = Verb(f"research.cli.{path.stem}", name, summary)
    return found


def _place(path):
    return (FIRST.index(path.stem) if path.stem in FIRST else len(FIRST), path.stem)


def _public(tree):
    """(name, docstring) of each function of a file that is a verb."""
    exported = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            exported = set(ast.literal_eval(node.value))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, ast.get_docstring(node)
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            name = alias.asname or alias.name
            if name in exported:
                source = ast.parse((ROOT / Path(*node.module.split("."))).with_suffix(".py").read_text("utf-8"))
                of = next(n for n in source.body if isinstance(n, ast.FunctionDef) and n.name == alias.name)
                yield name, ast.get_docstring(of)


def run(arguments) -> int:
    """Runs a command line without the program's name; gives the exit status. Raises UserError for every mistake."""
    known = verbs()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m research VERB ... (VERB --help: its arguments; --version; --debug: tracebacks)\n")
        width = max(map(len, known))
        for _, group in itertools.groupby(known.items(), key=lambda item: item[1].module):
            print("\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in group), end="\n\n")
        return 0
    if arguments[0] == "--version":
        print("\n".join(f"{name} {version}" for name, version in versions().items()))
        return 0
    name, *rest = arguments
    if name not in known:
        raise unknown("verb", name, known)
    module = importlib.import_module(known[name].module)
    if prepare := getattr(module, "_before_loading", None):
        prepare()
    positional, given = parsed(getattr(module, known[name].function), rest, prog=f"python -m research {name}")
    status = getattr(module, known[name].function)(*positional, **given)
    return status if isinstance(status, int) else 0


def parsed(function, arguments, *, prog: str):
    """The (positional, keyword) arguments for `function` that a command line gives. Raises UserError."""
    parser = Parser(prog=prog, description=_description(function))
    parameters = _parameters(function)
    for name, (parameter, kind, flag, metavar, text) in parameters.items():
        _add(parser, name, parameter, kind, flag=flag, metavar=metavar, text=text)
    knobs, experiments = {}, {}
    if _takes_knobs(function):
        files = [a for a in arguments if a.endswith(".py") and not a.startswith("-")]
        if len(files) == 1:
            from research.runs.experiment_file import load

            loaded = experiments[files[0]] = load(files[0])
            knobs = knobs_of(loaded.function)
            if taken := set(knobs) & {action.dest for action in parser._actions}:
                raise UserError(f"{files[0]}: a knob may not be called {min(taken)!r}; `{prog}` itself has that.")
            add_arguments(parser, knobs)
            parser.description += f"\n\n{loaded.doc}" if loaded.doc else ""
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


def _add(parser, name, parameter, kind, *, flag, metavar, text):
    """Adds a parameter to the parser."""
    several = typing.get_origin(kind) is list
    required = parameter.default is inspect.Parameter.empty
    plain = required or kind is bool or parameter.default in (None, "", ())
    shown = "" if plain else f" (default {parameter.default})"
    hidden = not text and parameter.kind is inspect.Parameter.KEYWORD_ONLY
    text = argparse.SUPPRESS if hidden else (text + (shown if "default" not in text else "")).replace("%", "%%")
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        count = ("+" if required else "*") if several else (None if required else "?")
        parser.add_argument(name, metavar=metavar or name.upper(), nargs=count, default=_default(parameter), help=text)
    elif kind is bool:
        action = "store_false" if parameter.default else "store_true"
        flag = flag or ("--no-" if parameter.default else "--") + name.replace("_", "-")
        parser.add_argument(flag, dest=name, action=action, help=text)
    else:
        more = {"nargs": "+", "action": "extend"} if several else {}
        flag, metavar = flag or "--" + name.replace("_", "-"), metavar or kind_name(kind).removesuffix("|none").upper()
        parser.add_argument(flag, dest=name, metavar=metavar, default=_default(parameter), help=text, **more)


def _default(parameter):
    if parameter.default is inspect.Parameter.empty:
        return None
    return list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default


def _parameters(function) -> dict:
    """{name: (parameter, type, flag, metavar, help)} of what a command line may give to a function."""
    found = {}
    for of in (getattr(function, "options_of", None), function):
        if of is None:
            continue
        kinds = typing.get_type_hints(of)
        for name, parameter in inspect.signature(of).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD or name not in kinds:
                continue
            line = re.search(rf"^\s*{name}(?: \((--[\w-]+)?\s*([^)]*)\))?: (.+)$", of.__doc__ or "", re.MULTILINE)
            flag, metavar, text = line.groups() if line else (None, None, "")
            found[name] = (parameter, kinds[name], flag, metavar, text)
    return found


def _takes_knobs(function) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def _description(function) -> str:
    """The paragraphs of the docstring that are for the command line: no help of parameters, nothing about Python."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    other = re.compile(r"\w+(?: \([^)]*\))?: |From Python|Raises ")
    return "\n\n".join(text for text in paragraphs if not other.match(text))
