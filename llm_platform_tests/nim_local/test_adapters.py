"""The embedded NIM serves adapters: found, loaded, picked by name, retired."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import EndpointUnavailable
from llm_platform.nim.adapters import load, publish, retire, seen, served_adapters, unload, wait_served
from llm_platform.nim.http import EndpointClient
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.process import RunningNim, connect, stop
from llm_platform.nim_local.registration import server_folder
from llm_platform.settings.connection import Connection

from .adapters import random_adapter
from .conftest import MODEL_ID
from .http_calls import call, eventually, get, post

TEXT = "/v1/completions"
PROMPT = "The capital of France is a city that everybody knows, and its name is"
# Rounding differs with what is computed together; adapters are tens of times further apart.
SAME = 0.1


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters that are not published."""
    folder = tmp_path_factory.mktemp("library")
    # Seeds whose answers to the prompt below lie far apart.
    for name, seed in (("a", 1), ("b", 4), ("c", 3)):
        random_adapter(folder / name, seed, strength=0.1)
    random_adapter(folder / "r64", 1, rank=64, layers=2)
    return folder


@pytest.fixture(scope="module")
def tuned_config(config: EmbeddedConfig, tmp_path_factory: pytest.TempPathFactory) -> EmbeddedConfig:
    """A server that looks at a folder often."""
    source = tmp_path_factory.mktemp("peft")
    return EmbeddedConfig(
        **{
            **config.model_dump(),
            "peft_source": source,
            "peft_refresh_seconds": 0.1,
            "slots": 4,
            "idle_exit_seconds": 600,
        }
    )


@pytest.fixture(scope="module")
def tuned(
    tuned_config: EmbeddedConfig, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningNim, Path]]:
    """A server with adapters 'a' and 'b', and its state folder."""
    state = tmp_path_factory.mktemp("tuned")
    for name in "ab":
        publish(library / name, source(tuned_config), name)
    yield connect(tuned_config, state=state), state
    stop(tuned_config, state=state)


@pytest.fixture
def url(tuned: tuple[RunningNim, Path]) -> str:
    """Where the server answers."""
    return tuned[0].base_url


@pytest.fixture
def client(tuned: tuple[RunningNim, Path]) -> Iterator[EndpointClient]:
    """The platform's own client, with the server's token."""
    with EndpointClient(Connection(bearer_token=tuned[0].token)) as found:
        yield found


def source(config: EmbeddedConfig) -> Path:
    assert config.peft_source is not None
    return config.peft_source


def first_score(url: str, model: str, prompt: str = PROMPT, **fields: Any) -> float:
    """The first token's log-probability."""
    body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 1, **fields}
    return float(post(url, TEXT, body)["choices"][0]["logprobs"]["token_logprobs"][0])


def test_adapters_that_are_there_at_the_start_are_served_at_once(url: str, tuned_config: EmbeddedConfig) -> None:
    """A restart must not leave a release without its adapter; the cards are those of a real vLLM."""
    cards = {card["id"]: card for card in get(url, "/v1/models")["data"]}

    assert set(cards) == {MODEL_ID, "a", "b"}
    assert (cards["a"]["parent"], cards["a"]["root"]) == (MODEL_ID, str(source(tuned_config) / "a"))
    assert cards["a"]["max_model_len"] is None
    assert cards["a"].keys() == cards[MODEL_ID].keys()


def test_every_request_gets_the_model_it_names(url: str) -> None:
    """Also in turn, with the same prompt: what another adapter left in the cache must not be read."""
    fresh = {model: first_score(url, model) for model in (MODEL_ID, "a", "b")}
    assert (
        min(abs(fresh[one] - fresh[other]) for one, other in ((MODEL_ID, "a"), (MODEL_ID, "b"), ("a", "b"))) > 3 * SAME
    )

    for model in (MODEL_ID, "a", MODEL_ID, "b", "a", "a", MODEL_ID, "b"):
        assert first_score(url, model) == pytest.approx(fresh[model], abs=SAME)
    assert post(url, TEXT, {"model": "a", "prompt": PROMPT, "max_tokens": 1})["model"] == "a"


def test_requests_for_different_adapters_at_once_are_not_mixed(url: str) -> None:
    """One batch of llama.cpp knows one adapter; a wrong one would be a plausible answer."""
    asked = [(model, f"{number}. {PROMPT}") for number in range(4) for model in (MODEL_ID, "a", "b")]
    alone = [first_score(url, model, prompt) for model, prompt in asked]

    with ThreadPoolExecutor(len(asked)) as threads:
        together = list(threads.map(lambda pair: first_score(url, *pair), asked))

    assert together == pytest.approx(alone, abs=SAME)


def test_choices_and_grammars_are_those_of_the_adapter(url: str) -> None:
    """Labels are decided by log-probabilities over the allowed words; they must be the adapter's."""
    choice = {"structured_outputs": {"choice": [" Paris", " Rome"]}}
    scores = {model: first_score(url, model, **choice) for model in (MODEL_ID, "a", "b")}

    assert min(abs(scores["a"] - scores[MODEL_ID]), abs(scores["a"] - scores["b"])) > 0.001
    assert first_score(url, "a", **choice) == pytest.approx(scores["a"], abs=SAME)
    schema = {
        "type": "object",
        "properties": {"n": {"type": "boolean"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    body = {
        "model": "a",
        "prompt": "n = true\n",
        "max_tokens": 20,
        "temperature": 0,
        "structured_outputs": {"json": schema},
    }
    assert set(json.loads(post(url, TEXT, body)["choices"][0]["text"])) == {"n"}


def test_a_published_adapter_is_served_and_a_retired_one_is_not(
    url: str, tuned_config: EmbeddedConfig, library: Path, client: EndpointClient
) -> None:
    """Nobody restarts a server for it, requests that run go on, and what runs with it finishes."""
    long = {"prompt": "Count:", "max_tokens": 60, "ignore_eos": True}
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(call, url, "POST", TEXT, {**long, "model": "a"})
        publish(library / "c", source(tuned_config), "c")
        wait_served([f"{url}/v1"], "c", client)
        of_c = threads.submit(call, url, "POST", TEXT, {**long, "model": "c"})
        assert eventually(lambda: "c" in metric_label(url, "running_lora_adapters") or of_c.done())
        retire(source(tuned_config), "c")
        assert eventually(lambda: "c" not in served_adapters(url, client))
        statuses = [running.result()[0], of_c.result()[0]]

    assert statuses == [200, 200]
    assert call(url, "POST", TEXT, {"model": "c", "prompt": "x"})[0] == 404
    assert set(served_adapters(url, client)) == {"a", "b"}


def metric_label(url: str, label: str) -> str:
    """The value of a label of the adapters' metric."""
    text = call(url, "GET", "/v1/metrics")[2].decode()
    line = next(line for line in text.splitlines() if line.startswith("vllm:lora_requests_info{"))
    return line.split(f'{label}="')[1].split('"')[0]


def test_no_request_fails_while_adapters_come_and_go(
    url: str, tuned_config: EmbeddedConfig, library: Path, client: EndpointClient
) -> None:
    """A new engine takes over while the old one finishes; under load that is every request's moment."""
    statuses: list[int] = []

    def ask(number: int) -> None:
        body = {"model": ("a", "b", MODEL_ID)[number % 3], "prompt": f"{number} {PROMPT}", "max_tokens": 2}
        statuses.append(call(url, "POST", TEXT, body)[0])

    with ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(ask, number) for number in range(30)]
        publish(library / "c", source(tuned_config), "passing")
        wait_served([url], "passing", client)
        retire(source(tuned_config), "passing")
        for future in asked:
            future.result()

    assert statuses == [200] * 30


def test_broken_and_unfinished_folders_are_skipped_with_a_reason(
    tuned: tuple[RunningNim, Path], tuned_config: EmbeddedConfig, library: Path, client: EndpointClient
) -> None:
    """Somebody's mistake must cost neither the base model nor anybody else's adapter."""
    url, state = tuned[0].base_url, tuned[1]
    folder = source(tuned_config)
    publish(library / "r64", folder, "r64")
    shutil.copytree(library / "c", folder / ".c.unfinished")
    shutil.copytree(library / "c", folder / "half")
    (folder / "half" / "adapter_model.safetensors").write_bytes(b"\x10")
    shutil.copytree(library / "c", folder / MODEL_ID)

    assert eventually(lambda: set(get(url, "/v1/adapters")["refused"]) == {"r64", "half", MODEL_ID})
    refused = get(url, "/v1/adapters")["refused"]
    assert "LoRA rank 64 is greater than max_lora_rank 32" in refused["r64"]
    assert "ends inside its header" in refused["half"]
    with pytest.raises(
        EndpointUnavailable, match=r"'half' after 0.1 s.*it refuses 'half', and says why at .*/adapters"
    ):
        wait_served([url], "half", client, deadline_seconds=0.1)
    assert "adapter half: not served" in (server_folder(state, MODEL_ID) / "server.log").read_text()
    assert set(served_adapters(url, client)) == {"a", "b"}
    assert call(url, "POST", TEXT, {"prompt": "x", "max_tokens": 1})[0] == 200
    # A folder that is completed is looked at again.
    shutil.copyfile(library / "c" / "adapter_model.safetensors", folder / "half" / "adapter_model.safetensors")
    wait_served([url], "half", client)
    for name in ("half", "r64", MODEL_ID, ".c.unfinished"):
        shutil.rmtree(folder / name)
    assert eventually(lambda: get(url, "/v1/adapters")["refused"] == {})


def test_adapters_are_loaded_and_unloaded_through_the_api_as_in_vllm(
    url: str, library: Path, client: EndpointClient, tuned: tuple[RunningNim, Path]
) -> None:
    """The texts are those that a real vLLM 0.23 gave; clients match them."""
    token = {"Authorization": f"Bearer {tuned[0].token}"}

    def post_adapter(what: str, **fields: Any) -> tuple[int, bytes]:
        status, _, body = call(url, "POST", f"/v1/{what}_lora_adapter", fields, token)
        return status, body

    def error(body: bytes) -> dict[str, Any]:
        return dict(json.loads(body)["error"])

    there = str(library / "c")
    assert post_adapter("load", lora_name="x", lora_path=there) == (
        200,
        b"Success: LoRA adapter 'x' added successfully.",
    )
    status, body = post_adapter("load", lora_name="x", lora_path=there)
    assert (status, error(body)) == (
        400,
        {
            "message": "The lora adapter 'x' has already been loaded. If you want to load the adapter in place, set "
            "'load_inplace' to True.",
            "type": "InvalidUserInput",
            "param": None,
            "code": 400,
        },
    )
    before = first_score(url, "x")
    assert post_adapter("load", lora_name="x", lora_path=str(library / "b"), load_inplace=True)[0] == 200
    assert first_score(url, "x") == pytest.approx(first_score(url, "b"), abs=SAME)
    assert abs(first_score(url, "x") - before) > SAME
    status, body = post_adapter("load", lora_name="y", lora_path="/nope")
    assert (status, error(body)["message"]) == (404, "Loading lora y failed: No adapter found for /nope")
    status, body = post_adapter("load", lora_name="y", lora_path=str(library / "r64"))
    assert (status, error(body)["message"]) == (
        500,
        "Call to add_lora method failed: LoRA rank 64 is greater than max_lora_rank 32.",
    )
    assert post_adapter("load", lora_name="y")[0] == 400
    assert post_adapter("unload", lora_name="x") == (200, b"Success: LoRA adapter 'x' removed successfully.")
    status, body = post_adapter("unload", lora_name="x")
    assert (status, error(body)["message"]) == (404, "The lora adapter 'x' cannot be found.")
    load(url, "x", there, client)
    load(url, "x", there, client)
    assert unload(url, "x", client)
    assert not unload(url, "x", client)


def test_conversions_that_nobody_serves_are_removed(tuned: tuple[RunningNim, Path]) -> None:
    """Adapters are trained again and again; the state folder must not grow with each."""
    served = {one["content"] for one in get(tuned[0].base_url, "/v1/adapters")["adapters"].values()}

    kept = {path.stem for path in (server_folder(tuned[1], MODEL_ID) / "adapters").iterdir()}

    assert served <= kept
    assert len(kept) <= len(served) + 1


def test_a_server_that_watches_another_folder_is_replaced(config: EmbeddedConfig, tmp_path: Path) -> None:
    """Joined, it would never serve what is published."""
    first = connect(config, state=tmp_path)
    watching = EmbeddedConfig(**{**config.model_dump(), "peft_source": tmp_path / "peft"})

    second = connect(watching, state=tmp_path)

    assert second.started
    assert second.pid != first.pid
    assert stop(watching, state=tmp_path)


def test_only_the_token_changes_what_is_served(url: str, library: Path, tuned: tuple[RunningNim, Path]) -> None:
    """A page in a browser of this machine gave a release other weights, with one request that looked like a form's."""
    wanted = {"lora_name": "a", "lora_path": str(library / "c"), "load_inplace": True}
    before = get(url, "/v1/adapters")["adapters"]["a"]
    token = {"Authorization": f"Bearer {tuned[0].token}"}
    headers: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer guessed"},
        {**token, "Content-Type": "text/plain"},
        {**token, "Content-Type": ""},
        {**token, "Origin": "http://evil.test"},
        {**token, "Origin": "null"},
        {**token, "Sec-Fetch-Site": "cross-site"},
        {**token, "Host": "rebound.evil.test"},
    ]

    refused = [call(url, "POST", "/v1/load_lora_adapter", wanted, given)[0] for given in headers]

    assert refused == [401, 401, 415, 415, 403, 403, 403, 421]
    assert get(url, "/v1/adapters")["adapters"]["a"] == before
    assert (server_folder(tuned[1], MODEL_ID) / "endpoint.json").stat().st_mode & 0o077 == 0


def test_a_name_that_stood_for_something_else_meanwhile_shows(url: str, library: Path, client: EndpointClient) -> None:
    """Swapped and swapped back: the files are the same again, and the answers in between were not theirs."""
    before = seen([url], "a", client)
    load(url, "a", str(library / "c"), client, in_place=True)
    swapped = seen([url], "a", client)
    load(url, "a", str(library / "a"), client, in_place=True)
    after = seen([url], "a", client)

    files = [found[url]["files"]["adapter_model.safetensors"] for found in (before, swapped, after)]
    assert files[0] == files[2] != files[1]
    assert before != after
