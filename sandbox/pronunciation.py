"""How a word is pronounced, in the recogniser's phones, for words that its dictionary does not know."""

from __future__ import annotations

from sandbox.voice import Voice

# The sounds of American English as the CMU Pronouncing Dictionary has them.
PHONES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY"),
    *("F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY"),
    *("P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)

# IPA as espeak-ng writes American English, to the phones of the CMU Pronouncing Dictionary; longest first.
_FROM_IPA = {
    "aɪɚ": "AY ER",
    "aɪə": "AY AH",
    "ɔːɹ": "AO R",
    "oːɹ": "AO R",
    "ɑːɹ": "AA R",
    "ɚɹ": "ER",
    "dʒ": "JH",
    "tʃ": "CH",
    "aɪ": "AY",
    "aʊ": "AW",
    "eɪ": "EY",
    "oʊ": "OW",
    "ɔɪ": "OY",
    "əl": "AH L",
    "iː": "IY",
    "uː": "UW",
    "ɑː": "AA",
    "ɔː": "AO",
    "ɜː": "ER",
    "a": "AA",
    "b": "B",
    "d": "D",
    "e": "EH",
    "f": "F",
    "h": "HH",
    "i": "IY",
    "j": "Y",
    "k": "K",
    "l": "L",
    "m": "M",
    "n": "N",
    "o": "OW",
    "p": "P",
    "s": "S",
    "t": "T",
    "u": "UW",
    "v": "V",
    "w": "W",
    "x": "K",
    "z": "Z",
    "æ": "AE",
    "ð": "DH",
    "ŋ": "NG",
    "ɐ": "AH",
    "ɑ": "AA",
    "ɒ": "AA",
    "ɔ": "AO",
    "ə": "AH",
    "ɚ": "ER",
    "ɛ": "EH",
    "ɜ": "ER",
    "ɡ": "G",
    "ɪ": "IH",
    "ᵻ": "IH",
    "ɹ": "R",
    "r": "R",
    "ɾ": "T",
    "ʃ": "SH",
    "ʊ": "UH",
    "ʌ": "AH",
    "ʒ": "ZH",
    "ʔ": "T",
    "θ": "TH",
}


def pronounce(word: str, voice: Voice) -> str:
    """`word` in phones ("IH N V OY S"); "AH" for a word that has none."""
    return arpabet(voice.phonemes(word)) or "AH"


def arpabet(ipa: str) -> str:
    """IPA to CMU phones; stress and other marks, and sounds that English lacks, are left out."""
    phones = []
    at = 0
    while at < len(ipa):
        size = next((n for n in (3, 2, 1) if ipa[at : at + n] in _FROM_IPA), 0)
        if size:
            phones.append(_FROM_IPA[ipa[at : at + size]])
        at += size or 1
    return " ".join(phones)
