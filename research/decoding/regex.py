"""Regular expressions as deterministic finite automata over bytes (Thompson 1968; Rabin & Scott 1959)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from research.axes import Bool, Int
from research.errors import UserError

LARGEST = 10_000  # states
ASCII = frozenset(range(128))
CLASSES = {
    "d": frozenset(b"0123456789"),
    "s": frozenset(b" \t\n\r\f\v"),
    "w": frozenset(b"0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"),
}
CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
# The UTF-8 encodings of all characters that are not ASCII, by the range of each byte (RFC 3629, section 4).
TAIL = (0x80, 0xBF)
MULTIBYTE = (
    ((0xC2, 0xDF), TAIL), ((0xE0, 0xE0), (0xA0, 0xBF), TAIL), ((0xE1, 0xEC), TAIL, TAIL),
    ((0xED, 0xED), (0x80, 0x9F), TAIL), ((0xEE, 0xEF), TAIL, TAIL), ((0xF0, 0xF0), (0x90, 0xBF), TAIL, TAIL),
    ((0xF1, 0xF3), TAIL, TAIL, TAIL), ((0xF4, 0xF4), (0x80, 0x8F), TAIL, TAIL),
)  # fmt: skip


class ByteAutomaton(NamedTuple):
    """A deterministic automaton that starts in state 0; `next` is -1 if no accepted text continues with the byte."""

    next: Int[np.ndarray, "states 256"]
    accepting: Bool[np.ndarray, " states"]


class _Graph(NamedTuple):
    """A nondeterministic automaton: the edges of each state as (bytes, target), and those that read nothing."""

    edges: list[list[tuple[frozenset[int], int]]]
    free: list[list[int]]

    def state(self) -> int:
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1


_Part = Callable[[_Graph, int], int]  # adds a part of the pattern to the graph at a state; returns where it ends


def compile_regex(pattern: str) -> ByteAutomaton:
    r"""Compile a pattern that must match the whole text, in the syntax of Python's `re`.

    Supported: literals, `.`, classes such as `[a-z_]` and `[^"]`, the ASCII classes \d \w \s and their complements,
    groups, `|`, and the quantifiers `*`, `+`, `?`, `{m}`, `{m,}` and `{m,n}`. A `.` or a complement matches every
    character of valid UTF-8. Raises UserError for any other syntax, and if the automaton has more than 10,000 states.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f"the pattern {pattern!r} is not a regular expression: {error}.") from None
    graph = _Graph([], [])
    start = graph.state()
    end = _Parser(pattern).whole()(graph, start)
    return _deterministic(graph, start, end, pattern)


class _Parser:
    """A recursive-descent parser of one pattern."""

    def __init__(self, pattern: str):
        self.pattern, self.place = pattern, 0

    def whole(self) -> _Part:
        part = self.alternatives()
        if self.place < len(self.pattern):
            self.fail(self.pattern[self.place])
        return part

    def peek(self) -> str:
        return self.pattern[self.place : self.place + 1]

    def take(self) -> str:
        self.place += 1
        return self.pattern[self.place - 1 : self.place]

    def fail(self, text):
        raise UserError(
            f"the pattern {self.pattern!r} has {text!r} at position {self.place}, which an automaton of this kind "
            "does not support; expected literals, classes, groups, | and the quantifiers * + ? {m,n}."
        )

    def alternatives(self) -> _Part:
        parts = [self.sequence()]
        while self.peek() == "|":
            self.take()
            parts.append(self.sequence())
        return _either(parts)

    def sequence(self) -> _Part:
        parts = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated())
        return _in_order(parts)

    def repeated(self) -> _Part:
        part = self.single()
        found = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}").match(self.pattern, self.place)
        if not found or found[0] == "{}":
            return part
        self.place = found.end()
        if self.peek() in ("?", "+"):
            self.fail(found[0] + self.peek())
        if found[0] in ("*", "+", "?"):
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[found[0]]
        else:
            least = int(found[1] or 0)
            most = (int(found[3]) if found[3] else None) if found[2] else least
        return _repeat(part, least, most)

    def single(self) -> _Part:
        character = self.take()
        if character == "(":
            if self.peek() == "?":
                if not self.pattern.startswith("?:", self.place):
                    self.fail("(?")
                self.place += 2
            part = self.alternatives()
            self.take()
            return part
        if character == "[":
            return self.character_class()
        if character == ".":
            return _characters(ASCII - {10}, multibyte=True)
        if character == "\\":
            return self.escape()
        if character in "^$":
            self.fail(character)
        return _literal(character)

    def escape(self) -> _Part:
        character = self.take()
        if character.lower() in CLASSES:
            own = CLASSES[character.lower()]
            return _characters(ASCII - own, multibyte=True) if character.isupper() else _characters(own)
        return _literal(self.escaped(character))

    def escaped(self, character) -> str:
        if character.isalnum() and character not in CONTROLS:
            self.fail("\\" + character)
        return CONTROLS.get(character, character)

    def character_class(self) -> _Part:
        negated = self.peek() == "^" and bool(self.take())
        members, others = set(), []  # bytes of ASCII characters; other characters
        first = True
        while first or self.peek() != "]":
            first = False
            character = self.take()
            if character == "\\":
                character = self.take()
                if character in CLASSES:
                    members |= CLASSES[character]
                    continue
                character = self.escaped(character)
            last = character
            if self.peek() == "-" and self.pattern[self.place + 1 : self.place + 2] != "]":
                self.take()
                last = self.take()
                last = self.escaped(self.take()) if last == "\\" else last
            if last.isascii():
                members |= set(range(ord(character), ord(last) + 1))
            elif last == character and not negated:
                others.append(_literal(character))
            else:
                self.fail(last)
        self.take()
        if negated:
            return _characters(ASCII - members, multibyte=True)
        return _either([_characters(frozenset(members)), *others])


def _characters(ascii_bytes: frozenset[int], *, multibyte: bool = False) -> _Part:
    """One character: one of the ASCII bytes or, with `multibyte`, any character that is not ASCII."""
    ranges = [[frozenset(range(low, high + 1)) for low, high in sequence] for sequence in MULTIBYTE * multibyte]
    return _either([_in_order([_byte(part) for part in sequence]) for sequence in [[ascii_bytes], *ranges]])


def _literal(character: str) -> _Part:
    return _in_order([_byte(frozenset([byte])) for byte in character.encode()])


def _byte(allowed: frozenset[int]) -> _Part:
    def add(graph, start):
        end = graph.state()
        graph.edges[start].append((allowed, end))
        return end

    return add


def _in_order(parts: list[_Part]) -> _Part:
    return lambda graph, start: functools.reduce(lambda state, part: part(graph, state), parts, start)


def _either(parts: list[_Part]) -> _Part:
    def add(graph, start):
        end = graph.state()
        for part in parts:
            graph.free[start].append(first := graph.state())
            graph.free[part(graph, first)].append(end)
        return end

    return parts[0] if len(parts) == 1 else add


def _repeat(part: _Part, least: int, most: int | None) -> _Part:
    def any_number(graph, start):
        again, end = graph.state(), graph.state()
        graph.free[start].append(again)
        graph.free[part(graph, again)].append(again)
        graph.free[again].append(end)
        return end

    optional = _either([part, _in_order([])])
    return _in_order([part] * least + ([any_number] if most is None else [optional] * (most - least)))


def _deterministic(graph: _Graph, start: int, end: int, pattern: str) -> ByteAutomaton:
    """Convert by the subset construction, and remove the transitions after which no text is accepted."""

    def closure(states):
        found, waiting = set(states), list(states)
        while waiting:
            new = [state for state in graph.free[waiting.pop()] if state not in found]
            found.update(new)
            waiting.extend(new)
        return frozenset(found)

    sets = {closure([start]): 0}
    rows = []
    for current in (order := list(sets)):
        targets = [set() for _ in range(256)]
        for state in current:
            for allowed, target in graph.edges[state]:
                for byte in allowed:
                    targets[byte].add(target)
        row = np.full(256, -1, np.int32)
        for byte, found in enumerate(map(frozenset, targets)):
            if found:
                following = closure(found)
                if following not in sets:
                    sets[following] = len(sets)
                    order.append(following)
                row[byte] = sets[following]
        rows.append(row)
        if len(sets) > LARGEST:
            raise UserError(f"the pattern {pattern!r} needs more than {LARGEST:,} states; use smaller repetitions.")
    accepting = np.array([end in current for current in order])
    following = np.stack(rows)
    alive = accepting.copy()
    for _ in range(len(alive)):
        grown = accepting | (alive[following] & (following >= 0)).any(1)
        if (grown == alive).all():
            break
        alive = grown
    return ByteAutomaton(np.where((following >= 0) & alive[following], following, -1), accepting)
