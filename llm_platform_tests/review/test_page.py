"""The page as a browser without JavaScript sees it, and what it refuses."""

from __future__ import annotations

import itertools
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from llm_platform.errors import StorageError
from llm_platform.operations.reviewing.review import CLAIM_SECONDS, ReviewDesk
from llm_platform.operations.reviewing.review_server import serve_review
from llm_platform.review.app import review_app
from llm_platform.review.guard import FORM_COOKIE, LARGEST_FORM
from llm_platform.review.people import Access, Listed, Person, token_hash
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.review.cases import Clock, filled, open_lake, team_with
from llm_platform_tests.team import NAME, Team

HOST = "http://127.0.0.1:8765"
CLEAR = {"0": "SAD", "1": "HAPPY", "2": "SAD"}
VAGUE = {"0": "SAD", "1": "SAD", "2": "HAPPY"}
PEOPLE = {
    "ada": Listed("ada", "adjudicator", token_hash("ada's token")),
    "bob": Listed("bob", "reviewer", token_hash("bob's token")),
    "vic": Listed("vic", "viewer", token_hash("vic's token")),
}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return team_with(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def lake(team: Team, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with open_lake(tmp_path_factory.mktemp("lake")) as lake:
        filled(lake, team.loaded, {"clear": CLEAR, "vague": VAGUE}, confidence=0.6)
        yield lake


@pytest.fixture(scope="module")
def desk(lake: Warehouse, team: Team) -> ReviewDesk:
    # Each look at the clock is so much later that nobody still has a document open.
    times = itertools.count(0, CLAIM_SECONDS + 1)
    return ReviewDesk(lake, team.loaded, second_opinions=1.0, clock=lambda: next(times))


def browser(desk: ReviewDesk, access: Access, *, hosts: tuple[str, ...] = ("127.0.0.1",)) -> TestClient:
    return TestClient(review_app({NAME: desk}, access, hosts=hosts, clock=Clock()), base_url=HOST)


def local(desk: ReviewDesk, name: str = "ada", role: str = "reviewer") -> TestClient:
    return browser(desk, Access(local=Person(name, role)))  # type: ignore[arg-type]


def form_of(html: str) -> dict[str, str]:
    """Hidden fields of the form on a page."""
    form = html[html.index('id="decide"') :]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))


def test_a_person_without_script_judges_undoes_and_sees_it_in_the_history(desk: ReviewDesk) -> None:
    """Old browsers and locked-down desktops run no script; every button is a form."""
    with local(desk, "nora") as client:
        page = client.get(f"/{NAME}/queue/audit")
        assert page.status_code == 200
        fields = form_of(page.text)

        after = client.post(f"/{NAME}/queue/audit", data={**fields, "decision": "cannot_tell", "tag": "do not use"})

        assert after.status_code == 200
        assert form_of(after.text)["document"] != fields["document"]
        assert "do not use" in client.get(f"/{NAME}/history", params={"by": "nora"}).text
        undone = client.post(f"/{NAME}/undo", data={"form_key": fields["form_key"]})
        assert form_of(undone.text)["document"] == fields["document"]
        assert "taken back" in client.get(f"/{NAME}/history", params={"by": "nora"}).text


def test_blind_pages_do_not_say_who_answered(desk: ReviewDesk) -> None:
    """Knowing that the champion said it moves people towards it."""
    with local(desk, "nina") as client:
        blind = client.get(f"/{NAME}/queue/disagreements").text
        named = client.get(f"/{NAME}/queue/disagreements", params={"names": "1"}).text

    assert "clear" not in blind
    assert "60% sure" not in blind
    assert "clear, 60% sure" in named


def test_a_decision_about_answers_that_are_not_there_is_refused_in_words(desk: ReviewDesk) -> None:
    """A page that stood open for an hour may show what is no longer so."""
    with local(desk, "olga") as client:
        fields = form_of(client.get(f"/{NAME}/queue/audit").text)

        stale = client.post(f"/{NAME}/queue/audit", data={**fields, "shown": "else", "decision": "cannot_tell"})
        label = client.post(f"/{NAME}/queue/audit", data={**fields, "decision": "correction:ANGRY"})
        nothing = client.post(f"/{NAME}/queue/audit", data=fields)

    assert stale.status_code == label.status_code == nothing.status_code == 422
    assert "changed since the page was opened" in stale.text
    assert "Choose one of: HAPPY, SAD" in label.text
    assert "No decision was made" in nothing.text


@pytest.mark.parametrize(
    ("change", "headers", "said"),
    [
        pytest.param({"form_key": "guessed"}, {}, "not opened in this browser session", id="another-key"),
        pytest.param({"form_key": ""}, {}, "not opened in this browser session", id="no-key"),
        pytest.param({}, {"origin": "https://evil.example"}, "came from another web site", id="another-origin"),
        pytest.param({}, {"origin": "null"}, "came from another web site", id="sandboxed-origin"),
        pytest.param({}, {"sec-fetch-site": "cross-site"}, "came from another web site", id="cross-site"),
        pytest.param({}, {"sec-fetch-site": "same-site"}, "came from another web site", id="sibling-site"),
    ],
)
def test_forms_of_other_sites_change_nothing(
    desk: ReviewDesk, lake: Warehouse, change: dict[str, str], headers: dict[str, str], said: str
) -> None:
    """Any page that a reviewer visits could otherwise send verdicts in the reviewer's name."""
    with local(desk, "pia") as client:
        fields = form_of(client.get(f"/{NAME}/queue/audit").text)
        before = lake.application(NAME).annotations.table().num_rows

        answer = client.post(
            f"/{NAME}/queue/audit", data={**fields, "decision": "cannot_tell", **change}, headers=headers
        )

        assert answer.status_code == 403
        assert said in answer.text
        assert lake.application(NAME).annotations.table().num_rows == before


def test_a_form_that_is_too_large_is_not_read(desk: ReviewDesk) -> None:
    """A page on the company network must not be made to swallow a file."""
    with local(desk) as client:
        client.get(f"/{NAME}")

        assert client.post(f"/{NAME}/undo", data={"note": "x" * (LARGEST_FORM + 1)}).status_code == 413


def test_every_response_forbids_foreign_content_and_keeping(desk: ReviewDesk) -> None:
    """Documents are confidential: nothing from outside runs beside them, and no cache keeps them."""
    with local(desk) as client:
        for path in (f"/{NAME}", f"/{NAME}/queue/audit", f"/{NAME}/agreement", "/static/review.js", "/nowhere/at/all"):
            headers = client.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"], path
            assert "unsafe-inline" not in headers["content-security-policy"], path
            assert headers["cache-control"] == "no-store", path
            assert headers["x-content-type-options"] == "nosniff", path
        page = client.get(f"/{NAME}/queue/audit").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=|https?://", page)


def test_cookies_cannot_be_read_by_scripts_or_sent_by_other_sites(desk: ReviewDesk) -> None:
    """What lets somebody write must stay with the page that it was given to."""
    with local(desk) as client:
        cookie = client.get(f"/{NAME}").headers["set-cookie"]

    assert cookie.startswith(FORM_COOKIE)
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_another_host_name_is_refused_on_this_machine(desk: ReviewDesk) -> None:
    """A web site can make its own name point to 127.0.0.1 and read what answers."""
    with local(desk) as client:
        assert client.get(f"/{NAME}", headers={"host": "evil.example"}).status_code == 400


def test_people_with_tokens_sign_in_and_others_see_nothing(desk: ReviewDesk) -> None:
    """Where others can reach the page, nothing is shown before it is known who asks."""
    with browser(desk, Access(people=PEOPLE), hosts=("*",)) as client:
        for path in (f"/{NAME}", f"/{NAME}/queue/audit", f"/{NAME}/history", "/"):
            answer = client.get(path, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in"), path
        key = re.search(r'name="form_key" value="([^"]+)"', client.get("/sign-in").text)[1]  # type: ignore[index]

        wrong = client.post("/sign-in", data={"form_key": key, "token": "guess", "next": "https://evil.example"})
        right = client.post("/sign-in", data={"form_key": key, "token": "bob's token"}, follow_redirects=False)

        assert wrong.status_code == 403
        assert right.headers["location"] == "/"
        assert "bob" in client.get(f"/{NAME}").text
        client.post("/sign-out", data={"form_key": key})
        assert client.get(f"/{NAME}", follow_redirects=False).status_code == 303


def test_a_person_without_a_token_hash_cannot_sign_in_with_an_empty_token(desk: ReviewDesk) -> None:
    """The people file may list people whom only a proxy lets in."""
    access = Access(people={"ada": Listed("ada", "adjudicator")})

    assert access.of_token("") is None
    assert access.of_token(None) is None


def test_the_proxy_says_who_somebody_is_and_the_file_what_they_may(desk: ReviewDesk) -> None:
    """Single sign-on knows names; who may judge is decided here."""
    with browser(desk, Access(header="x-forwarded-user", people=PEOPLE), hosts=("*",)) as client:
        assert client.get(f"/{NAME}").status_code == 401
        assert "ada" in client.get(f"/{NAME}", headers={"x-forwarded-user": "ada"}).text
        stranger = client.get(f"/{NAME}", headers={"x-forwarded-user": "somebody"})
        assert "viewer" in stranger.text
        twice = client.get(f"/{NAME}", headers=[("x-forwarded-user", "vic"), ("x-forwarded-user", "ada")])
        assert twice.status_code == 400


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        pytest.param("viewer", "", 200, id="viewer-overview"),
        pytest.param("viewer", "/agreement", 200, id="viewer-agreement"),
        pytest.param("viewer", "/history", 200, id="viewer-history"),
        pytest.param("viewer", "/queue/audit", 403, id="viewer-documents"),
        pytest.param("reviewer", "/queue/adjudication", 403, id="reviewer-adjudication"),
        pytest.param("adjudicator", "/queue/adjudication", 200, id="adjudicator"),
        pytest.param("reviewer", "/queue/nonsense", 404, id="no-such-queue"),
        pytest.param("reviewer", "/queue/slice?attribute=team&value=red", 200, id="slice"),
        pytest.param("reviewer", "/queue/slice?attribute=%22%5D%27--&value=x", 200, id="slice-with-odd-name"),
    ],
)
def test_roles_decide_what_is_shown(desk: ReviewDesk, role: str, path: str, status: int) -> None:
    """A viewer follows progress without reading documents; only an adjudicator has the last word."""
    with local(desk, f"one {role}", role) as client:
        assert client.get(f"/{NAME}{path}").status_code == status


def test_a_viewer_cannot_write_by_hand_made_requests(desk: ReviewDesk, lake: Warehouse) -> None:
    """What is not shown must not be possible either."""
    with local(desk, "quin") as client:
        fields = form_of(client.get(f"/{NAME}/queue/audit").text)
    before = lake.application(NAME).annotations.table().num_rows
    with local(desk, "vic", "viewer") as client:
        client.cookies.set(FORM_COOKIE, fields["form_key"])

        answer = client.post(f"/{NAME}/queue/audit", data={**fields, "decision": "cannot_tell"})

    assert answer.status_code == 403
    assert lake.application(NAME).annotations.table().num_rows == before


def test_documents_are_text_and_never_markup(tmp_path: Path) -> None:
    """A document is what strangers wrote: it must not run in a reviewer's browser."""
    team = team_with(tmp_path, documents={"<b>1": "<script>alert(1)</script> & <img src=x onerror=alert(2)>"})
    with open_lake(tmp_path) as lake:
        filled(lake, team.loaded, {"clear": {"<b>1": "SAD"}})
        with local(ReviewDesk(lake, team.loaded)) as client:
            page = client.get(f"/{NAME}/queue/audit").text

    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in page
    assert "Document &lt;b&gt;1" in page


def test_an_address_in_use_is_an_error_in_words(lake: Warehouse, team: Team) -> None:
    """The page is often still open in another terminal."""
    access = Access(local=Person("ada", "reviewer"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StorageError, match="Choose another --port"):
            serve_review(lake, {NAME: team.loaded}, access, host="127.0.0.1", port=port, ready=lambda _: None)


@pytest.mark.parametrize("ignores", [False, True])
def test_a_page_beside_dagster_ends_with_it(ignores: bool) -> None:
    """`dev` becomes Dagster's process: nobody is left to end the page, and the next `dev` would find its port taken."""
    child = (
        "import time; from llm_platform.cli.review import end_with_parent as end; end(); print(1, flush=True); "
        "time.sleep(600)"
    )
    parent = (
        f"import signal, subprocess, sys; {ignores} and signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "p = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE); "
        "p.stdout.readline(); print(p.pid)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", parent, child], capture_output=True, text=True, check=True, timeout=120
    )
    pid = int(ended.stdout)

    deadline = time.monotonic() + 60
    while _is_alive(pid) and time.monotonic() < deadline:
        threading.Event().wait(0.1)

    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
