"""Amounts of money as people write them, read without guessing where a guess would change the amount."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

SIGNS = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "CHF": "CHF", "US$": "USD"}
AMOUNT = re.compile(r"(?P<minus>[-−(]?)\s*(?P<digits>\d[\d.,'’\u00a0\u202f ]*)\s*\)?")
CODE = re.compile(r"\b([A-Z]{3})\b")
CENT_DIGITS = 2
GROUP_DIGITS = 3


@dataclass(frozen=True)
class Money:
    """An amount and its currency as an ISO 4217 code; None where none is named."""

    amount: Decimal
    currency: str | None


def read_money(text: str) -> Money | None:
    """`EUR 1,234.50`, `1.234,50 €` and `$12` as amounts; None for anything else.

    The last comma or point separates the decimals when one or two digits follow it; before exactly three digits it is
    taken for a thousands separator, so `1.234` is 1234. A bare number has no currency.
    """
    cleaned = text.strip()
    found = AMOUNT.search(cleaned)
    if found is None:
        return None
    around = f"{cleaned[: found.start()]} {cleaned[found.end() :]}".strip()
    currency = _currency(around)
    if around and currency is None:
        return None
    amount = _amount(re.sub(r"['’\u00a0\u202f ]", "", found["digits"]))
    if amount is None:
        return None
    return Money(-amount if found["minus"] else amount, currency)


def _currency(around: str) -> str | None:
    """The currency that the words around a number name; None for other words, and for none."""
    word = around.strip(" .-−()").upper()
    if word in SIGNS:
        return SIGNS[word]
    return word if CODE.fullmatch(word) else None


def _amount(digits: str) -> Decimal | None:
    digits = digits.rstrip(".,")
    last = max(digits.rfind("."), digits.rfind(","))
    if last < 0:
        return Decimal(digits)
    whole, decimals = digits[:last], digits[last + 1 :]
    mark, other = digits[last], "," if digits[last] == "." else "."
    if len(decimals) <= CENT_DIGITS and mark not in whole:
        return _joined(whole, other, decimals)
    return _joined(digits, mark, "") if other not in digits else _joined(whole, other, decimals)


def _joined(whole: str, separator: str, decimals: str) -> Decimal | None:
    first, *groups = whole.split(separator)
    if groups and (not 1 <= len(first) <= GROUP_DIGITS or any(len(group) != GROUP_DIGITS for group in groups)):
        return None
    text = "".join([first, *groups])
    return Decimal(f"{text}.{decimals}" if decimals else text) if text.isdigit() else None
