"""A synthetic voice: espeak-ng, loaded from the ``espeakng-loader`` wheel, so that no system package is needed.

The stand-ins speak with it: it is quick (a thousand times faster than real time) and plainly a machine.
"""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import espeakng_loader
import numpy as np
import soxr

# espeak-ng speak_lib.h: espeak_AUDIO_OUTPUT, espeak_PARAMETER, flags of espeak_Synth and espeak_TextToPhonemes.
_SYNCHRONOUS_OUTPUT = 2
_RATE, _PITCH = 1, 3
_UTF8 = 1
_SENTENCE_IPA = 0x02
_FILED_AS = {"en-gb": "en"}

_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class UnknownVoice(ValueError):
    """espeak-ng has no voice of that name."""

    def __init__(self, voice: str) -> None:
        super().__init__(
            f"espeak-ng has no voice {voice!r}. Use a language such as en-us, en-gb or de, "
            "with a variant +m1..+m8 or +f1..+f5 where wanted (en-us+f3)."
        )


class Voice:
    """Turns text into speech. Thread-safe; one utterance at a time per process, about 8 ms for 5 s of speech.

    The same arguments always give the same bytes. `words_per_minute` is its pace where `speak` is told none.
    """

    _lock = threading.Lock()  # espeak-ng keeps its state in globals of the library

    def __init__(self, words_per_minute: int = 165) -> None:
        self._words_per_minute = words_per_minute

    def speak(
        self,
        text: str,
        *,
        rate: int = 24000,
        voice: str = "en-us",
        words_per_minute: int | None = None,
        pitch: int = 50,
    ) -> bytes:
        """Speech for `text` as s16le mono at `rate` Hz; empty for a text without words.

        `voice` is an espeak-ng language, with a variant after "+" ("en-us", "en-us+f3", "en-gb", "de").
        `words_per_minute` 80..450, `pitch` 0..100. Raises UnknownVoice.
        """
        if not text.strip():
            return b""
        speech = bytearray()

        def collect(samples: Any, count: int, _events: Any) -> int:
            if samples and count > 0:
                speech.extend(ctypes.string_at(samples, count * 2))
            return 0

        callback = _SynthCallback(collect)
        with self._library(voice) as (library, own_rate):
            library.espeak_SetSynthCallback(callback)
            library.espeak_SetParameter(_RATE, words_per_minute or self._words_per_minute, 0)
            library.espeak_SetParameter(_PITCH, pitch, 0)
            encoded = text.encode() + b"\0"
            library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8, None, None)
        samples = np.frombuffer(bytes(speech), dtype="<i2")
        resampled: np.ndarray[Any, np.dtype[np.int16]] = soxr.resample(samples, own_rate, rate, quality="HQ")
        return resampled.astype("<i2").tobytes()

    def phonemes(self, text: str, *, voice: str = "en-us") -> str:
        """How `text` is pronounced, in the International Phonetic Alphabet. Raises UnknownVoice."""
        with self._library(voice) as (library, _):
            library.espeak_TextToPhonemes.restype = ctypes.c_char_p
            place = ctypes.c_char_p(text.encode())
            spoken = []
            while place.value is not None:
                clause = library.espeak_TextToPhonemes(ctypes.byref(place), _UTF8, _SENTENCE_IPA)
                spoken.append((clause or b"").decode())
        return " ".join(spoken).strip()

    @contextmanager
    def _library(self, voice: str) -> Iterator[tuple[Any, int]]:
        """A freshly loaded espeak-ng set to `voice`, with its sample rate in Hz.

        Loaded anew each time because flutter, breath and phase live on in its globals: without that the same
        sentence sounds a little different each time. It costs 2 ms.
        """
        with self._lock:
            library = ctypes.CDLL(espeakng_loader.get_library_path())
            try:
                data = espeakng_loader.get_data_path().encode()
                own_rate = library.espeak_Initialize(_SYNCHRONOUS_OUTPUT, 0, data, 1)
                if own_rate <= 0:
                    raise RuntimeError("espeak-ng does not start: reinstall the package espeakng-loader.")
                library.espeak_ng_SetRandSeed(7)
                self._choose(library, voice)
                yield library, own_rate
            finally:
                library.espeak_Terminate()
                _ctypes.dlclose(library._handle)

    @staticmethod
    def _choose(library: Any, voice: str) -> None:
        language, plus, variant = voice.partition("+")
        name = _FILED_AS.get(language.lower(), language) + plus + variant
        if library.espeak_SetVoiceByName(name.encode()) != 0:
            raise UnknownVoice(voice)
