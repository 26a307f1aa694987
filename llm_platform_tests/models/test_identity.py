"""What an endpoint says it is, against the lock file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llm_platform.errors import EndpointUnavailable
from llm_platform.models.entries import Artifact, LockEntry, Weights
from llm_platform.models.identity import ServedIdentity, compare, mismatches, observe
from llm_platform_tests.models.bodies import NIM1, PROFILE, VLLM, VLLM_MODELS, embedded, fetch

SHA = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ARTIFACT = Artifact(package="p", version="1", wheel_sha256=SHA, member="m", member_sha256=SHA, quantization="Q8_0")


def entry(**changed: Any) -> LockEntry:
    fields: dict[str, Any] = {
        "name": "locked",
        "mode": "external",
        "base_urls": ["http://e"],
        "served_name": "smollm2-135m-instruct",
        "model": "m",
        "licence": "MIT",
        "context_length": 4096,
    }
    return LockEntry.model_validate({**fields, **changed})


def unverified(entry: LockEntry, identity: ServedIdentity) -> list[str]:
    """What the entry pins and the endpoint does not say."""
    return [one.name for one in compare(entry, identity) if one.observed is None]


def local(**changed: Any) -> LockEntry:
    weights = Weights(file="weights.gguf", sha256=SHA, artifact=ARTIFACT)
    return entry(mode="embedded", base_urls=[], weights=weights, **changed)


NIM_ENTRY = {"served_name": "meta/llama3-8b-instruct", "context_length": 8192, "profile": PROFILE, "release": "1.12.0"}


@pytest.mark.parametrize(
    ("locked", "bodies", "said"),
    [
        pytest.param(entry(), VLLM, [], id="bare-vllm-matches"),
        pytest.param(entry(**NIM_ENTRY), NIM1, [], id="nim-1.x-matches"),
        pytest.param(local(), embedded(SHA), [], id="embedded-matches"),
        pytest.param(
            entry(served_name="llama"),
            VLLM,
            ["'llama' is not served; the endpoint lists 'sent-a', 'smollm2-135m-instruct'"],
            id="other-model",
        ),
        pytest.param(entry(context_length=8192), VLLM, ["context length is 4096, locked 8192"], id="shorter-context"),
        pytest.param(entry(context_length=2048), VLLM, [], id="longer-context-is-fine"),
        pytest.param(
            entry(**{**NIM_ENTRY, "profile": "0" * 64}),
            NIM1,
            [f"profile is '{PROFILE}', locked '{'0' * 64}'"],
            id="profile",
        ),
        pytest.param(
            entry(**{**NIM_ENTRY, "release": "1.15.5"}), NIM1, ["release is '1.12.0', locked '1.15.5'"], id="release"
        ),
        pytest.param(
            local(), embedded("f" * 64), [f"weights have sha256 {'f' * 64}, locked {SHA}"], id="other-weights"
        ),
        pytest.param(local(), VLLM, [f"it does not say which weights it serves, locked sha256 {SHA}"], id="no-weights"),
        pytest.param(entry(profile=PROFILE, release="2.1.5"), VLLM, [], id="what-is-not-said-is-no-mismatch"),
    ],
)
def test_difference_is_a_plain_sentence(locked: LockEntry, bodies: Mapping[str, Any], said: list[str]) -> None:
    """A wrong model behind the right address gives answers that nobody can tell from right ones."""
    identity = observe("http://e/v1/", fetch(bodies))

    assert mismatches(locked, identity) == [f"http://e is not 'locked' of the lock file: {one}." for one in said]


BARE = {**VLLM, "/version": {"version": "0.23.0"}}


@pytest.mark.parametrize(
    ("locked", "bodies", "said"),
    [
        pytest.param({}, BARE, [], id="an-entry-without-an-engine-goes-on-verifying"),
        pytest.param({"engine": "vLLM 0.23.0"}, BARE, [], id="the-same"),
        pytest.param({"engine": "vllm/vllm-openai:v0.23.0, our build"}, BARE, [], id="in-other-words"),
        pytest.param({"engine": "vllm"}, BARE, [], id="no-version-is-locked"),
        pytest.param({"engine": "vLLM 0.23.0"}, VLLM, [], id="what-is-not-said-is-no-mismatch"),
        pytest.param(
            {"engine": "vLLM 0.22.0"}, BARE, ["engine is 'vLLM 0.23.0', locked 'vLLM 0.22.0'"], id="another-version"
        ),
        pytest.param(
            {"engine": "vLLM 10.23.0"}, BARE, ["engine is 'vLLM 0.23.0', locked 'vLLM 10.23.0'"], id="not-a-part-of-it"
        ),
    ],
)
def test_a_bare_vllm_is_held_to_its_version(locked: dict[str, Any], bodies: Mapping[str, Any], said: list[str]) -> None:
    """Greedy answers of two versions of an engine differ, and nothing else of a bare vLLM says that it was changed."""
    identity = observe("http://e", fetch(bodies))

    found = mismatches(entry(dialect="vllm", **locked), identity)

    assert found == [f"http://e is not 'locked' of the lock file: {one}." for one in said]


def test_replicas_of_two_versions_are_not_the_same_model() -> None:
    """One entry is answered by both; an endpoint that says no version is what it was before it was asked."""
    silent, older, newer = (
        observe("http://e", fetch(bodies)) for bodies in (VLLM, BARE, {**VLLM, "/version": {"version": "0.24.0"}})
    )

    assert len({one.identity_hash for one in (silent, older, newer)}) == 3
    assert silent.identity_hash == "300e76ca5123dce3"
    assert unverified(entry(dialect="vllm", engine="vLLM 0.23.0"), silent) == ["engine"]


@pytest.mark.parametrize("body", [[], "0.23.0", {"version": 23}, {"version": None}, {"version": ""}, {}])
def test_a_version_that_cannot_be_read_is_none(body: Any) -> None:
    """Other servers have a page under this address, too."""
    assert observe("http://e", fetch({**VLLM, "/version": body})).engine is None


def test_a_nim_is_held_to_its_release_and_not_asked_for_its_engine() -> None:
    """Its release decides more, and entries of NIMs name engines in words of their own."""
    assert observe("http://e", fetch({**NIM1, "/version": {"version": "0.9.1"}})).engine is None


def test_what_could_not_be_verified_is_listed() -> None:
    """'No mismatch' must not read as 'verified' where the endpoint says nothing."""
    identity = observe("http://e", fetch(VLLM))

    assert unverified(entry(profile=PROFILE, release="2.1.5"), identity) == ["profile", "release"]
    assert unverified(entry(**NIM_ENTRY), observe("http://e", fetch(NIM1))) == []


def test_adapters_are_told_from_base_models_in_both_dialects() -> None:
    """An adapter names its base in `parent` in 2.x and in `root` in 1.x."""
    vllm, nim = observe("http://e", fetch(VLLM)), observe("http://e", fetch(NIM1))

    assert {model.id: model.base for model in vllm.models} == {
        "smollm2-135m-instruct": None,
        "sent-a": "smollm2-135m-instruct",
    }
    assert {model.id: model.base for model in nim.models} == {
        "meta/llama3-8b-instruct": None,
        "llama3-8b-math-v1": "meta/llama3-8b-instruct",
    }


def test_replicas_have_one_identity_at_any_time() -> None:
    """`created` is the time of the request: a hash over it would make everything stale at each look."""
    later = {"object": "list", "data": [{**card, "created": 9, "permission": []} for card in VLLM_MODELS["data"]]}

    first, second = observe("http://a", fetch(VLLM)), observe("http://b", fetch({"/v1/models": later}))

    assert first.identity_hash == second.identity_hash
    assert first.identity_hash != observe("http://a", fetch(NIM1)).identity_hash


@pytest.mark.parametrize("bodies", [{}, {"/v1/models": {"data": None}}, {"/v1/models": []}])
def test_address_without_a_list_of_models_is_not_an_endpoint(bodies: Mapping[str, Any]) -> None:
    """The address of a dashboard answers 200 as well."""
    with pytest.raises(EndpointUnavailable, match="no list of models"):
        observe("http://e", fetch(bodies))
