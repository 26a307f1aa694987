"""Meaning as a vector: the mean of static word-piece vectors that the PyPI package `wordllama` ships (16 MB).

A text's vector is the mean of its pieces' vectors, so word order and "not" hardly show: "is on fire" and "is not on
fire" have a similarity of 0.97. It tells what a text is about, in a twentieth of a millisecond, without a GPU and
without a download. It does not tell whether an answer is right; a judge or a person does.

The two files are read from the package's folder; none of its code runs, because version 0.4.0 looks for its own
tokenizer in a folder that it does not ship.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_platform.errors import SpecificationError
from llm_platform.evaluation.fields import Grade
from llm_platform.evaluation.matches import NO_VALID_ANSWER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE = "wordllama"
WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
TENSOR = "embedding.weight"


def embedding_version() -> str:
    """Name and version of the vectors: scores made with others are other scores.

    Raises:
        SpecificationError: the package is not installed.
    """
    try:
        return f"{PACKAGE}-l2-256/{importlib.metadata.version(PACKAGE)}"
    except importlib.metadata.PackageNotFoundError as error:
        raise SpecificationError(
            "Semantic similarity needs the vectors of the package 'wordllama', which is not installed. "
            "Install the extra: pip install 'llm-platform[semantic]'."
        ) from error


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors, shape (texts, 256); a text without a known word piece has the zero vector.

    Raises:
        SpecificationError: the package `wordllama` is not installed.
    """
    import numpy as np

    embedding_version()
    tokenizer, weights = _files()
    vectors = np.zeros((len(texts), weights.shape[1]), dtype=np.float32)
    for row, encoding in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
        if encoding.ids:
            mean = weights[encoding.ids].mean(axis=0)
            vectors[row] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return vectors


def semantic(answer: str | None, reference: str) -> Grade:
    """Cosine of the vectors of answer and reference, with negative ones as 0."""
    if answer is None:
        return Grade(0.0, NO_VALID_ANSWER)
    given, truth = embed([answer, reference])
    if not truth.any():
        return Grade(None, "the reference has no word that the vectors know")
    return Grade(min(1.0, max(0.0, round(float(given @ truth), 6))))


@cache
def _files() -> tuple[Any, NDArray[np.float32]]:
    import numpy as np
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    found = importlib.util.find_spec(PACKAGE)
    folder = Path((found.submodule_search_locations or [""])[0]) if found is not None else Path()
    weights: NDArray[np.float32] = load_file(str(folder / WEIGHTS))[TENSOR].astype(np.float32)
    return Tokenizer.from_file(str(folder / TOKENIZER)), weights
