"""A training job as a folder: `job.json` and `examples.jsonl`, all that the training process reads beside the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from llm_platform.errors import ContractBroken, StorageError
from llm_platform.files import write_text
from llm_platform.finetuning.examples import TrainingExample, examples_hash
from llm_platform.records import ModelPin, Recipe, Record, TrainingData, content_hash

CODE_VERSION = "1"
"""Raised when the same job would now give other weights."""
JOB_FILE = "job.json"
SENTENCE = "training: "
"""Begins the line of standard error that says why a training has ended, in words of ours."""
EXAMPLES_FILE = "examples.jsonl"


class TrainingJob(Record):
    """What is to be trained.

    Attributes:
        answers: For `classify`, label → answer text; validation accuracy is the share of right choices among them.
        price_per_hour_usd: Of the machine, for the money budget and the manifest's cost; None costs nothing.
    """

    application: str
    name: str
    base: ModelPin
    recipe: Recipe
    data: TrainingData
    prompt_version: str
    answers: dict[str, str]
    max_minutes: float
    max_cost_usd: float | None = None
    price_per_hour_usd: float | None = None

    @property
    def inputs_hash(self) -> str:
        """Equal for equal base, prompt, examples, recipe, budget and training code: such a job needs no second run.

        The budget is part of it: a training that it cut short is worth another with a larger one.
        """
        identity = self.model_dump(mode="json", include={"recipe", "prompt_version", "answers"})
        identity["base"] = self.base.model_dump(mode="json", exclude={"entry", "served_name"})
        identity["data"] = self.data.content_hash
        identity["budget"] = [self.max_minutes, self.max_cost_usd]
        return content_hash({**identity, "code": CODE_VERSION})


def write_job(folder: Path, job: TrainingJob, examples: Sequence[TrainingExample]) -> None:
    """Write a job folder; `job.json` comes last, so a folder with one is whole.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(example.model_dump_json() + "\n" for example in examples)
        write_text(folder / EXAMPLES_FILE, lines)
        write_text(folder / JOB_FILE, job.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise StorageError(
            f"Tried to write the training job of {job.name!r} to {folder}: {error.strerror}. Check space and rights."
        ) from error


def read_job(folder: Path) -> tuple[TrainingJob, list[TrainingExample]]:
    """A job and its examples.

    Raises:
        StorageError: the folder cannot be read.
        ContractBroken: the examples are not those that the job names by hash.
    """
    try:
        job = TrainingJob.model_validate_json((folder / JOB_FILE).read_text(encoding="utf-8"))
        with (folder / EXAMPLES_FILE).open(encoding="utf-8") as lines:
            examples = [TrainingExample.model_validate_json(line) for line in lines]
    except OSError as error:
        raise StorageError(
            f"No training job in {folder}: {error.filename} cannot be read ({error.strerror}). "
            "A job folder holds job.json and examples.jsonl; materialize the training examples and start it again."
        ) from error
    except ValidationError as error:
        raise ContractBroken(
            f"The training job in {folder} is not of this version: {error.error_count()} fields differ (first: "
            f"{'.'.join(map(str, error.errors()[0]['loc']))!r}). Materialize the training examples again."
        ) from error
    if (found := examples_hash(examples)) != job.data.content_hash:
        raise ContractBroken(
            f"The examples in {folder} have the hash {found}, and the job was made for {job.data.content_hash}. "
            "They were changed after they were written; materialize the training examples again."
        )
    return job, examples
