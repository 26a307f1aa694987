"""Dagster's web page without the doors that forge evidence.

Dagster's server takes materializations and the results of checks from whoever reaches its port
(`/report_asset_check/…`), and its GraphQL from whoever may launch runs, so one request could turn a failed gate green.
Nothing of ours uses these: they are closed here, in the process itself, whatever proxy stands in front of it. A page
for viewers is read-only besides: it refuses every mutation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.permissions import PermissionResult, Permissions
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

FORGING = "/report_asset_"
SAID = "Evidence comes from runs: this deployment takes none from requests."


class WithoutForging:
    """The same app, but for addresses that take events from outside."""

    def __init__(self, app: ASGIApp, *, path_prefix: str = "") -> None:
        self._app = app
        self._closed = f"{path_prefix}{FORGING}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        # A path may come with further slashes, which routers take for one.
        path = "/" + scope["path"].lstrip("/") if scope["type"] in ("http", "websocket") else ""
        if path.startswith(self._closed) or path.startswith(FORGING):
            await JSONResponse({"error": SAID}, status_code=403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class EvidenceOfRuns(WorkspaceProcessContext):
    """A workspace in which nobody may report events, whoever may launch runs."""

    def create_request_context(self, source: object | None = None) -> WorkspaceRequestContext:
        """What one request may see and do."""
        return _WithoutReports(
            instance=self.instance,
            current_workspace=self.get_current_workspace(),
            process_context=self,
            version=self.version,
            source=source,
            read_only=self.read_only,
        )


class _WithoutReports(WorkspaceRequestContext):
    @property
    def permissions(self) -> Mapping[str, PermissionResult]:
        return _without_reports(super().permissions)

    def permissions_for_location(self, *, location_name: str) -> Mapping[str, PermissionResult]:
        return _without_reports(super().permissions_for_location(location_name=location_name))


def _without_reports(permissions: Mapping[str, PermissionResult]) -> Mapping[str, PermissionResult]:
    closed = PermissionResult(enabled=False, disabled_reason=SAID)
    return {**permissions, Permissions.REPORT_RUNLESS_ASSET_EVENTS: closed}


def serve_pages(workspace: Path, *, host: str, port: int, read_only: bool) -> None:
    """Serve Dagster's pages until the process is asked to stop."""
    import uvicorn
    from dagster import DagsterInstance
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    with (
        DagsterInstance.get() as instance,
        EvidenceOfRuns(
            instance, WorkspaceFileTarget(paths=[str(workspace)]), version="", read_only=read_only
        ) as context,
    ):
        app = WithoutForging(create_app_from_workspace_process_context(context))
        # Addresses of the page name assets and partitions, nothing of documents.
        uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, server_header=False)
