"""Which columns hold words of others, which name a document or a person, and which hold nothing but our own values.

One list for every table: what may stand outside the tables' files, what is masked and what is forgotten is read here. A
column is known by its name, so a name means the same in each table. A test holds that every column is in one class.
"""

from __future__ import annotations

WORDS = frozenset(
    {
        *("text", "attributes", "columns", "withheld"),  # of documents
        *("answer", "raw", "said", "label_logprobs", "judged", "reason"),  # of answers, and what was made of them
        *("body", "note", "example"),  # what people wrote, and what a model is trained on
        *("request", "response", "error"),  # of requests of people's own code
        *("content", "data", "report", "evidence", "manifest"),  # prompts with their examples; what was measured
        *("envelope", "accepted_because"),  # of what was forgotten, and why a person takes it as it is
        *("message", "observed", "mismatches", "causes", "drifted"),  # what was said of endpoints and runs
        *("reasons",),  # of decisions: they name who asked for them
        *("finish_reason", "finished", "adapters_running", "adapters_waiting"),  # what endpoints say of themselves
    }
)
"""Columns that hold, or may quote, what documents, models and people say."""

QUOTED = WORDS - frozenset(
    {
        *("report", "evidence", "manifest", "envelope", "accepted_because", "reasons", "error"),
        *("message", "observed", "mismatches", "causes", "drifted", "finish_reason", "finished"),
        *("adapters_running", "adapters_waiting", "reason", "data"),
    }
)
"""Those of them that quote whole texts as a matter of course: who reads a table that has one is written down."""

NAMES = frozenset(
    {
        *("document_id", "fingerprint", "of_fingerprint", "subject_id", "part", "state"),
        *("accepted_by",),
        *("by", "user", "caller", "imported_by", "imported_from", "link", "path", "subject"),
    }
)
"""Columns that say which document or person: keys of the source, hashes of texts, names."""

OURS = frozenset(
    {
        # Hashes of what is no document, and ids that the platform gives.
        *("release_id", "of_release_id", "request_id", "prompt_version", "version", "content_hash", "rules_hash"),
        *("inputs_hash", "identity_hash", "lock_hash", "references_version", "pool", "adapter_id", "evaluation_id"),
        *("report_id", "event_id", "annotation_id", "group_id", "undoes", "alert_id", "call_id", "trial_id"),
        *("drift_id", "run_id", "git_commit", "against"),
        # Words of a fixed set.
        *("action", "kind", "subject_kind", "status", "split", "queue", "role", "verdict", "provenance"),
        *("measured_on", "channel", "scorer", "origin"),
        # Names that files of the application and of the deployment give.
        *("application", "variant", "name", "prompt_name", "judge", "entry", "model", "model_entry"),
        *("endpoint", "endpoints", "base_url", "limits"),
        # Numbers and times.
        *(
            "bucket",
            "position",
            "begins",
            "sequence",
            "source_snapshot",
            "documents_snapshot",
            "confidence",
            "score",
            "p_value",
        ),
        *("difference", "novelty", "probability", "documents", "sent", "stored", "failed", "retries", "requests"),
        *("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cut_tokens", "wasted_tokens"),
        *("presumed_tokens", "generation_tokens", "attempts", "attempt", "parts", "latency_seconds", "seconds"),
        *("waited_seconds", "concurrency", "idle_share", "max_running", "running", "waiting", "kv_cache_usage"),
        *("latency_p50_seconds", "latency_p95_seconds", "latency_p99_seconds", "preemptions", "max_adapters"),
        *("prefix_cache_queries", "prefix_cache_hits", "prefix_cache_hit_rate", "time_to_first_token", "inter_token"),
        *("end_to_end", "queue_time", "reused", "blind", "matches", "passed", "selected", "delivered", "healthy"),
        *("fields",),
        *("streamed", "complete", "preferred", "at", "imported_at", "updated_at", "consumed_at", "published_at"),
        *("created_at", "retried_at", "started_at", "frozen_at", "considered_at", "attempted_at", "scraped_at"),
        *("observed_at", "received_at", "left_at", "accepted_at", "answered_at", "counted_at", "key_id"),
        *("snapshot", "upstream_snapshot", "contract", "content_id", "way", "rows"),
        # Steps of rollouts: words of a fixed set, hashes, numbers.
        *("rollout_id", "step_id", "champion_release_id", "stage", "stage_name", "share", "decision"),
        *("applied", "underneath", "policy", "policy_hash", "authenticated", "spent_usd", "spent_tokens"),
        *("references_snapshot",),
        # Contracts with readers: a number, a hash.
        *("contract", "content_id"),
    }
)
"""Columns of which a smallest and a largest value may stand in the catalog: no words, and nobody's."""
