"""`llm-platform judge`: models that grade answers, and how far they can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llm_platform.cli.console import ApplicationName, application_named, console, new_table, show
from llm_platform.settings.settings import load_settings

if TYPE_CHECKING:
    from llm_platform.evaluation.judge import JudgeAgreement

commands = typer.Typer(no_args_is_help=True, help="Judges: models that grade answers, and their agreement with people.")


@commands.command("list")
def judge_list(application: ApplicationName) -> None:
    """List the judges of an application and what was measured of each."""
    from llm_platform.operations.evidence.judging import stored_agreement
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    table = new_table("judge", "model", "kind", "agreement with people")
    with WarehouseResource.of(settings).open() as lake:
        for name, judge in loaded.judges.items():
            found = stored_agreement(lake.application(application), loaded, name)
            kind = "compares two answers" if judge.compares else "grades one answer"
            table.add_row(name, judge.model, kind, _kappa(found))
    show(table)


@commands.command("run")
def judge_run(
    application: ApplicationName,
    judge: Annotated[str, typer.Argument(help="Name of a file in the folder `judges`, without .md.")],
) -> None:
    """Ask a judge about stored answers that it has not judged yet, and measure it."""
    from llm_platform.evaluation.judge import judge_panel
    from llm_platform.inference.engine import Progress
    from llm_platform.workbench.prompt_work import ask_judge

    settings = load_settings()
    gate = application_named(settings, application).application.evaluation.gates.judge_agreement
    with console.status("") as status:

        def progress(state: Progress) -> None:
            status.update(f"{state.done} of {state.total} questions, {state.tokens_per_second:,.0f} tokens/s")

        judged = ask_judge(application, judge, settings=settings, on_progress=progress)
    panel = judge_panel(judged.agreement, gate.minimum if gate else None)
    console.print(f"{panel.title}: {judged.sent} questions sent, release {judged.release.release_id}", markup=False)
    console.print(panel.note, markup=False)
    table = new_table(*panel.columns)
    for row in panel.rows:
        table.add_row(*row)
    show(table)


def _kappa(agreement: JudgeAgreement | None) -> str:
    from llm_platform.evaluation.wording import interval_text

    if agreement is None:
        return "not measured"
    if agreement.kappa is None:
        return "nothing to measure it on"
    return f"kappa {interval_text(agreement.kappa)} on {agreement.kappa.count}, {agreement.by_hand} by hand"
