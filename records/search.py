"""Lists of calls: filters, full-text search and pages, in SQL that stays fast with a hundred thousand calls.

Pages go by key, newest first: a page begins below the last id of the one before, however deep it lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, column, func, select, table
from sqlalchemy.orm import Session

from records.models import CallRow, DetailRow, FlagRow, SearchRow, ToolCallRow, TurnRow
from records.words import Excerpt, Term, excerpt, fts5, terms, tsquery

_FEW = 2000
"""Up to so many rows SQLite is led by the rows of a tool or flag, beyond by the calls."""
_FEW_TO_SEARCH = 100
"""Up to so many calls SQLite searches one by one for the words, beyond it searches all."""
_LARGEST_ID = 2**63 - 1
_WHOLE_AREA = 8
"""A number's beginning with fewer letters is that of very many calls."""
Range = tuple[float | None, float | None]
"""From and to, both included; None is open."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class CallFilter:
    """Which calls; what is not given does not matter.

    ``number`` is the caller's, or how it begins (``+1212``). ``began`` includes its first moment and not its last.
    ``latency_ms`` is the call's voice-to-voice p95, ``flag`` a kind of flag, ``tool`` a function that was called.
    """

    began: tuple[datetime | None, datetime | None] = (None, None)
    number: str = ""
    flow: str = ""
    disposition: str = ""
    tool: str = ""
    flag: str = ""
    duration_ms: Range = (None, None)
    latency_ms: Range = (None, None)
    cost_usd: Range = (None, None)
    score: Range = (None, None)


ALL = CallFilter()


@dataclass(frozen=True)
class ListedCall:
    """A call in a list. ``flags`` are the kinds that nobody has acknowledged; ``expired``, what retention removed."""

    call_id: str
    flow: str
    from_number: str
    to_number: str
    began_at: datetime
    duration_ms: float
    disposition: str
    end_reason: str
    language: str
    turns: int
    latency_ms: float | None
    cost_usd: float
    cost_complete: bool
    score: float | None
    summary: str
    flags: tuple[str, ...]
    expired: tuple[str, ...]


@dataclass(frozen=True)
class Hit:
    """A call that a search found, and the turn that has most of the words, with an excerpt of it."""

    call: ListedCall
    turn: int | None
    speaker: str
    start_ms: float
    excerpt: Excerpt


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A page of a list. ``next`` asks for the one that follows; empty on the last."""

    items: tuple[Item, ...]
    next: str


_INDEX = table("records_search_index", column("rowid"), column("records_search_index"))


def list_calls(session: Session, filter: CallFilter, after: str, size: int) -> Page[ListedCall]:
    """See `records.store.Store.calls`."""
    found = session.execute(_filtered(*_led(session, CallRow.__table__.c, filter), filter, after, size)).all()
    return Page(_listed(session, found[:size]), _next(found, size))


def search_calls(session: Session, query: str, filter: CallFilter, after: str, size: int) -> Page[Hit]:
    """See `records.store.Store.search`."""
    wanted = terms(query)
    if not wanted:
        return Page((), "")
    calls, key = _matching(session, wanted)
    if session.get_bind().dialect.name == "sqlite" and (few := _few_calls(session, filter, after)) is not None:
        # FTS5 would find every call that has the words, and each would be looked up to be left out.
        calls = calls.where(key.in_(few))
    found = session.execute(_filtered(calls, key, filter, after, size)).all()
    return Page(_with_excerpts(session, wanted, found[:size], _listed(session, found[:size])), _next(found, size))


def _led(session: Session, columns: Iterable[Any], filter: CallFilter) -> tuple[Select[Any], Any]:
    """The calls to be filtered, and the column to order them by."""
    calls = select(*columns)
    if session.get_bind().dialect.name == "sqlite" and (rare := _rare_rows(session, filter)):
        # SQLite would look at every call in turn; Postgres knows how rare a tool or flag is.
        rows, named = rare
        return calls.join(rows, rows.call == CallRow.id).where(named).group_by(rows.call), rows.call
    return calls, CallRow.id


def _matching(session: Session, wanted: Sequence[Term]) -> tuple[Select[Any], Any]:
    """The calls in which the words were said, and the column to order them by."""
    calls = select(*CallRow.__table__.c)
    if session.get_bind().dialect.name == "sqlite":
        # By its own rowid FTS5 gives the newest first as it finds them; by any other it would find all, then sort.
        matches = _INDEX.c.records_search_index.op("MATCH")(fts5(wanted))
        return calls.join(_INDEX, _INDEX.c.rowid == CallRow.id).where(matches), _INDEX.c.rowid
    matches = SearchRow.words.op("@@")(func.to_tsquery("simple", tsquery(wanted)))
    return calls.join(SearchRow, SearchRow.call == CallRow.id).where(matches), CallRow.id


def _rare_rows(
    session: Session, filter: CallFilter
) -> tuple[type[ToolCallRow] | type[FlagRow], ColumnElement[bool]] | None:
    """The rows of a tool or flag that few calls have, where the filter asks for one."""
    asked: list[tuple[type[ToolCallRow] | type[FlagRow], ColumnElement[bool]]] = []
    asked += [(ToolCallRow, ToolCallRow.name == filter.tool)] if filter.tool else []
    asked += [(FlagRow, FlagRow.kind == filter.flag)] if filter.flag else []
    for rows, named in asked:
        if session.scalar(select(rows.call).where(named).offset(_FEW).limit(1)) is None:
            return rows, named
    return None


def _few_calls(session: Session, filter: CallFilter, after: str) -> list[int] | None:
    """The calls that a filter leaves, where it asks for something and few calls have it."""
    if not _conditions(filter):
        return None
    calls = _filtered(*_led(session, [CallRow.id], filter), filter, after, _FEW_TO_SEARCH)
    found = session.scalars(calls).all()
    return list(found) if len(found) <= _FEW_TO_SEARCH else None


def _filtered(statement: Select[Any], key: Any, filter: CallFilter, after: str, size: int) -> Select[Any]:
    """A page of the statement's calls; `key` is the column that holds their ids and has them in order."""
    since, until = filter.began
    # A call's id is the millisecond it began in, or a little more where several did.
    limits = [key >= _milliseconds(since)] if since else []
    limits += [key < _milliseconds(until) + 60_000] if until else []
    limits += [key < cursor(after)] if after else []
    return statement.where(*limits, *_conditions(filter)).order_by(key.desc()).limit(size + 1)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _conditions(filter: CallFilter) -> list[ColumnElement[bool]]:
    since, until = filter.began
    found: list[ColumnElement[bool]] = []
    found += [CallRow.began_at >= since] if since else []
    found += [CallRow.began_at < until] if until else []
    if filter.number:
        # A country or an area is found sooner by looking at the newest calls than by its index, and then sorting.
        number = CallRow.from_number if len(filter.number) >= _WHOLE_AREA else CallRow.from_number + ""
        found += [number >= filter.number, number < filter.number + "\U0010ffff"]
    if filter.flow:
        found.append(CallRow.flow == filter.flow)
    if filter.disposition:
        found.append(CallRow.disposition == filter.disposition)
    if filter.tool:
        of_call = select(1).where(ToolCallRow.call == CallRow.id, ToolCallRow.name == filter.tool)
        found.append(of_call.correlate(CallRow).exists())
    if filter.flag:
        of_call = select(1).where(FlagRow.call == CallRow.id, FlagRow.kind == filter.flag)
        found.append(of_call.correlate(CallRow).exists())
    for limits, of in (
        (filter.duration_ms, CallRow.duration_ms),
        (filter.latency_ms, CallRow.voice_to_voice_p95_ms),
        (filter.cost_usd, CallRow.cost_usd),
        (filter.score, CallRow.score),
    ):
        low, high = limits
        found += [of >= low] if low is not None else []
        found += [of <= high] if high is not None else []
    return found


def cursor(after: str) -> int:
    """The id that a page begins below. Raises ValueError for what is no `Page.next`."""
    if not after.isdecimal() or int(after) > _LARGEST_ID:
        raise ValueError("a page goes on after the `next` of the page before")
    return int(after)


def _next(found: Sequence[Any], size: int) -> str:
    return str(found[size - 1].id) if len(found) > size else ""


def _listed(session: Session, found: Sequence[Any]) -> tuple[ListedCall, ...]:
    ids = [row.id for row in found]
    summaries = dict(session.execute(select(DetailRow.call, DetailRow.summary).where(DetailRow.call.in_(ids))).all())
    flags: dict[int, list[str]] = {}
    open_flags = FlagRow.call.in_(ids), FlagRow.acknowledged_at.is_(None)
    for call, kind in session.execute(select(FlagRow.call, FlagRow.kind).where(*open_flags).order_by(FlagRow.number)):
        flags.setdefault(call, []).append(kind)
    return tuple(
        ListedCall(
            call_id=row.call_id,
            flow=row.flow,
            from_number=row.from_number,
            to_number=row.to_number,
            began_at=row.began_at,
            duration_ms=row.duration_ms,
            disposition=row.disposition,
            end_reason=row.end_reason,
            language=row.language,
            turns=row.turns,
            latency_ms=row.voice_to_voice_p95_ms,
            cost_usd=row.cost_usd,
            cost_complete=row.cost_complete,
            score=row.score,
            summary=summaries.get(row.id, ""),
            flags=tuple(dict.fromkeys(flags.get(row.id, ()))),
            expired=expired(row),
        )
        for row in found
    )


def expired(row: Any) -> tuple[str, ...]:
    """The kinds that retention has removed from a call."""
    return tuple(kind for kind in ("audio", "transcript", "number") if getattr(row, f"{kind}_expired_at"))


def _with_excerpts(
    session: Session, wanted: Sequence[Term], found: Sequence[Any], calls: Sequence[ListedCall]
) -> tuple[Hit, ...]:
    columns = TurnRow.call, TurnRow.number, TurnRow.speaker, TurnRow.start_ms, TurnRow.text, TurnRow.unheard
    ids = [row.id for row in found]
    turns: dict[int, list[Any]] = {}
    for turn in session.execute(select(*columns).where(TurnRow.call.in_(ids)).order_by(TurnRow.call, TurnRow.number)):
        turns.setdefault(turn.call, []).append(turn)
    return tuple(_hit(call, wanted, turns.get(row.id, [])) for row, call in zip(found, calls, strict=True))


def _hit(call: ListedCall, wanted: Sequence[Term], turns: Sequence[Any]) -> Hit:
    best: tuple[int, Excerpt] = (0, Excerpt("", ()))
    where: Any = None
    for turn in turns:
        found = excerpt(f"{turn.text} {turn.unheard.lstrip()}".rstrip(), wanted)
        if found[0] > best[0]:
            best, where = found, turn
            if found[0] == len(wanted):
                break
    if where is None:
        return Hit(call, None, "", 0.0, best[1])
    return Hit(call, where.number, where.speaker, where.start_ms, best[1])
