"""Sentences the caller hears when no model is there to speak, and what a notice must say.

A flow may replace every phrase; English, German, Spanish and French come with defaults. A flow in another language
writes its own: there is no English for a caller who was greeted in Polish.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field


class Phrases(BaseModel):
    """Ready-made sentences, in the flow's language."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, use_attribute_docstrings=True)

    sorry_busy: str = Field(min_length=1)
    """Said instead of taking a call when as many calls are up as the server may hold."""
    sorry_closed_down: str = Field(min_length=1)
    """Said instead of taking a call while the server is shutting down."""
    sorry_unreachable: str = Field(min_length=1)
    """Said instead of taking a call, or soon after its start, when no model can be reached."""
    sorry_lost: str = Field(min_length=1)
    """Said when the model went away in the middle of a call, or is there and silent, and no other could take over."""
    still_there: str = Field(min_length=1)
    """Asked after a long silence of the caller; `limits` tell how long and how often."""
    one_moment: str = Field(min_length=1)
    """Said when an answer takes longer than 3 s, and again after growing pauses."""
    goodbye: str = Field(min_length=1)
    """Last words when the call is ended without the model: time limit, a silent caller, a model lost at its goodbye."""


def default_phrases(language: str) -> Mapping[str, str]:
    """The defaults for a BCP-47 language tag; empty for a language without them."""
    return _DEFAULTS.get(language.split("-")[0].lower(), {})


def default_handover_words(language: str) -> Mapping[str, str]:
    """The words of a handover for a BCP-47 language tag; empty for a language without them."""
    return _HANDOVER.get(language.split("-")[0].lower(), {})


def missing_from_notice(notice: str, language: str) -> str | None:
    """What a notice fails to say, in English; None if nothing. Languages without defaults are not judged.

    A caller must be told that it is a machine (EU AI Act, Article 50(1)) and that the call is recorded (all-party
    consent states of the US).
    """
    words = _NOTICE_WORDS.get(language.split("-")[0].lower())
    if words is None:
        return None
    machine, recorded, denial = words
    if re.search(denial, notice, re.IGNORECASE):
        return "it must not deny being automated or being recorded"
    if not re.search(machine, notice, re.IGNORECASE):
        return "it does not say that the caller talks to an automated assistant"
    if not re.search(recorded, notice, re.IGNORECASE):
        return "it does not say that the call is recorded"
    return None


_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "sorry_busy": "All of our lines are busy right now. Please call again in a few minutes. Thank you.",
        "sorry_closed_down": "We are just restarting our phone service. Please call again in a minute. Thank you.",
        "sorry_unreachable": "I'm sorry, our assistant cannot be reached right now. Please call again soon. Thank you.",
        "sorry_lost": "I'm sorry, something went wrong on our side and I have to end this call. Please call us again.",
        "still_there": "Are you still there?",
        "one_moment": "One moment, please.",
        "goodbye": "Thank you for calling. Goodbye.",
    },
    "de": {
        "sorry_busy": "Im Moment sind alle Leitungen belegt. Bitte rufen Sie in einigen Minuten wieder an.",
        "sorry_closed_down": "Unser Telefondienst startet gerade neu. Bitte rufen Sie in einer Minute wieder an.",
        "sorry_unreachable": "Unser Assistent ist gerade nicht erreichbar. Bitte rufen Sie bald wieder an.",
        "sorry_lost": "Es tut mir leid, bei uns ist etwas schiefgegangen. Bitte rufen Sie uns noch einmal an.",
        "still_there": "Sind Sie noch da?",
        "one_moment": "Einen Moment, bitte.",
        "goodbye": "Vielen Dank für Ihren Anruf. Auf Wiederhören.",
    },
    "es": {
        "sorry_busy": "Todas nuestras líneas están ocupadas. Por favor, vuelva a llamar en unos minutos. Gracias.",
        "sorry_closed_down": "Estamos reiniciando nuestro servicio telefónico. Por favor, llame de nuevo en un minuto.",
        "sorry_unreachable": "Lo siento, nuestro asistente no está disponible. Por favor, llame en unos minutos.",
        "sorry_lost": "Lo siento, ha ocurrido un problema y tengo que colgar. Por favor, llámenos de nuevo.",
        "still_there": "¿Sigue usted ahí?",
        "one_moment": "Un momento, por favor.",
        "goodbye": "Gracias por llamar. Adiós.",
    },
    "fr": {
        "sorry_busy": "Toutes nos lignes sont occupées. Merci de rappeler dans quelques minutes.",
        "sorry_closed_down": "Notre service téléphonique redémarre. Merci de rappeler dans une minute.",
        "sorry_unreachable": "Désolé, notre assistant n'est pas joignable. Merci de rappeler dans quelques minutes.",
        "sorry_lost": "Désolé, un problème est survenu et je dois terminer cet appel. Merci de nous rappeler.",
        "still_there": "Êtes-vous toujours là ?",
        "one_moment": "Un instant, s'il vous plaît.",
        "goodbye": "Merci de votre appel. Au revoir.",
    },
}

_HANDOVER: Mapping[str, Mapping[str, str]] = {
    "en": {
        "handing_over": "One moment, please. I am connecting you with a member of our team.",
        "nobody_there": "I'm sorry, nobody can come to the phone right now. Please leave your name, your number and a "
        "short message after the tone, then hang up or press any key. We will call you back.",
        "briefing": "A caller from the assistant's line. Number: {caller}. {reason} Press any key to take the call.",
    },
    "de": {
        "handing_over": "Einen Moment, bitte. Ich verbinde Sie mit jemandem aus unserem Team.",
        "nobody_there": "Es tut mir leid, im Moment kann niemand ans Telefon kommen. Bitte hinterlassen Sie nach dem "
        "Ton Ihren Namen, Ihre Nummer und eine kurze Nachricht, und legen Sie dann auf. Wir rufen Sie zurück.",
        "briefing": "Ein Anruf von der Leitung des Assistenten. Nummer: {caller}. {reason} Drücken Sie eine Taste, um "
        "ihn anzunehmen.",
    },
    "es": {
        "handing_over": "Un momento, por favor. Le paso con una persona de nuestro equipo.",
        "nobody_there": "Lo siento, nadie puede atenderle en este momento. Por favor, deje su nombre, su número y un "
        "mensaje breve después del tono y luego cuelgue. Le devolveremos la llamada.",
        "briefing": "Una llamada de la línea del asistente. Número: {caller}. {reason} Pulse una tecla para aceptarla.",
    },
    "fr": {
        "handing_over": "Un instant, s'il vous plaît. Je vous passe une personne de notre équipe.",
        "nobody_there": "Désolé, personne ne peut vous répondre pour le moment. Merci de laisser votre nom, votre "
        "numéro et un court message après le bip, puis de raccrocher. Nous vous rappellerons.",
        "briefing": "Un appel de la ligne de l'assistant. Numéro : {caller}. {reason} Appuyez sur une touche pour "
        "le prendre.",
    },
}

_NOTICE_WORDS: Mapping[str, tuple[str, str, str]] = {
    "en": (
        r"\b(automated|artificial|virtual|robot|AI|A\.I\.|computer|digital assistant)\b",
        r"\brecord(ed|ing|s)?\b",
        r"(\bnot|n't|\bnever) (being )?record|\b(not|n't) (an? )?(AI|automated|robot|machine|computer)",
    ),
    "de": (
        r"automatisch|künstliche|virtuell|digitale[rn]? assistent|\bKI\b|roboter",
        r"aufgezeichnet|aufgenommen|zeichnen .*\bauf\b",
        r"nicht (aufgezeichnet|aufgenommen)|kein(e|en)? (KI|roboter|automat)",
    ),
    "es": (
        r"automátic|artificial|virtual|\bIA\b|robot",
        r"\bgraba(r|mos|da|do|ndo|ción)?\b",
        r"\bno (se|está siendo) graba|no soy (una? )?(IA|robot|máquina)",
    ),
    "fr": (
        r"automati(que|sé)|artificiel|virtuel|\bIA\b|robot",
        r"enregistr",
        r"n'est pas enregistr|pas (une? )?(IA|robot|machine)",
    ),
}
