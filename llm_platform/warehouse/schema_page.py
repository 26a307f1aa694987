"""Tables of the lake for people who read them with other tools: what `docs/lake.md` says.

Tables and columns are those of `warehouse.schema`; here stands what each means. A test fails where one has no words.
"""

from __future__ import annotations

from collections.abc import Iterator

from llm_platform.records.tables import PUBLISHED, TABLES
from llm_platform.warehouse.schema import published_table

TABLE_WORDS = {
    published_table(1): "One row per document, for readers: the contract. Only a new number may take a column away.",
    "contracts": "What readers of each published table were promised, and since when. Append-only.",
    "documents": "One row per document, as it is now.",
    "online_documents": "What callers of the service have sent, where the application keeps it, and the source lacks.",
    "documents_consumed": "How far the source has been read; one row.",
    "references": "Known answers as they are now.",
    "annotations": "What people said: review verdicts, tags, notes. Append-only; `undo` rows take others back.",
    "prompts": "Every version of every prompt that was ever used.",
    "releases": "Everything that determines an answer but the document, by the hash of it.",
    "models": "What endpoints said they are, each time that it changed.",
    "completions": "The ledger: one row per (release_id, fingerprint), never changed; only `retry` takes failures out.",
    "retried_completions": "Failures that were asked again, as they were; `retry` moves them here from `completions`.",
    "made_of": "Of a document that was asked about in parts: the answers that its own rests on.",
    "scores": "Grades of completions that have a known answer, by each scorer.",
    "reports": "Metrics of a release against its gates; only these rows let a release be published.",
    "tallies": "What was counted of whole tables, or read all over them, and at which snapshot; runs move it on by "
    "what changed since.",
    "rollout": "Which release serves, since when, on what evidence. The last row decides. Append-only.",
    "rollout_steps": "What was asked and decided of every challenger, on what evidence. Append-only.",
    "example_pools": "Frozen pools that few-shot examples are chosen from.",
    "trials": "Looks at prompts that are nobody's variant (`llm-platform try`).",
    "judge_agreements": "How far a judge agrees with people.",
    "calls": "Requests of notebooks and a team's own code, through `connect()`.",
    "inference_runs": "What each bulk run of one release did and took.",
    "training_sets": "Frozen sets of training examples.",
    "training_examples": "Their rows.",
    "adapters": "Trained adapters, by content.",
    "adapter_reports": "Adapters beside their base, curves and sweeps.",
    "drift_reports": "How live documents and answers differ from those of the promotion.",
    "drift_flags": "Live documents that are unlike all earlier ones.",
    "labelling": "Live documents that were considered for labelling, each with its probability.",
    "alerts": "What somebody was to be told.",
    "alert_deliveries": "Where alerts were sent, and whether they arrived.",
    "reads": "Who looked at texts by the platform's own ways, and when. Append-only.",
    "notices": "That somebody says that the source has changed, a person or a system. Kept 7 days.",
    "departed": "Documents that have left the source and wait to be forgotten; see `retention.deleted`.",
    "forgotten": "Documents that must not come back, each by a hash that only the deployment's key can make.",
    "bars": "Adapters and releases that may not be promoted, since what they were made of was forgotten; who accepted.",
    "certificates": "Signed statements of what was forgotten; a copy of each is a file.",
    "endpoint_metrics": "Metrics of endpoints over time, in one set of names.",
}

COLUMN_WORDS = {
    "sequence": "order of the rows, counted in the transaction that wrote them; NULL in rows of before there was one",
    "reports.measured_on": "version of the documents, answers and grades that it was measured on",
    "accepted_at": "when somebody took it as it is",
    "accepted_because": "why",
    "accepted_by": "who took it as it is; NULL while nobody has",
    "bars.kind": "`adapter` or `release`",
    "bars.subject": "its id",
    "bars.reason": "why it is barred",
    "bars.request_id": "request to forget that it comes from",
    "certificates.documents": "how many documents were forgotten",
    "certificates.request_id": "request to forget",
    "envelope": "in-toto statement in a DSSE envelope, as JSON",
    "forgotten.request_id": "request to forget that it comes from",
    "forgotten.subject": "HMAC-SHA-256 of the document's key",
    "key_id": "SHA-256 of the public half of the key that made it",
    "reads.rows": "how many rows were read",
    "reads.subject": "of one document: HMAC-SHA-256 of its key; NULL for many",
    "way": "what was used to look",
    "left_at": "when it was seen to be gone",
    "adapter_id": "hash of the adapter's weights and manifest",
    "alert_id": "id of the alert",
    "answer": "the answer: a label, canonical JSON of the fields, or text; NULL where there is no valid one",
    "application": "name of the application",
    "online_documents.columns": "JSON object of what it had in the columns of the source",
    "documents.withheld": "JSON object: placeholder → what `redaction` has taken out, where that is put back",
    "documents.origin": "`online` for a document that a caller has sent; NULL for those of the source",
    "received_at": "when the caller sent it",
    "at": "when",
    "attributes": "JSON object of further columns of the source",
    "base_url": "root of the endpoint",
    "by": "who",
    "cached_tokens": "of the prompt's tokens, those that the endpoint had in its cache",
    "completion_tokens": "tokens of the answer",
    "reasoning_tokens": "of the answer's tokens, those of the thought before it; estimated where nobody counts them",
    "retried_at": "when it was taken out of the ledger",
    "confidence": "probability of the answer, where the decision gives one",
    "content": "JSON",
    "content_hash": "hash of the content",
    "created_at": "when the row was stored",
    "document_id": "key of the document in the source",
    "documents_snapshot": "snapshot of the lake in which the documents were read",
    "drift_id": "id of the drift report",
    "endpoint": "root of the endpoint that answered",
    "entry": "entry of `models.lock.yaml`",
    "evaluation_id": "hash of evaluation documents, known answers, scorer and limits; equal ids may be compared",
    "fingerprint": "hash of the normalized text and of the columns that prompts read",
    "finish_reason": "why the model stopped, in its own word",
    "git_commit": "commit of the code",
    "kind": "what kind of row it is",
    "latency_seconds": "from the request to its whole reply",
    "model_entry": "entry of `models.lock.yaml`",
    "name": "name",
    "passed": "every gate passed",
    "prompt_name": "name of the prompt",
    "prompt_tokens": "tokens of the prompt",
    "prompt_version": "content hash of the prompt",
    "reason": "why, where something is not as it should be",
    "references_version": "version of the known answers",
    "release_id": "hash of everything that determines the answer; key into `releases`",
    "report": "JSON of the whole report",
    "report_id": "hash of the report",
    "request_id": "hash of what is sent; releases with the same one share answers",
    "reused": "taken from an earlier answer, so nothing was asked",
    "run_id": "run that stored it; key into `inference_runs`",
    "started_at": "when it began",
    "variant": "name under which `application.yaml` knew the release",
    "published_v1.confidence": "probability of the answer; NULL where the release gives none",
    "contracts.contract": "number of the published table",
    "contracts.version": "semantic version",
    "contracts.content_id": "hash of the content",
    "published_v1.variant": "name under which `application.yaml` knows that release",
    "published_v1.answered_at": "when the answer was given; NULL where there is none",
    "published_v1.status": "`valid`, or why the row has no answer",
    "published_v1.source_snapshot": "snapshot of the source that the document was read in, where it has snapshots",
    "published_v1.published_at": "when this row last changed",
    "documents.text": "the normalized text",
    "documents.bucket": "which of the fixed shares the document is dealt into",
    "documents.status": "`sendable`, `empty`, `oversized` or `undecodable`",
    "documents.updated_at": "when the row last changed",
    "documents_consumed.state": "JSON: snapshot, watermark, place in the WAL or hash of the source",
    "documents_consumed.consumed_at": "when it was read",
    "references.answer": "the known answer",
    "references.split": "`train` or `evaluation`",
    "references.provenance": "`table`, or the basis of a review verdict",
    "annotations.annotation_id": "id of the row",
    "annotations.group_id": "rows of one decision share it",
    "annotations.kind": "`verdict`, `tag`, `note` or `undo`",
    "annotations.subject_kind": "what it is about: an answer, a document, a prompt, a run, a release",
    "annotations.subject_id": "its id; of an answer `<release_id>/<document_id>`",
    "annotations.verdict": "`right`, `wrong`, `corrected` or `unsure`",
    "annotations.judged": "the answer that was shown",
    "annotations.answer": "the answer that the person holds right",
    "annotations.fields": "JSON: field → `right` or `wrong`, of an extraction judged field by field",
    "annotations.body": "the tag, or the note",
    "annotations.queue": "where the person met the document",
    "annotations.blind": "the person did not see which variant answered",
    "annotations.role": "the person's role at that time",
    "annotations.undoes": "group or row that no longer counts",
    "annotations.imported_by": "who read the row from a file",
    "annotations.imported_at": "when",
    "annotations.imported_from": "SHA-256 of the file",
    "prompts.version": "content hash",
    "models.observed": "JSON of what endpoints said",
    "models.identity_hash": "hash of it, without addresses",
    "models.lock_hash": "hash of the lock entry",
    "models.matches": "every endpoint is what the entry pins",
    "models.mismatches": "JSON list of what is not",
    "models.observed_at": "when they were asked",
    "completions.status": "`valid`, `invalid`, `truncated`, `rejected` or `failed`",
    "completions.label_logprobs": "JSON: label → log-probability, with `decision: logprobs`",
    "completions.raw": "what the model wrote, where it is not the answer itself",
    "completions.attempts": "requests that it took",
    "completions.cut_tokens": "tokens of the document that were left out (`long_documents: truncate`)",
    "completions.parts": "parts that the document was asked about in",
    "completions.said": "what the endpoint said beside the answer, or instead of one",
    "scores.said": "what a team's own scorer gave as its reason",
    "made_of.position": "order of the parts",
    "made_of.of_release_id": "release of the part's answer",
    "made_of.of_fingerprint": "fingerprint of the part",
    "made_of.begins": "character of the document's text at which the part begins; NULL in rows of before it was kept, "
    "and of answers that were put together",
    "scores.scorer": "name and version of the scorer",
    "scores.score": "in [0, 1]; NULL where it could not be graded",
    "tallies.name": "what was counted: `documents`, `answers/<release_id>`, `published`, `labelled`, `drift`, "
    "`holders`, `tokens/<release_id>`; rows that were read: `rows/…`, and the snapshots that they hold for: `rows`",
    "tallies.snapshot": "the lake's snapshot that it was counted at",
    "tallies.upstream_snapshot": "of the namespace that this one stands on; NULL without one",
    "tallies.content": "JSON: sums, hashes and counts of values; of `rows/…` the rows, texts and answers included",
    "tallies.counted_at": "when the row was stored",
    "rollout.sequence": "order of the decisions",
    "rollout.event_id": "id of the decision",
    "rollout.action": "`promote` or `rollback`",
    "rollout.evidence": "JSON: the gates as they were",
    "rollout.note": "what was said to it",
    "rollout_steps.sequence": "order of the steps",
    "rollout_steps.rollout_id": "id of the rollout; documents are dealt by its hash",
    "rollout_steps.step_id": "id of the step",
    "rollout_steps.kind": "`decide`, or what a person asked for: `start`, `approve`, `hold`, `resume`, `withdraw`",
    "rollout_steps.champion_release_id": "release that it is held against",
    "rollout_steps.stage": "place of its stage in the policy, from 0, after this step",
    "rollout_steps.stage_name": "the stage and its share",
    "rollout_steps.share": "of documents that the challenger answers",
    "rollout_steps.status": "`running`, `held`, `withdrawn` or `champion`, after this step",
    "rollout_steps.decision": "`promote`, `withdraw`, `inconclusive` or `hold`",
    "rollout_steps.reasons": "JSON list of sentences",
    "rollout_steps.applied": "false where the policy is a dry run",
    "rollout_steps.evidence": "JSON: what was observed",
    "rollout_steps.underneath": "JSON: what the evidence is about, by hash; where one moves, the evidence is void",
    "rollout_steps.policy": "JSON: the policy that it was entered under",
    "rollout_steps.policy_hash": "hash of it",
    "rollout_steps.role": "the person's role at that time",
    "authenticated": "a token says that it was `by`; NULL in rows of before that was asked",
    "rollout_steps.spent_usd": "by the challenger so far; NULL where its model has no price",
    "rollout_steps.spent_tokens": "by the challenger so far",
    "rollout_steps.references_snapshot": "snapshot of the lake at which it was entered",
    "rollout_steps.note": "what was said to it",
    "example_pools.pool": "content hash of the pool",
    "example_pools.text": "the example's text",
    "example_pools.answer": "its answer",
    "example_pools.preferred": "chosen before all others",
    "example_pools.frozen_at": "when the pool was frozen",
    "trials.trial_id": "id of the trial",
    "trials.against": "release that it was compared with",
    "trials.split": "documents of which split",
    "trials.documents": "documents looked at",
    "trials.sent": "of these, asked for by this trial",
    "trials.score": "mean score",
    "trials.difference": "score minus that of `against`, on the same documents",
    "trials.p_value": "of the difference",
    "judge_agreements.judge": "name of the judge",
    "judge_agreements.content": "JSON of the agreement and its biases",
    "calls.call_id": "id of the request",
    "calls.caller": "`asset <key>`, `notebook` or `program <name>`",
    "calls.user": "who asked",
    "calls.model": "JSON of the pin",
    "calls.path": "path of the request",
    "calls.request": "JSON: the body as it was sent",
    "calls.status": "HTTP status; 0 when no reply came",
    "calls.answer": "text of the first answer, or its tool calls as JSON",
    "calls.response": "JSON: the body that came back",
    "calls.streamed": "the reply came as a stream",
    "calls.complete": "the reply was read to its end",
    "calls.error": "what went wrong",
    "calls.attempt": "1 for the first, more where the client tried again",
    "inference_runs.seconds": "while an endpoint was there to be asked",
    "inference_runs.sent": "requests",
    "inference_runs.stored": "rows stored",
    "inference_runs.reused": "rows taken from earlier answers",
    "inference_runs.failed": "rows without a valid answer",
    "inference_runs.retries": "requests that were repeated",
    "inference_runs.wasted_tokens": "tokens of replies that could not be used",
    "inference_runs.presumed_tokens": "counted against a budget where replies do not say what they took",
    "inference_runs.waited_seconds": "while no endpoint was there",
    "inference_runs.concurrency": "most requests in flight at once",
    "inference_runs.endpoints": "JSON list of the endpoints",
    "inference_runs.latency_p50_seconds": "median latency",
    "inference_runs.latency_p95_seconds": "95 of 100 answers within",
    "inference_runs.latency_p99_seconds": "99 of 100 answers within",
    "inference_runs.limits": "JSON: endpoint → requests that it could have in flight at the end",
    "inference_runs.idle_share": "share of the endpoints' slots that had nothing to do",
    "inference_runs.causes": "JSON: why rows have no answer or requests were repeated → how often",
    "training_sets.rules_hash": "hash of the rules by which it was made",
    "training_sets.data": "JSON of what it was made from",
    "training_examples.position": "order",
    "training_examples.part": "`train` or `validation`",
    "training_examples.example": "JSON of the example",
    "adapters.inputs_hash": "hash of what it was trained from",
    "adapters.manifest": "JSON of the manifest",
    "adapter_reports.subject": "adapter, or name of the study",
    "drift_reports.drifted": "JSON list of what has drifted",
    "drift_flags.novelty": "how unlike, in [0, 1]",
    "labelling.probability": "probability of being drawn",
    "labelling.selected": "it was drawn",
    "labelling.considered_at": "when",
    "alerts.kind": "what happened",
    "alerts.state": "open or resolved",
    "alerts.message": "what is said",
    "alerts.link": "where to look",
    "alert_deliveries.channel": "Slack, mail or webhook",
    "alert_deliveries.delivered": "it arrived",
    "alert_deliveries.error": "why it did not",
    "alert_deliveries.attempted_at": "when",
    "endpoint_metrics.scraped_at": "when",
    "endpoint_metrics.healthy": "it answered a request",
    "endpoint_metrics.latency_seconds": "of that request",
    "endpoint_metrics.running": "requests that are computed",
    "endpoint_metrics.waiting": "requests in its queue",
    "endpoint_metrics.max_running": "most it computes at once",
    "endpoint_metrics.kv_cache_usage": "share of its cache in use",
    "endpoint_metrics.preemptions": "requests that lost their place",
    "endpoint_metrics.prompt_tokens": "since its start",
    "endpoint_metrics.generation_tokens": "since its start",
    "endpoint_metrics.requests": "since its start",
    "endpoint_metrics.failed": "since its start",
    "endpoint_metrics.prefix_cache_queries": "tokens looked up in its cache",
    "endpoint_metrics.prefix_cache_hits": "tokens found there",
    "endpoint_metrics.prefix_cache_hit_rate": "the one over the other",
    "endpoint_metrics.time_to_first_token": "JSON histogram, seconds",
    "endpoint_metrics.inter_token": "JSON histogram, seconds",
    "endpoint_metrics.end_to_end": "JSON histogram, seconds",
    "endpoint_metrics.queue_time": "JSON histogram, seconds",
    "endpoint_metrics.finished": "JSON: why answers ended → how often",
    "endpoint_metrics.adapters_running": "JSON list of adapters in use",
    "endpoint_metrics.adapters_waiting": "JSON list of adapters waited for",
    "endpoint_metrics.max_adapters": "most that it holds at once",
}

HEAD = """\
# The lake: reading it with DuckDB

Everything that is stored is in one [DuckLake](https://ducklake.select): a catalog (SQLite on one machine, Postgres
for a deployment) and Parquet files. Any DuckDB with the `ducklake` extension reads it while the platform writes, at
any snapshot. Read it; write only through the platform, whose keys and leases DuckDB does not know.

`llm-platform lake attach` prints the statements for this deployment, with its paths and with the extensions that came
with it, so that nothing is downloaded:

```
duckdb -init <(llm-platform lake attach)
```

By hand, for the state folder of a checkout and namespace `main`, from the checkout (a relative path is one below the
folder where DuckDB runs; where the files are stands in the catalog):

```sql
INSTALL ducklake; INSTALL sqlite;
ATTACH 'ducklake:sqlite:.llm_platform/namespaces/main/catalog.sqlite' AS lake (READ_ONLY);
FROM lake.movie_reviews.published_v1 LIMIT 5;
```

From Python, with the wheels `duckdb`, `duckdb-extension-ducklake` and `duckdb-extension-sqlite-scanner` of one
version, which the platform brings:

```python
import subprocess

import duckdb

lake = duckdb.connect()
lake.execute(subprocess.run(["llm-platform", "lake", "attach"], check=True, capture_output=True, text=True).stdout)
print(lake.sql("SELECT answer, count(*) FROM lake.movie_reviews.published_v1 GROUP BY ALL ORDER BY 1"))
```

Of a Postgres catalog: `ATTACH 'ducklake:postgres:dbname=… host=…' AS lake (METADATA_SCHEMA '<namespace>',
READ_ONLY)`, with the password in `PGPASSWORD` and the key of the object store in a `CREATE SECRET`. Neither is
printed.

- A schema is an application (and `platform`, for what belongs to none); a namespace is a catalog of its own.
- `FROM lake.movie_reviews.completions AT (VERSION => 12)` reads a past snapshot, `FROM lake.snapshots()` lists them.
- Which answer a reader sees is decided by `rollout`; `published_v1` is that decision made a table. Of other tables,
  columns are added and not taken away; a column that a lake does not have yet was never written there.
- Texts, answers and known answers stand here and nowhere else. Whoever may read the files may read them.

## Tables

Made from the code by `llm-platform lake schema --markdown`.
"""


def tables() -> dict[str, dict[str, str]]:
    """Every table of an application, the published one first, with its columns."""
    return {published_table(1): PUBLISHED, **TABLES}


def words_of(table: str, column: str) -> str:
    """What a column means; empty where nobody has said so."""
    # Rows that left a table have its columns.
    names = (f"{table}.{column}", f"{table.removeprefix('retried_')}.{column}", column)
    return next((COLUMN_WORDS[name] for name in names if name in COLUMN_WORDS), "")


def lake_page() -> str:
    """`docs/lake.md`."""
    return HEAD + "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for table, columns in tables().items():
        yield from ("", f"### {table}", "", TABLE_WORDS.get(table, ""), "")
        yield from ("| column | type | meaning |", "| --- | --- | --- |")
        for column, sql_type in columns.items():
            yield f"| `{column}` | {sql_type} | {words_of(table, column).replace('|', chr(92) + '|')} |"
