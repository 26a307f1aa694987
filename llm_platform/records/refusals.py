"""What an endpoint means by refusing a request: the closed set of phrases that reasons are made of."""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """What an endpoint means by refusing a request."""

    TOO_LONG = "the prompt is longer than the model's context"
    FILTERED = "a filter of the endpoint refused the content"
    QUOTA = "the account has no quota or credit left"
    KEY = "the key is not accepted"
    FORBIDDEN = "this key may not ask for this"
    MODEL = "it does not know the model"
    PATH = "it does not have this path"
    PARAMETER = "it does not take a parameter of the request"
    TOO_LARGE = "the request is larger than it takes"
    REDIRECT = "it sends to another address"
    UNEXPLAINED = "it gives another cause; 'explain --texts' shows what it said of a stored answer"
