"""Commands for quick prompt work: `try` and `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llm_platform.cli.console import ApplicationName, console, new_table, show

if TYPE_CHECKING:
    from llm_platform.operations.evidence.comparing import Paired, Side
    from llm_platform.operations.evidence.trial import TrialPlan, TrialResult
    from llm_platform.records import Interval, Split

commands = typer.Typer()
SplitName = Literal["training", "evaluation"]
SHOWN_CHARACTERS = 160
SHOWN_ROWS = 20


def _split(name: SplitName) -> Split:
    return "train" if name == "training" else "evaluation"


@commands.command("try")
def try_command(
    application: ApplicationName,
    prompt: Annotated[Path, typer.Option(help="A prompt file, in or outside of the application's folder.")],
    *,
    variant: Annotated[
        str | None, typer.Option(help="Whose model, sampling and decision are taken; the champion's if not given.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="How many documents; the first ones are always the same.", min=1)] = 50,
    split: Annotated[SplitName, typer.Option(help="Documents to try it on.")] = "training",
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be asked, and ask nothing.")] = False,
    texts: Annotated[bool, typer.Option("--texts", help="Show documents and answers of the differences.")] = False,
) -> None:
    """Try a prompt file on a few documents beside what is published; what is paid is stored, and paid once."""
    from llm_platform.inference.engine import Progress
    from llm_platform.workbench.prompt_work import plan_prompt, try_prompt

    wanted = _split(split)
    planned = plan_prompt(application, prompt, variant=variant, n=n, split=wanted)
    _say_plan(planned)
    if plan:
        return
    with console.status("") as status:

        def progress(state: Progress) -> None:
            status.update(f"{state.done} of {state.total} texts, {state.tokens_per_second:,.0f} tokens/s")

        result = try_prompt(application, prompt, variant=variant, n=n, split=wanted, on_progress=progress)
    _say_result(result)
    if texts:
        _say_texts(application, result)


@commands.command("compare")
def compare_command(
    a: Annotated[str, typer.Argument(help="A variant, `champion`, or the beginning of a release id.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    *,
    application: Annotated[str | None, typer.Option(help="Where both are known in several applications.")] = None,
    split: Annotated[SplitName, typer.Option(help="Documents to compare them on.")] = "evaluation",
) -> None:
    """Compare two variants or releases of one application on the answers that are stored."""
    from llm_platform.operations.evidence.comparing import differences
    from llm_platform.settings.settings import load_settings
    from llm_platform.workbench.prompt_work import compare

    before, after, paired = compare(a, b, application=application, split=_split(split))
    _say_pair(before, after, paired, split=split)
    console.print("\nWhat differs", style="bold")
    lines = differences(before.release, after.release, names=(a, b))
    for line in lines or ["  nothing: they are one release"]:
        console.print(line, markup=False)
    if paired is not None and (paired.better or paired.worse or paired.other_answers):
        page = f"{load_settings().page_url}/{before.release.application}/answers?only=differing"
        console.print(f"\nRead them: {page} (llm-platform page)", markup=False)


def _say_plan(plan: TrialPlan) -> None:
    release = plan.release
    console.print(
        f"Prompt {release.prompt.name} (version {release.prompt.version}) as variant {plan.variant}, on "
        f"{plan.documents.num_rows} documents of the {_name(plan.split)} split."
    )
    console.print(
        f"{plan.reused} answers are stored; {len(plan.missing)} requests, about {plan.prompt_tokens:,} prompt tokens "
        f"and at most {plan.completion_tokens:,} completion tokens."
    )
    if plan.split == "evaluation":
        console.print(
            f"The evaluation split decides what is published, and {plan.looks} releases were tried on it before: each "
            "look makes it a worse judge. Try prompts on the training split.",
            style="yellow",
        )
    else:
        console.print("Documents of the training split, so that prompt work does not wear out the evaluation split.")


def _say_result(result: TrialResult) -> None:
    table = new_table("", "release", "score", "graded", "no valid answer")
    for side, score in ((result.against, result.against_score), (result.tried, result.score)):
        if side is not None:
            invalid = sum(one.answer is None for one in side.graded.values())
            table.add_row(side.name, side.release.release_id, _interval(score), str(len(side.graded)), str(invalid))
    show(table)
    for note in result.notes:
        console.print(f"Note: {note}.", markup=False)
    if result.against is None:
        console.print("Nothing to compare with: nothing else has answered these documents.")
        return
    _say_paired(result.paired)


def _say_pair(before: Side, after: Side, paired: Paired | None, *, split: SplitName) -> None:
    table = new_table("", "release", "prompt", "model", "answered and graded", "score")
    for side in (before, after):
        graded = sum(one.score is not None for one in side.graded.values())
        prompt = f"{side.release.prompt.name} {side.release.prompt.version[:8]}"
        table.add_row(
            side.name,
            side.release.release_id,
            prompt,
            side.release.model.entry,
            str(graded),
            _interval(side.score),
        )
    show(table)
    if paired is None:
        console.print(f"No document of the {split} split has an answer and a score of both.")
        return
    _say_paired(paired)


def _say_paired(paired: Paired | None) -> None:
    from llm_platform.operations.evidence.comparing import ids

    if paired is None:
        console.print("No document has a score of both.")
        return
    console.print(
        f"Difference {paired.b} - {paired.a}: {paired.difference_text} on {paired.counted_text}. {paired.summary}",
        markup=False,
    )
    for title, documents in (
        (f"Better with {paired.b}", paired.better),
        (f"Worse with {paired.b}", paired.worse),
        ("Other answer, same score", paired.other_answers),
    ):
        console.print(f"{title}: {len(documents)}{f' ({ids(documents)})' if documents else ''}", markup=False)


def _say_texts(application: str, result: TrialResult) -> None:
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.settings.settings import load_settings

    documents = result.plan.documents
    columns = (documents[name].to_pylist() for name in ("document_id", "fingerprint", "text", "reference"))
    changed: Sequence[str] = ()
    if result.paired is not None:
        changed = (*result.paired.worse, *result.paired.better, *result.paired.other_answers)
    wanted = changed[:SHOWN_ROWS] or documents["document_id"].to_pylist()[:SHOWN_ROWS]
    WarehouseResource.of(load_settings()).note_read(application, "try --texts", document_ids=wanted)
    table = new_table("document", "known answer", *([result.against.name] if result.against else []), "tried", "text")
    for document_id, fingerprint, text, reference in zip(*columns, strict=True):
        if document_id in wanted:
            sides = [side.graded.get(fingerprint) for side in (result.against, result.tried) if side is not None]
            answers = [(one.answer if one else None) or "-" for one in sides]
            table.add_row(document_id, reference, *answers, text[:SHOWN_CHARACTERS])
    show(table)


def _name(split: Split) -> str:
    return "training" if split == "train" else "evaluation"


def _interval(interval: Interval | None) -> str:
    from llm_platform.evaluation.wording import interval_text

    return "-" if interval is None else interval_text(interval)
