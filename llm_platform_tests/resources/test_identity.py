"""Who asks is proved by a token, and by nothing else that somebody may set."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.errors import SpecificationError
from llm_platform.resources.identity import who_asks
from llm_platform.review.people import token_hash
from llm_platform.settings.settings import Settings


def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, token: str | None, people: bool = True) -> Settings:
    file = tmp_path / "people"
    file.write_text(f"ann adjudicator {token_hash('anns token')}\nben reviewer\n", encoding="utf-8")
    if people:
        monkeypatch.setenv("LLM_PLATFORM_REVIEW_PEOPLE", str(file))
    if token is not None:
        monkeypatch.setenv("LLM_PLATFORM_IDENTITY_TOKEN", token)
    return Settings(state=tmp_path / "state")


def test_a_login_is_recorded_and_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LOGNAME=ann` is a word that anybody may write."""
    monkeypatch.setenv("LOGNAME", "ann")

    who = who_asks(settings(tmp_path, monkeypatch, token=None))

    assert (who.name, who.role, who.authenticated) == ("ann", None, False)


def test_a_token_says_who_and_in_which_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same people who judge answers decide what serves; a secret's new line is no part of it."""
    monkeypatch.setenv("LOGNAME", "mallory")

    who = who_asks(settings(tmp_path, monkeypatch, token="anns token\n"))

    assert (who.name, who.role, who.authenticated) == ("ann", "adjudicator", True)


@pytest.mark.parametrize(
    ("token", "people", "said"),
    [
        pytest.param("another token", True, "belongs to nobody", id="unknown-token"),
        pytest.param("", True, "belongs to nobody", id="empty-token-is-not-somebody-without-one"),
        pytest.param("anns token", False, "nothing says whose it is", id="no-file-of-people"),
    ],
)
def test_a_token_that_nobody_vouches_for_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, people: bool, said: str
) -> None:
    """Whoever gives one wants to be known: going on as somebody else would be the worst of answers."""
    with pytest.raises(SpecificationError, match=said):
        who_asks(settings(tmp_path, monkeypatch, token=token, people=people))
