"""Slack, email and a webhook, as channels of alerts.

Slack's client is the one that `dagster_slack` gives. What Dagster has beyond it, sensors that send on a failed run, is
not used: they see no checks, repeat every failure, say nothing of recovery, hold their token as plain text, and when
sending fails their cursor has moved on and the alert is lost. Its email functions live in a private module and refuse a
relay without a login.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from llm_platform.errors import EndpointUnavailable, SpecificationError
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.watching.alerts import DeliveryFailed, subject_line
from llm_platform.warehouse.alerts import Alert

if TYPE_CHECKING:
    from slack_sdk import WebClient

ANSWER_SECONDS = 10
"""A channel that takes longer is tried again later."""

Security = Literal["ssl", "starttls", "none"]
_SCHEMES: Mapping[str, tuple[Security, int]] = {
    "smtps": ("ssl", 465),
    "smtp+starttls": ("starttls", 587),
    "smtp": ("none", 25),
}


@dataclass(frozen=True)
class SlackChannel:
    """A channel of a Slack workspace; `client` holds the token."""

    client: WebClient
    channel: str
    name: str = "slack"

    def send(self, alert: Alert) -> None:
        """Post one message.

        Raises:
            DeliveryFailed: Slack refused it, or did not answer.
        """
        from slack_sdk.errors import SlackClientError

        try:
            self.client.chat_postMessage(
                channel=self.channel, text=subject_line(alert), blocks=_blocks(alert), unfurl_links=False
            )
        except SlackClientError as error:
            said = getattr(error, "response", {})
            reason = said.get("error", "") if hasattr(said, "get") else ""
            raise DeliveryFailed(f"Slack refused the alert ({reason or type(error).__name__}).") from error
        except OSError as error:
            raise DeliveryFailed(f"Slack did not answer ({type(error).__name__}).") from error


@dataclass(frozen=True)
class Relay:
    """A mail server."""

    host: str
    port: int
    security: Security
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str, password: str) -> Relay:
        """The server of `smtps://user@host:465`, `smtp+starttls://user@host:587` or `smtp://host:25`.

        Raises:
            SpecificationError: the URL is none of these; a password belongs into a setting of its own.
        """
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.hostname or parts.password:
            raise SpecificationError(
                "LLM_PLATFORM_ALERT_SMTP_URL: expected smtps://user@host:465, smtp+starttls://user@host:587 or "
                "smtp://host:25, without a password (that is LLM_PLATFORM_ALERT_SMTP_PASSWORD)."
            )
        security, port = _SCHEMES[parts.scheme]
        return cls(parts.hostname, parts.port or port, security, user=parts.username or "", password=password)


@dataclass(frozen=True)
class EmailChannel:
    """Plain-text mail to a list of people."""

    relay: Relay
    sender: str
    recipients: tuple[str, ...]
    name: str = "email"

    def send(self, alert: Alert) -> None:
        """Send one mail.

        Raises:
            DeliveryFailed: the server refused it or a recipient, or did not answer.
        """
        message = EmailMessage()
        message["Subject"] = subject_line(alert)
        message["From"], message["To"] = self.sender, ", ".join(self.recipients)
        message["Date"] = format_datetime(alert.created_at)
        # Equal on every attempt: a mail that arrives twice is shown once.
        message["Message-ID"] = f"<{alert.alert_id}@{make_msgid().rpartition('@')[2].rstrip('>')}>"
        message.set_content(f"{_text(alert)}\n")
        try:
            with self._connected() as server:
                refused = server.send_message(message)
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryFailed(f"{self.relay.host} did not take the mail ({type(error).__name__}).") from error
        if refused:
            raise DeliveryFailed(f"{self.relay.host} refused {len(refused)} of {len(self.recipients)} recipients.")

    def _connected(self) -> smtplib.SMTP:
        relay, context = self.relay, ssl.create_default_context()
        if relay.security == "ssl":
            server: smtplib.SMTP = smtplib.SMTP_SSL(relay.host, relay.port, timeout=ANSWER_SECONDS, context=context)
        else:
            server = smtplib.SMTP(relay.host, relay.port, timeout=ANSWER_SECONDS)
        if relay.security == "starttls":
            server.starttls(context=context)
        if relay.user:
            server.login(relay.user, relay.password)
        return server


@dataclass(frozen=True)
class WebhookChannel:
    """A URL that takes a JSON object by POST; the URL itself may be the secret."""

    url: str = field(repr=False)
    name: str = "webhook"

    def send(self, alert: Alert) -> None:
        """Post one object: the fields of the alert, and `title`.

        Raises:
            DeliveryFailed: it answered with another status than 2xx, or not at all.
        """
        host = urlsplit(self.url).hostname
        try:
            with EndpointClient(timeout_seconds=float(ANSWER_SECONDS)) as client:
                status, _ = client.post(self.url, payload(alert))
        except EndpointUnavailable as error:
            # Its message has the whole URL.
            raise DeliveryFailed(f"The webhook at {host} did not answer.") from error
        if not 200 <= status < 300:
            raise DeliveryFailed(f"The webhook at {host} answered HTTP {status}.")


def payload(alert: Alert) -> dict[str, Any]:
    """The object that a webhook gets. `alert_id` is equal on every attempt."""
    names = ("alert_id", "kind", "application", "variant", "state", "message", "link", "run_id")
    fields = {name: getattr(alert, name) for name in names}
    return {"title": subject_line(alert), **fields, "created_at": alert.created_at.isoformat()}


def _text(alert: Alert) -> str:
    parts = [alert.message, f"Since {alert.created_at:%Y-%m-%d %H:%M} UTC.", alert.link]
    return "\n\n".join(part for part in parts if part)


def _blocks(alert: Alert) -> list[dict[str, Any]]:
    sign = ":white_check_mark:" if alert.state == "recovered" else ":rotating_light:"
    # 3,000 characters are Slack's limit of a section.
    section = {"type": "mrkdwn", "text": f"{sign} *{_escaped(subject_line(alert))}*\n{_escaped(alert.message)}"[:3000]}
    blocks: list[dict[str, Any]] = [{"type": "section", "text": section}]
    if alert.link:
        button = {"type": "button", "text": {"type": "plain_text", "text": "Look"}, "url": alert.link}
        blocks.append({"type": "actions", "elements": [button]})
    return blocks


def _escaped(text: str) -> str:
    """Slack's three characters with a meaning: without them a message cannot mention everybody in the channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
