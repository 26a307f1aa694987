"""A sweep of fine-tuning recipes on the embedded model; `python -m llm_platform_tests.benchmarks.finetuning --help`.

Recipes are compared by validation loss, on examples that no recipe trains on. The 200 reviews of the evaluation split
are measured for every row, too, and choose nothing. In transformers, not through an endpoint: one process, one model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_platform.application.load import load_application
from llm_platform.application.model import Application
from llm_platform.application.variants import Finetuning
from llm_platform.errors import PlatformError
from llm_platform.finetuning.base import Base, best_device, load_base
from llm_platform.finetuning.batches import memory_bytes, parts_for, split_batch
from llm_platform.finetuning.encoding import Choices, Encoded, encode
from llm_platform.finetuning.examples import TrainingExample, make_examples
from llm_platform.finetuning.forward import answer_logits
from llm_platform.finetuning.loop import SMOOTHING, Examples, Limits, Trainer
from llm_platform.finetuning.split import LabelledDocument, choose
from llm_platform.prompts.load import load_prompts
from llm_platform.prompts.render import Renderer
from llm_platform.records import DocumentRow, Prompt
from llm_platform.samples.movie_reviews import labels, reviews
from llm_platform.settings.settings import CHECKOUT

HELD_OUT_OF = 400
LABELS = ("HAPPY", "SAD")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
SWEEP: tuple[dict[str, Any], ...] = (
    {"documents": 600, "rank": 8},
    {"documents": 600, "rank": 8, "smoothing": 0.0},
    {"documents": 600, "rank": 8, "learning_rate": 0.002},
    {"documents": 600, "rank": 8, "target_modules": [*ATTENTION, "gate_proj", "up_proj", "down_proj"]},
    {"documents": 600},
    {"documents": 400, "rank": 8, "epochs": 2, "smoothing": 0.0},
    {"documents": 1000, "rank": 8},
    {"documents": 1000, "rank": 8, "smoothing": 0.0},
    {"documents": 1000, "rank": 8, "smoothing": 0.0, "learning_rate": 0.0005},
    {"documents": 1000, "rank": 8, "smoothing": 0.0, "prompt": "literal"},
)
"""What docs/finetuning.md shows, but for the loss that was given up; every other knob has its default."""


@dataclass(frozen=True)
class Reviews:
    """Labelled reviews: the training split of `documents`, and the evaluation split of the demo's 400."""

    application: Application
    prompt: Prompt
    labelled: Sequence[LabelledDocument]

    def render(self, document: LabelledDocument) -> Any:
        row = DocumentRow(document_id=document.document_id, fingerprint="", text=document.text)
        return Renderer(self.prompt, LABELS).render(row)

    def examples(self, split: str) -> list[TrainingExample]:
        return [
            TrainingExample(
                document_id=one.document_id,
                part="validation",
                messages=None if (said := self.render(one)).messages is None else tuple(said.messages),
                text=said.text,
                answer=self.prompt.answers[one.answer],
            )
            for one in self.labelled
            if one.split == split
        ]


def load_reviews(prompt: str, documents: int) -> Reviews:
    application = load_application(CHECKOUT / "llm_platform" / "applications" / "movie_reviews")
    texts = {row["review_id"]: row["text"] for row in reviews(documents).to_pylist()}
    held_out = set(reviews(HELD_OUT_OF)["review_id"].to_pylist())
    labelled = [
        LabelledDocument(
            document_id=row["review_id"],
            fingerprint=row["review_id"],
            text=texts[row["review_id"]],
            answer=row["label"],
            split=row["split"],
        )
        for row in labels(documents).to_pylist()
        if row["split"] == "train" or row["review_id"] in held_out
    ]
    return Reviews(application, load_prompts(application)[prompt], labelled)


def margins(model: Any, encoded: Sequence[Encoded], choices: Sequence[int], tokens: int) -> list[float]:
    """Logit of the first label's first answer token above the second's, by example."""
    import torch

    found: dict[str, float] = {}
    with torch.no_grad():
        for part in split_batch(encoded, tokens):
            logits = answer_logits(model, part, ())
            start = 0
            for one in part:
                found[one.document_id] = float(logits[start][choices[0]] - logits[start][choices[1]])
                start += len(one.answer)
    return [found[one.document_id] for one in encoded]


def figures(scores: Sequence[float], truth: Sequence[bool], threshold: float) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    return {
        "accuracy": sum((score > 0) == label for score, label in zip(scores, truth, strict=True)) / len(truth),
        "calibrated": sum((score > threshold) == label for score, label in zip(scores, truth, strict=True))
        / len(truth),
        "auc": float(roc_auc_score(truth, scores)),
    }


def trial(base: Base, documents: int, spec: Finetuning, *, smoothing: float = SMOOTHING) -> dict[str, Any]:
    """Train once and measure."""
    data = load_reviews(spec.prompt, documents)
    chosen = choose(data.labelled, spec, labels=LABELS)
    examples = make_examples(chosen, render=data.render, prompt=data.prompt)
    encoded = encode(examples, base.tokenizer, context_length=2048)
    train = [one for one, example in zip(encoded, examples, strict=True) if example.part == "train"]
    validation = [one for one, example in zip(encoded, examples, strict=True) if example.part == "validation"]
    longest = max(one.size for one in encoded)
    parts = parts_for(
        base.model.config, longest=longest, memory_bytes=memory_bytes(base.device), bytes_per_number=base.dtype.itemsize
    )
    events: list[dict[str, Any]] = []
    began, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            base=base,
            recipe=spec.recipe(),
            examples=Examples(train, validation, Choices(data.prompt.answers, base.tokenizer)),
            parts=parts,
            limits=Limits(3600.0),
            report=lambda event, **fields: events.append({"event": event, **fields}),
            folder=Path(folder),
            inputs_hash="sweep",
            smoothing=smoothing,
        )
        try:
            metrics = trainer.run()
            trained = {"wall": time.monotonic() - began, "cpu": time.process_time() - cpu}
            trainer.wrapped.eval()
            row = _measured(base, trainer.model, data, train, tokens=parts.tokens)
        finally:
            base.model = trainer.wrapped.unload()
    kept = metrics.kept
    assert kept is not None
    return {
        "prompt": spec.prompt,
        "train": len(train),
        "rank": spec.rank,
        "modules": len(spec.target_modules),
        "learning_rate": spec.learning_rate,
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "seed": spec.seed,
        "steps": metrics.steps,
        "best_step": metrics.best_step,
        "stopped": metrics.stopped,
        "validation_loss": kept.loss,
        "validation_accuracy": kept.accuracy,
        "validations": [(one.step, round(one.loss, 4), round(one.accuracy, 3)) for one in metrics.validations],
        "tokens": metrics.trained_tokens,
        **trained,
        **row,
    }


def baselines(base: Base, *, prompt: str, documents: int) -> dict[str, Any]:
    """The base model with the same prompt, and counting words in the same training reviews."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    data = load_reviews(prompt, documents)
    train = [one for one in data.labelled if one.split == "train"]
    held_out = [one for one in data.labelled if one.split == "evaluation"]
    # As `llm_platform.evaluation.baseline` has it.
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]", max_features=100_000)
    model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=2000))
    model.fit([one.text for one in train], [one.answer for one in train])
    given = model.predict([one.text for one in held_out])
    right = sum(answer == one.answer for answer, one in zip(given, held_out, strict=True))
    encoded = encode(data.examples("train"), base.tokenizer, context_length=2048)
    base.model.eval()
    return {
        "prompt": prompt,
        "train": len(train),
        "tfidf": right / len(held_out),
        "base": _measured(base, base.model, data, encoded, tokens=2048),
    }


def _measured(base: Base, model: Any, data: Reviews, train: Sequence[Encoded], *, tokens: int) -> dict[str, float]:
    held_out = encode(data.examples("evaluation"), base.tokenizer, context_length=2048)
    choices = [base.tokenizer(data.prompt.answers[label], add_special_tokens=False)["input_ids"][0] for label in LABELS]
    labels_of = {one.document_id: one.answer == LABELS[0] for one in data.labelled}
    fitted = sorted(margins(model, train[:200], choices, tokens))
    scores = margins(model, held_out, choices, tokens)
    return figures(scores, [labels_of[one.document_id] for one in held_out], fitted[len(fitted) // 2])


def main() -> None:
    """Measure baselines, then every trial, a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the embedded model's GGUF file")
    parser.add_argument("--trials", type=Path, help="JSON lines, each the knobs of one trial, instead of the sweep's")
    parser.add_argument("--results", type=Path, help="file to append rows to, as JSON lines")
    given = parser.parse_args()
    base = load_base(given.base, pinned_sha256=None, device=best_device())
    lines = given.trials.read_text().splitlines() if given.trials else []
    trials = [json.loads(line) for line in lines if line] or list(SWEEP)
    asked = sorted({(one.get("prompt", "sentiment"), one["documents"]) for one in trials})
    rows = itertools.chain(
        (baselines(base, prompt=prompt, documents=documents) for prompt, documents in asked),
        (_row(base, knobs) for knobs in trials),
    )
    for row in rows:
        print(json.dumps(row), flush=True)  # noqa: T201
        if given.results:
            with given.results.open("a") as file:
                file.write(json.dumps(row) + "\n")


def _row(base: Base, knobs: dict[str, Any]) -> dict[str, Any]:
    values = {"prompt": "sentiment", "model": "smollm2-135m", **knobs}
    documents, smoothing = values.pop("documents"), values.pop("smoothing", SMOOTHING)
    try:
        return {"smoothing": smoothing, **trial(base, documents, Finetuning(**values), smoothing=smoothing)}
    except PlatformError as error:
        return {**knobs, "failed": str(error)}


if __name__ == "__main__":
    main()
