"""Judging calls after the fact: ``python -m qa …`` (docs/tape.md)."""
