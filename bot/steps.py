"""Where the conversation stands and which tools may run now.

Pure: no I/O, no clock. Gemini Live cannot change its prompt or its tools in the middle of a session, so all tools are
declared at connect, and this state machine decides which of them may run; the tool layer puts the instruction of a new
step into the tool's result (docs/decisions/0003).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """One stretch of a conversation.

    `allows` are tool names. `on` maps ``tool`` or ``tool:outcome`` to the name of the next step; the more exact key
    wins, and a tool that is not in `on` leaves the conversation where it is.
    """

    name: str
    instruction: str
    allows: Sequence[str] = ()
    on: Mapping[str, str] = field(default_factory=dict)

    def after(self, tool: str, outcome: str) -> str | None:
        """The next step's name after `tool` ended with `outcome`, or None."""
        return self.on.get(f"{tool}:{outcome}", self.on.get(tool))


class Steps:
    """The conversation's place in its steps. Starts at the first step; only a tool's success moves it.

    `anytime` are tools that every step allows. Raises ValueError if `first` or the target of a move is not declared.
    """

    def __init__(self, first: str, steps: Sequence[Step], anytime: Sequence[str] = ()) -> None:
        self._steps = {step.name: step for step in steps}
        self._anytime = tuple(anytime)
        targets = {first, *(target for step in steps for target in step.on.values())}
        if unknown := sorted(targets - self._steps.keys()):
            raise ValueError(f"No such step: {', '.join(unknown)}.")
        self.current = self._steps[first]

    @property
    def allowed(self) -> tuple[str, ...]:
        """Names of the tools that may run now."""
        return self._allowed_in(self.current)

    def refusal(self, tool: str) -> str | None:
        """Why `tool` may not run now and what leads to it, in words for the model; None if it may run."""
        if tool in self.allowed:
            return None
        words = f"{tool} cannot be used at this point of the conversation."
        if way := self._way_to(tool):
            return f"{words} First use {' and then '.join(way)}."
        return f"{words} Available now: {', '.join(self.allowed) or 'nothing'}."

    def advance(self, tool: str, outcome: str = "ok") -> Step | None:
        """Note that `tool` succeeded with `outcome`. The new step if the conversation moved, else None.

        A tool that the current step does not allow moves nothing.
        """
        target = self.current.after(tool, outcome) if tool in self.allowed else None
        if target is None or target == self.current.name:
            return None
        self.current = self._steps[target]
        return self.current

    def _allowed_in(self, step: Step) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*step.allows, *self._anytime)))

    def _way_to(self, tool: str) -> list[str]:
        """The shortest list of tools that leads from here to a step that allows `tool`; empty if there is none."""
        seen = {self.current.name}
        waiting: deque[tuple[Step, list[str]]] = deque([(self.current, [])])
        while waiting:
            step, way = waiting.popleft()
            if tool in self._allowed_in(step):
                return way
            for key, target in step.on.items():
                by = key.partition(":")[0]
                if target not in seen and by in self._allowed_in(step):
                    seen.add(target)
                    waiting.append((self._steps[target], [*way, by]))
        return []
