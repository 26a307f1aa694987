from __future__ import annotations

import pytest

from llm_platform.errors import RequestRejected
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.answering.fitting import BudgetedRenderer
from llm_platform.records import DocumentRow, Sampling
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
