"""Who may ask, and how much."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from llm_platform.errors import SpecificationError
from llm_platform.online.callers import CallerLimits, Callers, OnlineCaller, callers_for, read_callers
from llm_platform.online.desk import Turned
from llm_platform.web.tokens import new_token, token_hash

HASH = token_hash("a token")


def test_nobody_serves_strangers_by_mistake(tmp_path: Path) -> None:
    """An address that others reach is one word on a command line away."""
    with pytest.raises(SpecificationError, match=r"Cannot serve answers on '0\.0\.0\.0'.*serve token NAME"):
        callers_for("0.0.0.0", None)
    with pytest.raises(SpecificationError, match=r"Cannot serve answers on '10\.0\.0\.7'"):
        callers_for("10.0.0.7", None)

    assert callers_for("127.0.0.1", None).of(None) is not None
    (tmp_path / "callers").write_text(f"robot tickets {HASH}\n")
    found = callers_for("0.0.0.0", tmp_path / "callers")
    assert found.of(None) is None
    assert found.of("Bearer another token") is None
    assert found.of("Basic a token") is None
    robot = found.of("bearer  a token")
    assert robot is not None
    assert (robot.may_use("tickets"), robot.may_use("letters"), robot.may_use("metrics")) == (True, False, False)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("robot tickets", "found 2 words", id="no-token"),
        pytest.param("robot tickets abc", "not a SHA-256", id="no-hash"),
        pytest.param(f"robot tickets,, {HASH}", "an empty name among the applications", id="empty-application"),
        pytest.param(f"robot * {HASH} per_minute=0", "expected per_minute=NUMBER", id="no-requests-at-all"),
        pytest.param(f"robot * {HASH} per_minute=٣", "expected per_minute=NUMBER", id="other-digits"),
        pytest.param(f"robot * {HASH} per_day=3", "expected per_minute=NUMBER", id="unknown-limit"),
        pytest.param(f"robot * {HASH}\nrobot * {token_hash('b')}", "a second time", id="a-name-twice"),
        pytest.param(f"robot * {HASH}\nother * {HASH.upper()}", "a second time", id="a-token-twice"),
    ],
)
def test_mistakes_in_the_file_of_callers_are_told_with_their_line(tmp_path: Path, line: str, told: str) -> None:
    """A limit that is not read is none, and a caller that is locked out calls somebody at night."""
    path = tmp_path / "callers"
    path.write_text(f"# callers\n{line}\n")

    with pytest.raises(SpecificationError, match=rf"callers:[23]: .*{told}") as found:
        read_callers(path)

    assert HASH not in str(found.value).lower()


def test_the_file_is_read_again_and_a_broken_one_locks_nobody_out(tmp_path: Path) -> None:
    """A token that got out is taken back without a restart; a slip of the editor is no outage."""
    path, tokens = tmp_path / "callers", [new_token(), new_token()]
    path.write_text(f"first * {token_hash(tokens[0])}\n")
    callers = Callers(path)

    path.write_text("first\n")
    callers.refresh()
    broken = (callers.problem, callers.of(f"Bearer {tokens[0]}"))
    path.write_text(f"second * {token_hash(tokens[1])} at_once=2\n")
    callers.refresh()

    assert broken[0] is not None
    assert "found 1 words" in broken[0]
    assert broken[1] is not None
    assert callers.problem is None
    assert callers.of(f"Bearer {tokens[0]}") is None
    assert callers.of(f"Bearer {tokens[1]}") == OnlineCaller("second", frozenset({"*"}), at_once=2)


def test_requests_of_a_minute_come_back_one_by_one() -> None:
    """A limit that comes back all at once every full minute lets twice as many through around it."""
    now = 100.0
    limits, caller = CallerLimits(lambda: now), OnlineCaller("robot", frozenset({"*"}), per_minute=6)

    waits: list[float] = []

    def allowed() -> int:
        for count in range(100):
            try:
                with limits.within(caller):
                    pass
            except Turned as turned:
                waits.append(turned.retry_after or 0.0)
                return count
        return 100

    first = allowed()
    now += 10.0
    second = allowed()
    now += 600.0
    third = allowed()

    assert (first, second, third) == (6, 1, 6)
    assert all(0 < seconds <= 10.0 for seconds in waits)


def test_open_requests_are_counted_until_they_end() -> None:
    """Also those that end with an error."""
    limits, caller = CallerLimits(), OnlineCaller("robot", frozenset({"*"}), at_once=2)
    with ExitStack() as stack:
        stack.enter_context(limits.within(caller))
        stack.enter_context(limits.within(caller))
        with pytest.raises(Turned, match="2 requests open"):
            stack.enter_context(limits.within(caller))
    with pytest.raises(ValueError, match="ours"), limits.within(caller):
        raise ValueError("ours")

    assert limits.open_of("robot") == 0
