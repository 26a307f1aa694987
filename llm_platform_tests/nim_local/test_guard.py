"""Under which names the embedded NIM answers."""

from __future__ import annotations

import pytest

from llm_platform.nim_local.guard import Guard


def status(listening: str, asked: str) -> int | None:
    scope = {"method": "GET", "scheme": "http", "headers": [(b"host", asked.encode())]}
    refusal = Guard(listening, None).refusal(scope, changes=False)
    return refusal[0] if refusal else None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("10.1.2.3:8000", None),
        ("[fd00::1]:8000", None),
        ("localhost:8000", None),
        ("nim:8000", None),
        ("nim.models.svc.cluster.local", None),
        ("workstation.local:8000", None),
        ("rebound.evil.test:8000", 421),
        ("svc.evil.test", 421),
        ("evil.test.cluster.local.evil.test", 421),
        ("", 421),
    ],
)
def test_on_every_address_it_answers_to_names_that_no_stranger_can_point_here(asked: str, expected: int | None) -> None:
    """A page makes a name of its own point to a server inside, and the browser then takes the two for one."""
    assert status("0.0.0.0", asked) == expected


def test_on_one_address_it_answers_to_that_one() -> None:
    """What is not reachable from outside needs no other name."""
    assert [status("127.0.0.1", name) for name in ("127.0.0.1:8000", "localhost", "nim", "10.1.2.3")] == [
        None,
        None,
        421,
        421,
    ]
