"""Ways of asking for a review's sentiment, measured on the training split of the shipped sample.

    python -m llm_platform_tests.benchmarks.prompts

It starts or joins the embedded NIM of the state folder and prints one line a prompt. Only training reviews are asked,
so that the evaluation split stays unseen by whoever chooses.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass

import numpy as np
import openai

from llm_platform.models.lock import load_lock
from llm_platform.operations.serving.endpoints import base_urls
from llm_platform.resources.handed import local_nim
from llm_platform.samples.movie_reviews import labels, reviews
from llm_platform.settings.settings import load_settings

IN_FLIGHT = 12
SHOTS = (
    "Review: a gripping, beautifully acted film .\nSentiment (positive or negative): positive\n\n"
    "Review: a dull and lifeless mess .\nSentiment (positive or negative): negative\n\n"
)


@dataclass(frozen=True)
class Way:
    """A text to continue, and the words for HAPPY and SAD."""

    name: str
    template: str
    happy: str
    sad: str


WAYS = (
    Way("sentiment", "Review: {text}\nSentiment (positive or negative):", " positive", " negative"),
    Way("sentiment, 2 examples", SHOTS + "Review: {text}\nSentiment (positive or negative):", " positive", " negative"),
    Way(
        "opinion",
        "The following movie review expresses a positive or negative opinion.\n\nReview: {text}\n\nOpinion:",
        " positive",
        " negative",
    ),
    Way("yes or no", "Review: {text}\nQuestion: Did the reviewer like the movie?\nAnswer (yes or no):", " yes", " no"),
    Way("worth seeing", "Movie review: {text}\n\nIn summary, the film is worth seeing:", " yes", " no"),
    Way("verdict", "Movie review: {text}\n\nVerdict (good or bad):", " good", " bad"),
    Way("overall, was", "{text}\nOverall, the movie was", " great", " terrible"),
    Way("good or bad?", "Review: {text}\nIs this movie good or bad? This movie is", " good", " bad"),
    Way("in summary, film", "Movie review: {text}\n\nIn summary, the film is", " good", " bad"),
    Way("in summary, excellent", "Movie review: {text}\n\nIn summary, the film is", " excellent", " terrible"),
    Way("in short, movie", "Movie review: {text}\n\nIn short, this movie is", " good", " bad"),
)


async def differences(client: openai.AsyncOpenAI, model: str, way: Way, texts: list[str]) -> list[float]:
    """Log-probability of HAPPY's word minus that of SAD's, by text."""
    room = asyncio.Semaphore(IN_FLIGHT)

    async def one(text: str) -> float:
        async with room:
            answer = await client.completions.create(
                model=model,
                prompt=way.template.format(text=text),
                max_tokens=1,
                temperature=0,
                logprobs=20,
                extra_body={"structured_outputs": {"choice": [way.happy, way.sad]}},
            )
        listed = answer.choices[0].logprobs
        top = listed.top_logprobs[0] if listed and listed.top_logprobs else {}
        return top[way.happy] - top[way.sad]

    return await asyncio.gather(*map(one, texts))


async def measure(documents: int) -> None:
    """Print AUC, and accuracy deciding at zero and at the median."""
    from sklearn.metrics import roc_auc_score

    settings = load_settings()
    entry = load_lock(settings.models_lock)["smollm2-135m"]
    url = base_urls(entry, local_nim(settings))[0]
    known = {row["review_id"]: row for row in labels(2 * documents).to_pylist()}
    rows = [row for row in reviews(2 * documents).to_pylist() if known[row["review_id"]]["split"] == "train"]
    texts = [row["text"].replace("<br />", "\n") for row in rows]
    happy = np.array([known[row["review_id"]]["label"] == "HAPPY" for row in rows])
    print(f"{len(texts)} training reviews, {entry.model}, {entry.weights.file if entry.weights else ''}")  # noqa: T201
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=300) as client:
        for way in WAYS:
            found = np.array(await differences(client, entry.served_name, way, texts))
            at_zero = ((found > 0) == happy).mean()
            at_median = ((found > np.median(found)) == happy).mean()
            auc = roc_auc_score(happy, found)
            print(f"{way.name:22} AUC {auc:.3f}  at 0: {at_zero:.3f}  at the median: {at_median:.3f}", flush=True)  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=200, help="training reviews to ask about")
    asyncio.run(measure(parser.parse_args().documents))
