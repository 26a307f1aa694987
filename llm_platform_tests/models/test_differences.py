"""Which changes of a lock entry decide answers."""

from __future__ import annotations

from typing import Any

import pytest

from llm_platform.models.differences import deciding_changes, entry_changes
from llm_platform_tests.models.test_identity import entry

IMAGE = {"repository": "r", "tag": "1", "digest": "sha256:" + "0" * 64}


@pytest.mark.parametrize(
    ("changed", "fields", "decides"),
    [
        pytest.param({"price_per_gpu_hour_usd": 2.0}, ["price_per_gpu_hour_usd"], False, id="price"),
        pytest.param({"slots": 4}, ["slots"], False, id="slots"),
        pytest.param({"licence": "Apache-2.0"}, ["licence"], False, id="licence"),
        pytest.param({"base_urls": ["http://other"]}, ["base_urls"], False, id="address"),
        pytest.param({"gpu": "H100"}, ["gpu"], False, id="gpu"),
        pytest.param({"revision": "abc"}, ["revision"], True, id="revision"),
        pytest.param({"engine": "vLLM 0.31"}, ["engine"], True, id="engine"),
        pytest.param({"release": "2.1.5"}, ["release"], True, id="release"),
        pytest.param({"model": "other"}, ["model"], True, id="model"),
        pytest.param({"dialect": "nim-1.x"}, ["dialect"], True, id="dialect"),
        pytest.param({"context_length": 2048}, ["context_length"], True, id="context"),
        pytest.param({"tokenizer_sha256": "0" * 64}, ["tokenizer_sha256"], True, id="tokenizer"),
        pytest.param({"chat_template_sha256": "0" * 64}, ["chat_template_sha256"], True, id="template"),
        pytest.param({"fingerprint": ["a"]}, ["fingerprint"], True, id="fingerprint"),
        pytest.param({"image": IMAGE}, ["image.repository", "image.tag", "image.digest"], True, id="image"),
    ],
)
def test_only_what_decides_answers_makes_them_stale(changed: dict[str, Any], fields: list[str], decides: bool) -> None:
    """A cheaper GPU must not cost a million answers; another build must never pass for the one that was evaluated."""
    before, after = entry(), entry(**changed)

    found = {change.field: change.decides for change in entry_changes(before, after)}

    assert {name: found[name] for name in fields} == dict.fromkeys(fields, decides)
    assert bool(deciding_changes(before, after)) == decides
