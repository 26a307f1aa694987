"""What `redaction` finds, and what it takes out of texts in which nobody has put anything. By hand:

    python -m llm_platform_tests.benchmarks.redaction --table incidents.csv --column narrative

Into texts of a file of yours, sentences are put with values that are made up by a seed: of each kind half of them with
a word before it that says what follows ("my card number is"), half without one. A value counts as found where no six
characters of it are left. Without a table, the sentences stand alone. Names of people and places are among them,
although no pattern can find them.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.compute as pc

from llm_platform.application.documents import Redaction
from llm_platform.application.source import TableRef
from llm_platform.operations.answering.columns import source_reader
from llm_platform.redaction.redactor import PLACEHOLDER, Redactor

KINDS = (*Redaction().kinds, "DE_TAX_ID", "UK_NHS", "US_PASSPORT", "DATE_TIME")
FIRST = ("Jane", "Robert", "Ayşe", "Łukasz", "Wei", "Fatima", "Søren", "Ngozi")
LAST = ("Miller", "Kowalski", "Yılmaz", "Chen", "Haddad", "Nielsen", "Okafor", "Schmidt")
STREETS = ("Hauptstraße", "Mill Lane", "rue de la Paix", "Elm Street")
SAID = {
    "EMAIL_ADDRESS": "my email is {}",
    "PHONE_NUMBER": "call my phone {}",
    "CREDIT_CARD": "my credit card is {}",
    "IBAN_CODE": "please pay to IBAN {}",
    "IP_ADDRESS": "it came from the ip {}",
    "US_SSN": "my social security number is {}",
    "DE_TAX_ID": "meine Steuer-ID ist {}",
    "UK_NHS": "the nhs number is {}",
    "US_PASSPORT": "my passport number is {}",
    "DATE_TIME": "my date of birth is {}",
    "PERSON": "my name is {}",
    "LOCATION": "my address is {}",
}
PIECE = 6
BARE = ("it was {} again", "see {} for it", "{}")


def luhn(digits: str) -> str:
    """Digits with the check digit of ISO/IEC 7812 after them."""
    total = sum(sum(divmod(int(one) * (2 - at % 2), 10)) for at, one in enumerate(reversed(digits)))
    return digits + str(-total % 10)


def digits(draw: random.Random, count: int, first: str = "123456789") -> str:
    return draw.choice(first) + "".join(draw.choices("0123456789", k=count - 1))


def iban(draw: random.Random) -> str:
    account = digits(draw, 18)
    check = 98 - int(f"{account}131400") % 97
    plain = f"DE{check:02d}{account}"
    return draw.choice([plain, " ".join(plain[at : at + 4] for at in range(0, len(plain), 4))])


def nhs(draw: random.Random) -> str:
    while True:
        nine = digits(draw, 9)
        check = -sum(int(one) * weight for one, weight in zip(nine, range(10, 1, -1), strict=True)) % 11
        if check < 10:
            return draw.choice([f"{nine}{check}", f"{nine[:3]} {nine[3:6]} {nine[6:]}{check}"])


def tax_id(draw: random.Random) -> str:
    """A number of the German tax office's: one digit twice among ten, and a check digit of ISO 7064 (MOD 11,10)."""
    ten = draw.sample("0123456789", 9)
    ten.insert(draw.randrange(1, 9), draw.choice(ten))
    if ten[0] == "0":
        ten[0], ten[-1] = ten[-1], ten[0]
    product = 10
    for one in ten:
        total = (int(one) + product) % 10 or 10
        product = total * 2 % 11
    return "".join(ten) + str((11 - product) % 10)


def phone(draw: random.Random) -> str:
    return draw.choice(
        [
            f"+49 {draw.choice(('171', '160', '30', '89'))} {digits(draw, 7)}",
            f"0{draw.choice(('171', '160', '30', '89'))} {digits(draw, 7)}",
            f"({draw.choice(('212', '415', '617'))}) {digits(draw, 3, '23456789')}-{digits(draw, 4)}",
            f"+44 7{digits(draw, 3, '45789')} {digits(draw, 6)}",
            f"+39 06 {digits(draw, 7)}",
        ]
    )


def mail(draw: random.Random) -> str:
    host = draw.choice(("example.org", "mail.example.co.uk", "clinic.intern", "xn--bcher-kva.example"))
    return f"{draw.choice(FIRST).lower()}.{draw.choice(LAST).lower()}{digits(draw, 2)}@{host}"


def date(draw: random.Random) -> str:
    year, month, day = draw.randint(1940, 2010), draw.randint(1, 12), draw.randint(1, 28)
    return draw.choice([f"{month:02d}/{day:02d}/{year}", f"{year}-{month:02d}-{day:02d}", f"{day}.{month}.{year}"])


MAKE: dict[str, Callable[[random.Random], str]] = {
    "EMAIL_ADDRESS": mail,
    "PHONE_NUMBER": phone,
    "CREDIT_CARD": lambda draw: luhn(digits(draw, 15, "4")),
    "IBAN_CODE": iban,
    "IP_ADDRESS": lambda draw: ".".join(str(draw.randint(1, 254)) for _ in range(4)),
    "US_SSN": lambda draw: f"{draw.randint(101, 599)}-{draw.randint(10, 99)}-{draw.randint(1001, 9998)}",
    "DE_TAX_ID": tax_id,
    "UK_NHS": nhs,
    "US_PASSPORT": lambda draw: digits(draw, 9),
    "DATE_TIME": date,
    "PERSON": lambda draw: f"{draw.choice(FIRST)} {draw.choice(LAST)}",
    "LOCATION": lambda draw: f"{draw.randint(1, 99)} {draw.choice(STREETS)}",
}


def hosts(table: str | None, column: str, rows: int) -> list[str]:
    """Texts of a file; a blank one without a file."""
    if table is None:
        return [" "]
    with source_reader({}) as sources:
        read = sources.read(TableRef(url=str(Path(table).resolve())), [column])
    found: list[str] = pc.drop_null(read[column]).cast("string").to_pylist()[:rows]
    return found


def labelled(texts: list[str], each: int, draw: random.Random) -> Iterator[tuple[str, str, str, bool]]:
    """(text, kind, value, whether a word says what it is)."""
    for kind, make in MAKE.items():
        for number in range(each):
            value, is_said = make(draw), number % 2 == 0
            sentence = (SAID[kind] if is_said else draw.choice(BARE)).format(value)
            host = draw.choice(texts)
            at = draw.choice([place for place, one in enumerate(host) if one == " "] or [0])
            yield f"{host[:at]} {sentence}. {host[at:]}".strip(), kind, value, is_said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", help="CSV, Parquet or JSON Lines of your texts.")
    parser.add_argument("--column", default="text")
    parser.add_argument("--rows", type=int, default=1000, help="At most so many texts of it.")
    parser.add_argument("--each", type=int, default=100, help="So many values of each kind.")
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    redactor, draw = Redactor(Redaction(kinds=tuple(given.kinds)).rule()), random.Random(given.seed)
    texts = hosts(given.table, given.column, given.rows)
    redactor.load()
    found: Counter[tuple[str, bool]] = Counter()
    asked: Counter[tuple[str, bool]] = Counter()
    for text, kind, value, is_said in labelled(texts, given.each, draw):
        asked[kind, is_said] += 1
        left = redactor.redact([text]).texts[0] or ""
        pieces = (value[at : at + PIECE] for at in range(max(len(value) - PIECE, 0) + 1))
        found[kind, is_said] += not any(piece in left for piece in pieces)
    began, taken = time.monotonic(), Counter[str]()
    for text in texts:
        taken.update(match[1] for match in PLACEHOLDER.finditer(redactor.redact([text]).texts[0] or ""))
    figures = {
        "recall": {
            kind: {said: round(found[kind, is_said] / asked[kind, is_said], 2) for said, is_said in _HOW}
            for kind in MAKE
        },
        "taken_out_of_the_texts_as_they_are": {"texts": len(texts), **dict(taken.most_common())},
        "milliseconds_a_text": round(1000 * (time.monotonic() - began) / len(texts), 2),
        "characters_a_text": round(sum(map(len, texts)) / len(texts)),
        "recognizers": redactor.rule.recognizers,
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


_HOW = (("said", True), ("bare", False))

if __name__ == "__main__":
    main()
