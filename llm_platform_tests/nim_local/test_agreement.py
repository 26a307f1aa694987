"""The embedded NIM answers with an adapter as transformers and peft do."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llm_platform.nim_local.adapters import BaseWeights, prepare
from llm_platform.nim_local.artifacts import WeightsArtifact
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.engine import Engine
from llm_platform.nim_local.generation import Job, TokenSampling, TokenScore, generate_text
from llm_platform.nim_local.gguf_header import read_header
from llm_platform.nim_local.vocabulary import Vocabulary
from llm_platform.samples.movie_reviews import reviews

from .adapters import random_adapter
from .tiny_llama import tiny_llama, write_gguf

# peft 0.21 asks transformers 5 under a name that transformers 5.23 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

ALL_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def greedy(engine: Engine, prompt: str, *, adapter: str | None, tokens: int) -> list[TokenScore]:
    """The answer's tokens and their log-probabilities."""
    scores: list[TokenScore] = []
    job = Job(
        prompt=prompt,
        max_tokens=tokens,
        sampling=TokenSampling(temperature=0),
        ignore_end=True,
        top_logprobs=1,
        adapter=adapter,
    )
    generate_text(engine, job, emit=lambda piece: scores.extend(piece.scores), cancelled=threading.Event())
    return scores


def first_tokens(engine: Engine, prompts: Sequence[str], *, adapter: str | None) -> list[list[int]]:
    """The first greedy token of every prompt."""
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda prompt: greedy(engine, prompt, adapter=adapter, tokens=1), prompts)
        return [[score.token_id for score in scores] for scores in found]


def opening(text: str, *, words: int) -> str:
    """A review's first words: a hundred whole ones would take a minute."""
    return " ".join(text.split()[:words])


def reference(model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """What transformers says to every token of the answers: its log-probability, and by how much another is likelier.

    The answers are given and judged in one pass: they are its own greedy answers exactly when nothing is likelier.
    """
    import torch

    count = len(answers[0])
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    with torch.inference_mode():
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(0),
            logits_to_keep=count + 1,
        ).logits[:, :-1]
    scores = logits.float().log_softmax(-1)
    given = scores.gather(-1, ids[:, -count:, None])[..., 0]
    return given.numpy(), (scores.max(-1).values - given).numpy()


@pytest.fixture(scope="module")
def tiny(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model in transformers, and the same weights as GGUF."""
    model = tiny_llama(Vocabulary.read(weights).size)
    return model, write_gguf(model, weights, tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(params=["plain", "rank-stabilized", "bfloat16"])
def tuned(request: pytest.FixtureRequest, tiny: tuple[Any, Path], tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """The tiny model with an adapter on every projection, and the adapter as peft saves it."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=ALL_MODULES,
        init_lora_weights=False,
        use_rslora=request.param == "rank-stabilized",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(tiny[0], config).eval()
    if request.param == "bfloat16":
        for name, values in adapted.named_parameters():
            if "lora_" in name:
                values.data = values.data.bfloat16().float()
    adapted.save_pretrained(tmp_path / "adapter")
    yield adapted, tmp_path / "adapter"
    adapted.unload()


def test_in_float32_a_hundred_documents_get_the_same_answers(
    tiny: tuple[Any, Path], tuned: tuple[Any, Path], tmp_path: Path
) -> None:
    """Names, shapes, scale and the rotary order of all seven projections; a mistake in any is no rounding error.

    Every greedy token is the same, and its log-probability within the rounding of a cache that keeps float16.
    """
    model, folder = tuned
    path = tiny[1]
    adapter = prepare("a", folder, BaseWeights("0" * 64, read_header(path)), cache=tmp_path, max_rank=32)
    config = EmbeddedConfig(
        model_id="tiny", weights=path, weights_sha256="0" * 64, slots=2, context_length=128, threads=1
    )
    documents = [f"Review: {opening(text, words=8)} It is" for text in reviews(400)["text"].to_pylist()[:140]]

    with closing(Engine(config, Vocabulary.read(path), [adapter])) as engine:
        answered = [(document, greedy(engine, document, adapter="a", tokens=2)) for document in documents]
        # llama.cpp scores no token that is part of a character, which a random model writes now and then.
        documents, answers = zip(*[pair for pair in answered if len(pair[1]) == 2][:100], strict=True)
        prompts = [engine.tokenize(document, add_special=True) for document in documents]
        plain = [greedy(engine, document, adapter=None, tokens=2) for document in documents]

    assert len(documents) == 100
    ids = [[score.token_id for score in answer] for answer in answers]
    given, beaten_by = reference(model, prompts, ids)
    assert abs(given - [[score.logprob for score in answer] for answer in answers]).max() < 0.02
    assert (beaten_by > 0.02).sum() == 0
    assert sum(one != [score.token_id for score in other] for one, other in zip(ids, plain, strict=True)) > 90


@pytest.mark.slow
def test_on_the_served_weights_a_hundred_documents_get_the_same_answers_but_for_near_ties(
    weights: Path, artifact: WeightsArtifact, tmp_path: Path
) -> None:
    """Compared with transformers and peft on the same weights in float32.

    llama.cpp rounds what flows through a Q8_0 matrix to 8 bits, which moves a log-probability by 0.09 (standard
    deviation, with an adapter and without; measured against the same weights in float32). Two tokens that lie closer
    may change places, and after a few words of a review many tokens are about equally likely: measured, 86 of 100
    answers were the same, and where one differed the reference liked its own token better by at most 0.25. So this is
    what is asserted, with room: three quarters are the same, no difference beyond 0.5. As a control, without the
    adapter a third and more of the answers are others.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = random_adapter(tmp_path / "a", 7, strength=0.1)
    prompts = [f"Review: {opening(text, words=8)}\nSentiment:" for text in reviews(400)["text"].to_pylist()[:100]]
    adapter = prepare("a", folder, BaseWeights(artifact.sha256, read_header(weights)), cache=tmp_path, max_rank=32)
    config = EmbeddedConfig(
        model_id="base", weights=weights, weights_sha256=artifact.sha256, slots=8, context_length=128, threads=1
    )
    with ThreadPoolExecutor(1) as beside, closing(Engine(config, Vocabulary.read(weights), [adapter])) as engine:
        # Reading the reference takes as long as the answers, and a core of its own.
        loading = beside.submit(
            AutoModelForCausalLM.from_pretrained, weights.parent, gguf_file=weights.name, dtype="float32"
        )
        tokens = [engine.tokenize(prompt, add_special=True) for prompt in prompts]
        answers, plain = first_tokens(engine, prompts, adapter="a"), first_tokens(engine, prompts, adapter=None)

    _, beaten_by = reference(PeftModel.from_pretrained(loading.result(), folder).eval(), tokens, answers)

    same = int((beaten_by == 0).all(1).sum())
    assert same >= 75, f"{same} of 100 the same, the others beaten by at most {beaten_by.max():.2f}"
    assert beaten_by.max() < 0.5
    assert sum(one != other for one, other in zip(answers, plain, strict=True)) >= 30
