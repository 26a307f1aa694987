"""Short texts with one right continuation: what a base model could do before it was adapted.

They have nothing to do with any application: facts, opposites, series, copying, grammar. What counts is not how many a
model has right, but how many of those that the base has right an adapter still has. A small set in English: it shows
damage (an adapter that answers everything with its labels), not fine differences.
"""

from __future__ import annotations

from llm_platform.records import Record, content_hash

MOST_TOKENS = 6


class Ability(Record):
    """A text to be continued, and how the continuation must begin, whatever its case."""

    kind: str
    prompt: str
    answer: str


_FACTS = {
    "The capital of France is": "Paris",
    "The capital of Italy is": "Rome",
    "The capital of Japan is": "Tokyo",
    "The capital of Germany is": "Berlin",
    "The capital of Spain is": "Madrid",
    "The capital of England is": "London",
    "The capital of Russia is": "Moscow",
    "The capital of Egypt is": "Cairo",
    "The largest planet of the solar system is": "Jupiter",
    "The chemical symbol of water is": "H",
    "Water freezes at a temperature of 0 degrees": "Celsius",
    "The first president of the United States was George": "Washington",
    "Romeo and Juliet was written by William": "Shakespeare",
    "The planet we live on is called": "Earth",
    "The opposite side of the coin from heads is called": "tails",
    "A baby dog is called a": "puppy",
    "A baby cat is called a": "kitten",
    "Bees make": "honey",
    "Cows give": "milk",
    "The theory of relativity is by Albert": "Einstein",
}
_OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "up": "down",
    "day": "night",
    "black": "white",
    "left": "right",
    "open": "close",
    "fast": "slow",
    "young": "old",
    "rich": "poor",
    "high": "low",
    "light": "dark",
}
_SERIES = {
    "one, two, three, four,": "five",
    "Monday, Tuesday, Wednesday,": "Thursday",
    "January, February, March,": "April",
    "A, B, C, D,": "E",
    "1, 2, 3, 4, 5,": "6",
    "2, 4, 6, 8,": "10",
    "10, 20, 30, 40,": "50",
    "first, second, third,": "fourth",
    "spring, summer, autumn,": "winter",
    "5, 4, 3, 2,": "1",
    "a, e, i, o,": "u",
    "2020, 2021, 2022,": "2023",
}
_COPIES = ("table", "river", "green", "seven", "London", "music", "paper", "orange", "window", "doctor")
_GRAMMAR = {
    "One cat, two": "cats",
    "One child, two": "children",
    "One house, three": "houses",
    "Today I go. Yesterday I": "went",
    "Today I see. Yesterday I": "saw",
    "Today I eat. Yesterday I": "ate",
    "He is a man and she is a": "woman",
    "He is a king and she is a": "queen",
    "I am, you are, he": "is",
    "big, bigger,": "biggest",
    "fast, faster,": "fastest",
    "She looked at herself in the": "mirror",
}
_SUMS = {"2 + 2 =": "4", "3 + 4 =": "7", "10 - 5 =": "5", "5 + 5 =": "10", "6 + 2 =": "8", "9 - 1 =": "8"}


def _abilities() -> tuple[Ability, ...]:
    opposites = {f"hot - cold\nwet - dry\n{word} -": answer for word, answer in _OPPOSITES.items()}
    copies = {f"cat = cat\ntree = tree\n{word} =": word for word in _COPIES}
    kinds = {
        "facts": _FACTS,
        "opposites": opposites,
        "series": _SERIES,
        "copying": copies,
        "grammar": _GRAMMAR,
        "sums": {f"1 + 1 = 2\n{question}": answer for question, answer in _SUMS.items()},
    }
    return tuple(
        Ability(kind=kind, prompt=prompt, answer=answer)
        for kind, pairs in kinds.items()
        for prompt, answer in pairs.items()
    )


ABILITIES = _abilities()

ABILITIES_VERSION = content_hash([ability.model_dump() for ability in ABILITIES])


def is_right(ability: Ability, continuation: str) -> bool:
    """Whether a continuation begins as it must."""
    return continuation.strip(" \n\t\"'*.").casefold().startswith(ability.answer.casefold())
