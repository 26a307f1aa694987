"""A model of two layers, its tokenizer, and a job that it can learn in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_platform.finetuning.base import weights_sha256
from llm_platform.finetuning.examples import TrainingExample, examples_hash
from llm_platform.finetuning.job import TrainingJob, write_job
from llm_platform.records import ModelPin, Recipe, TrainingData

ANSWERS = {"HAPPY": " good", "SAD": " bad"}
WORDS = ("lovely", "warm", "bright"), ("dull", "cold", "grey")
TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }} {{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant {% endif %}"
)


def tiny_base(folder: Path) -> Path:
    """A Llama of two layers with random weights, in Hugging Face layout; equal bytes every time."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = [f"Review: the film is {word}. This movie is good bad" for part in WORDS for word in part] * 4
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.chat_template = TEMPLATE
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=1,
        bos_token_id=0,
        pad_token_id=1,
        # Ten times the usual spread: random features that differ enough for an adapter to read them.
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def pin(base: Path, **changes: Any) -> ModelPin:
    """The pin of a base model as a lock file would have it."""
    values = {
        "entry": "tiny",
        "served_name": "tiny",
        "dialect": "nim-2.x",
        "weights_sha256": weights_sha256(base),
        "context_length": 128,
    }
    return ModelPin.model_validate({**values, **changes})


def examples(train: int = 48, validation: int = 12, *, chat: bool = False) -> list[TrainingExample]:
    """Examples whose answer follows from one word."""
    made = []
    for number in range(train + validation):
        happy = number % 2 == 0
        word = WORDS[0 if happy else 1][number // 2 % 3]
        text = f"Review: the film number {number} is {word}. This movie is"
        made.append(
            TrainingExample(
                document_id=f"d{number:03d}",
                part="train" if number < train else "validation",
                messages=({"role": "system", "content": "Judge."}, {"role": "user", "content": text}) if chat else None,
                text=None if chat else text,
                answer=ANSWERS["HAPPY" if happy else "SAD"],
            )
        )
    return made


def tiny_job(folder: Path, weights: Path, made: list[TrainingExample], **changes: Any) -> Path:
    """A job folder for `made` on these base weights; `changes` are fields of the recipe or of the job."""
    recipe = {"rank": 4, "epochs": 6, "learning_rate": 0.01, "batch_size": 8}
    recipe |= {key: changes.pop(key) for key in list(changes) if key in Recipe.model_fields}
    sizes = {part: sum(one.part == part for one in made) for part in ("train", "validation")}
    job = {
        "application": "tickets",
        "name": "mood",
        "base": pin(weights),
        "recipe": Recipe.model_validate(recipe),
        "data": TrainingData(content_hash=examples_hash(made), evaluation=0, split_seed=7, **sizes),
        "prompt_version": "0123456789abcdef",
        "answers": ANSWERS,
        "max_minutes": 5.0,
    }
    write_job(folder, TrainingJob.model_validate({**job, **changes}), made)
    return folder
