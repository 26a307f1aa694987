"""Who may look and who may judge: the people file, tokens, and the identity that a proxy vouches for."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from llm_platform.errors import SpecificationError
from llm_platform.records import ReviewRole
from llm_platform.web.tokens import LOCAL_ADDRESSES, is_token_hash, new_token, token_hash

__all__ = ["LOCAL_ADDRESSES", "ROLES", "Access", "Listed", "Person", "access", "new_token", "read_people", "token_hash"]

ROLES: tuple[ReviewRole, ...] = get_args(ReviewRole)


@dataclass(frozen=True)
class Person:
    """Somebody at the page."""

    name: str
    role: ReviewRole

    @property
    def judges(self) -> bool:
        """Whether verdicts are taken from this person."""
        return self.role != "viewer"

    @property
    def adjudicates(self) -> bool:
        """Whether this person decides where others disagree."""
        return self.role == "adjudicator"


@dataclass(frozen=True)
class Listed:
    """One line of the people file; `token_sha256` is empty for somebody whom only a proxy lets in."""

    name: str
    role: ReviewRole
    token_sha256: str = ""


@dataclass(frozen=True)
class Access:
    """How people are told apart. One way at a time.

    Attributes:
        header: Name of the header in which a proxy says who somebody is; people it names that are not listed may look.
        people: Name → line of the people file; tokens in it are the other way.
        local: The person at this machine, where neither is configured.
    """

    header: str | None = None
    people: Mapping[str, Listed] | None = None
    local: Person | None = None

    @property
    def by_token(self) -> bool:
        """Whether people come with a token."""
        return self.header is None and self.people is not None

    def of_header(self, value: str | None) -> Person | None:
        """The person whom the proxy names."""
        name = (value or "").strip()
        if not name:
            return None
        listed = (self.people or {}).get(name)
        return Person(name, listed.role if listed else "viewer")

    def of_token(self, token: str | None) -> Person | None:
        """The person whom a token belongs to; every line is compared, in constant time."""
        given = token_hash(token or "")
        found = None
        for listed in (self.people or {}).values():
            if hmac.compare_digest(listed.token_sha256.encode(), given.encode()):
                found = Person(listed.name, listed.role)
        return found


def access(
    *, host: str, header: str | None, people_file: Path | None, local_name: str, local_role: ReviewRole
) -> Access:
    """How people are told apart at a page that listens on `host`.

    Raises:
        SpecificationError: others can reach the address and nothing says who they are, or the file has mistakes.
    """
    people = read_people(people_file) if people_file is not None else None
    if header is not None or people is not None:
        return Access(header=header, people=people)
    if host not in LOCAL_ADDRESSES:
        raise SpecificationError(
            f"Cannot serve the review page on {host!r}: others can reach it, and nothing says who they are. Set "
            "LLM_PLATFORM_REVIEW_PEOPLE to a file of people with tokens (llm-platform review token NAME), or "
            "LLM_PLATFORM_REVIEW_IDENTITY_HEADER behind a proxy that signs people in; or leave out --host."
        )
    return Access(local=Person(local_name, local_role))


def read_people(path: Path) -> dict[str, Listed]:
    """The people file: one `name role [sha256 of the token]` a line, `#` begins a comment.

    Raises:
        SpecificationError: lists every mistake as `file:line: …`; it never shows a hash.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SpecificationError(f"Cannot read the people of the review page from {str(path)!r}: {reason}.") from error
    people: dict[str, Listed] = {}
    mistakes = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        mistake = _mistake(words, people)
        if mistake is not None:
            mistakes.append(f"{path}:{number}: {mistake}")
            continue
        role = next(role for role in ROLES if role == words[1])
        people[words[0]] = Listed(words[0], role, words[2].lower() if len(words) == 3 else "")
    if mistakes:
        raise SpecificationError("\n".join(mistakes))
    return people


def _mistake(words: list[str], people: Mapping[str, Listed]) -> str | None:
    if len(words) not in (2, 3):
        return f"found {len(words)} words, expected 'name role' or 'name role token-hash'"
    if words[1] not in ROLES:
        return f"found role {words[1]!r}, expected one of: {', '.join(ROLES)}"
    if len(words) == 3 and not is_token_hash(words[2]):
        return "the third word is not a SHA-256 in hexadecimal; make one with: llm-platform review token NAME"
    if words[0] in people:
        return f"found {words[0]!r} a second time, expected each person once"
    if len(words) == 3 and words[2].lower() in {one.token_sha256 for one in people.values()}:
        return f"found the token of {words[0]!r} a second time, expected one of its own for each person"
    return None
