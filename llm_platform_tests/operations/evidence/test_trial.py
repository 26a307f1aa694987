"""Prompts tried on a few documents, and releases compared on stored answers."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llm_platform.cli.main import app
from llm_platform.errors import SpecificationError
from llm_platform.operations.answering.examples import draw_pool, freeze_pool
from llm_platform.operations.evidence.comparing import differences
from llm_platform.operations.evidence.prompts import prompt_versions, prompts_to_compare
from llm_platform.operations.release.plan import plan
from llm_platform.prompts.text import prompt_difference
from llm_platform.records import Annotation
from llm_platform.settings.settings import CHECKOUT
from llm_platform.workbench.prompt_work import compare, plan_prompt, try_prompt
from llm_platform_tests.notebooks import run_notebook
from llm_platform_tests.operations.prompt_team import DOCUMENTS, Ran
from llm_platform_tests.team import NAME
from llm_platform_tests.warehouse.builders import NOON


def prompt_file(folder: Path, text: str, front: str = "") -> Path:
    path = folder / f"p{uuid.uuid4().hex[:6]}.md"
    path.write_text(f"---\napi: chat\n{front}---\n# user\n\n{text}\n", encoding="utf-8")
    return path


def test_a_trial_asks_for_each_answer_once(ran: Ran, tmp_path: Path) -> None:
    """Twenty tries a day on the same documents have to cost what one does."""
    team, model = ran
    path = prompt_file(tmp_path, "HAPPY or SAD, in one word? {{ text }}")
    before = model.counts.requests

    sent = [try_prompt(NAME, path, n=n, settings=team.settings).sent for n in (12, 12, 20)]

    assert sent == [12, 0, 8]
    assert model.counts.requests == before + 20


def test_a_plan_says_what_would_be_asked_and_asks_nothing(ran: Ran, tmp_path: Path) -> None:
    """Somebody who is new tries the plan first."""
    team, model = ran
    path = prompt_file(tmp_path, "HAPPY or SAD, say it? {{ text }}")
    before = model.counts.requests

    found = plan_prompt(NAME, path, n=15, settings=team.settings)

    assert (len(found.missing), found.reused, found.variant, found.split) == (15, 0, "clear", "train")
    assert 15 * 10 < found.prompt_tokens < 15 * 40
    assert found.completion_tokens == 15 * 8
    assert model.counts.requests == before


def test_a_worse_prompt_is_seen_to_be_worse(ran: Ran, tmp_path: Path) -> None:
    """The champion is right on every ticket; a vague prompt gets the happy ones wrong, and only those."""
    team, _ = ran
    path = prompt_file(tmp_path, "Which mood? {{ text }}")

    result = try_prompt(NAME, path, n=30, settings=team.settings)

    assert result.against is not None
    assert result.against.name == "champion"
    assert result.against_score is not None
    assert result.against_score.value == 1.0
    assert result.paired is not None
    assert result.paired.difference.upper < 0
    assert result.paired.p_value < 0.001
    assert {int(document_id) % 2 for document_id in result.paired.worse} == {1}
    assert result.paired.better == ()
    frame = result.frame()
    assert list(frame.columns) == [
        "document_id",
        "reference",
        "tried_answer",
        "tried_score",
        "champion_answer",
        "champion_score",
    ]
    assert len(frame) == 30


def test_prompts_are_tried_on_the_training_split_and_a_look_at_the_other_is_counted(ran: Ran, tmp_path: Path) -> None:
    """A prompt that is chosen on the evaluation split fits that split."""
    team, _ = ran
    path = prompt_file(tmp_path, "Mood, please: {{ text }}")
    with team.warehouse.open() as lake:
        references = lake.application(NAME).references.table().to_pandas().set_index("document_id")["split"]

    result = try_prompt(NAME, path, n=10, settings=team.settings)
    before = plan_prompt(NAME, path, n=10, split="evaluation", settings=team.settings).looks
    looked = try_prompt(NAME, path, n=10, split="evaluation", settings=team.settings)
    try_prompt(NAME, path, n=10, split="evaluation", settings=team.settings)

    assert set(references[result.frame()["document_id"]]) == {"train"}
    assert set(references[looked.frame()["document_id"]]) == {"evaluation"}
    assert plan_prompt(NAME, path, n=10, split="evaluation", settings=team.settings).looks == before + 1
    with team.warehouse.open() as lake:
        stored = lake.application(NAME).trials.table().to_pylist()
    mine = [row for row in stored if row["release_id"] == result.plan.release.release_id]
    assert [(row["split"], row["documents"], row["sent"]) for row in mine] == [
        ("train", 10, 10),
        ("evaluation", 10, 10),
        ("evaluation", 10, 0),
    ]


def test_what_a_trial_paid_is_there_when_the_prompt_becomes_a_variant(ran: Ran, tmp_path: Path) -> None:
    """A trial is a challenger that nobody has registered; it changes nothing, and nothing of it is paid again."""
    team, _ = ran
    path = prompt_file(tmp_path, "Clearly happy or not? {{ text }}")
    with team.warehouse.open() as lake:
        before = plan(lake, team.loaded)

    result = try_prompt(NAME, path, n=10, settings=team.settings)

    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        assert plan(lake, team.loaded) == before
        assert store.completions.missing_count(result.plan.release.release_id) == DOCUMENTS - 10
    assert result.plan.release.application == NAME
    assert result.plan.release.release_id not in {
        release.release_id
        for release in (team.loaded.requesting(name, store) for name in team.loaded.application.variants)
        if release is not None
    }


def test_two_variants_are_compared_on_stored_answers_and_what_differs_is_named(ran: Ran) -> None:
    """The question after a report is why, and the answer is in the prompt's lines."""
    team, model = ran
    before = model.counts.requests

    vague, clear, paired = compare("vague", "clear", settings=team.settings)
    lines = differences(vague.release, clear.release, names=("vague", "clear"))

    assert paired is not None
    assert paired.difference.lower > 0
    assert paired.worse == ()
    assert "-HAPPY or SAD? {{ text }}" in lines
    assert "+Say clearly whether this is HAPPY or SAD: {{ text }}" in lines
    assert not [line for line in lines if line.startswith(("model", "sampling"))]
    assert model.counts.requests == before


def test_a_release_is_named_by_the_beginning_of_its_id(ran: Ran) -> None:
    """Trials have no name but their id."""
    team, _ = ran
    _, clear, _ = compare("vague", "clear", settings=team.settings)

    _, same, paired = compare("champion", clear.release.release_id[:8], settings=team.settings)

    assert same.release == clear.release
    assert paired is not None
    assert paired.difference.value == 0.0
    assert paired.p_value == 1.0


def test_names_that_no_application_knows_are_refused_in_words(ran: Ran) -> None:
    """A typing error must not end in a traceback."""
    team, _ = ran

    with pytest.raises(SpecificationError, match="No application has both 'clear' and 'nonsense'"):
        compare("clear", "nonsense", settings=team.settings)
    with pytest.raises(SpecificationError, match="no variant 'nonsense'"):
        compare("clear", "nonsense", application=NAME, settings=team.settings)


def test_versions_of_prompts_are_listed_with_who_uses_them(ran: Ran, tmp_path: Path) -> None:
    """A prompt that was only tried is found again by its version or its release."""
    team, _ = ran
    path = prompt_file(tmp_path, "Only tried: {{ text }}")
    tried = try_prompt(NAME, path, n=2, settings=team.settings)

    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        found = {one.name: one for one in prompt_versions(store, team.loaded)}
        a, b = prompts_to_compare(store, team.loaded, tried.plan.release.release_id[:10], "vague")

    assert found["clear"].used_by == ("clear", "champion")
    assert found[path.stem].used_by == ("tried",)
    assert found[path.stem].release_ids == (tried.plan.release.release_id,)
    lines = prompt_difference(a.prompt, b.prompt, names=(a.title, b.title))
    assert "-Only tried: {{ text }}" in lines
    assert "+HAPPY or SAD? {{ text }}" in lines


SELECTING = "answers: {HAPPY: HAPPY, SAD: SAD}\nexamples: {select: nearest, count: 2, pool: unfrozen}  # kept\n"
LOOP = "{% for example in examples %}({{ example.text }} is {{ example.answer }}){% endfor %} Mood? {{ text }}"


def tag(body: str, document_id: str) -> Annotation:
    key = uuid.uuid4().hex
    return Annotation(
        annotation_id=key,
        group_id=key,
        kind="tag",
        subject_kind="document",
        subject_id=document_id,
        document_id=document_id,
        body=body,
        by="somebody",
        at=NOON,
    )


def test_new_labels_and_tags_change_nothing_until_a_pool_is_frozen_again(ran: Ran, tmp_path: Path) -> None:
    """A release says how it chooses; what it chooses from must not move under it."""
    team, _ = ran
    path = prompt_file(tmp_path, LOOP, SELECTING)
    application = team.loaded.application
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        first = freeze_pool(store, application, path)
        text = path.read_text()
        train = sorted(one.document_id for one in first.examples)
        release = plan_prompt(NAME, path, n=3, settings=team.settings).release
        store.annotations.append([tag("do not use", train[0]), tag("use as few-shot", train[1])])
        after = plan_prompt(NAME, path, n=3, settings=team.settings).release
        drawn = draw_pool(store, application)
        again = freeze_pool(store, application, path)
        moved = plan_prompt(NAME, path, n=3, settings=team.settings).release

    assert f"pool: {first.name}}}  # kept" in text
    assert after == release
    assert drawn.name == again.name != first.name
    assert train[0] not in {one.document_id for one in again.examples}
    assert [one.document_id for one in again.examples if one.preferred] == [train[1]]
    assert moved.release_id != release.release_id


def test_a_trial_shows_examples_of_the_training_split_and_never_the_document_itself(ran: Ran, tmp_path: Path) -> None:
    """What is sent is what counts: the bodies that reached the model."""
    team, model = ran
    path = prompt_file(tmp_path, LOOP, SELECTING)
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        freeze_pool(store, team.loaded.application, path)
        split = store.references.table().to_pandas().set_index("document_id")["split"].to_dict()
    model.bodies.clear()
    model._keep = True

    result = try_prompt(NAME, path, n=6, settings=team.settings)

    model._keep = False
    sent = [body.decode() for body in model.bodies if b"Mood?" in body]
    assert len(sent) == result.sent == 6
    for body in sent:
        *shown, asked = [part.split("#")[0] for part in body.split("DOC#")[1:]]
        assert len(shown) == 2
        assert asked not in shown
        assert {split[document_id] for document_id in shown} == {"train"}


def test_the_worked_notebook_runs(ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read by people who will type it; here it runs on the team's application, whose names take the place."""
    team, _ = ran
    variables = {"STATE": team.settings.state, "NAMESPACE": "test", "MODELS_LOCK": team.lock_file}
    for name, value in {**variables, "APPLICATIONS": team.root / "applications"}.items():
        monkeypatch.setenv(f"LLM_PLATFORM_{name}", str(value))
    text = (CHECKOUT / "docs" / "notebooks" / "prompt_work.ipynb").read_text(encoding="utf-8")
    for shipped, ours in (("movie_reviews", NAME), ("literal", "vague"), ("sentiment", "clear")):
        text = text.replace(f'\\"{shipped}\\"', f'\\"{ours}\\"')
    (tmp_path / "prompt_work.ipynb").write_text(text, encoding="utf-8")

    defined = run_notebook(tmp_path / "prompt_work.ipynb")

    assert defined["result"].sent == 25
    assert defined["again"].sent == 0
    assert len(defined["frame"]) == 25
    assert defined["paired"].difference.value > 0
    assert len(defined["pool"].examples) > 20
    assert {"plainer", "nearest"} <= set(defined["trials"]["prompt_name"])


def test_the_commands_show_ids_and_numbers_and_texts_only_when_asked(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal is shared and logged more often than people think."""
    team, _ = ran
    variables = {"STATE": team.settings.state, "NAMESPACE": "test", "MODELS_LOCK": team.lock_file}
    for name, value in {**variables, "APPLICATIONS": team.root / "applications"}.items():
        monkeypatch.setenv(f"LLM_PLATFORM_{name}", str(value))
    path = str(prompt_file(tmp_path, "Which of the moods? {{ text }}"))
    terminal = CliRunner(env={"COLUMNS": "200"})

    quiet, shown, plan_only, listed, compared = (
        terminal.invoke(app, arguments)
        for arguments in (
            ["try", NAME, "--prompt", path, "--n", "8"],
            ["try", NAME, "--prompt", path, "--n", "8", "--texts"],
            ["try", NAME, "--prompt", path, "--plan", "--split", "evaluation"],
            ["prompt", "list", NAME],
            ["compare", "vague", "clear"],
        )
    )

    assert [one.exit_code for one in (quiet, shown, plan_only, listed, compared)] == [0] * 5
    assert "Worse with tried" in quiet.output
    assert "DOC#" not in quiet.output + compared.output
    assert "DOC#" in shown.output
    assert "each look makes it a worse judge" in " ".join(plan_only.output.split())
    assert Path(path).stem in listed.output
    assert "+Say clearly whether this is HAPPY or SAD: {{ text }}" in compared.output
    assert f"http://127.0.0.1:8765/{NAME}/answers?only=differing" in compared.output
