from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import EndpointMismatch, PermanentError, SpecificationError, TransientError
from llm_platform.finetuning.adapter import load_manifest, verify
from llm_platform.finetuning.base import best_device, load_base, require_seen
from llm_platform.finetuning.batches import BatchLimits, epoch_batches, parts_for, split_batch
from llm_platform.finetuning.encoding import Choices, encode, shared_prefix
from llm_platform.finetuning.forward import answer_logits, answer_losses
from llm_platform.finetuning.loop import Limits
from llm_platform.finetuning.train import Options, train
from llm_platform_tests.finetuning.tiny import ANSWERS, examples, pin, tiny_job

COMMAND = [sys.executable, "-m", "llm_platform.finetuning.train"]
OPTIONS = Options(threads=1, checkpoint_seconds=30.0)


class Events(list[dict[str, Any]]):
    """What a training reports."""

    def __call__(self, event: str, **fields: Any) -> None:
        self.append({"event": event, **fields})

    def named(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self if one["event"] == event]


def trained(job: Path, output: Path, base: Path) -> tuple[Path, Events]:
    events = Events()
    return train(job, output, base=base, options=OPTIONS, report=events), events


def test_training_learns_what_the_examples_show(base: Path, tmp_path: Path) -> None:
    """The loop must really train: a model that guessed before gets unseen validation examples right."""
    job = tiny_job(tmp_path / "job", base, examples())

    folder, events = trained(job, tmp_path / "out", base)

    first, *_, last = events.named("validation")
    assert first["accuracy"] <= 0.75
    assert last["accuracy"] == 1.0
    assert last["loss"] < 0.1 < first["loss"]
    assert not (tmp_path / "out" / "checkpoint").exists()
    assert events.named("done")[0]["folder"] == str(folder)
    assert len(events.named("step")) == 36
    assert not [one for one in events if "Review" in json.dumps(one)]


def test_equal_inputs_make_the_equal_adapter(base: Path, tmp_path: Path) -> None:
    """The id is the identity of the weights; a rerun elsewhere must find the adapter it made, not a sibling."""
    job = tiny_job(tmp_path / "job", base, examples(chat=True))
    other = tiny_job(tmp_path / "other", base, examples(chat=True), seed=8)

    first, _ = trained(job, tmp_path / "first", base)
    second, _ = trained(job, tmp_path / "second", base)
    third, _ = trained(other, tmp_path / "third", base)

    assert first.name == second.name != third.name
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert str(base) not in (first / "adapter_config.json").read_text()


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bytes(base: Path, tmp_path: Path) -> None:
    """Hours on a GPU must survive a lost node, and the result must not depend on whether one was lost."""
    job = tiny_job(tmp_path / "job", base, examples())
    whole, _ = trained(job, tmp_path / "whole", base)
    command = [*COMMAND, str(job), str(tmp_path / "out"), "--base", str(base), "--threads", "1"]

    with subprocess.Popen([*command, "--checkpoint-seconds", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("step") == 10:
                process.kill()
                break
    assert (tmp_path / "out" / "checkpoint" / "checkpoint.pt").is_file()
    folder, events = trained(job, tmp_path / "out", base)

    assert events.named("start")[0]["step"] >= 9
    assert len(events.named("step")) <= 27
    assert folder.name == whole.name
    assert load_manifest(folder).metrics == load_manifest(whole).metrics


def test_a_damaged_or_foreign_checkpoint_is_passed_over(base: Path, tmp_path: Path) -> None:
    """A half-written file or another job's state must cost time, never correctness."""
    job = tiny_job(tmp_path / "job", base, examples(), epochs=1)
    whole, _ = trained(job, tmp_path / "whole", base)
    (tmp_path / "out" / "checkpoint").mkdir(parents=True)
    (tmp_path / "out" / "checkpoint" / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut off")

    folder, events = trained(job, tmp_path / "out", base)

    assert events.named("start")[0]["step"] == 0
    assert folder.name == whole.name


def test_a_termination_saves_the_step_in_progress(base: Path, tmp_path: Path) -> None:
    """A pod that is moved gets a moment to save; what it computed in that moment should not be lost."""
    events = Events()
    trainer = _trainer(
        base, tmp_path, events, limits=Limits(60.0, checkpoint_seconds=60.0, ended=lambda: len(events) > 4)
    )

    with pytest.raises(TransientError, match="goes on from there"):
        trainer.run()
    resumed = _trainer(base, tmp_path, events)

    assert resumed.state.step == trainer.state.step > 0
    assert resumed.state.losses == trainer.state.losses


def test_a_spent_budget_keeps_the_best_so_far_and_says_so(base: Path, tmp_path: Path) -> None:
    """A budget is a stop, not a failure, and the manifest must not claim steps that were not done."""
    job = tiny_job(tmp_path / "job", base, examples(), epochs=50, max_cost_usd=1e-9, price_per_hour_usd=1.0)

    folder, _ = trained(job, tmp_path / "out", base)

    metrics = load_manifest(folder).metrics
    assert metrics is not None
    assert metrics.stopped == "money budget"
    assert metrics.steps == metrics.best_step == 1 < metrics.planned_steps


def test_training_that_makes_nothing_better_fails(base: Path, tmp_path: Path) -> None:
    """A failed fine-tune that looks like an adapter would be published by whoever is in a hurry."""
    job = tiny_job(tmp_path / "job", base, examples(), learning_rate=1e-9)

    with pytest.raises(PermanentError, match="no step was better on the validation examples"):
        trained(job, tmp_path / "out", base)
    assert not list((tmp_path / "out").glob("*/manifest.json"))


def test_early_stopping_ends_a_training_that_gets_no_better(base: Path, tmp_path: Path) -> None:
    """Epochs are an upper bound; a team that asks for too many should not pay for them."""
    noisy = [
        one.model_copy(update={"answer": " bad" if number % 3 == 0 else one.answer}) if one.part == "train" else one
        for number, one in enumerate(examples())
    ]
    job = tiny_job(tmp_path / "job", base, noisy, epochs=100, learning_rate=0.05)

    folder, _ = trained(job, tmp_path / "out", base)

    metrics = load_manifest(folder).metrics
    assert metrics is not None
    assert metrics.stopped == "no improvement"
    assert metrics.best_step < metrics.steps < metrics.planned_steps


def test_examples_longer_than_the_context_are_named(base: Path, tmp_path: Path) -> None:
    """Cutting them off would drop the answer; the owner has to see which, how long, and the limit."""
    made = examples()
    made[3] = made[3].model_copy(update={"text": "long " * 200 + "This movie is"})
    job = tiny_job(tmp_path / "job", base, made)

    with pytest.raises(SpecificationError, match=r"1 of 60 .* context of 128 \(first: 'd003' with \d+\)"):
        trained(job, tmp_path / "out", base)


def test_another_base_than_the_pinned_one_is_refused_before_training(base: Path, tmp_path: Path) -> None:
    """An adapter trained on other weights than are served fails silently; both hashes show which is which."""
    job = tiny_job(tmp_path / "job", base, examples(), base=pin(base, weights_sha256="0" * 64))

    with pytest.raises(EndpointMismatch, match=f"{pin(base).weights_sha256}.*{'0' * 64}"):
        trained(job, tmp_path / "out", base)


def test_an_unknown_target_module_is_named_with_those_there_are(base: Path, tmp_path: Path) -> None:
    """Module names differ between model families; PEFT's own message lists none."""
    job = tiny_job(tmp_path / "job", base, examples(), target_modules=["q_proj", "query_key_value"])

    with pytest.raises(SpecificationError, match=r"'query_key_value'.*'down_proj'"):
        trained(job, tmp_path / "out", base)


def test_the_command_explains_itself_and_fails_with_a_sentence(base: Path, tmp_path: Path) -> None:
    """It is run by hand on a GPU machine by people who see nothing but its output."""
    helped = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    missing = [*COMMAND, str(tmp_path / "none"), str(tmp_path / "out"), "--base", str(base)]
    failed = subprocess.run(missing, capture_output=True, text=True, check=False)

    assert "--base" in helped.stdout
    assert failed.returncode == 1
    assert failed.stderr.startswith("training: No training job in")
    assert "Traceback" not in failed.stderr


# PEFT asks transformers by a name that it has renamed.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_a_trained_adapter_serves_in_peft_as_it_was_trained(base: Path, tmp_path: Path) -> None:
    """The files, not the process, are the adapter: loaded by PEFT itself they must give the validated answers."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = examples()
    folder, _ = trained(tiny_job(tmp_path / "job", base, made), tmp_path / "out", base)

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder)).eval()
    for one in made[48:]:
        with torch.no_grad():
            scores = model(**tokenizer(one.text, return_tensors="pt")).logits[0, -1]
        ids = {answer: tokenizer(answer)["input_ids"][0] for answer in ANSWERS.values()}
        assert max(ids, key=lambda answer: float(scores[ids[answer]])) == one.answer
    assert verify(folder, pin(base)).adapter_id == folder.name


def _trainer(
    base: Path, folder: Path, report: Callable[..., None], *, limits: Limits | None = None, checkpointing: bool = False
) -> Any:
    from llm_platform.finetuning.loop import Examples, Trainer
    from llm_platform.records import Recipe

    loaded = load_base(base, pinned_sha256=None, device=best_device())
    encoded = encode(examples(), loaded.tokenizer, context_length=128)
    return Trainer(
        base=loaded,
        recipe=Recipe(epochs=2, learning_rate=0.02),
        examples=Examples(encoded[:48], encoded[48:], Choices(ANSWERS, loaded.tokenizer)),
        parts=BatchLimits(tokens=512, checkpointing=checkpointing),
        limits=limits or Limits(60.0),
        report=report,
        folder=folder / "checkpoint",
        inputs_hash="x",
    )


def test_a_shared_prefix_computed_once_gives_the_same_logits_and_gradients(base: Path) -> None:
    """The shortcut is only allowed because it changes nothing."""
    import torch

    loaded = load_base(base, pinned_sha256=None, device=best_device(), dtype=torch.float32)
    encoded = encode(examples(6, 0, chat=True), loaded.tokenizer, context_length=128)
    prefix, choices = shared_prefix(encoded), Choices(ANSWERS, loaded.tokenizer)
    weight = loaded.model.model.layers[0].self_attn.k_proj.weight

    gradients = []
    logits = []
    for shared in ((), prefix):
        loaded.model.zero_grad()
        logits.append(answer_logits(loaded.model, encoded, shared))
        torch.stack(answer_losses(logits[-1], encoded, choices)).sum().backward()
        gradients.append(weight.grad.clone())

    assert len(prefix) > 8
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-3)


def test_a_batch_in_parts_gives_the_logits_of_one_by_one(base: Path) -> None:
    """Padding that leaks into an answer would train on nonsense and still look like training."""
    import torch

    loaded = load_base(base, pinned_sha256=None, device=best_device(), dtype=torch.float32)
    encoded = encode(examples(5, 0), loaded.tokenizer, context_length=128)
    encoded[0] = encoded[0].__class__("short", encoded[0].prompt[-3:], encoded[0].answer)

    together = answer_logits(loaded.model, encoded, ())
    alone = torch.cat([answer_logits(loaded.model, [one], ()) for one in encoded])

    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_every_example_is_seen_once_an_epoch_in_an_order_of_its_own() -> None:
    """Sorting by length for speed must not drop, repeat or fix the order of examples."""
    from llm_platform.finetuning.encoding import Encoded

    encoded = [Encoded(str(number), tuple(range(number % 17 + 1)), (1,)) for number in range(300)]
    epochs = [epoch_batches(encoded, batch_size=16, seed=7, epoch=epoch) for epoch in (0, 0, 1)]

    for batches in epochs:
        assert sorted(one.document_id for batch in batches for one in batch) == sorted(
            one.document_id for one in encoded
        )
    assert epochs[0] == epochs[1] != epochs[2]
    parts = split_batch(encoded, 64)
    assert all(len(part) * max(one.size for one in part) <= 64 for part in parts)


@pytest.mark.parametrize(
    ("gibibytes", "longest", "checkpointing"),
    [
        pytest.param(24, 128, False, id="short-texts-in-much-memory"),
        pytest.param(1, 2048, True, id="long-texts-in-little"),
    ],
)
def test_parts_fit_into_memory(gibibytes: int, longest: int, checkpointing: bool) -> None:
    """A training that dies of memory after the model was loaded is the dearest way to learn its size."""
    from transformers import LlamaConfig

    config = LlamaConfig(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9)

    parts = parts_for(config, longest=longest, memory_bytes=gibibytes << 30, bytes_per_number=2)

    assert parts.checkpointing is checkpointing
    assert parts.tokens >= longest


def test_recomputing_layers_changes_memory_and_not_the_result(base: Path, tmp_path: Path) -> None:
    """Gradient checkpointing is chosen by the machine's memory, so it must not choose another adapter's quality."""
    import torch

    losses = []
    for checkpointing in (False, True):
        trainer = _trainer(base, tmp_path / str(checkpointing), Events(), checkpointing=checkpointing)
        losses.append([loss for _, loss in trainer.run().losses])

    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), atol=1e-3, rtol=1e-2)


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Any:
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.slow
def test_a_training_whose_reader_is_gone_ends_and_can_go_on(base: Path, tmp_path: Path) -> None:
    """When the run that started it is killed, a training must not go on for hours on a machine that nobody watches."""
    job = tiny_job(tmp_path / "job", base, examples(), epochs=100)
    command = [*COMMAND, str(job), str(tmp_path / "out"), "--base", str(base), "--threads", "1"]

    with subprocess.Popen(
        [*command, "--checkpoint-seconds", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        status, said = process.wait(timeout=120), process.stderr.read()

    assert status == 1
    assert said.splitlines() == [
        "Nobody reads the progress any more. The same command goes on from the last checkpoint."
    ]


@pytest.mark.parametrize(
    ("built_for", "seen", "refused"),
    [
        pytest.param("13.0", False, True, id="driver-too-old"),
        pytest.param("13.0", True, False, id="gpu"),
        pytest.param(None, False, False, id="image-for-processors"),
    ],
)
def test_a_training_that_was_given_a_gpu_does_not_go_on_without(
    built_for: str | None, seen: bool, refused: bool
) -> None:
    """PyTorch only warns of a driver that is too old, and the pod would hold its GPU for days."""
    if refused:
        with pytest.raises(PermanentError, match="given a GPU"):
            require_seen(built_for=built_for, seen=seen)
    else:
        require_seen(built_for=built_for, seen=seen)
