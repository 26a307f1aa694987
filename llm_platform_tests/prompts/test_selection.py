"""Few-shot examples chosen for each document from a frozen pool."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_platform.errors import SpecificationError
from llm_platform.prompts.load import load_prompt
from llm_platform.prompts.render import Renderer, fixed_prefix
from llm_platform.prompts.selection import ExampleSelector, pool_hash
from llm_platform.records import DocumentRow, ExampleSelection, PoolExample
from llm_platform_tests.prompts.test_prompt_files import application_in, mistakes_of

WORDS = ("printer", "invoice", "login", "screen", "garden", "kettle")


def example(number: int, text: str = "", *, answer: str = "BUG", preferred: bool = False) -> PoolExample:
    return PoolExample(
        document_id=f"d{number}",
        fingerprint=f"f{number}",
        text=text or f"text number {number} about a {WORDS[number % len(WORDS)]} of somebody",
        answer=answer,
        preferred=preferred,
    )


def document(text: str, *, fingerprint: str = "other") -> DocumentRow:
    return DocumentRow(document_id="asked", fingerprint=fingerprint, text=text)


def chosen(pool: list[PoolExample], row: DocumentRow, *, select: str = "nearest", count: int = 2) -> list[str]:
    selection = ExampleSelection.model_validate({"select": select, "count": count, "pool": pool_hash(pool)})
    return [one["text"] for one in ExampleSelector(selection, pool).choose(row)]


def test_the_nearest_example_stands_next_to_the_question() -> None:
    """A model heeds what it has read last."""
    pool = [
        example(1, "the printer jams on every second page"),
        example(2, "my invoice shows the wrong amount"),
        example(3, "the printer has no ink and an invoice is stuck"),
    ]

    assert chosen(pool, document("an invoice with a wrong amount was sent to me")) == [pool[2].text, pool[1].text]


def test_a_near_duplicate_of_the_document_is_never_shown() -> None:
    """It would show the answer; in a test it would flatter, in production it never comes."""
    text = "the printer on the second floor jams on every second page since monday"
    pool = [example(1, text + " morning"), example(2, text.upper()), example(3, "a kettle is broken")]

    for select in ("nearest", "random"):
        assert chosen(pool, document(text), select=select) == [pool[2].text]


def test_the_document_itself_is_never_its_own_example() -> None:
    """Prompts are tried on the training split, from which the pool comes."""
    pool = [example(number) for number in range(6)]

    for one in pool:
        row = document(one.text, fingerprint=one.fingerprint)
        assert one.text not in chosen(pool, row, select="random", count=6)


def test_preferred_examples_come_first_and_the_others_fill_up() -> None:
    """Somebody who tags an example wants it to be seen."""
    pool = [example(number, preferred=number in (2, 4)) for number in range(6)]

    for select in ("nearest", "random"):
        found = chosen(pool, document("a garden and nothing else"), select=select, count=3)
        assert set(found[1:]) == {pool[2].text, pool[4].text}


def test_random_examples_are_the_same_for_every_document_and_show_several_answers() -> None:
    """The prefix that all prompts share is computed once by the endpoint; one answer alone would teach to give it."""
    pool = [example(number, answer="WISH" if number < 2 else "BUG") for number in range(12)]
    selection = ExampleSelection(select="random", count=4, pool=pool_hash(pool))
    selector = ExampleSelector(selection, pool)

    found = [selector.choose(document(text)) for text in ("tulips", "roses", "a rake")]

    assert found[0] == found[1] == found[2]
    assert [one["answer"] for one in found[0]].count("WISH") == 2


@settings(deadline=None)  # a busy machine is no finding
@given(st.permutations(range(8)))
def test_the_order_of_the_pool_changes_neither_its_hash_nor_a_choice(order: list[int]) -> None:
    """A lake gives rows in any order; the release is the same."""
    pool = [example(number, answer="WISH" if number % 3 else "BUG") for number in range(8)]
    shuffled = [pool[place] for place in order]
    row = document("a text about a printer and a login")

    assert pool_hash(shuffled) == pool_hash(pool)
    for select in ("nearest", "random"):
        assert chosen(shuffled, row, select=select, count=3) == chosen(pool, row, select=select, count=3)


@settings(deadline=None)  # a busy machine is no finding
@given(st.text(max_size=60), st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_any_text_has_a_choice(text: str, texts: list[str]) -> None:
    """Empty texts, signs and emoji are documents, too."""
    pool = [example(number, one) for number, one in enumerate(texts)]

    assert len(chosen(pool, document(text))) <= 2


SELECTED = """---
api: completion
answers: {BUG: " bug", WISH: " wish"}
examples: {select: nearest, count: 1, pool: 0123456789abcdef}
---
{% for example in examples %}{{ example.text }} is a{{ example.answer }}.
{% endfor %}
{{ text }} is a"""


def test_a_prompt_file_selects_examples_and_its_renderer_shows_them(tmp_path: Path) -> None:
    """From front matter to what is sent, with the answer written as the model is to write it."""
    application = application_in(tmp_path, SELECTED)
    prompt = load_prompt(application.folder / "prompts" / "sort.md", application)
    assert prompt.selection is not None
    pool = [example(1, "The printer jams"), example(2, "Please add a dark mode", answer="WISH")]
    renderer = Renderer(prompt, ("BUG", "WISH"), choose=ExampleSelector(prompt.selection, pool).choose)

    rendered = renderer.render(document("A dark theme, please"))

    assert rendered.text == "Please add a dark mode is a wish.\nA dark theme, please is a"
    assert fixed_prefix(prompt, labels=("BUG", "WISH")) == ""
    with pytest.raises(SpecificationError, match="0123456789abcdef"):
        Renderer(prompt, ("BUG", "WISH"))


def test_a_pool_that_is_not_frozen_is_a_mistake_that_says_how(tmp_path: Path) -> None:
    """Without a hash the release would change with every label."""
    application = application_in(tmp_path, SELECTED.replace("0123456789abcdef", "unfrozen"))

    assert mistakes_of(application) == [
        "F/prompts/sort.md:4: found pool 'unfrozen'; allowed: the hash of a frozen pool, which 'llm-platform prompt "
        "freeze' writes here"
    ]


def test_another_pool_or_another_count_is_another_version(tmp_path: Path) -> None:
    """The selector is part of the release's identity."""
    versions = set()
    for index, text in enumerate(
        (SELECTED, SELECTED.replace("count: 1", "count: 2"), SELECTED.replace("0123", "3210"))
    ):
        folder = tmp_path / str(index)
        folder.mkdir()
        application = application_in(folder, text)
        versions.add(load_prompt(folder / "prompts" / "sort.md", application).version)

    assert len(versions) == 3
