"""The chain from known answers to a judged adapter, run through Dagster: a tiny model is trained for real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from rich.console import Console

from llm_platform.errors import EvidenceMissing, PermanentError, StorageError
from llm_platform.finetuning.abilities import ABILITIES
from llm_platform.operations.adapters.adapters import retire_adapter
from llm_platform.operations.adapters.training_plan import promotable, training_plan
from llm_platform.operations.evidence.adapter_evidence import AdapterReport, report_kind, stored_report
from llm_platform.operations.release.plan import plan
from llm_platform.operations.release.rollout import promote
from llm_platform.records import AdapterManifest, RolloutEvent
from llm_platform.resources.handed import adapter_bytes, adapter_folders, serving_of
from llm_platform.warehouse.store import ApplicationStore
from llm_platform.workbench.runs import train
from llm_platform.workbench.summary import print_summary
from llm_platform_tests.finetuning.tiny import tiny_base
from llm_platform_tests.servers.scripted import MODEL, ScriptedServer, Seen
from llm_platform_tests.team import ENTRY, NAME, right_answer
from llm_platform_tests.tiny_model import TuningTeam

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
KNOWN = {ability.prompt: ability.answer for ability in ABILITIES}


def answer(seen: Seen) -> str:
    """Asked clearly, the base misses half of the happy ones; its adapter is right; both still know their capitals."""
    if not seen.document_id:
        return KNOWN.get(str(seen.body["prompt"]), "no idea")
    number = int(seen.document_id)
    if "messages" in seen.body:
        return right_answer(number) if "clearly" in str(seen.body) and number % 4 == 1 else "SAD"
    right = {"HAPPY": "good", "SAD": "bad"}[right_answer(number)]
    return right if seen.body["model"] != MODEL else "bad"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a base model, made once."""
    folder = tmp_path_factory.mktemp("bases")
    tiny_base(folder / ENTRY)
    return folder


@dataclass(frozen=True)
class Site:
    """A team with its endpoint, which lists what is published to its folder, and its history."""

    team: TuningTeam
    model: ScriptedServer
    instance: dg.DagsterInstance

    def run(self, job: str) -> dg.ExecuteInProcessResult:
        found = self.team.definitions().resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, raise_on_error=False, run_config=QUIET)

    def train(self) -> tuple[dg.ExecuteInProcessResult, dg.ExecuteInProcessResult]:
        """The job that trains, and the everyday job that a sensor starts when it has ended well."""
        trained = self.run(self.team.job)
        return trained, self.run(NAME) if trained.success else trained

    @contextmanager
    def store(self) -> Iterator[ApplicationStore]:
        with self.team.warehouse.open() as lake:
            yield lake.application(NAME)

    def adapter(self) -> AdapterManifest:
        with self.store() as store:
            found = self.team.loaded.adapter("mood", store)
        assert found is not None
        return found


@contextmanager
def site(root: Path, base: Path) -> Iterator[Site]:
    source = root / "peft"
    with ScriptedServer(answer=answer, peft_source=source) as model, dg.DagsterInstance.ephemeral() as instance:
        (root / "bases").symlink_to(base)
        yield Site(TuningTeam(root, model.url, nim_peft_source=source), model, instance)


@pytest.fixture
def untrained(tmp_path: Path, base: Path) -> Iterator[Site]:
    """Nothing has run yet."""
    with site(tmp_path, base) as made:
        yield made


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Trained]:
    """The whole chain has run once; training takes seconds, so it is done once."""
    with site(tmp_path_factory.mktemp("team"), base) as made:
        assert made.run(NAME).success
        results = made.train()
        assert all(result.success for result in results), failure(results[0]) + failure(results[1])
        yield made, *results


Trained = tuple[Site, dg.ExecuteInProcessResult, dg.ExecuteInProcessResult]


def failure(result: dg.ExecuteInProcessResult) -> str:
    events = [event for event in result.all_node_events if event.is_step_failure]
    return "\n".join(str(event.step_failure_data.error_display_string) for event in events)


def metadata(result: dg.ExecuteInProcessResult, *key: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("__".join([NAME, *key]))
    return {name: value.value for name, value in event.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


@pytest.mark.slow
def test_before_training_the_variant_is_a_plain_state(untrained: Site) -> None:
    """The everyday job must neither train, nor fail, nor leave something undone, because nobody has trained yet."""
    team = untrained.team

    result = untrained.run(NAME)

    assert result.success, failure(result)
    assert not {"tuned_accuracy_at_least_minimum", "adapter_improves_on_champion"} & checks(result).keys()
    assert metadata(result, "completions_tuned")["note"] == "its adapter 'mood' is not trained yet"
    assert metadata(result, "completions_tuned")["checks"] == "0 held, 2 nothing to measure"
    with team.warehouse.open() as lake:
        assert plan(lake, team.loaded) == []
        steps = training_plan(lake, team.loaded, gpus=1)
    assert [step.asset for step in steps] == ["training_examples_mood"]


@pytest.mark.slow
def test_a_terminal_trains_where_nothing_has_run_yet(untrained: Site) -> None:
    """`demo --finetune` in a fresh clone: the job that trains takes known answers as they are, and there were none."""
    team = untrained.team
    early = untrained.run(team.job)

    train(team.settings, NAME, console=Console(file=StringIO()))

    assert not early.success
    assert f"llm-platform run {NAME}" in failure(early)
    with team.warehouse.open() as lake:
        assert training_plan(lake, team.loaded, gpus=1) == []


def test_what_is_trained_is_served_and_judged(trained: Trained) -> None:
    """The chain as a person sees it: examples, an adapter, answers by its name, a comparison with what is there."""
    there, training, result = trained

    made, examples = metadata(training, "adapter_mood"), metadata(training, "training_examples_mood")
    with there.store() as store:
        release = there.team.loaded.release("tuned", store)
        assert release is not None
        report = stored_report(store, release)
        champion = store.rollout.champion()

    assert made["trained_now"] is True
    assert examples["train"] + examples["validation"] == examples["dagster/row_count"] > 30
    assert examples["dropped_duplicates"] == 0
    assert made["validation_loss"] < made["validation_loss_of_base"]
    assert Path(made["loss_curve"]).read_text(encoding="utf-8").startswith("<svg")
    assert examples["checks"] == "2 held"
    assert checks(result)["adapter_improves_on_champion"]
    assert checks(result)["base_abilities_kept"]
    assert (there.team.root / "peft" / release.served_name / "adapter_config.json").is_file()
    assert not list((there.team.settings.namespace_folder / "training").iterdir())
    assert report is not None
    assert [pair.name.split(",")[0] for pair in report.pairs][1:] == ["base", "TF-IDF + logistic regression"]
    assert champion is not None
    assert champion.variant == "clear"


@pytest.mark.slow
def test_the_same_inputs_train_nothing_and_ask_nothing(trained: Trained) -> None:
    """Nothing in Dagster prevents a second training; the record of the first one does."""
    there, *_ = trained
    before = there.adapter()
    there.train()  # the champion is chosen in the first run, and answers in the second
    asked = there.model.counts.requests

    again, judged = there.train()

    assert again.success, failure(again)
    assert judged.success, failure(judged)
    assert metadata(again, "adapter_mood")["trained_now"] is False
    assert metadata(again, "adapter_mood")["adapter"] == before.adapter_id
    assert there.model.counts.requests == asked
    with there.team.warehouse.open() as lake:
        assert training_plan(lake, there.team.loaded, gpus=1) == []


@pytest.mark.slow
def test_an_adapter_is_published_on_its_comparison_with_the_present_champion_only(
    trained: Trained,
) -> None:
    """Passing the gates is not enough: it has to be better than what serves now, on record; then it is not retired."""
    there, *_ = trained
    loaded, manifest = there.team.loaded, there.adapter()
    there.train()

    with there.store() as store:
        release = loaded.release("tuned", store)
        assert release is not None
        report = stored_report(store, release)
        assert report is not None

        def decided(on: AdapterReport) -> RolloutEvent:
            store.adapter_reports.append(manifest.adapter_id, report_kind(release), on.model_dump_json())
            return promote(store, loaded, "tuned", release=release, by="test")

        with pytest.raises(EvidenceMissing, match="there is nothing to compare it with"):
            decided(report.model_copy(update={"pairs": ()}))
        said = Console(file=StringIO(), width=300)
        with there.team.warehouse.open(read_only=True) as lake:
            print_summary(lake, loaded, there.team.settings, console=said, checks=None)
        assert "tuned       refused" in said.file.getvalue()  # type: ignore[attr-defined]
        assert "also approved: tuned" not in said.file.getvalue()  # type: ignore[attr-defined]
        with pytest.raises(EvidenceMissing, match="not been held against the champion"):
            decided(report.model_copy(update={"evaluation_id": "another"}))
        with pytest.raises(EvidenceMissing, match="was held against release another"):
            decided(report.model_copy(update={"rival_id": "another"}))
        assert promotable(store, loaded) is None
        store.adapter_reports.append(manifest.adapter_id, report_kind(release), report.model_dump_json())
        assert promotable(store, loaded) == ("tuned", release)
        weights = adapter_folders(there.team.settings).path(manifest.adapter_id) / "adapter_model.safetensors"
        right = weights.read_bytes()
        weights.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
        whole = adapter_bytes(there.team.settings)
        with pytest.raises(StorageError, match="its manifest says"):
            promote(store, loaded, "tuned", release=release, by="test", adapter_bytes=whole)
        weights.write_bytes(right)
        decided(report)
        assert promotable(store, loaded) is None
        entry = loaded.lock[ENTRY]
        with pytest.raises(PermanentError, match=f"the champion, release {release.release_id}"):
            retire_adapter(store, loaded, manifest, serving=serving_of(there.team.settings), entry=entry)


@pytest.mark.slow
def test_the_chain_refuses_an_adapter_whose_file_was_changed(
    trained: Trained,
) -> None:
    """An adapter is loaded again and again; each time it has to be the one that was measured."""
    there, *_ = trained
    weights = adapter_folders(there.team.settings).path(there.adapter().adapter_id) / "adapter_model.safetensors"
    right = weights.read_bytes()
    weights.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))

    result, _ = there.train()

    weights.write_bytes(right)
    assert not result.success
    assert "its manifest says" in failure(result)
