"""`llm-platform nim bench`: what an endpoint gives, in figures that stand beside a server's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llm_platform.cli.console import console, entry_named, new_table, show
from llm_platform.settings.settings import Settings, load_settings

if TYPE_CHECKING:
    from llm_platform.inference.meter import Progress
    from llm_platform.models.entries import LockEntry
    from llm_platform.operations.serving.load import Asked, LoadFigures

# 236.6 million words in nine hours, a 70B model on four H100: Outerbounds on NIM in its own platform, 2024.
_HEADLINE = {"requests/s": 3.38, "words/s": 7302.0, "GPUs": 4.0}


def register(commands: typer.Typer) -> None:
    """Add the command to a group."""
    commands.command("bench")(nim_bench)


def nim_bench(
    endpoint: Annotated[str, typer.Argument(help="Address of an OpenAI-compatible endpoint, or an entry of the lock.")],
    *,
    model: Annotated[str | None, typer.Option(help="Model to ask; the one that is served, if there is one.")] = None,
    requests: Annotated[int, typer.Option(min=1, help="Documents to send.")] = 1000,
    words: Annotated[int, typer.Option(min=1, help="Words of a document.")] = 450,
    shared_words: Annotated[int, typer.Option(min=0, help="Words that all documents begin with.")] = 150,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 90,
    limit: Annotated[int | None, typer.Option(min=1, help="Requests in flight; found if not given.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs behind the endpoint.")] = 1,
    reference: Annotated[
        float | None, typer.Option(min=0.0, help="Requests/s of the server's own benchmark at the same lengths.")
    ] = None,
) -> None:
    """Measure an endpoint with synthetic documents through the engine of bulk runs.

    For the reference, run the server's own benchmark at the lengths that this command prints, for example
    `vllm bench throughput` or `aiperf profile`.
    """
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.serving.load import Load, found, measure_load

    settings = load_settings()
    is_url = endpoint.startswith(("http://", "https://"))
    entry = None if is_url else entry_named(load_lock(settings.models_lock), endpoint)
    connection = settings.connection(external=entry is None or entry.mode == "external")
    asked = found(endpoint, model, connection) if entry is None else _of_entry(entry, model, settings)
    load = Load(requests=requests, words=words, shared_words=shared_words, answer_tokens=answer_tokens)
    console.print(f"{requests} documents to {asked.model} at {', '.join(asked.urls)} ({asked.dialect})")
    with console.status("sending") as status:

        def note(progress: Progress) -> None:
            status.update(
                f"{progress.done} of {requests}, {progress.tokens_per_second:,.0f} tokens/s, "
                f"{progress.in_flight} in flight of {progress.limit}"
            )

        figures = measure_load(asked, load, connection=connection, limit=limit, on_progress=note)
    _show(figures, gpus=gpus, reference=reference)


def _of_entry(entry: LockEntry, model: str | None, settings: Settings) -> Asked:
    from llm_platform.operations.serving.endpoints import base_urls
    from llm_platform.operations.serving.load import Asked
    from llm_platform.resources.handed import local_nim

    urls = base_urls(entry, local_nim(settings), cluster_namespace=settings.nim_cluster_namespace)
    return Asked(urls, model or entry.served_name, entry.dialect)


def _show(figures: LoadFigures, *, gpus: int, reference: float | None) -> None:
    table = new_table("figure", "value")
    rows: dict[str, str] = {
        "answered": f"{figures.answered} in {figures.seconds:.1f} s",
        "without an answer": ", ".join(f"{cause} {count}" for cause, count in figures.failed.items()) or "none",
        "tokens a document": f"{figures.prompt_tokens / max(figures.answered, 1):.0f} in "
        f"({figures.cached_tokens / max(figures.prompt_tokens, 1):.0%} cached), "
        f"{figures.completion_tokens / max(figures.answered, 1):.0f} out",
        "requests/s": f"{figures.requests_per_second:.2f}",
        "tokens/s": f"{figures.per_second(figures.prompt_tokens):,.0f} in, "
        f"{figures.per_second(figures.completion_tokens):,.0f} out",
        "tokens per GPU hour": f"{figures.per_gpu_hour(figures.prompt_tokens, gpus) / 1e6:,.2f} million in, "
        f"{figures.per_gpu_hour(figures.completion_tokens, gpus) / 1e6:,.2f} million out",
        "words per GPU hour": f"{figures.per_gpu_hour(figures.words, gpus) / 1e6:,.2f} million",
        "in flight at the end": str(figures.limit),
        "latency": f"p50 {figures.latency_p50_seconds or 0:.2f} s, p99 {figures.latency_p99_seconds or 0:.2f} s",
    }
    if reference:
        rows["share of the reference"] = f"{figures.requests_per_second / reference:.3f}"
    headline = _HEADLINE["words/s"] / _HEADLINE["GPUs"]
    rows["beside it, published"] = (
        f"{_HEADLINE['requests/s']} requests/s, {headline * 3600 / 1e6:.2f} million words per GPU hour: "
        "a 70B model on four H100, 2,160 words a document"
    )
    for name, value in rows.items():
        table.add_row(name, value)
    show(table)
