"""Adapters as folders: kept, verified, copied, and taken up again from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr

from llm_platform.application.variants import Finetuning
from llm_platform.errors import EndpointMismatch, PermanentError, RequestRejected, SpecificationError, StorageError
from llm_platform.evaluation.pairs import held_out_grades
from llm_platform.finetuning.abilities import ABILITIES, is_right
from llm_platform.finetuning.adapter import import_adapter
from llm_platform.finetuning.job import read_job
from llm_platform.models.entries import LockEntry
from llm_platform.nim.adapters import load, unload
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.adapters.adapter_reports import write_page
from llm_platform.operations.adapters.adapters import (
    ServedAdapter,
    peft_source,
    serve_adapter,
    withdraw_adapter,
)
from llm_platform.operations.adapters.finetuning import Training
from llm_platform.operations.adapters.studies import curve_sizes, sweep_recipes
from llm_platform.operations.adapters.training_process import run_training
from llm_platform.operations.evidence.abilities import KeptAbilities, measure_abilities
from llm_platform.records import AdapterManifest, ModelPin, Score, adapter_name
from llm_platform.resources.handed import adapter_folders, serving_of
from llm_platform.settings.settings import Settings
from llm_platform_tests.finetuning.tiny import examples, tiny_base, tiny_job
from llm_platform_tests.servers.buckets import bucket_named
from llm_platform_tests.servers.scripted import MODEL, ScriptedServer, Seen
from llm_platform_tests.team import NAME, Team
from llm_platform_tests.tiny_model import layout

PIN = ModelPin(entry="scripted", served_name=MODEL, dialect="nim-2.x", weights_sha256="a" * 64, context_length=4096)
KNOWN = {ability.prompt: ability.answer for ability in ABILITIES}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state", namespace="test", nim_peft_source=tmp_path / "peft")


@pytest.fixture
def imported(tmp_path: Path, settings: Settings) -> AdapterManifest:
    source = layout(tmp_path / "elsewhere")
    return import_adapter(source, adapter_folders(settings).folder, application="tickets", name="mood", base=PIN)


ENTRY = LockEntry(
    name="scripted",
    mode="external",
    served_name=MODEL,
    base_urls=("http://127.0.0.1:9",),
    model="test/model",
    licence="none",
    context_length=4096,
)


@pytest.fixture
def entry() -> LockEntry:
    return ENTRY


def serve(settings: Settings, entry: LockEntry, **given: Any) -> None:
    """Serve an adapter as a deployment with these settings does."""
    serve_adapter(entry, serving=serving_of(settings), folders=adapter_folders(settings), **given)


def test_an_imported_adapter_is_served_under_a_name_of_its_content(
    settings: Settings, imported: AdapterManifest, entry: LockEntry, tmp_path: Path
) -> None:
    """What was trained elsewhere goes the same way; asked for twice, nothing changes."""
    name = adapter_name("tickets", imported.adapter_id)
    with ScriptedServer(peft_source=tmp_path / "peft") as model:
        for _ in range(2):
            serve(settings, entry, name=name, adapter_id=imported.adapter_id, base=PIN, base_urls=[model.url])

    assert [path.name for path in (tmp_path / "peft").iterdir()] == [name]


def test_an_endpoint_that_watches_no_folder_is_told_to_load_and_to_unload(
    settings: Settings, imported: AdapterManifest, entry: LockEntry, tmp_path: Path
) -> None:
    """A plain vLLM loads what it is told to and nothing else; it may see the folder under another path."""
    (tmp_path / "mounted").symlink_to(tmp_path / "peft")
    mounted = settings.model_copy(update={"nim_peft_mount": tmp_path / "mounted"})
    plain = entry.model_copy(update={"dialect": "vllm"})
    name = adapter_name("tickets", imported.adapter_id)
    with ScriptedServer(loads_adapters=True) as model:
        given = {"name": name, "adapter_id": imported.adapter_id, "base": PIN, "base_urls": [model.url]}
        serve(mounted, plain, **given)
        assert model.loaded == {name: str(tmp_path / "mounted" / name)}
        with EndpointClient() as client:
            assert unload(model.url, name, client)

    assert model.loaded == {}


def test_pods_are_told_of_the_folder_of_their_model(
    settings: Settings, imported: AdapterManifest, entry: LockEntry, tmp_path: Path
) -> None:
    """Models in a cluster share a volume, and each sees the adapters of its own base below it."""
    (tmp_path / "mounted").symlink_to(tmp_path / "peft")
    mounted = settings.model_copy(update={"nim_peft_mount": tmp_path / "mounted"})
    pods = entry.model_copy(update={"mode": "kubernetes", "base_urls": (), "dialect": "vllm"})
    with ScriptedServer(loads_adapters=True) as model:
        serve(mounted, pods, name="n", adapter_id=imported.adapter_id, base=PIN, base_urls=[model.url])

        assert model.loaded == {"n": str(tmp_path / "mounted" / "nim-scripted" / "n")}
    assert [path.name for path in (tmp_path / "peft" / "nim-scripted").iterdir()] == ["n"]


def test_endpoints_found_by_name_are_told_to_unload(
    settings: Settings, imported: AdapterManifest, entry: LockEntry, tmp_path: Path
) -> None:
    """Where pods come and go the lock file lists no address, and a retired adapter must not stay in their memory."""
    with ScriptedServer(loads_adapters=True) as model:
        named = entry.model_copy(update={"dialect": "vllm", "base_urls": (), "dns": f"localhost:{model.port}"})
        given = {"name": "n", "adapter_id": imported.adapter_id, "base": PIN, "base_urls": [model.url]}
        serve(settings, named, **given)
        assert list(model.loaded) == ["n"]

        assert withdraw_adapter(serving_of(settings), named, "n")

        assert (model.loaded, withdraw_adapter(serving_of(settings), named, "n")) == ({}, False)
    assert list((tmp_path / "peft").iterdir()) == []


def test_an_adapter_of_a_model_that_is_down_can_be_withdrawn(
    settings: Settings, imported: AdapterManifest, entry: LockEntry, tmp_path: Path
) -> None:
    """The folder is what a model reads when it comes up again."""
    down = entry.model_copy(update={"dialect": "vllm", "base_urls": (), "dns": "models.invalid:8000"})
    with ScriptedServer(loads_adapters=True) as model:
        given = {"name": "n", "adapter_id": imported.adapter_id, "base": PIN, "base_urls": [model.url]}
        serve(settings, down, **given)

    assert withdraw_adapter(serving_of(settings), down, "n")
    assert list((tmp_path / "peft").iterdir()) == []


def test_an_endpoint_that_can_do_neither_says_what_it_was_asked(
    settings: Settings, imported: AdapterManifest, entry: LockEntry
) -> None:
    """Waiting two minutes for a server that will never look would help nobody."""
    plain = entry.model_copy(update={"dialect": "vllm"})
    with ScriptedServer() as model, pytest.raises(RequestRejected, match="load adapter 'n'"):
        serve(settings, plain, name="n", adapter_id=imported.adapter_id, base=PIN, base_urls=[model.url])


def test_a_tampered_adapter_and_another_base_are_refused_before_anything_is_published(
    settings: Settings, imported: AdapterManifest, entry: LockEntry, tmp_path: Path
) -> None:
    """An adapter is trusted for what was measured of it; another file, or another base, is another adapter."""
    folders = adapter_folders(settings)
    other = PIN.model_copy(update={"weights_sha256": "b" * 64})
    with pytest.raises(EndpointMismatch, match=f"{'a' * 64}.*{'b' * 64}"):
        folders.find(imported.adapter_id, other)
    weights = folders.path(imported.adapter_id) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")

    with pytest.raises(StorageError, match="its manifest says"):
        serve(settings, entry, name="n", adapter_id=imported.adapter_id, base=PIN, base_urls=[])

    assert not (tmp_path / "peft").exists()


def test_an_adapter_that_is_nowhere_is_said_to_be(settings: Settings) -> None:
    """The message has to say where was looked and what helps."""
    with pytest.raises(StorageError, match=r"adapters.*Train or import it again"):
        adapter_folders(settings).find("0123456789abcdef", PIN)


def test_a_branch_finds_the_adapters_of_production(settings: Settings, imported: AdapterManifest) -> None:
    """A branch answers with production's champion, adapter included."""
    branch = settings.model_copy(update={"namespace": "branch", "upstream": "test"})

    found = adapter_folders(branch).find(imported.adapter_id, PIN)

    assert found == adapter_folders(settings).folder / imported.adapter_id


def test_adapters_are_kept_in_the_object_store_and_fetched_from_it(settings: Settings, tmp_path: Path) -> None:
    """A pod with an empty disk serves what another one has trained."""
    with bucket_named("adapters") as (access, _):
        given = {
            "data_root": "s3://adapters/all",
            "s3_endpoint": access.endpoint,
            "s3_use_ssl": False,
            "s3_region": "us-east-1",
        }
        given |= {"s3_key_id": "key", "s3_secret": SecretStr("s3cret")}
        here = adapter_folders(Settings(state=settings.state, namespace="test", **given))
        source = layout(tmp_path / "elsewhere")
        made = import_adapter(source, tmp_path / "made", application="tickets", name="mood", base=PIN)
        here.keep(tmp_path / "made" / made.adapter_id, PIN)
        elsewhere = adapter_folders(Settings(state=tmp_path / "empty", namespace="test", **given))

        found = elsewhere.find(made.adapter_id, PIN)

        assert found == elsewhere.path(made.adapter_id)
        assert sorted(path.name for path in found.iterdir()) == sorted(
            path.name for path in here.path(made.adapter_id).iterdir()
        )
        with pytest.raises(StorageError, match="s3://adapters/all"):
            elsewhere.find("0123456789abcdef", PIN)


def test_endpoints_that_watch_an_unnamed_folder_are_refused(settings: Settings, entry: LockEntry) -> None:
    """Publishing to nowhere would end in a wait for the deadline."""
    with pytest.raises(SpecificationError, match="LLM_PLATFORM_NIM_PEFT_SOURCE"):
        peft_source(serving_of(settings.model_copy(update={"nim_peft_source": None})), entry)


@pytest.mark.parametrize(
    ("forgets", "passed"), [pytest.param(0, True, id="keeps-all"), pytest.param(30, False, id="forgets-much")]
)
def test_what_an_adapter_has_unlearned_is_counted_over_what_its_base_could(forgets: int, passed: bool) -> None:
    """An adapter that answers everything with its label must not pass because the base could not do it all either."""
    lost = {ability.prompt for ability in ABILITIES[:forgets]}

    def answer(seen: Seen) -> str:
        prompt = str(seen.body["prompt"])
        known = prompt in KNOWN and not prompt.startswith("1 + 1")
        return KNOWN[prompt] if known and not (seen.body["model"] == "tuned" and prompt in lost) else " good"

    with ScriptedServer(answer=answer) as model:
        found = measure_abilities(model.url, base=MODEL, adapter="tuned", confidence=0.95)

    sums = sum(ability.kind == "sums" for ability in ABILITIES)
    assert found.base_right == len(ABILITIES) - sums
    assert sum(found.lost.values()) == forgets
    assert found.passed is passed


def test_what_another_adapter_still_can_is_no_measurement(
    settings: Settings, imported: AdapterManifest, entry: LockEntry, tmp_path: Path
) -> None:
    """The report decides about a promotion: the adapter that was asked must be the one that it names, to the end."""
    name, other = adapter_name("tickets", imported.adapter_id), layout(tmp_path / "other")
    served = ServedAdapter(
        entry.model_copy(update={"dialect": "vllm"}),
        serving=serving_of(settings),
        folders=adapter_folders(settings),
        name=name,
        adapter_id=imported.adapter_id,
        base=PIN,
    )

    def after_a_swap() -> None:
        with EndpointClient() as client:
            load(model.url, name, str(other), client, in_place=True)
        served.verify()

    with ScriptedServer(answer=lambda _: " Paris", loads_adapters=True) as model:
        served.serve([model.url])
        measure_abilities(model.url, base=MODEL, adapter=name, confidence=0.95, verify=served.verify)

        with pytest.raises(EndpointMismatch, match=r"served something else under 'tickets-"):
            measure_abilities(model.url, base=MODEL, adapter=name, confidence=0.95, verify=after_a_swap)


def test_a_base_that_could_nothing_has_nothing_to_lose() -> None:
    """No share of nothing is computed."""
    assert KeptAbilities(version="1", asked=70, base_right=0, kept=None, lost={}).passed


@pytest.mark.parametrize(
    ("continuation", "right"),
    [
        pytest.param(" Paris, and", True, id="goes-on"),
        pytest.param(' "paris"', True, id="quoted"),
        pytest.param(" the city of Paris", False, id="late"),
        pytest.param("", False, id="empty"),
    ],
)
def test_a_continuation_is_right_if_it_begins_right(continuation: str, right: bool) -> None:
    """Small models go on talking; what counts is the first word."""
    assert is_right(ABILITIES[0], continuation) is right


def test_a_learning_curve_doubles_from_fifty_to_all() -> None:
    """The last point is the adapter itself; a set of fifty or fewer is one point."""
    assert curve_sizes(340) == [50, 100, 200, 340]
    assert curve_sizes(50) == [50]


@pytest.fixture
def training(tmp_path: Path) -> Training:
    base = tiny_base(tmp_path / "base")
    folder = tiny_job(tmp_path / "job", base, examples(), epochs=6)
    return Training(read_job(folder)[0], folder, base, None)


@pytest.mark.slow
def test_a_training_whose_run_is_interrupted_goes_on_from_its_checkpoint(training: Training) -> None:
    """Minutes of a GPU are money: the process is ended with its run, and not begun anew with the next one."""
    seen: list[dict[str, object]] = []

    def interrupt(event: object) -> None:
        seen.append(dict(event))  # type: ignore[call-overload]
        if seen[-1]["event"] == "step" and int(str(seen[-1]["step"])) >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(training, on_event=interrupt)
    again: list[dict[str, object]] = []
    run_training(training, on_event=lambda event: again.append(dict(event)))

    assert int(str(again[0]["step"])) >= 3
    assert again[-1]["event"] == "done"


def test_a_training_that_refuses_says_why(training: Training) -> None:
    """The reason has to reach the person who clicked, not a log file."""
    (training.folder / "examples.jsonl").write_text("", encoding="utf-8")

    with pytest.raises(Exception, match="materialize the training examples again"):
        run_training(training)


def test_a_training_that_nobody_foresaw_to_fail_quotes_no_example(training: Training) -> None:
    """The last lines of its log were the message of the failed run, and a trace ends with the values it was given."""
    (training.folder / "examples.jsonl").write_bytes(b"Mueller of Aachen \xff")

    with pytest.raises(PermanentError, match="UnicodeDecodeError at") as failed:
        run_training(training)

    assert "Aachen" not in str(failed.value)


def test_a_sweep_turns_two_knobs() -> None:
    """A handful of trials, of which the first is the recipe as it is."""
    recipes = sweep_recipes(Finetuning(prompt="p", model="m", learning_rate=0.001, rank=8))

    assert [(recipe.rank, recipe.learning_rate) for recipe in recipes] == [
        (8, 0.001),
        (8, 0.0005),
        (8, 0.002),
        (16, 0.001),
    ]


def test_grades_are_of_held_out_texts_only() -> None:
    """A grade on a text that somebody trained on says nothing."""
    documents = pd.DataFrame({"document_id": ["1", "2", "3"], "fingerprint": ["a", "b", "a"]})
    references = pd.DataFrame(
        {"document_id": ["1", "2", "3"], "answer": "x", "split": ["train", "evaluation", "evaluation"]}
    )
    scores = [
        Score(release_id="r", fingerprint=key, document_id=document, scorer="s", score=1.0, references_version="1")
        for document, key in (("1", "a"), ("2", "b"), ("3", "a"))
    ]

    assert held_out_grades(documents, references, scores, scorer="s") == {"b": 1.0}


def test_the_page_of_adapters_says_how_to_get_one(tmp_path: Path) -> None:
    """It is written by the first run already, and an empty page looks like a broken one."""
    team = Team(tmp_path, "http://models.invalid:8000")
    with team.warehouse.open() as lake:
        page = write_page(lake.application(NAME), team.loaded, tmp_path / "adapters.html")

    assert f"The job {NAME}_finetune trains" in page.read_text(encoding="utf-8")


def test_an_adapter_that_is_swapped_while_documents_are_answered_is_noticed(
    settings: Settings, imported: AdapterManifest, entry: LockEntry, tmp_path: Path
) -> None:
    """Answers under a release are answers of its weights, whoever can reach the endpoint."""
    name = adapter_name("tickets", imported.adapter_id)
    other = layout(tmp_path / "other")
    plain = entry.model_copy(update={"dialect": "vllm"})
    served = ServedAdapter(
        plain,
        serving=serving_of(settings),
        folders=adapter_folders(settings),
        name=name,
        adapter_id=imported.adapter_id,
        base=PIN,
    )
    with ScriptedServer(loads_adapters=True) as model, EndpointClient() as client:
        served.serve([model.url])
        served.verify()
        load(model.url, name, str(other), client, in_place=True)

        with pytest.raises(EndpointMismatch, match=r"served something else under 'tickets-"):
            served.verify()
