"""An alert is told once, told on every channel, and told until it has arrived."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from slack_sdk.web.client import WebClient

from llm_platform.errors import SpecificationError
from llm_platform.operations.watching.alert_channels import EmailChannel, Relay, SlackChannel, WebhookChannel
from llm_platform.operations.watching.alerts import (
    CheckSeen,
    DeliveryFailed,
    RunSeen,
    deliver,
    events_of_run,
    note,
    subject_line,
)
from llm_platform.warehouse.alerts import Alert, Event
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.servers.inbox import HttpInbox, MailInbox

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUIET = timedelta(hours=6)


def event(*, failing: bool = True, kind: str = "drift.length_not_drifted") -> Event:
    return Event(kind, "tickets", "", failing, "Check failed. 3 of 100.", "http://ui/runs/1", "run-1")


def alert(**changes: str) -> Alert:
    fields = {"kind": "run_failed", "application": "tickets", "variant": "", "message": "Run 1 failed.", **changes}
    return Alert(alert_id="a" * 32, state="raised", link="http://ui/runs/1", run_id="1", created_at=NOON, **fields)


def attach(folder: Path) -> Warehouse:
    return Warehouse.attach(LakeLocation(f"sqlite:{folder / 'catalog.sqlite'}", str(folder / "data")), threads=1)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Warehouse]:
    with attach(tmp_path) as warehouse:
        yield warehouse


@pytest.fixture
def http() -> Iterator[HttpInbox]:
    with HttpInbox() as inbox:
        yield inbox


@pytest.fixture
def mail() -> Iterator[MailInbox]:
    with MailInbox() as inbox:
        yield inbox


def test_trouble_is_told_once_then_after_the_quiet_time_then_when_it_ends(lake: Warehouse) -> None:
    """A check that fails every five minutes is one message; nobody reads the hundredth."""
    seen = []
    for minutes, failing in [(0, True), (5, True), (355, True), (361, True), (365, False), (370, False), (371, True)]:
        at = NOON + timedelta(minutes=minutes)
        seen += [(minutes, one.state) for one in note(lake, [event(failing=failing)], now=at, quiet=QUIET)]

    assert seen == [(0, "raised"), (361, "raised"), (365, "recovered"), (371, "raised")]


def test_a_recovery_from_nothing_is_no_news(lake: Warehouse) -> None:
    """Every good run says that all is well; none of them may be a message."""
    assert note(lake, [event(failing=False)], now=NOON, quiet=QUIET) == []
    assert lake.alerts.table().num_rows == 0


def test_other_applications_kinds_and_variants_are_other_trouble(lake: Warehouse) -> None:
    """Deduplication must not swallow the second thing that breaks."""
    events = [
        event(),
        event(kind="run_failed"),
        Event("run_failed", "letters", "", True, "x"),
        Event("run_failed", "tickets", "tickets_finetune", True, "x"),
    ]

    told = note(lake, [*events, *events], now=NOON, quiet=QUIET)

    assert len({one.subject for one in told}) == len(told) == 4
    assert len(lake.alerts.open()) == 4


def test_processes_that_see_the_same_trouble_store_one_alert(lake: Warehouse) -> None:
    """Two daemons, or a person's command beside the daemon."""
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: note(lake, [event()], now=NOON, quiet=QUIET), range(4)))

    assert sorted(map(len, told)) == [0, 0, 0, 1]


def test_an_alert_that_cannot_be_sent_waits_and_arrives_later(lake: Warehouse, http: HttpInbox) -> None:
    """The outage that an alert is about may be the one that keeps it from being sent."""
    channel = WebhookChannel(f"{http.url}/hooks/secret-token")
    note(lake, [event()], now=NOON, quiet=QUIET)
    http.status = 503

    failed = deliver(lake, [channel], now=NOON)
    too_early = deliver(lake, [channel], now=NOON + timedelta(seconds=30))
    http.status = 204
    sent = deliver(lake, [channel], now=NOON + timedelta(seconds=61))
    again = deliver(lake, [channel], now=NOON + timedelta(hours=1))

    assert (failed.failed, too_early.failed, sent.sent, again.sent) == (1, 0, 1, 0)
    assert len(http.received) == 2
    assert http.received[0][2]["alert_id"] == http.received[1][2]["alert_id"]
    attempts = lake.alerts.deliveries().to_pylist()
    assert [row["delivered"] for row in attempts] == [False, True]
    assert attempts[0]["error"] == "The webhook at 127.0.0.1 answered HTTP 503."


def test_one_channel_that_is_down_does_not_hold_up_another(lake: Warehouse, http: HttpInbox, mail: MailInbox) -> None:
    """Mail still arrives while the webhook's host is gone, and the webhook is owed both alerts."""
    gone = WebhookChannel("http://127.0.0.1:9/hooks/secret-token")
    by_mail = EmailChannel(Relay.of(mail.url, ""), "platform@example.org", ("a@example.org", "b@example.org"))
    note(lake, [event(), event(kind="run_failed")], now=NOON, quiet=QUIET)

    done = deliver(lake, [gone, by_mail], now=NOON)

    assert (done.sent, done.failed) == (2, 1)
    assert len(mail.received) == 2
    assert len(lake.alerts.pending("webhook", now=NOON + timedelta(hours=2), newer_than=NOON - QUIET)) == 2
    assert "secret-token" not in str(lake.alerts.deliveries().to_pylist())


def test_slack_gets_a_message_with_a_link_and_the_token(http: HttpInbox) -> None:
    """Through the client that dagster_slack hands out, against a server that answers as Slack does."""
    client = WebClient("xoxb-token", base_url=f"{http.url}/api/", timeout=5)
    channel = SlackChannel(client, "#alerts")

    channel.send(alert(message="Check <!channel> failed."))

    path, headers, body = http.received[0]
    assert path == "/api/chat.postMessage"
    assert headers["authorization"] == "Bearer xoxb-token"
    assert body["channel"] == "#alerts"
    assert body["text"] == "tickets: run failed needs a look"
    assert "<!channel>" not in body["blocks"][0]["text"]["text"]
    assert body["blocks"][1]["elements"][0]["url"] == "http://ui/runs/1"


def test_slacks_refusal_is_named_and_its_silence_too(http: HttpInbox) -> None:
    """`channel_not_found` comes with HTTP 200; whoever set it up needs the word."""
    http.body = {"ok": False, "error": "channel_not_found"}

    with pytest.raises(DeliveryFailed, match="channel_not_found"):
        SlackChannel(WebClient("t", base_url=f"{http.url}/api/"), "#gone").send(alert())
    with pytest.raises(DeliveryFailed, match="did not answer"):
        SlackChannel(WebClient("t", base_url="http://127.0.0.1:9/"), "#gone").send(alert())


def test_mail_has_a_subject_a_link_and_one_identity(mail: MailInbox) -> None:
    """A second attempt carries the same id, so that a mail program shows one."""
    channel = EmailChannel(Relay.of(mail.url, ""), "platform@example.org", ("a@example.org",))

    channel.send(alert())
    channel.send(alert())

    sender, recipients, message = mail.received[0]
    assert (sender, recipients) == ("platform@example.org", ["a@example.org"])
    assert message["Subject"] == "tickets: run failed needs a look"
    assert "http://ui/runs/1" in message.get_content()
    assert message["Message-ID"] == mail.received[1][2]["Message-ID"]


def test_a_recipient_who_is_refused_is_a_failure(mail: MailInbox) -> None:
    """Half of the people told is not told."""
    mail.refuses = {"gone@example.org"}
    channel = EmailChannel(Relay.of(mail.url, ""), "platform@example.org", ("a@example.org", "gone@example.org"))

    with pytest.raises(DeliveryFailed, match="refused 1 of 2"):
        channel.send(alert())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("smtps://me@mail.example.org", ("mail.example.org", 465, "ssl", "me"), id="ssl"),
        pytest.param("smtp+starttls://me@mail.example.org", ("mail.example.org", 587, "starttls", "me"), id="starttls"),
        pytest.param("smtp://relay:2525", ("relay", 2525, "none", ""), id="relay"),
    ],
)
def test_a_mail_server_is_one_url(url: str, expected: tuple[str, int, str, str]) -> None:
    """One setting instead of four that must agree."""
    relay = Relay.of(url, "password")

    assert (relay.host, relay.port, relay.security, relay.user) == expected
    assert "password" not in repr(relay)


@pytest.mark.parametrize("url", ["mail.example.org", "https://mail.example.org", "smtps://me:secret@mail.example.org"])
def test_a_mail_server_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    """Somebody will write the password into it."""
    with pytest.raises(SpecificationError) as caught:
        Relay.of(url, "")

    assert "secret@" not in str(caught.value)


def run(*checks: CheckSeen, failed: bool = False, contract: bool = False, job: str = "tickets") -> RunSeen:
    return RunSeen("1234567890", job, "tickets", failed, "No column 'body'." if failed else "", contract, checks)


def failing_kinds(seen: RunSeen) -> set[str]:
    return {one.kind for one in events_of_run(seen, link=lambda run: f"http://ui/runs/{run.run_id}") if one.failing}


@pytest.mark.parametrize(
    ("check", "told"),
    [
        pytest.param(CheckSeen(("tickets", "drift"), "length_not_drifted", False, False), True, id="drift-warns"),
        pytest.param(CheckSeen(("tickets", "report"), "champion_accuracy", False, True), True, id="champion"),
        pytest.param(CheckSeen(("tickets", "report"), "vague_accuracy", False, False), False, id="candidate"),
        pytest.param(CheckSeen(("tickets", "published"), "contract_holds", False, True), True, id="contract"),
        pytest.param(CheckSeen(("models", "small"), "endpoints_match_lock", False, True), True, id="lock"),
        pytest.param(CheckSeen(("endpoint_metrics", "small"), "queue_not_growing", False, False), True, id="queue"),
        pytest.param(CheckSeen(("tickets", "drift"), "length_not_drifted", True, False), False, id="passed"),
    ],
)
def test_which_checks_people_are_told_of(check: CheckSeen, told: bool) -> None:
    """A challenger that is refused is a finding; the champion, drift, contracts and endpoints are somebody's night."""
    assert bool(failing_kinds(run(check))) is told


def test_failed_runs_and_broken_contracts_have_kinds_of_their_own() -> None:
    """A broken contract is for the owners of the table, a failed run for the owners of the platform."""
    assert failing_kinds(run(failed=True)) == {"run_failed"}
    assert failing_kinds(run(failed=True, contract=True)) == {"contract_broken"}
    assert failing_kinds(run()) == set()


def test_an_endpoint_alert_names_the_endpoint_and_no_application() -> None:
    """Five applications use one model; its trouble is one alert."""
    check = CheckSeen(("endpoint_metrics", "llama-8b"), "endpoints_healthy", False, False, "http 503")

    found = [one for one in events_of_run(run(check), link=lambda _: "") if one.failing]

    assert (found[0].application, found[0].variant) == ("", "llama-8b")
    told = alert(kind=found[0].kind, application="", variant="llama-8b")
    assert subject_line(told) == "llama-8b: endpoint metrics: endpoints healthy needs a look"
