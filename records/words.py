"""Words as full-text search sees them: the same on SQLite and Postgres, because neither sees anything else.

What is indexed and what is asked go through `fold`: letters without accents, in lower case, one space between words;
a script without spaces (Chinese, Japanese) letter by letter. Punctuation, operators and emoji separate words and are
never seen by the database, so no text of a user can be a syntax error.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LONGEST_WORD = 64
_LONGEST_TEXT = 400_000
"""Letters of one call that are indexed, about ten hours of talk; a ``tsvector`` may not pass 1 MB."""
_MOST_TERMS = 12
_WORD = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
    "|(?:[^\\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff][\u0300-\u036f]*)+"
)
_CHUNK = re.compile(r'"([^"]*)"?|(\S+)')
_SNIPPET = 160


@dataclass(frozen=True)
class _Found:
    word: str
    start: int
    end: int


@dataclass(frozen=True)
class Term:
    """Words that must stand one after the other; with `prefix`, the last one may go on."""

    words: tuple[str, ...]
    prefix: bool = False

    def at(self, words: Sequence[str]) -> Iterator[int]:
        """Where it begins in `words`."""
        length = len(self.words)
        for start in range(len(words) - length + 1):
            here = tuple(words[start : start + length])
            if here[:-1] == self.words[:-1] and (
                here[-1].startswith(self.words[-1]) if self.prefix else here[-1] == self.words[-1]
            ):
                yield start


@dataclass(frozen=True)
class Excerpt:
    """A part of a turn around the words that were found; `marks` are their places in `text`."""

    text: str
    marks: tuple[tuple[int, int], ...]


def fold(text: str) -> str:
    """`text` as it is indexed."""
    return " ".join(plain for word in _WORD.findall(text[:_LONGEST_TEXT]) if (plain := _plain(word)[:_LONGEST_WORD]))


def terms(text: str) -> tuple[Term, ...]:
    """What a user's query asks for: every word, ``"several in a row"``, ``beginn*``; empty where it names no word."""
    found = []
    for quoted, plain in _CHUNK.findall(text):
        words = tuple(found.word for found in _words(quoted or plain))
        if words:
            found.append(Term(words, prefix=plain.endswith("*") and len(words[-1]) > 1))
    return tuple(dict.fromkeys(found))[:_MOST_TERMS]


def fts5(query: Sequence[Term]) -> str:
    """The query in the language of SQLite's FTS5."""
    return " AND ".join(f'"{" ".join(term.words)}"{" *" if term.prefix else ""}' for term in query)


def tsquery(query: Sequence[Term]) -> str:
    """The query in the language of Postgres's ``to_tsquery``."""
    return " & ".join(
        " <-> ".join(f"'{word}'" for word in term.words) + (":*" if term.prefix else "") for term in query
    )


def excerpt(text: str, query: Sequence[Term]) -> tuple[int, Excerpt]:
    """How many of the terms `text` has, and the part of it where the first of them stands."""
    found = list(_words(text))
    words = [one.word for one in found]
    places = {term: list(term.at(words)) for term in query}
    marks = sorted((found[at].start, found[at + len(term.words) - 1].end) for term in query for at in places[term])
    if not marks:
        return 0, Excerpt(text[:_SNIPPET], ())
    begin = _space_before(text, max(0, marks[0][0] - _SNIPPET // 3))
    part = text[begin : begin + _SNIPPET]
    inside = tuple((start - begin, end - begin) for start, end in marks if end <= begin + _SNIPPET)
    return sum(bool(where) for where in places.values()), Excerpt(part, inside)


def _words(text: str) -> Iterator[_Found]:
    for match in _WORD.finditer(text):
        if word := _plain(match[0])[:_LONGEST_WORD]:
            yield _Found(word, match.start(), match.end())


def _plain(word: str) -> str:
    if word.isascii():
        return word.lower()
    letters = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in letters if letter.isalnum())


def _space_before(text: str, place: int) -> int:
    return text.rfind(" ", 0, place) + 1 if place else 0
