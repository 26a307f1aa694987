"""`long_documents` of an application file."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.application.documents import LongDocumentRules
from llm_platform.application.load import load_application
from llm_platform.errors import SpecificationError
from llm_platform.prompts.load import load_prompts
from llm_platform_tests.application.test_application_files import (
    CLASSIFY,
    EXTRACT,
    application_folder,
    mistakes_of,
)

BY_TEXT = CLASSIFY.replace("    decision: logprobs\n    calibrate: true\n", "")
GENERATE = EXTRACT.replace("task: extract", "task: generate").replace(
    "fields:\n  product: {type: string, max_length: 40}\n  since: {type: date, required: false}\n", ""
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("", LongDocumentRules(), id="default"),
        pytest.param("long_documents: reject\n", LongDocumentRules(), id="reject"),
        pytest.param("long_documents: truncate\n", LongDocumentRules(policy="truncate"), id="one-word"),
        pytest.param(
            "long_documents: {policy: split, overlap_tokens: 9, priority: [WISH, BUG]}\n",
            LongDocumentRules(policy="split", overlap_tokens=9, priority=("WISH", "BUG")),
            id="split",
        ),
    ],
)
def test_one_word_or_a_mapping(tmp_path: Path, line: str, expected: LongDocumentRules) -> None:
    """Most applications need one word."""
    folder = application_folder(tmp_path, BY_TEXT + line)

    assert load_application(folder, models=["tiny"]).long_documents == expected


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        pytest.param(
            CLASSIFY,
            "long_documents: trunkate",
            [
                "found 'trunkate' as long_documents.policy; allowed: 'reject', 'truncate', 'split'; did you mean "
                "'truncate'?"
            ],
            id="unknown-word",
        ),
        pytest.param(
            CLASSIFY,
            "long_documents: {policy: truncate, overlap_tokens: 3}",
            [
                "found overlap_tokens with policy 'truncate'; allowed: overlap_tokens only with policy 'split'; did "
                "you mean 'split'?"
            ],
            id="setting-of-another-policy",
        ),
        pytest.param(
            CLASSIFY,
            "long_documents: {policy: split, priority: [BUG, WISH]}",
            [
                "found priority while variant 'plain' decides by 'logprobs'; allowed: no priority (probabilities are "
                "averaged), or decision 'text'"
            ],
            id="priority-beside-probabilities",
        ),
        pytest.param(
            BY_TEXT,
            "long_documents: {policy: split, priority: [BGU]}",
            [
                "found a priority without 'BUG', 'WISH'; allowed: every label, the most important first",
                "found label 'BGU'; allowed: 'BUG', 'WISH'; did you mean 'BUG'?",
            ],
            id="priority-of-unknown-labels",
        ),
        pytest.param(
            EXTRACT,
            "long_documents: {policy: split, fields: {product: all, sinse: last}}",
            [
                "found 'all' for type 'string'; allowed: 'all' only for type 'list'",
                "found field 'sinse'; allowed: 'product', 'since'; did you mean 'since'?",
            ],
            id="fields",
        ),
        pytest.param(
            EXTRACT,
            "long_documents: {policy: split, prompt: joint}",
            ["found prompt 'joint'; allowed: the name of a file in F/prompts without '.md' ('plain', 'polite')"],
            id="prompt-that-is-not-there",
        ),
        pytest.param(
            GENERATE,
            "long_documents: split",
            [
                "found policy 'split' for task 'generate' without a prompt; allowed: 'prompt', a prompt file that "
                "makes one answer from {{ parts }}"
            ],
            id="nothing-puts-texts-together",
        ),
    ],
)
def test_a_rule_that_does_not_fit_is_reported(tmp_path: Path, text: str, line: str, expected: list[str]) -> None:
    """A rule that is ignored looks like one that is followed."""
    folder = application_folder(tmp_path, f"{text}{line}\n")

    found = mistakes_of(folder)

    assert [mistake.partition(": ")[2] for mistake in found] == expected
    assert {mistake.partition(": ")[0] for mistake in found} == {
        f"F/application.yaml:{len((text + line).splitlines())}"
    }


def test_the_prompt_that_puts_answers_together_reads_them_and_no_text(tmp_path: Path) -> None:
    """The text is what did not fit."""
    folder = application_folder(tmp_path, GENERATE + "long_documents: {policy: split, prompt: joint}\n")
    joint = folder / "prompts" / "joint.md"
    joint.write_text("---\napi: chat\n---\n# user\nOne sentence of these:\n{{ parts }}\n")
    prompt = load_prompts(load_application(folder, models=["tiny"]))["joint"]
    examples = "examples: {pool: 0123456789abcdef, count: 2, select: nearest}"
    joint.write_text(f"---\napi: chat\n{examples}\n---\n# user\nOne sentence of {{{{ text }}}}\n")
    (folder / "prompts" / "plain.md").write_text("---\napi: chat\n---\n# user\n{{ parts }}\n")

    with pytest.raises(SpecificationError) as raised:
        load_prompts(load_application(folder, models=["tiny"]))

    assert prompt.variables == ("parts",)
    assert "joint.md:6: found variable 'text'; allowed: 'parts'" in str(raised.value)
    assert "joint.md:3: found select 'nearest' in the prompt of long_documents; allowed: 'first'" in str(raised.value)
    assert "plain.md:5: found variable 'parts'; allowed: 'text'" in str(raised.value)
