"""The command line: `python -m research VERB ...`. Each public function of a file here is a verb.

A verb is an ordinary function. The first line of its docstring is its summary, and lines `name: text` there are the
help of its parameters (`name (METAVAR): text` or `name (--flag METAVAR): text` name them otherwise). A positional
parameter is an argument, a keyword-only one a flag, which `--help` shows if it has such a line. A type says how its
text is read, and a parameter without a type is for Python callers alone. `**knobs` are those of the experiment FILE,
which is loaded once and handed on. An int that the function returns is the exit status. Names in `__all__` that a file
imports are verbs too.

Contents: `training`, `checking`, `trained` (a run that ended), `studies` (many runs), `data`. A wing adds a file of its
own and edits nothing else; `trained.py` is one to copy. How it works is in `_command.py`.
"""
