"""Quick prompt work, for the command line and for notebooks: try a prompt, compare two releases, ask a judge.

from llm_platform.workbench.prompt_work import compare, try_prompt

result = try_prompt("movie_reviews", "prompts/plainer.md", n=50)
result.frame()
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from llm_platform.errors import SpecificationError
from llm_platform.inference.engine import Progress
from llm_platform.operations.answering.examples import DEFAULT_ROWS, Pool, freeze_pool
from llm_platform.operations.evidence.comparing import Paired, Side, compare_releases
from llm_platform.operations.evidence.judge_runs import Judged, judge_answers
from llm_platform.operations.evidence.judging import judge_release
from llm_platform.operations.evidence.prompts import application_of
from llm_platform.operations.evidence.trial import TrialPlan, TrialResult, plan_trial, run_trial
from llm_platform.operations.releases import CHAMPION, LoadedApplication, load_applications, loaded_application
from llm_platform.records import Split
from llm_platform.resources.asking import asking_of
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.login import login
from llm_platform.settings.settings import Settings, load_settings


def plan_prompt(
    application: str,
    prompt: str | Path,
    *,
    variant: str | None = None,
    n: int = 50,
    split: Split = "train",
    settings: Settings | None = None,
) -> TrialPlan:
    """What `try_prompt` would ask; asks nothing."""
    settings = settings or load_settings()
    loaded = loaded_application(*settings.application_files, application)
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        return plan_trial(store, loaded, Path(prompt), variant=variant, count=n, split=split)


def try_prompt(
    application: str,
    prompt: str | Path,
    *,
    variant: str | None = None,
    n: int = 50,
    split: Split = "train",
    settings: Settings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrialResult:
    """Answers, scores and differences of a prompt file against what is published, on documents of the training split.

    Stored answers are reused, and what is paid here is stored. A trial on the evaluation split is counted, because a
    prompt that is chosen on it fits it.

    Args:
        application: Name of an application.
        prompt: Path of a prompt file, in or outside of the application's folder.
        variant: Whose model, sampling and decision are taken; the champion's if not given.
        n: How many documents; the first ones are always the same.

    Raises:
        SpecificationError: the file has mistakes, or there is nothing to try it on.
        EndpointMismatch, EndpointUnavailable: as for every bulk run.
    """
    settings = settings or load_settings()
    loaded = loaded_application(*settings.application_files, application)
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        plan = plan_trial(store, loaded, Path(prompt), variant=variant, count=n, split=split)
        asking = asking_of(
            settings,
            plan.release,
            max_failed_share=1.0,  # a prompt that fails on everything is a finding, too
            run_id=f"try-{uuid.uuid4().hex[:12]}",
            snapshot=lake.snapshot(),
            on_progress=on_progress,
        )
        result = run_trial(store, plan, asking=asking, by=login())
    # What is returned has the documents and their answers in it.
    WarehouseResource.of(settings).note_read(application, "try", rows=plan.documents.num_rows)
    return result


def freeze_examples(
    application: str, prompt: str | Path, *, rows: int = DEFAULT_ROWS, settings: Settings | None = None
) -> Pool:
    """Freeze the known answers of the training split as examples, and write their hash into a prompt file.

    Args:
        prompt: Path of a prompt file, or the name of one of the application.

    Raises:
        SpecificationError: the file selects no examples, or there is no known answer.
    """
    settings = settings or load_settings()
    spec = application_of(settings.application_folders, settings.models_lock, application)
    path = Path(prompt) if str(prompt).endswith(".md") else spec.folder / "prompts" / f"{prompt}.md"
    with WarehouseResource.of(settings).open() as lake:
        return freeze_pool(lake.application(application), spec, path, rows=rows)


def compare(
    a: str, b: str, *, application: str | None = None, split: Split = "evaluation", settings: Settings | None = None
) -> tuple[Side, Side, Paired | None]:
    """Two variants or releases of one application on the documents that both have answered; asks nothing.

    Args:
        a, b: Variants, `champion`, or the beginnings of release ids.
        application: Needed only where several applications know both names.

    Raises:
        SpecificationError: a name is unknown or ambiguous.
    """
    settings = settings or load_settings()
    loaded = application_with(settings, (a, b), application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        return compare_releases(lake.application(loaded.application.name), loaded, (a, b), split=split)


def ask_judge(
    application: str,
    judge: str,
    *,
    settings: Settings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Judged:
    """Have a judge judge the stored answers of every variant, and measure its agreement with people.

    Raises:
        SpecificationError: the application has no such judge.
        EndpointMismatch, EndpointUnavailable: as for every bulk run.
    """
    settings = settings or load_settings()
    loaded = loaded_application(*settings.application_files, application)
    if judge not in loaded.judges:
        raise SpecificationError(
            f"{application} has no judge {judge!r}. There are: {', '.join(loaded.judges) or 'none'}; a judge is a "
            "file in the folder 'judges' of the application."
        )
    release = judge_release(loaded, loaded.judges[judge])
    with WarehouseResource.of(settings).open() as lake:
        asking = asking_of(
            settings,
            release,
            max_failed_share=1.0,  # a verdict that cannot be read is ungraded, and no reason to end the run
            run_id=f"judge-{uuid.uuid4().hex[:12]}",
            snapshot=lake.snapshot(),
            on_progress=on_progress,
        )
        return judge_answers(lake.application(application), loaded, judge, asking=asking)


def application_with(settings: Settings, names: tuple[str, str], application: str | None) -> LoadedApplication:
    """The application that two variants or releases belong to.

    Raises:
        SpecificationError: none knows both, or several do.
    """
    if application is not None:
        return loaded_application(*settings.application_files, application)
    found = load_applications(*settings.application_files)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        known = [
            one
            for name, one in found.items()
            if all(_is_known(list(one.application.judged), lake.application(name).releases.ids(), key) for key in names)
        ]
    if len(known) != 1:
        which = "No application has" if not known else f"{', '.join(one.application.name for one in known)} have"
        raise SpecificationError(
            f"{which} both {names[0]!r} and {names[1]!r}. Name variants or release ids of one application, or give "
            "--application."
        )
    return known[0]


def _is_known(variants: list[str], release_ids: list[str], name: str) -> bool:
    return name in (*variants, CHAMPION) or any(release_id.startswith(name) for release_id in release_ids)
