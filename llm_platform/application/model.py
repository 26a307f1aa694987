"""The specification of an application, as pydantic models; what a key holds is in the module of its name.

`application.yaml` is read by `load.load_application`, which turns every mistake into a line of
`file:line: what was found, what is allowed`. The models hold shapes, and what may stand beside what in one of them;
rules between them are in `rules`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from llm_platform.application.budget import Budget
from llm_platform.application.documents import Documents, LongDocumentRules, Redaction
from llm_platform.application.evaluation import Evaluation
from llm_platform.application.monitoring import Monitoring
from llm_platform.application.output import OutputField, output_schema
from llm_platform.application.publish import Publish
from llm_platform.application.references import References
from llm_platform.application.rollout import Rollout
from llm_platform.application.schedules import StatedTimes
from llm_platform.application.source import Source
from llm_platform.application.specification import Specification
from llm_platform.application.variants import Finetuning, RecordedVariant, Variant
from llm_platform.records import Task

NAME_PATTERN = r"^[a-z][a-z0-9_]{1,47}$"
OWNER = re.compile(r"team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
"""What Dagster takes for an owner."""
RetainedTable = Literal["documents", "completions", "retried_completions", "trials", "reads"]


class Review(Specification):
    """What people who judge answers are told beside every document.

    Attributes:
        guidelines: How to judge, in a few paragraphs; an empty line begins a new one.
        labels: Label → when it is right, for `classify`.
    """

    guidelines: str = ""
    labels: dict[str, str] = Field(default_factory=dict)


class Online(Specification):
    """What becomes of documents that callers send to `llm-platform serve`.

    Attributes:
        keep_documents: Whether they become documents, to be sampled, reviewed and trained on. They are not published.
    """

    keep_documents: bool = False


class Retention(Specification):
    """What becomes of text that is not needed any more.

    Attributes:
        deleted: Of a document that leaves the source: `keep` what was made of it, or `forget` all of it at once.
        days: Table → days after which a row goes; a document that has not changed for so long is forgotten. Answers to
            documents that there are stay: they would only be asked again.
    """

    deleted: Literal["keep", "forget"] = "keep"
    days: dict[RetainedTable, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)


class Application(Specification):
    """One use of an LLM over one source table.

    Attributes:
        recordings: Those of `variants` in the file that have `predictions`.
        folder: Where the files were read; filled in by the loader, not a key of the file.
    """

    name: str = Field(pattern=NAME_PATTERN)
    title: str
    description: str = ""
    owners: tuple[str, ...] = ()
    task: Task
    labels: tuple[str, ...] = ()
    fields: dict[str, OutputField] = Field(default_factory=dict)
    source: Source
    documents: Documents = Documents()
    redaction: Redaction | None = None
    long_documents: LongDocumentRules = LongDocumentRules()
    references: References | None = None
    variants: dict[str, Variant] = Field(min_length=1)
    finetuning: dict[str, Finetuning] = Field(default_factory=dict)
    evaluation: Evaluation
    rollout: Rollout = Rollout()
    publish: Publish = Publish()
    monitoring: Monitoring = Monitoring()
    schedules: StatedTimes = StatedTimes()
    online: Online = Online()
    review: Review = Review()
    retention: Retention = Retention()
    max_failed_share: float = Field(default=0.1, ge=0.0, le=1.0)
    budget: Budget = Budget()
    recordings: dict[str, RecordedVariant] = Field(default_factory=dict, exclude=True)
    folder: Path = Field(default=Path(), exclude=True)

    @property
    def judged(self) -> tuple[str, ...]:
        """Names of everything that is judged: variants that ask, then recorded ones."""
        return (*self.variants, *self.recordings)

    def reference_columns(self) -> tuple[str, ...]:
        """Columns that known answers are read from: key, answer or one column a field, split."""
        spec = self.references
        if spec is None:
            return ()
        column_of = {field: column for column, field in spec.fields.items()}
        answers = [spec.answer] if spec.answer else [column_of.get(name, name) for name in self.fields]
        return tuple(dict.fromkeys((spec.key, *answers, *([spec.split] if spec.split else []))))

    def output_schema(self) -> dict[str, Any] | None:
        """JSON schema of an `extract` answer; None for the other tasks."""
        if self.task != "extract":
            return None
        return output_schema(self.fields)
