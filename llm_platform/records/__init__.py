"""Rows and values that two or more stages share.

What belongs here is a value with a name in the graph (a document, a release, a completion, a score). What does not:
code that makes, stores or judges one. Identities are hashes of canonical JSON: equal content has equal ids everywhere.
"""

from __future__ import annotations

from llm_platform.records.base import (
    ID_LENGTH,
    Record,
    canonical_json,
    content_hash,
    from_json_lines,
    json_lines,
)
from llm_platform.records.completions import (
    Call,
    Completion,
    CompletionStatus,
    InferenceRun,
    TokenUsage,
)
from llm_platform.records.documents import (
    DocumentRow,
    DocumentsChange,
    DocumentStatus,
    SourceState,
)
from llm_platform.records.evaluation import (
    Ceiling,
    Gate,
    GateResult,
    Interval,
    Judge,
    RolloutEvent,
    Score,
    Split,
    Trial,
)
from llm_platform.records.finetuning import (
    AdapterManifest,
    Recipe,
    TrainingData,
    TrainingMetrics,
    Validated,
)
from llm_platform.records.prices import Prices
from llm_platform.records.releases import (
    Api,
    Calibration,
    Decision,
    Dialect,
    ExampleSelection,
    FieldChoice,
    LongDocuments,
    ModelPin,
    PoolExample,
    Prompt,
    PromptMessage,
    Release,
    Sampling,
    Task,
    adapter_name,
)
from llm_platform.records.review import (
    IMPORTED,
    Annotation,
    AnnotationKind,
    QueueProgress,
    ReviewQueue,
    ReviewQueueName,
    ReviewRole,
    SubjectKind,
    Verdict,
)

__all__ = [
    "ID_LENGTH",
    "IMPORTED",
    "AdapterManifest",
    "Annotation",
    "AnnotationKind",
    "Api",
    "Calibration",
    "Call",
    "Ceiling",
    "Completion",
    "CompletionStatus",
    "Decision",
    "Dialect",
    "DocumentRow",
    "DocumentStatus",
    "DocumentsChange",
    "ExampleSelection",
    "FieldChoice",
    "Gate",
    "GateResult",
    "InferenceRun",
    "Interval",
    "Judge",
    "LongDocuments",
    "ModelPin",
    "PoolExample",
    "Prices",
    "Prompt",
    "PromptMessage",
    "QueueProgress",
    "Recipe",
    "Record",
    "Release",
    "ReviewQueue",
    "ReviewQueueName",
    "ReviewRole",
    "RolloutEvent",
    "Sampling",
    "Score",
    "SourceState",
    "Split",
    "SubjectKind",
    "Task",
    "TokenUsage",
    "TrainingData",
    "TrainingMetrics",
    "Trial",
    "Validated",
    "Verdict",
    "adapter_name",
    "canonical_json",
    "content_hash",
    "from_json_lines",
    "json_lines",
]
