"""What is told of a text without a model: its words, its script and its language, and whether it reads as a refusal."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

WORD = re.compile(r"[^\W\d_]{2,}")
LETTERS_READ = 400
"""Letters of a text that decide its script."""

FUNCTION_WORDS = {
    "English": "the and of to is in that it was for with this but not are you have be on as",
    "German": "der die und das ist nicht den von zu mit sich des auf für ein eine dem wird auch es",
    "French": "le la les des est et une dans pour que qui pas sur au du avec ce plus nous vous",
    "Spanish": "el los las una que del por con para como más pero su al lo este muy está fue ser",
    "Italian": "il di che non una per del con sono della nel più come anche gli alla questo ma è si",
    "Portuguese": "os das dos uma não para com por mais como mas foi ao pelo são está muito você isso em",
    "Dutch": "het een van niet dat zijn met voor op ook maar wat aan bij naar wordt deze heeft er nog",
    "Polish": "nie się jest na że do jak ale tak od za był przez czy już tylko co dla po ze",
}
"""Frequent words of a language; a word of several languages counts for each."""

REFUSAL = re.compile(
    r"^\W*(i['’]?m sorry|i am sorry|sorry,|i apologi[sz]e|i (can ?not|can['’]t|am unable|am not able|won['’]t)\b"
    r"|i['’]m (unable|not able)|as an ai\b|as a (large )?language model|unfortunately,? i (can|am)"
    r"|es tut mir leid|ich kann (das|diese|ihnen|dir)? ?nicht|je (suis désolé|ne peux pas)|lo siento|no puedo)",
    re.IGNORECASE,
)
"""How answers begin that decline the task, in the wordings of common instruction-tuned models."""


def words(text: str) -> list[str]:
    """Words of two letters or more, in lower case."""
    return [word.lower() for word in WORD.findall(text)]


def is_refusal(answer: str) -> bool:
    """Whether an answer begins as refusals do; a refusal in other words is not seen."""
    return REFUSAL.match(answer) is not None


def language(text: str) -> str:
    """A language, where its function words are frequent enough to tell; else the script; `no letters` without any.

    Enough to see a shift between windows, not a language identifier: short texts count as their script.
    """
    scripts = Counter(_script(letter) for letter in _letters(text))
    if not scripts:
        return "no letters"
    script = scripts.most_common(1)[0][0]
    if script != "Latin":
        return script
    found = words(text)
    hits = {name: sum(word in known for word in found) for name, known in _KNOWN.items()}
    best, second = sorted(hits, key=lambda name: (-hits[name], name))[:2]
    tells = hits[best] >= 2 and hits[best] > hits[second] and hits[best] >= 0.05 * len(found)
    return best if tells else "Latin script"


_KNOWN = {name: frozenset(known.split()) for name, known in FUNCTION_WORDS.items()}


def _letters(text: str) -> list[str]:
    return [letter for letter in text[: 2 * LETTERS_READ] if letter.isalpha()][:LETTERS_READ]


@cache
def _script(letter: str) -> str:
    first = unicodedata.name(letter, "OTHER").partition(" ")[0].capitalize()
    # Japanese mixes three scripts, and all of them are one to whoever reads the table.
    return {"Hiragana": "Japanese", "Katakana": "Japanese", "Cjk": "Han"}.get(first, first)
