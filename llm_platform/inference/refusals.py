"""Whose fault a refusal is: the document's, or that of what all requests have in common.

A refusal for a document is one that others do not share. A row that is refused waits until another one, sent after it,
is answered; then it is stored as refused. Where none is, the endpoint is asked the same about nothing: what it refuses
then, it refuses whatever the document, and the run ends with nothing stored of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from llm_platform.errors import EndpointMismatch
from llm_platform.inference.endpoint import Breaker, EndpointState, RefusedRow
from llm_platform.inference.reasons import OF_THE_DOCUMENT, RefusedRequest, refused
from llm_platform.inference.requests import neutral_request
from llm_platform.inference.wire import Reply, Wire
from llm_platform.records.refusals import Refusal

_DOUBTS = 3
_STEPS = {
    Refusal.QUOTA: "Top the account up",
    Refusal.KEY: "Correct the key (LLM_PLATFORM_NIM_API_KEY)",
    Refusal.FORBIDDEN: "Let this key ask for it, or use another one",
    Refusal.MODEL: "Correct the model name (the entry's served_name in the lock file), or load the model",
    Refusal.PATH: "Correct the address, or the 'api' of the prompt",
    Refusal.PARAMETER: "Correct the variant's sampling, or the entry's dialect in the lock file",
    Refusal.TOO_LARGE: "Raise the limit of what stands before the endpoint",
    Refusal.REDIRECT: "Name the final address; 'curl -i' shows it",
}


async def ask_whose(
    endpoint: EndpointState,
    wire: Wire,
    *,
    timeout_seconds: float,
    has_answered: Callable[[], bool],
) -> EndpointMismatch | bool:
    """Ask an endpoint that has refused rows about nothing, in all else the same.

    Args:
        has_answered: Whether the same questions about other documents were ever answered.

    Returns:
        Why the run has to end; or whether what was refused was refused for itself. False where the endpoint says
        neither now.
    """
    rows = list(endpoint.refused)
    probe = neutral_request(rows[-1].row.request)
    reply: Reply = await wire.post(endpoint.url + probe.path, probe.body, timeout_seconds=timeout_seconds)
    if 400 <= reply.status < 500 and reply.status not in (408, 425, 429):
        return mismatch(endpoint, probe.path, reply.status, refused(reply.status, reply.body))
    if reply.status != 200:
        endpoint.doubts += 1
        # What cannot be found out in several attempts is not worth the run.
        return endpoint.doubts >= _DOUBTS
    if _is_shared(rows, endpoint) and not await asyncio.to_thread(has_answered):
        return mismatch(endpoint, probe.path, rows[-1].status, rows[-1].refused)
    return True


def mismatch(endpoint: EndpointState, path: str, status: int, found: RefusedRequest) -> EndpointMismatch:
    """Why a run ends whose requests are refused as such."""
    step = _STEPS.get(found.kind, f"Ask it by hand, it says more to 'curl' (HTTP {status})")
    return EndpointMismatch(
        f"{endpoint.url}{path} refuses requests as such, whatever the document: {found.reason}. {step}, then run "
        "again: nothing that was refused is stored, and all of it is asked again."
    )


def untrusted(endpoint: EndpointState, reply: Reply) -> EndpointMismatch:
    """Why a run ends whose endpoint cannot show who it is."""
    return EndpointMismatch(
        f"{endpoint.url} shows a certificate that is not trusted ({reply.detail}). Name the file of your certificate "
        "authority in the settings."
    )


def _is_shared(rows: list[RefusedRow], endpoint: EndpointState) -> bool:
    """Whether many documents met one refusal that is not known to be a document's own."""
    policy = endpoint.policy
    kinds = {(one.status, one.refused.kind) for one in rows}
    return len(rows) >= policy.refused_together and len(kinds) == 1 and rows[-1].refused.kind not in OF_THE_DOCUMENT


def is_pending(endpoint: EndpointState) -> bool:
    """Whether an endpoint has to be asked, and can be."""
    return bool(endpoint.refused) and endpoint.breaker is Breaker.CLOSED
