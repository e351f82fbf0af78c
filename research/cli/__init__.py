"""The command line: `python -m research VERB ...`. Each public function of a file in this folder is a verb.

A verb is an ordinary function. The first line of its docstring is its summary. A docstring line `name: text` is the
help of a parameter; `name (METAVAR): text` and `name (--flag METAVAR): text` also set its metavar or flag. A positional
parameter becomes an argument, and a keyword-only parameter becomes a flag, hidden from `--help` if it has no such line.
The type annotation selects the conversion from text. A parameter without a type is only for Python callers. `**knobs`
are the knobs of the experiment FILE, which is loaded once and passed to the function as a `Loaded`. A returned int is
the exit status. Imported names that the file lists in `__all__` are verbs too. A function whose name begins with the
name of its file is a verb of two words: `labels_review` in `labels.py` is `labels review`.

Contents: `training`, `checking`, `trained` (one run), `generate`, `studies` (many runs), `data`, `labels`, `weights`.
For a new verb, copy `trained.py`; no other file needs a change. The implementation is in `_command.py`.
"""
