"""Imports run downward only: each file and subpackage of `research/` imports those that stand before it in ORDER."""

import ast
import importlib
import typing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "research"
# A line holds what may not import each other. A wing joins the line of the wings.
ORDER = """
__init__ axes errors
events metric_sums system tree
core distributed duration fields files losses
technique model nonfinite data layers html
augment decoding privacy robust tracking wrappers
gradients models optim rl
objectives weights
metrics evaluate
checks
experiment
runs
loop
diagnose
explore report
verbs
search studies
cli
__main__
"""
RANK = {name: number for number, line in enumerate(ORDER.strip().split("\n")) for name in line.split()}
FILES = sorted(ROOT.rglob("*.py"))


def unit(parts) -> str:
    """The file at the root, or the subpackage, that a module belongs to."""
    return parts[0] if parts else "__init__"


def imported(path) -> set[str]:
    """The units of `research` that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            # `from research import losses` names the module last.
            names = [f"research.{a.name}" for a in node.names] if node.module == "research" else [node.module]
        found |= {unit(name.split(".")[1:]) for name in names if name.split(".")[0] == "research"}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path):
    here = unit(path.relative_to(ROOT).with_suffix("").parts)
    assert here in RANK, f"{here} has no place in ORDER"
    for other in imported(path) - {here}:
        assert RANK[other] < RANK[here], f"{path.relative_to(ROOT)} imports {other}, which does not stand before {here}"


def test_subpackages_state_their_contract():
    for path in ROOT.rglob("__init__.py"):
        if path.parent != ROOT:
            doc = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert len(doc.split("\n")) >= 5, f"{path} says nothing of its contract"


def test_the_root_is_the_spine():
    assert len(list(ROOT.glob("*.py"))) <= 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_annotations_name_what_is_there(path):
    """The checker of shapes takes an annotation with an unknown name for no annotation at all."""
    text = path.read_text()
    if "from __future__ import annotations" not in text:
        return
    module = importlib.import_module(".".join(("research", *path.relative_to(ROOT).with_suffix("").parts)))
    for node in ast.walk(ast.parse(text)):
        found = [node.annotation] if isinstance(node, ast.AnnAssign) else []
        if isinstance(node, ast.FunctionDef):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            found = [a for a in (*(argument.annotation for argument in arguments), node.returns) if a]
        for annotation in found:
            holder = lambda value: None
            holder.__annotations__ = {"value": ast.unparse(annotation)}
            typing.get_type_hints(holder, vars(module))  # raises NameError
