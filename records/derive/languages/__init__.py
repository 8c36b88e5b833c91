"""The languages in which promises are understood, each a table of rules."""

from __future__ import annotations

from collections.abc import Mapping

from records.derive.languages import english, french, german, spanish
from records.derive.languages.rules import Deed, Rules, Times

__all__ = ["RULES", "Deed", "Rules", "Times", "rules_for"]

RULES: Mapping[str, Rules] = {
    "en": english.RULES,
    "es": spanish.RULES,
    "de": german.RULES,
    "fr": french.RULES,
}


def rules_for(language: str) -> Rules | None:
    """The rules of a BCP-47 language; None for one without."""
    return RULES.get(language.split("-")[0].lower())
