from __future__ import annotations

import pytest

from llm_platform.errors import EndpointMismatch, EndpointUnavailable, RequestRejected
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.answering.fitting import BudgetedRenderer
from llm_platform.records import DocumentRow, LongDocuments, Sampling
from llm_platform_tests.inference.cases import release
from llm_platform_tests.servers.scripted import ScriptedServer


def row(words: int) -> DocumentRow:
    return DocumentRow(document_id="1", fingerprint="f", text="word " * words)


def test_only_prompts_near_the_limit_are_counted_and_only_those_over_it_refused() -> None:
    """A call to /tokenize costs a request; most documents are far below the limit."""
    asked = release(api="completion", sampling=Sampling(max_tokens=96))  # 4,096 tokens of context, 4,000 for the prompt
    with ScriptedServer(keep_bodies=True) as server, EndpointClient() as client:
        renderer = BudgetedRenderer(asked, (), base_url=server.url, client=client)

        renderer.render(row(700))
        counted_when_short = len(server.bodies)
        renderer.render(row(900))
        counted_when_near = len(server.bodies)
        with pytest.raises(RequestRejected, match=r"has 4001 tokens and the model has room for 4000"):
            renderer.render(row(4001))

    assert (counted_when_short, counted_when_near) == (0, 1)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        pytest.param(400, RequestRejected, id="the-prompts-own"),
        pytest.param(413, RequestRejected, id="too-large"),
        pytest.param(401, EndpointMismatch, id="key"),
        pytest.param(402, EndpointMismatch, id="account"),
        pytest.param(403, EndpointMismatch, id="forbidden"),
        pytest.param(503, EndpointUnavailable, id="down"),
    ],
)
def test_tokenizer_that_refuses_all_prompts_refuses_no_document(status: int, kind: type[Exception]) -> None:
    """A key that ran out in the middle became the answer of every long document, for good."""
    asked = release(api="completion", long_documents=LongDocuments(policy="truncate"))

    class Refusing:
        def post(self, url: str, payload: dict[str, object]) -> tuple[int, bytes]:
            return status, b"{}"

    renderer = BudgetedRenderer(asked, (), base_url="http://endpoint", client=Refusing())  # type: ignore[arg-type]
    with pytest.raises(kind, match=f"HTTP {status}"):
        renderer.render(row(5000))
