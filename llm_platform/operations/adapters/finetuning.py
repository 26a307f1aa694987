"""From labelled documents to a trained adapter: choose examples, prepare a job, take over what training made.

Training itself is a process of its own (`llm_platform.finetuning.train`); who starts it is a matter of `defs` and the
command line.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_platform.application.variants import Finetuning
from llm_platform.errors import PermanentError, SpecificationError, StorageError
from llm_platform.finetuning.adapter import MANIFEST, load_manifest
from llm_platform.finetuning.examples import TrainingExample, describe, make_examples
from llm_platform.finetuning.job import TrainingJob, write_job
from llm_platform.finetuning.split import LabelledDocument, choose
from llm_platform.models.entries import LockEntry
from llm_platform.models.lock import pin
from llm_platform.operations.adapters.adapters import AdapterFolders
from llm_platform.operations.answering.examples import selector
from llm_platform.operations.answering.redacting import require_redacted, shown
from llm_platform.operations.releases import LoadedApplication
from llm_platform.operations.serving.local_nim import LocalNim
from llm_platform.prompts.render import Renderer
from llm_platform.records import AdapterManifest, DocumentRow, DocumentStatus, TrainingData, content_hash
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

DOCUMENT_COLUMNS = ["document_id", "fingerprint", "text", "attributes", "status"]


def rules_hash(loaded: LoadedApplication, name: str) -> str:
    """Identity of the rules by which examples are chosen and rendered: another prompt or split is another set."""
    spec = loaded.application.finetuning[name]
    prompt = loaded.prompts[spec.prompt].version
    return content_hash([prompt, spec.examples, spec.validation_share, spec.seed])


def update_training_set(lake: Warehouse, loaded: LoadedApplication, name: str) -> TrainingData:
    """Choose, render and freeze the examples of an adapter from the known answers as they are now.

    Raises:
        SpecificationError: too few documents with known answers, or one label only; says what to add.
    """
    store = lake.application(loaded.application.name)
    if not store.documents.counts():
        raise SpecificationError(
            f"{loaded.application.name} has no documents yet to train adapter {name!r} on. Bring them in first: "
            f"llm-platform run {loaded.application.name}"
        )
    data, examples = training_set(lake, loaded, loaded.application.finetuning[name])
    stored = [example.model_dump(mode="json") for example in examples]
    store.training_sets.put(name, data, stored, rules_hash=rules_hash(loaded, name))
    return data


def training_set(
    lake: Warehouse, loaded: LoadedApplication, spec: Finetuning
) -> tuple[TrainingData, list[TrainingExample]]:
    """The examples that a specification makes of the known answers as they are now; nothing is stored.

    Raises:
        SpecificationError: too few documents with known answers, or one label only; says what to add.
    """
    application = loaded.application
    store, prompt = lake.application(application.name), shown(loaded.prompts[spec.prompt], application)
    require_redacted(store, application)
    rows, labelled = labelled_documents(store)
    chosen = choose(labelled, spec, labels=application.labels)
    renderer = Renderer(prompt, application.labels, choose=selector(store, application, prompt))
    examples = make_examples(chosen, render=lambda document: renderer.render(rows[document.document_id]), prompt=prompt)
    data = describe(
        examples,
        chosen,
        spec,
        labels=application.labels,
        references_version=store.references.version(),
        documents_snapshot=lake.snapshot(),
    )
    return data, examples


def labelled_documents(store: ApplicationStore) -> tuple[dict[str, DocumentRow], list[LabelledDocument]]:
    """Documents that can be sent and have a known answer, as prompts read them and as splits are drawn."""
    references = store.references.table()
    known = {
        document_id: (answer, split)
        for document_id, answer, split in zip(
            *(references[column].to_pylist() for column in ("document_id", "answer", "split")), strict=True
        )
    }
    rows, labelled = {}, []
    for row in store.documents.table(columns=DOCUMENT_COLUMNS).to_pylist():
        document_id = row["document_id"]
        if row["status"] != DocumentStatus.SENDABLE or document_id not in known:
            continue
        values = {key: row[key] for key in ("document_id", "fingerprint", "text")}
        attributes = json.loads(row["attributes"]) if row["attributes"] else {}
        rows[document_id] = DocumentRow(**values, attributes=attributes)
        answer, split = known[document_id]
        labelled.append(LabelledDocument(**values, answer=answer, split=split))
    return rows, labelled


def leaked(store: ApplicationStore, data: TrainingData) -> list[str]:
    """Documents of a set that are, or have the text of, a document of the evaluation split now."""
    _, labelled = labelled_documents(store)
    held_out = {document.fingerprint for document in labelled if document.split == "evaluation"}
    fingerprints = {document.document_id: document.fingerprint for document in labelled}
    # The present fingerprint counts: a text that changed since is another document.
    return [key for key in store.training_sets.document_ids(data.content_hash) if fingerprints.get(key) in held_out]


@dataclass(frozen=True)
class TrainingPlace:
    """Where adapters are trained.

    Attributes:
        jobs: Folder of jobs and their checkpoints.
        adapters: Where finished adapters are kept.
        local: Has the weights of embedded models.
        base_models: Folder with the weights of all others, each in a folder named like its lock entry.
        gpus: That a training takes, where they cost something.
    """

    jobs: Path
    adapters: AdapterFolders
    local: LocalNim
    base_models: Path | None = None
    gpus: int = 1


@dataclass(frozen=True)
class Training:
    """One training that is prepared, or that has been done before.

    Attributes:
        adapter: What came out of exactly these inputs before; None while they have to be trained.
        folder: Job folder that the process reads.
        output: Folder that it writes; checkpoints in it outlive a kill.
        base: The base model's weights: a GGUF file, or a folder in Hugging Face layout.
    """

    job: TrainingJob
    folder: Path
    base: Path
    adapter: AdapterManifest | None

    @property
    def output(self) -> Path:
        """Folder that the process writes."""
        return self.folder / "output"

    @property
    def command(self) -> list[str]:
        """The command that trains, the same by hand, as a subprocess and in a pod."""
        arguments = [str(self.folder), str(self.output), "--base", str(self.base)]
        return [sys.executable, "-P", "-m", "llm_platform.finetuning.train", *arguments]


def prepare_training(
    store: ApplicationStore, loaded: LoadedApplication, name: str, *, place: TrainingPlace
) -> Training:
    """Write the job of an adapter, unless its adapter exists: equal examples, base, recipe and code train nothing.

    Raises:
        PermanentError: no examples were made by the present rules, or some are evaluated on now.
        SpecificationError: the base model's weights are not on this machine.
        StorageError: the adapter exists, and its files are not what its manifest says.
    """
    application, spec = loaded.application, loaded.application.finetuning[name]
    data = store.training_sets.newest(name, rules_hash=rules_hash(loaded, name))
    if data is None:
        raise PermanentError(
            f"{application.name}: adapter {name!r} has no training examples by the present prompt and split. "
            f"Materialize training_examples_{name} first."
        )
    if leaks := leaked(store, data):
        raise PermanentError(
            f"{application.name}: {len(leaks)} of the training examples of {name!r} are evaluated on now (first: "
            f"{leaks[0]!r}), so its measured quality would mean nothing. Materialize training_examples_{name} again."
        )
    examples = [TrainingExample.model_validate(row) for row in store.training_sets.examples(data.content_hash)]
    job = training_job(loaded, name, spec, data, gpus=place.gpus)
    return prepare_job(store, job, examples, entry=loaded.lock[spec.model], place=place)


def prepare_job(
    store: ApplicationStore,
    job: TrainingJob,
    examples: Sequence[TrainingExample],
    *,
    entry: LockEntry,
    place: TrainingPlace,
) -> Training:
    """Write a job, unless an adapter was trained from the same inputs before.

    Raises:
        As `prepare_training`.
    """
    folder = place.jobs / f"{job.application}-{job.name}-{job.inputs_hash}"
    trained = store.adapters.trained(job.inputs_hash)
    if trained is not None:
        place.adapters.find(trained.adapter_id, job.base)
        return Training(job, folder, Path(), trained)
    place.adapters.may_store()
    base = base_weights(place, entry)
    write_job(folder, job, examples)
    return Training(job, folder, base, None)


def training_job(
    loaded: LoadedApplication, name: str, spec: Finetuning, data: TrainingData, *, gpus: int
) -> TrainingJob:
    """The job of training by a specification on some examples, on so many GPUs."""
    entry, prompt = loaded.lock[spec.model], loaded.prompts[spec.prompt]
    price = entry.price_per_gpu_hour_usd
    return TrainingJob(
        application=loaded.application.name,
        name=name,
        base=pin(entry),
        recipe=spec.recipe(),
        data=data,
        prompt_version=prompt.version,
        answers=prompt.answers,
        max_minutes=spec.max_minutes,
        max_cost_usd=spec.max_cost_usd,
        price_per_hour_usd=None if price is None else price * gpus,
    )


def base_weights(place: TrainingPlace, entry: LockEntry) -> Path:
    """Where the weights are that training reads: the pinned file of an embedded model, else a folder of the deployment.

    Raises:
        SpecificationError: there is no such folder.
    """
    if entry.mode == "embedded":
        return place.local.fetch(entry)
    folder = place.base_models / entry.name if place.base_models else None
    if folder is None or not folder.is_dir():
        raise SpecificationError(
            f"Training on {entry.name!r} needs its weights in Hugging Face layout, and "
            f"{'LLM_PLATFORM_BASE_MODELS is not set' if folder is None else f'{folder} is not a folder'}. "
            f"Put {entry.model} into a folder named {entry.name!r} and name its parent in LLM_PLATFORM_BASE_MODELS."
        )
    return folder


def finish_training(store: ApplicationStore, training: Training, folders: AdapterFolders) -> AdapterManifest:
    """Keep the adapter that a training made under its id, record it, and clear the job away.

    Raises:
        StorageError: there is no adapter, or its files are not what its manifest says.
    """
    made = sorted(path.parent for path in training.output.glob(f"*/{MANIFEST}"))
    if len(made) != 1:
        raise StorageError(
            f"Training of {training.job.name!r} ended, and {training.output} holds {len(made)} adapters, not one. "
            "Remove that folder and train again."
        )
    manifest = load_manifest(made[0])
    folders.keep(made[0], training.job.base)
    store.adapters.append(manifest, inputs_hash=training.job.inputs_hash)
    shutil.rmtree(training.folder)
    return manifest


def trains(spec: Finetuning) -> str:
    """What an adapter is trained with, in a few words."""
    modules = ", ".join(spec.target_modules)
    budget = f"at most {spec.max_minutes:g} minutes"
    return f"LoRA rank {spec.rank} on {modules}; {spec.epochs} epochs at {spec.learning_rate:g}; {budget}"
