"""Prints the lines of code in every subpackage, and fails if one, or a file, is above its budget.

Lines of code are those that are neither blank, nor comment, nor docstring: explaining is free. A budget is raised
in the commit that needs it, with the reason in its message.
"""

import ast
import collections
import io
import pathlib
import sys
import tokenize

FILES = {"research/core.py": 150, "experiments": 90}
OTHER_FILES = 250  # any other file of research/, launch/ and experiments/
# Of a subpackage of research/, and of the files at its root together.
SUBPACKAGES = {
    "research": 1797, "research/augment": 350, "research/cli": 330, "research/data": 9060, "research/decoding": 850,
    "research/diagnose": 3060, "research/distributed": 675, "research/explore": 1265, "research/gradients": 480,
    "research/html": 540, "research/layers": 1275, "research/losses": 535, "research/metrics": 1750,
    "research/models": 1690, "research/objectives": 1565, "research/optim": 345, "research/privacy": 100,
    "research/report": 2035, "research/rl": 540, "research/robust": 160, "research/runs": 1625, "research/search": 960,
    "research/studies": 640, "research/system": 185, "research/tracking": 435, "research/weights": 1325,
    "research/wrappers": 450,
}  # fmt: skip


def code_lines(text: str) -> int:
    """How many lines hold code."""
    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skip:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                lines -= set(range(first.lineno, first.end_lineno + 1))
    return len(lines)


def main() -> int:
    """Counts, prints, and gives the exit status."""
    rooms, over = collections.Counter(), []
    for path in sorted(
        p for root in ("research", "experiments", "launch", "tests") for p in pathlib.Path(root).rglob("*.py")
    ):
        count = code_lines(path.read_text(encoding="utf-8"))
        root = path.parts[0]
        rooms["/".join(path.parts[: 2 if root == "research" and len(path.parts) > 2 else 1])] += count
        budget = FILES.get(str(path), FILES.get(root, OTHER_FILES))
        if count > budget and root != "tests":
            over.append(f"{path}: {count} lines of code, the budget is {budget}")
    for room, count in sorted(rooms.items()):
        budget = SUBPACKAGES.get(room)
        print(f"{count:6}  {room}" + (f"  (budget {budget})" if budget else ""))
        if room.startswith("research") and budget is None:
            over.append(f"{room}: a new subpackage needs a budget in .ci/lines.py")
        elif budget and count > budget:
            over.append(f"{room}: {count} lines of code, the budget is {budget}")
    print(f"{sum(rooms.values()):6}  in all, {sum(v for k, v in rooms.items() if k != 'tests')} without tests")
    print("\n".join(over), file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
