"""Bearer tokens: only their hashes are kept."""

from __future__ import annotations

import hashlib
import secrets

LOCAL_ADDRESSES = frozenset({"127.0.0.1", "::1", "localhost"})
"""Addresses that only this machine reaches."""
TOKEN_BYTES = 32


def new_token() -> str:
    """A token that nobody can guess; only its hash is kept."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> str:
    """What files of people and callers hold. A token has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_token_hash(text: str) -> bool:
    """Whether a text can be such a hash."""
    return len(text) == 64 and set(text.lower()) <= set("0123456789abcdef")
