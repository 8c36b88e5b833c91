"""Stand-ins: they speak the real wire protocols, but they are NOT the real services.

`sandbox.gemini` stands in for the Gemini Live API (no language model inside: a small rule-based mind, an espeak voice
and a grammar-based recogniser). `sandbox.twilio` stands in for Twilio (no telephone network). They let every test and
the first run do without an account or a key. Nothing here imports the rest of the project; it could ship alone.
"""
