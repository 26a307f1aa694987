"""Systems that push: a notice over HTTP is stored, by whom is written down, and only who may does it."""

from __future__ import annotations

from pathlib import Path

from llm_platform.web.tokens import new_token, token_hash
from llm_platform_tests.online.cases import service
from llm_platform_tests.team import NAME, Team


def test_a_system_that_pushes_says_that_the_source_has_changed(tmp_path: Path) -> None:
    """A CRM calls when a ticket comes; it needs no champion for that, and its body is nobody's business."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=4)
    tokens = {name: new_token() for name in ("crm", "other")}
    callers = tmp_path / "callers"
    callers.write_text(f"crm {NAME} {token_hash(tokens['crm'])}\nother letters {token_hash(tokens['other'])}\n")
    path = f"/v1/applications/{NAME}/notices"

    with service(team, wait=False, LLM_PLATFORM_SERVE_CALLERS=str(callers)) as running:
        mine = running.post(path, {"ticket": "a secret"}, authorization=f"Bearer {tokens['crm']}")
        again = running.post(path, b"not even json", authorization=f"Bearer {tokens['crm']}")
        others = running.post(path, {}, authorization=f"Bearer {tokens['other']}")
        nobody = running.post(path, {})
        from_a_page = running.post(path, {}, authorization=f"Bearer {tokens['crm']}", origin="http://evil.example")
        said = running.said

    assert (mine.status, mine.body) == (202, {"application": NAME, "noticed": True})
    assert [one.status for one in (again, others, nobody, from_a_page)] == [202, 404, 401, 403]
    assert "a secret" not in said
    with team.warehouse.open(read_only=True) as lake:
        assert lake.application(NAME).notices.newest() == 2
        assert lake.application(NAME).notices.rows() == [("crm", "webhook"), ("crm", "webhook")]
