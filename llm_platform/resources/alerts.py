"""Where alerts go, as a resource."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
from pydantic import Field

from llm_platform.operations.watching.alert_channels import (
    ANSWER_SECONDS,
    EmailChannel,
    Relay,
    SlackChannel,
    WebhookChannel,
)
from llm_platform.operations.watching.alerts import Channel
from llm_platform.settings.settings import Settings


class AlertsResource(dg.ConfigurableResource):
    """The channels that alerts are sent on; without any, `llm-platform monitor alerts` shows what is stored."""

    quiet_hours: float = Field(default=6.0, description="Trouble that goes on is told again after this.")
    ui_url: str = Field(default="", description="Address of Dagster's UI, for links.")
    slack_token: str | None = Field(default=None, description="Bot token of a Slack workspace.")
    slack_channel: str = Field(default="", description="Channel that is posted to.")
    slack_url: str = Field(default="", description="Slack's API where it is reached by a gateway.")
    webhook_url: str | None = Field(default=None, description="URL that is posted to as JSON.")
    smtp_url: str = Field(default="", description="Mail server.")
    smtp_password: str | None = Field(default=None, description="Password of its user.")
    email_from: str = Field(default="", description="Sender of mails.")
    email_to: list[str] = Field(default_factory=list, description="Recipients of mails.")

    @classmethod
    def of(cls, settings: Settings) -> AlertsResource:
        """The resource that `settings` describe."""
        return cls(
            quiet_hours=settings.alert_quiet_hours,
            ui_url=settings.ui_url or "",
            # Resolved when they are needed, so that they are in no snapshot of the code location.
            slack_token=dg.EnvVar("LLM_PLATFORM_ALERT_SLACK_TOKEN") if settings.alert_slack_token else None,
            slack_channel=settings.alert_slack_channel,
            slack_url=settings.alert_slack_url or "",
            webhook_url=dg.EnvVar("LLM_PLATFORM_ALERT_WEBHOOK_URL") if settings.alert_webhook_url else None,
            smtp_url=settings.alert_smtp_url or "",
            smtp_password=dg.EnvVar("LLM_PLATFORM_ALERT_SMTP_PASSWORD") if settings.alert_smtp_password else None,
            email_from=settings.alert_email_from,
            email_to=list(settings.alert_email_to),
        )

    @property
    def quiet(self) -> timedelta:
        """How long trouble that goes on is not told again."""
        return timedelta(hours=self.quiet_hours)

    def channels(self) -> tuple[Channel, ...]:
        """The channels that are configured.

        Raises:
            SpecificationError: the mail server's URL is not one.
        """
        found: list[Channel] = []
        if self.slack_token and self.slack_channel:
            # 60 ms that no load of the graph needs.
            from dagster_slack import SlackResource

            client = SlackResource(token=_plain(self.slack_token)).get_client()
            client.timeout = ANSWER_SECONDS
            client.base_url = self.slack_url or client.base_url
            found.append(SlackChannel(client, self.slack_channel))
        if self.smtp_url and self.email_to:
            relay = Relay.of(self.smtp_url, _plain(self.smtp_password))
            found.append(EmailChannel(relay, self.email_from or self.email_to[0], tuple(self.email_to)))
        if self.webhook_url:
            found.append(WebhookChannel(_plain(self.webhook_url)))
        return tuple(found)


def _plain(value: str | None) -> str:
    """A value that Dagster has resolved already, or that the command line resolves here."""
    return (value.get_value() or "") if isinstance(value, dg.EnvVar) else value or ""
