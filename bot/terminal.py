"""Shows a call in the terminal as it happens: who says what, which tools ran, how long the caller waited."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bot.events import (
    BargeIn,
    BotSaid,
    BotStartedSpeaking,
    CallEnded,
    CallerSaid,
    CallEvent,
    CallReceived,
    GreetingStarted,
    KeyPressed,
    ModelConnected,
    ModelFailed,
    PlayoutResumed,
    StepEntered,
    StreamStarted,
    ToolCalled,
    ToolReturned,
    Trouble,
)

_ENDS = {
    "caller_hung_up": "the caller hung up",
    "goodbye": "the bot said goodbye and hung up",
    "model_lost": "the model was lost; the caller heard why",
    "time_limit": "the longest allowed time was reached",
    "shutdown": "the server stopped",
}


def show_login(console: Console, address: str, password_file: Path | None, made_password: str | None) -> None:
    """Say where the operators' console is and how to get in; a password that was just made only to a terminal."""
    console.print(f"Console   {address}/console", highlight=False, soft_wrap=True)
    if password_file is None:
        how = "CONSOLE_PASSWORD"
    elif made_password and console.is_terminal:
        how = f"{made_password} (kept in {password_file})"
    else:
        how = f"in {password_file}"
    console.print(f"Password  {escape(how)}", highlight=False, soft_wrap=True)


class CallView:
    """Prints one call. Give `show` to the call as a listener."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started_ns: int | None = None
        self._responses_ms: list[float] = []
        self._booked: list[str] = []

    def show(self, event: CallEvent, now_ns: int) -> None:
        """Print what an event means to somebody who watches; events that mean nothing to them are left out."""
        if self._started_ns is None:
            self._started_ns = now_ns
        line = self._line(event)
        if line:
            seconds = (now_ns - self._started_ns) / 1e9
            self._console.print(f"[dim]{seconds:6.1f} s[/]  {line}", highlight=False)

    def _line(self, event: CallEvent) -> str | None:
        match event:
            case CallReceived():
                return f"[bold]phone rings[/]  flow {escape(event.flow)}"
            case StreamStarted():
                return f"[dim]line open {event.wait_ms:.0f} ms after the webhook[/]"
            case ModelConnected():
                return f"[dim]{escape(event.model)} ready after {event.setup_ms:.0f} ms[/]"
            case GreetingStarted(source="cache"):
                return "[dim]the greeting plays from its cache[/]"
            case CallerSaid():
                return f"[bold yellow]caller  [/]{escape(event.text)}"
            case BotStartedSpeaking() if event.response_ms is not None:
                self._responses_ms.append(event.response_ms)
                return f"[dim]answers after {event.response_ms:.0f} ms[/]"
            case BotSaid():
                cut = f" [red](cut off: {event.heard:.0%} heard)[/]" if event.interrupted else ""
                return f"[bold cyan]bot     [/]{escape(event.text)}{cut}"
            case ToolCalled():
                values = ", ".join(f"{key}={value!r}" for key, value in event.arguments.items())
                return f"[magenta]tool    [/]{escape(event.name)}({escape(values)})"
            case ToolReturned():
                if event.status == "ok" and event.name in ("book_appointment", "reschedule_appointment"):
                    self._booked.append(str(event.result.get("say", "")))
                colour = {"ok": "green", "repeated": "green"}.get(event.status, "red")
                result = _shorten(", ".join(f"{key}: {value}" for key, value in event.result.items()))
                return f"        [{colour}]{event.status}[/] in {event.duration_ms:.0f} ms  {escape(result)}"
            case StepEntered():
                return f"[dim]step: {escape(event.step)}[/]"
            case KeyPressed():
                return f"[bold yellow]caller  [/]pressed {escape(event.digit)}"
            case BargeIn():
                who = "" if event.by == "model" else ", without a word of the model"
                return f"[red]caller cut in{who}; {event.cleared_ms:.0f} ms unheard[/]"
            case PlayoutResumed():
                return f"[dim]the bot paused for {event.paused_ms:.0f} ms and went on ({event.why})[/]"
            case ModelFailed():
                return f"[red]model   {escape(event.failure)}: {escape(event.detail)}[/]"
            case Trouble():
                return f"[red]trouble {escape(event.failure)} ({escape(event.where)})[/]"
            case CallEnded():
                return f"[bold]call over[/]  {_ENDS.get(event.reason, event.reason.replace('_', ' '))}"
        return None

    def summary(self) -> None:
        """What was seen of the call: bookings and response times."""
        self._console.rule("sample call")
        for words in self._booked or ["nothing"]:
            self._console.print(f"  booked    {escape(words)}", highlight=False)
        if self._responses_ms:
            ordered = sorted(self._responses_ms)
            middle = ordered[len(ordered) // 2]
            self._console.print(
                f"  answers   {len(ordered)} turns, {middle:.0f} ms in the middle, {ordered[-1]:.0f} ms at worst",
                highlight=False,
            )


def _shorten(text: str, limit: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
