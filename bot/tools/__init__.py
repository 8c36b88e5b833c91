"""The tools of a call: what the model may do. `ToolBox` runs them; a module here holds the tools of one subject.

To add a tool: one function with the `bot.tools.registry.tool` decorator, its module imported below, its name in a flow
(docs/flows.md has a full example).
"""

from __future__ import annotations

from bot.tools import booking, front_desk, people
from bot.tools.registry import TOOLS, CallFacts, ToolDeclaration
from bot.tools.toolbox import ToolBox, UnheardResult

__all__ = ["TOOLS", "CallFacts", "ToolBox", "ToolDeclaration", "UnheardResult", "booking", "front_desk", "people"]
