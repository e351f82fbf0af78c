"""Prints the lines of code in every room, and fails where a file is above its budget.

Lines of code are those that are neither blank, nor comment, nor docstring: explaining is free. A budget is raised
in the commit that needs it, with the reason in its message.
"""

import ast
import collections
import io
import pathlib
import sys
import tokenize

BUDGETS = {"research/core.py": 150, "experiments": 90}
OTHERS = 250  # any other file of research/, launch/ and experiments/


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
        rooms["/".join(path.parts[:2]) if path.parts[0] == "research" else path.parts[0]] += count
        budget = BUDGETS.get(str(path), BUDGETS.get(path.parts[0], OTHERS))
        if count > budget and path.parts[0] != "tests":
            over.append(f"{path}: {count} lines of code, the budget is {budget}")
    for room, count in sorted(rooms.items()):
        print(f"{count:6}  {room}")
    print(f"{sum(rooms.values()):6}  in all, {sum(v for k, v in rooms.items() if k != 'tests')} without tests")
    print("\n".join(over), file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
