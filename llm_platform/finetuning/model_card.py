"""The model card of an adapter: what it is, what it was made from, and what it must not be taken for."""

from __future__ import annotations

import json

from llm_platform.records import AdapterManifest


def model_card(manifest: AdapterManifest) -> str:
    """A README in the form that Hugging Face reads, without a document or an answer in it."""
    head = {"library_name": "peft", "base_model": manifest.base.entry, "tags": ["lora", "llm-platform"]}
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    body = _imported(manifest) if manifest.recipe is None else _trained(manifest)
    return "\n".join(
        [
            f"---\n{front}\n---",
            f"# {manifest.application} / {manifest.name}, adapter {manifest.adapter_id}",
            "",
            f"A LoRA adapter for `{manifest.base.entry}` (weights sha256 `{manifest.base_sha256 or 'not known'}`). It "
            "fits these weights only.",
            "",
            *body,
            "",
            "`manifest.json` has everything that made it, and the hashes of its files.",
            "",
        ]
    )


def _imported(manifest: AdapterManifest) -> list[str]:
    return [
        f"Trained elsewhere and imported ({manifest.imported_from}). What it was trained on is not known here: an "
        "evaluation on documents that it may have seen says nothing.",
    ]


def _trained(manifest: AdapterManifest) -> list[str]:
    recipe, data, metrics = manifest.recipe, manifest.data, manifest.metrics
    assert recipe is not None
    lines = [
        f"- Recipe: rank {recipe.rank} on {', '.join(recipe.target_modules)}; learning rate {recipe.learning_rate:g}; "
        f"batches of {recipe.batch_size}; at most {recipe.epochs} epochs; seed {recipe.seed}; base in {manifest.dtype}."
    ]
    if data is not None:
        shares = ", ".join(f"{count} {answer}" for answer, count in data.balance.items())
        lines.append(
            f"- Examples: {data.train} to train{f' ({shares})' if shares else ''}, {data.validation} to validate; left "
            f"out {data.duplicates} near-duplicates, {data.near_evaluation} near evaluation documents, "
            f"{data.conflicting} with conflicting labels."
        )
    if metrics is not None and (kept := metrics.kept) is not None:
        before = metrics.validations[0]
        lines.append(
            f"- Step {kept.step} of {metrics.planned_steps} was kept ({metrics.stopped} after {metrics.steps}). "
            f"Validation loss {before.loss:.4f} → {kept.loss:.4f}, accuracy {before.accuracy:.3f} → "
            f"{kept.accuracy:.3f} (base → adapter). Validation chose the step, so these figures are optimistic: trust "
            "the report on held-out documents."
        )
    return lines
