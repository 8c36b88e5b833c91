"""A JSGF grammar as the smallest automaton that accepts the same sentences.

The recogniser's own JSGF compiler writes out the closure of all empty transitions, which takes minutes for a grammar
in which any phrase may follow any other. The minimal automaton has no empty transitions and is ready in a fraction of
a second. Textbook constructions: Thompson, subsets, partition refinement.

Understood of JSGF: rules, references, words, `|`, `( )`, `[ ]` and `+`. No recursion, no weights, no tags.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(r"<\w+>|[a-z']+|[|()\[\]+]")
_RULE = re.compile(r"<(\w+)>\s*=\s*([^;]*);")


class GrammarError(ValueError):
    """A grammar cannot be compiled; the message names the rule."""


@dataclass(frozen=True)
class Automaton:
    """States 0..`states`-1, state 0 the start, `final` states, and arcs (from, word, to)."""

    states: int
    final: frozenset[int]
    arcs: tuple[tuple[int, str, int], ...]


def compile_jsgf(jsgf: str, rule: str) -> Automaton:
    """The minimal automaton of `rule`. Raises GrammarError."""
    rules = {match[1]: _TOKEN.findall(match[2]) for match in _RULE.finditer(jsgf)}
    return _Compiler(rules).rule(rule, ())


@dataclass
class _Compiler:
    """Compiles each rule once: a reference is a copy of the small automaton, not of the rule's text."""

    rules: dict[str, list[str]]
    done: dict[str, Automaton] = field(default_factory=dict)

    def rule(self, name: str, within: tuple[str, ...]) -> Automaton:
        """The automaton of rule `name`; `within` are the rules being compiled."""
        if name not in self.rules:
            raise GrammarError(f"The grammar refers to <{name}>, which it does not define.")
        if name in within:
            raise GrammarError(f"Rule <{name}> refers to itself, which is not supported.")
        if name not in self.done:
            network = _Network(self, (*within, name))
            start, end = network.alternatives(iter([*self.rules[name], ")"]), ")")
            self.done[name] = _minimal(*_deterministic(network, start, end))
        return self.done[name]


@dataclass
class _Network:
    """Thompson's construction of one rule: states with empty transitions and word transitions."""

    compiler: _Compiler
    within: tuple[str, ...]
    empty: list[list[int]] = field(default_factory=list)
    words: list[list[tuple[str, int]]] = field(default_factory=list)

    def _state(self) -> int:
        self.empty.append([])
        self.words.append([])
        return len(self.empty) - 1

    def alternatives(self, tokens: Iterator[str], closing: str) -> tuple[int, int]:
        """Start and end state of what stands before `closing`."""
        start, end, here = self._state(), self._state(), self._state()
        self.empty[start].append(here)
        last = here
        for token in tokens:
            if token == closing:
                self.empty[here].append(end)
                return start, end
            if token == "|":
                self.empty[here].append(end)
                here = self._state()
                self.empty[start].append(here)
            elif token == "+":
                self.empty[here].append(last)
            else:
                first, after = self._item(token, tokens)
                last = self._state()
                self.empty[here].append(last)
                self.empty[last].append(first)
                here = after
        raise GrammarError(f"Rule <{self.within[-1]}> lacks a {closing!r}.")

    def _item(self, token: str, tokens: Iterator[str]) -> tuple[int, int]:
        if token == "(":
            return self.alternatives(tokens, ")")
        if token == "[":
            start, end = self.alternatives(tokens, "]")
            self.empty[start].append(end)
            return start, end
        if token.startswith("<"):
            return self._copy(self.compiler.rule(token[1:-1], self.within))
        if token in ")]":
            raise GrammarError(f"Rule <{self.within[-1]}> has a {token!r} too many.")
        start, end = self._state(), self._state()
        self.words[start].append((token, end))
        return start, end

    def _copy(self, part: Automaton) -> tuple[int, int]:
        states = [self._state() for _ in range(part.states)]
        end = self._state()
        for origin, word, to in part.arcs:
            self.words[states[origin]].append((word, states[to]))
        for state in part.final:
            self.empty[states[state]].append(end)
        return states[0], end


_Moves = list[dict[str, int]]


def _deterministic(network: _Network, start: int, end: int) -> tuple[_Moves, set[int]]:
    """Subset construction: the moves of each state by word, and the final states."""

    def closure(states: set[int]) -> frozenset[int]:
        seen, todo = set(states), list(states)
        while todo:
            for state in network.empty[todo.pop()]:
                if state not in seen:
                    seen.add(state)
                    todo.append(state)
        return frozenset(state for state in seen if network.words[state] or state == end)

    first = closure({start})
    numbers = {first: 0}
    moves: _Moves = []
    for states in (queue := [first]):
        targets: dict[str, set[int]] = defaultdict(set)
        for state in states:
            for word, to in network.words[state]:
                targets[word].add(to)
        move = {}
        for word, reached in targets.items():
            target = closure(reached)
            if target not in numbers:
                numbers[target] = len(queue)
                queue.append(target)
            move[word] = numbers[target]
        moves.append(move)
    return moves, {number for states, number in numbers.items() if end in states}


def _minimal(moves: _Moves, final: set[int]) -> Automaton:
    """Partition refinement: states that accept the same continuations become one."""
    group = [int(state in final) for state in range(len(moves))]
    count = 0
    while True:
        signatures: dict[object, int] = {}
        refined = [
            signatures.setdefault(
                (group[state], frozenset((word, group[to]) for word, to in move.items())), len(signatures)
            )
            for state, move in enumerate(moves)
        ]
        group = refined
        if len(signatures) == count:
            break
        count = len(signatures)
    arcs = {(group[state], word, group[to]) for state, move in enumerate(moves) for word, to in move.items()}
    return Automaton(count, frozenset(group[state] for state in final), tuple(sorted(arcs)))
