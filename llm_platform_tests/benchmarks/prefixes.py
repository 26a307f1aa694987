"""In which order documents that share long prefixes are best sent: 8 documents a prefix, on the embedded NIM.

    python -m llm_platform_tests.benchmarks.prefixes [--groups 12] [--words 220] [--limit 8]

Every order runs on a fresh engine, so that nothing is in a cache that the order itself has not put there. What counts
is the share of prompt tokens that the engine found in its cache, and the time, which other work on the machine moves.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from llm_platform.inference.core import EngineResult, complete
from llm_platform.inference.engine import EndpointTarget, EnginePolicy
from llm_platform.inference.requests import PreparedRequest, RequestBuilder
from llm_platform.inference.wire_http import HttpWire
from llm_platform.models.lock import load_lock, pin
from llm_platform.nim.dialects import constraint
from llm_platform.operations.serving.endpoints import base_urls
from llm_platform.operations.serving.local_nim import LocalNim
from llm_platform.prompts.render import Renderer
from llm_platform.records import DocumentRow, Prompt, PromptMessage, Release, Sampling
from llm_platform.settings.connection import Connection
from llm_platform.settings.settings import load_settings
from llm_platform_tests.embedded import link_weights, stop_embedded

ENTRY = "smollm2-135m"
DOCUMENTS_A_PREFIX = 8
Order = Callable[[list[DocumentRow]], list[DocumentRow]]


def documents(groups: int, words: int) -> list[DocumentRow]:
    """Documents of `groups` long prefixes (a contract, say), each with a short question of its own."""
    draw = random.Random(7)
    vocabulary = ["river", "contract", "seven", "window", "paper", "under", "green", "signal", "market", "quiet"]
    rows = []
    for group in range(groups):
        prefix = f"Contract {group}: " + " ".join(draw.choice(vocabulary) for _ in range(words))
        for number in range(DOCUMENTS_A_PREFIX):
            tail = " ".join(draw.choice(vocabulary) for _ in range(5 + 3 * number))
            identity = f"{group:03d}-{number}"
            rows.append(DocumentRow(document_id=identity, fingerprint=identity, text=f"{prefix}\nQuestion: {tail}?"))
    return rows


def shuffled(rows: list[DocumentRow]) -> list[DocumentRow]:
    return random.Random(11).sample(rows, len(rows))


def grouped(rows: list[DocumentRow]) -> list[DocumentRow]:
    return sorted(rows, key=lambda row: (row.document_id.split("-")[0], -len(row.text)))


def side_by_side(groups: int) -> Order:
    """One document of each of so many prefixes, then the next of each."""

    def order(rows: list[DocumentRow]) -> list[DocumentRow]:
        together = grouped(rows)
        block = groups * DOCUMENTS_A_PREFIX
        return [
            row
            for start in range(0, len(together), block)
            for number in range(DOCUMENTS_A_PREFIX)
            for row in together[start : start + block][number::DOCUMENTS_A_PREFIX]
        ]

    return order


ORDERS: dict[str, Order] = {
    "random": shuffled,
    "grouped": grouped,
    "4 side by side": side_by_side(4),
    "8 side by side": side_by_side(8),
    "16 side by side": side_by_side(16),
}


def asking() -> Release:
    """One token of an answer: what is measured is reading prompts."""
    entry = load_lock(load_settings().models_lock)[ENTRY]
    prompt = Prompt(name="prefix", api="completion", messages=(PromptMessage(role="user", template="{{ text }}"),))
    return Release(
        application="prefixes",
        task="generate",
        model=pin(entry),
        prompt=prompt,
        sampling=Sampling(max_tokens=1),
        decision="text",
    )


def measure(rows: Sequence[DocumentRow], *, limit: int) -> tuple[EngineResult, float]:
    """One order on a fresh engine: what the run did, and its seconds."""
    release, entry = asking(), load_lock(load_settings().models_lock)[ENTRY]
    renderer, builder = Renderer(release.prompt, ()), RequestBuilder(release, constraint=constraint(release))

    def prepared(row: DocumentRow) -> PreparedRequest:
        return builder.prepare(document_id=row.document_id, fingerprint=row.fingerprint, rendered=renderer.render(row))

    async def run(url: str) -> EngineResult:
        async with HttpWire(Connection()) as wire:
            return await complete(
                [prepared(row) for row in rows],
                release=release,
                endpoints=[EndpointTarget(url)],
                wire=wire,
                policy=EnginePolicy(limit=limit),
                on_rows=lambda _: None,
            )

    with tempfile.TemporaryDirectory(prefix="llm_platform_bench_") as folder:
        local = LocalNim(Path(folder))
        link_weights(entry, local.state)
        try:
            (url,) = base_urls(entry, local)
            began = time.perf_counter()
            return asyncio.run(run(url)), time.perf_counter() - began
        finally:
            stop_embedded(entry, local)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--words", type=int, default=220)
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--orders", nargs="+", choices=list(ORDERS), default=list(ORDERS))
    given = parser.parse_args()
    rows = documents(given.groups, given.words)
    for name in given.orders:
        result, seconds = measure(ORDERS[name](rows), limit=given.limit)
        usage = result.meter.usage
        sys.stdout.write(
            f"{name:16} {result.stored} documents in {seconds:.1f} s, {usage.prompt_tokens} prompt tokens, "
            f"{usage.cached_tokens / usage.prompt_tokens:.3f} of them cached\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
