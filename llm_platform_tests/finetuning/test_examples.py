from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from llm_platform.application.variants import Finetuning
from llm_platform.errors import ContractBroken, StorageError
from llm_platform.finetuning.encoding import Choices, encode, shared_prefix
from llm_platform.finetuning.energy import EnergyMeter
from llm_platform.finetuning.examples import describe, make_examples
from llm_platform.finetuning.job import read_job
from llm_platform.finetuning.split import choose
from llm_platform.prompts.render import render
from llm_platform.records import DocumentRow, Prompt, PromptMessage
from llm_platform_tests.finetuning.test_split import LABELS, plain, spec
from llm_platform_tests.finetuning.tiny import ANSWERS, examples, tiny_job

PROMPT = Prompt(
    name="mood",
    api="chat",
    messages=(PromptMessage(role="user", template="Good or bad? {{ text }}"),),
    answers={"HAPPY": "good", "SAD": "bad"},
)


def test_examples_are_rendered_by_the_applications_own_prompt() -> None:
    """A model trained on another wording than it is asked with is measured on a question it never saw."""
    chosen = choose(plain(40), spec(), labels=LABELS)

    made = make_examples(
        chosen,
        render=lambda one: render(PROMPT, DocumentRow(document_id=one.document_id, fingerprint="f", text=one.text)),
        prompt=PROMPT,
    )
    data = describe(made, chosen, spec(), labels=LABELS, references_version="v", documents_snapshot=3)

    first = chosen.train[0]
    assert made[0].messages == ({"role": "user", "content": f"Good or bad? {first.text}"},)
    assert made[0].answer == PROMPT.answers[first.answer]
    assert [one.part for one in made] == ["train"] * 34 + ["validation"] * 6
    assert data.balance == {"HAPPY": 17, "SAD": 17}
    assert (data.train, data.validation, data.evaluation, data.documents_snapshot) == (34, 6, 0, 3)


def test_the_hash_of_examples_changes_with_any_of_them() -> None:
    """It decides whether there is something to train."""
    chosen = choose(plain(40), spec(), labels=LABELS)
    made = examples()

    def content(changed: list[object]) -> str:
        return describe(changed, chosen, spec(), references_version="", documents_snapshot=None).content_hash  # type: ignore[arg-type]

    assert content(list(made)) == content(list(examples()))
    assert content(list(made)) != content([*made[:-1], made[-1].model_copy(update={"answer": " so-so"})])
    assert content(list(made)) != content(list(reversed(made)))


def test_examples_that_were_changed_on_disk_are_refused(base: Path, tmp_path: Path) -> None:
    """The adapter's manifest names the examples by hash; others must not be trained under that name."""
    job = tiny_job(tmp_path, base, examples())
    text = (job / "examples.jsonl").read_text()
    (job / "examples.jsonl").write_text(text.replace("lovely", "awful", 1))

    with pytest.raises(ContractBroken, match="were changed after they were written"):
        read_job(job)
    with pytest.raises(StorageError, match=r"holds job\.json and examples\.jsonl"):
        read_job(tmp_path / "nowhere")


def test_the_inputs_hash_follows_base_examples_recipe_and_budget(base: Path, tmp_path: Path) -> None:
    """It is how an adapter that exists is found instead of being trained again."""
    first, _ = read_job(tiny_job(tmp_path / "a", base, examples()))
    same, _ = read_job(tiny_job(tmp_path / "b", base, examples(), name="other"))
    changed = [
        read_job(tiny_job(tmp_path / "c", base, examples(), rank=2))[0],
        read_job(tiny_job(tmp_path / "d", base, examples(46, 12)))[0],
        read_job(tiny_job(tmp_path / "e", base, examples(), max_minutes=1.0))[0],
    ]

    assert first.inputs_hash == same.inputs_hash
    assert len({first.inputs_hash, *(one.inputs_hash for one in changed)}) == 4


def test_prompts_become_the_tokens_that_an_endpoint_makes_of_them(base: Path) -> None:
    """Chat goes through the model's own template with the assistant's turn opened; answers end with the end token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    chat, text = (encode(examples(2, 0, chat=kind), tokenizer, context_length=128)[0] for kind in (True, False))

    said = tokenizer.decode(chat.prompt)
    assert said.startswith("<|start|>system Judge.<|end|><|start|>user Review:")
    assert said.endswith("<|start|>assistant ")
    assert tokenizer.decode(text.prompt).startswith("Review:")
    assert text.answer == chat.answer == (*tokenizer(" good")["input_ids"], tokenizer.eos_token_id)


def test_only_what_an_endpoint_would_decide_is_trained(base: Path) -> None:
    """Under a constraint the first token decides between good and bad, and nothing else is ever asked."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    one = encode(examples(1, 0), tokenizer, context_length=128)[0]

    assert [at for at, _ in Choices(ANSWERS, tokenizer).decisions(one.answer)] == [0]
    assert Choices({}, tokenizer).decisions(one.answer) == [(at, []) for at in range(len(one.answer))]
    longer = Choices({"A": " good", "B": " good bad"}, tokenizer).decisions(one.answer)
    assert [at for at, _ in longer] == [len(one.answer) - 1]


def test_a_shared_prefix_leaves_every_prompt_a_token_of_its_own(base: Path) -> None:
    """The last prompt token predicts the answer, so it can never be part of what is computed once."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    same = encode([examples(1, 0)[0]] * 2, tokenizer, context_length=128)

    assert shared_prefix(same) == same[0].prompt[:-1]
    assert shared_prefix([]) == ()


@pytest.mark.parametrize("knob", [{"rank": 0}, {"learning_rate": 0}, {"target_modules": []}, {"examples": 5}])
def test_knobs_out_of_range_are_refused(knob: dict[str, object]) -> None:
    """They are found when the file is read, not after the base model was loaded."""
    with pytest.raises(ValidationError):
        Finetuning.model_validate({"prompt": "p", "model": "m", **knob})


def test_the_energy_meter_adds_packages_and_survives_a_wrapped_counter(tmp_path: Path) -> None:
    """Where the kernel has a meter the manifest has joules; elsewhere it says nothing rather than zero."""
    for name, energy in (("intel-rapl:0", 900.0), ("intel-rapl:1", 100.0), ("intel-rapl:0:0", 5.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(str(energy))
        (tmp_path / name / "max_energy_range_uj").write_text("1000")
    meter = EnergyMeter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("50")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("300")

    assert meter.joules() == pytest.approx((150 + 200) / 1e6)
    assert EnergyMeter(tmp_path / "none").joules() is None
