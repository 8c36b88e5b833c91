"""The Gemini Live stand-in: BidiGenerateContent over real WebSockets, with a rule-based mind instead of a model.

It is NOT Gemini and holds no language model. `GeminiStandIn` is the server; docs/sandbox-gemini.md says what it does.
"""

from sandbox.gemini.faults import FaultError, FaultPlan, Faults
from sandbox.gemini.profiles import PROFILES, Profile
from sandbox.gemini.server import GeminiStandIn, SessionRecord
from sandbox.gemini.wire import Close

__all__ = [
    "PROFILES",
    "Close",
    "FaultError",
    "FaultPlan",
    "Faults",
    "GeminiStandIn",
    "Profile",
    "SessionRecord",
]
