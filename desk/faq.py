"""Full text search over the business's answers: SQLite FTS5 or Postgres text search, stemmed as English.

An entry matches if it has any of the caller's words that carry meaning, or a longer word that begins with one of them
("child" finds "children", which the stemmers do not); a match in the question counts for more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from desk.business import Faq
from desk.database import insert_if_new
from desk.models import FaqRow

_MOST_WORDS = 32
_SHORTEST_STEM = 4
_WORD = re.compile(r"[^\W_]+")

# Words of a question that say nothing about its subject. Without this list "do you sell bicycles" finds every "do you".
_EMPTY_WORDS = frozenset(
    """a about am an and any are as at be because been before but by can could d did do does for from get give go got
    had has have having he hello her hey hi him his how i if in into is it its just know let like ll long m many may me
    might much must my need no not of on or our ours please re s say shall she should so some t tell than thank thanks
    that the their them then there these they thing this those to too uh um us ve want was we well were what when where
    which who whom whose why will with would yes you your yours""".split()  # noqa: SIM905 (one word a line would be long)
)

_SQLITE = text(
    """SELECT desk_faq.question, desk_faq.answer
    FROM desk_faq_search JOIN desk_faq ON desk_faq.id = desk_faq_search.rowid
    WHERE desk_faq_search MATCH :query AND desk_faq.business_id = :business_id
    ORDER BY bm25(desk_faq_search, 4.0, 1.0), desk_faq.position LIMIT :limit"""
)
_VECTOR = "(setweight(to_tsvector('english', question), 'A') || setweight(to_tsvector('english', answer), 'B'))"
_POSTGRES = text(
    f"""SELECT question, answer FROM desk_faq, to_tsquery('english', :query) AS query
    WHERE {_VECTOR} @@ query AND business_id = :business_id
    ORDER BY ts_rank({_VECTOR}, query) DESC, position LIMIT :limit"""
)


def sync(session: Session, business_id: str, entries: Sequence[Faq], now: datetime) -> None:
    """Make the table hold exactly these entries; writes only what differs. Two processes may do so at once."""
    kept = {row.position: row for row in session.scalars(select(FaqRow).filter_by(business_id=business_id))}
    for position, entry in enumerate(entries):
        words = {"question": entry.question, "answer": entry.answer}
        row = kept.get(position)
        if row is not None and (row.question, row.answer) == (entry.question, entry.answer):
            continue
        place = {"business_id": business_id, "position": position}
        if not insert_if_new(session, FaqRow, {**place, **words, "created_at": now}):
            session.execute(update(FaqRow).filter_by(**place).values(**words))
    session.execute(delete(FaqRow).where(FaqRow.business_id == business_id, FaqRow.position >= len(entries)))


def search(session: Session, business_id: str, words: str, limit: int) -> list[Faq]:
    """The best entries for a caller's words, best first; empty if nothing matches. Any text is a valid query."""
    terms = [word for word in _WORD.findall(words.casefold()) if word not in _EMPTY_WORDS][:_MOST_WORDS]
    if not terms:
        return []
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    if on_sqlite:
        query = " OR ".join(f'"{term}"{"*" if len(term) >= _SHORTEST_STEM else ""}' for term in terms)
    else:
        query = " | ".join(f"'{term}'{':*' if len(term) >= _SHORTEST_STEM else ''}" for term in terms)
    values = {"query": query, "business_id": business_id, "limit": limit}
    rows = session.execute(_SQLITE if on_sqlite else _POSTGRES, values)
    return [Faq(row.question, row.answer) for row in rows]
