"""Words as full-text search sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.words import Excerpt, Term, excerpt, fold, fts5, terms, tsquery


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Olé, Señor ÅNGSTRÖM!", "ole senor angstrom"),
        ("e\u0301te\u0301 Straße ﬁve", "ete strasse five"),
        ("don't re-book 555-0101 at 3:30", "don t re book 555 0101 at 3 30"),
        ("snake_case * ' \" \\ & | ! <-> : () NEAR", "snake case near"),
        ("予約です yes", "予 約 て す yes"),
        ("\U0001f600 \x00 …", ""),
        ("½ ⑴ x²", "12 1 x2"),
        ("w" * 500, "w" * 64),
    ],
)
def test_a_text_is_folded_to_plain_words(text: str, folded: str) -> None:
    assert fold(text) == folded


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Root canal", (Term(("root",)), Term(("canal",)))),
        ('"root canal" now', (Term(("root", "canal")), Term(("now",)))),
        ('"never closed', (Term(("never", "closed")),)),
        ("clean*", (Term(("clean",), prefix=True),)),
        ("c*", (Term(("c",)),)),
        ("don't", (Term(("don", "t")),)),
        ("same SAME samé", (Term(("same",)),)),
        ("* ' \" AND", (Term(("and",)),)),
        ("   ", ()),
        ("\U0001f600 -- ;", ()),
    ],
)
def test_a_query_asks_for_words_phrases_and_beginnings(query: str, expected: tuple[Term, ...]) -> None:
    assert terms(query) == expected


def test_a_long_query_is_cut() -> None:
    assert len(terms(" ".join(f"word{n}" for n in range(100)))) == 12


def test_both_languages_say_the_same() -> None:
    query = terms('"root canal" clean* yes')
    assert fts5(query) == '"root canal" AND "clean" * AND "yes"'
    assert tsquery(query) == "'root' <-> 'canal' & 'clean':* & 'yes'"


@given(st.text())
def test_no_text_brings_an_operator_into_a_query(text: str) -> None:
    for term in terms(text):
        assert term.words
        assert all(word.isalnum() for word in term.words)


@given(st.text(max_size=300), st.text(max_size=20))
def test_an_excerpt_marks_what_was_found(text: str, query: str) -> None:
    wanted = terms(query)
    found, part = excerpt(text, wanted)
    assert 0 <= found <= len(wanted)
    assert part.text in text
    for start, end in part.marks:
        marked = fold(part.text[start:end])
        assert any(marked.startswith(" ".join(term.words)) for term in wanted)


def test_an_excerpt_shows_the_words_around_the_first_of_them() -> None:
    text = "So. " * 100 + "We can do a Café visit on Tuesday, then another café on Friday. " + "Well. " * 100
    found, part = excerpt(text, terms("cafe tuesday nothing"))
    assert found == 2
    assert [part.text[start:end] for start, end in part.marks] == ["Café", "Tuesday", "café"]
    assert len(part.text) == 160
    assert not part.text.startswith(" ")


def test_an_excerpt_without_any_of_the_words_is_the_beginning() -> None:
    assert excerpt("Hello there.", terms("nothing")) == (0, Excerpt("Hello there.", ()))
