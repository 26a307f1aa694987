"""Clients of a model in assets and scripts: verified before they are handed out, and every call is recorded."""

# Annotations are evaluated here: Dagster reads those of an asset's context.
import asyncio
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import openai
import pytest

from llm_platform.errors import EndpointMismatch, SpecificationError
from llm_platform.models.lock import pin
from llm_platform.models.probes import PROMPTS
from llm_platform.records import CompletionStatus
from llm_platform.resources.nim import NIMResource, resource_key
from llm_platform_tests.servers.faults import Fault, ResetMidBody, Status, http_message
from llm_platform_tests.servers.proxy import Proxy
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import ENTRY, Team, answer

QUESTION: list[Any] = [{"role": "user", "content": "DOC#3# clearly"}]


@dataclasses.dataclass(frozen=True)
class Events(Fault):
    """A stream of events, or half of one."""

    cut: bool = False

    async def play(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        pieces = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("HAP", "PY")]
        body = b"".join(b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in pieces) + b"data: [DONE]\n\n"
        message = http_message(200, body, {"Content-Type": "text/event-stream"})
        writer.write(message[: message.index(b"PY") - 20] if self.cut else message)
        await writer.drain()
        if self.cut:
            writer.transport.abort()
        return not self.cut


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(answer=answer) as running:
        yield running


@pytest.fixture
def team(tmp_path: Path, server: ScriptedServer) -> Team:
    return Team(tmp_path, server.url)


@pytest.fixture
def nim(team: Team) -> Iterator[NIMResource]:
    resource = NIMResource.of(team.settings, ENTRY)
    yield resource
    resource.close()


def recorded(team: Team, nim: NIMResource) -> list[dict[str, Any]]:
    """What the lake holds, once everything has been stored."""
    nim.close()
    with team.warehouse.open() as lake:
        found: list[dict[str, Any]] = lake.calls.table().to_pylist()
    return found


def test_a_call_is_recorded_with_what_was_asked_and_what_answered(team: Team, nim: NIMResource) -> None:
    """A row must be able to say what made it, whoever asked."""
    with nim.client() as client:
        reply = client.chat.completions.create(model=nim.model, messages=QUESTION, temperature=0)

    (call,) = recorded(team, nim)
    assert reply.choices[0].message.content == call["answer"] == "HAPPY"
    assert json.loads(call["request"])["messages"] == QUESTION
    assert json.loads(call["model"]) == pin(nim.pinned).model_dump(mode="json")
    assert call["caller"].startswith("program ")
    assert (call["status"], call["complete"], call["attempt"], call["path"]) == (200, True, 1, "/v1/chat/completions")
    assert (call["prompt_tokens"], call["completion_tokens"], call["cached_tokens"]) == (40, 5, 16)


def test_asynchronous_calls_are_recorded_too(team: Team, nim: NIMResource) -> None:
    """Agents are written with asyncio."""

    async def ask() -> None:
        async with nim.async_client() as client:
            questions = [[{"role": "user", "content": f"DOC#{number}# clearly"}] for number in range(5)]
            await asyncio.gather(
                *(client.chat.completions.create(model=nim.model, messages=question) for question in questions)  # type: ignore[call-overload]
            )

    asyncio.run(ask())

    assert sorted(call["answer"] for call in recorded(team, nim)) == ["HAPPY", "HAPPY", "SAD", "SAD", "SAD"]


@pytest.mark.parametrize("stop_after", [None, 1], ids=["to-its-end", "left-early"])
def test_a_stream_is_recorded_as_far_as_it_was_read(
    team: Team, nim: NIMResource, server: ScriptedServer, stop_after: int | None
) -> None:
    """Who stops reading has been answered all the same."""
    server.script = lambda _: Events()
    client, texts = nim.client(), []
    with client.chat.completions.create(model=nim.model, messages=QUESTION, stream=True) as events:
        for event in events:
            texts.append(event.choices[0].delta.content)
            if len(texts) == stop_after:
                break

    (call,) = recorded(team, nim)
    assert call["streamed"]
    assert call["answer"].startswith("".join(texts))
    if stop_after is None:
        assert (call["answer"], call["complete"]) == ("HAPPY", True)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(Status(500), 500, id="server-error"),
        pytest.param(ResetMidBody(), 200, id="cut"),
        pytest.param(Events(cut=True), 200, id="cut-stream"),
    ],
)
def test_what_fails_is_recorded_attempt_by_attempt(
    team: Team, nim: NIMResource, server: ScriptedServer, fault: Fault, status: int
) -> None:
    """An answer that came the second time was paid twice."""
    server.script = lambda seen: fault if seen.times == 0 else None

    with nim.client() as client:
        client.chat.completions.create(model=nim.model, messages=QUESTION)

    first, second = recorded(team, nim)
    assert (first["status"], first["attempt"], second["attempt"], second["answer"]) == (status, 1, 2, "HAPPY")
    assert first["complete"] == (status == 500)
    assert first["complete"] or str(first["error"]).startswith(("ReadError", "RemoteProtocolError"))


def test_calls_go_to_all_endpoints_in_turn(tmp_path: Path) -> None:
    """Four pods behind four addresses must not leave three idle."""
    with ScriptedServer(answer=answer) as first, ScriptedServer(answer=answer) as second:
        team = Team(tmp_path, first.url)
        team.lock["base_urls"] = [first.url, second.url]
        team.write_lock()
        nim = NIMResource.of(team.settings, ENTRY)

        with nim.client() as client:
            for _ in range(4):
                client.chat.completions.create(model=nim.model, messages=QUESTION)

        assert (first.counts.requests, second.counts.requests) == (2, 2)
        assert sorted(call["endpoint"] for call in recorded(team, nim)) == sorted([first.url, second.url] * 2)


def test_a_client_of_another_model_is_not_handed_out(team: Team, server: ScriptedServer) -> None:
    """What a notebook measures on the wrong model is worse than nothing."""
    team.lock["served_name"] = "another"
    team.write_lock()

    with pytest.raises(EndpointMismatch, match="'another' is not served"):
        NIMResource.of(team.settings, ENTRY).client()

    assert server.counts.requests == 0


def test_a_model_that_answers_otherwise_gets_no_document(team: Team, server: ScriptedServer) -> None:
    """A tag can move and metadata can stay: the fingerprint is asked before a single document is sent."""
    nim = NIMResource.of(team.settings, ENTRY)
    server.answer = lambda seen: answer(seen) if seen.document_id else "SAD"
    team.lock["fingerprint"] = ["SAD"] * len(PROMPTS)
    team.write_lock()
    targets = nim.verified_targets(pin(nim.pinned))
    server.answer = lambda _: "something else"

    with pytest.raises(EndpointMismatch, match="probe prompt 1 of 6 is answered otherwise"):
        NIMResource.of(team.settings, ENTRY).verified_targets(pin(nim.pinned))

    assert len(targets) == 1
    assert server.counts.requests == 0


def test_an_endpoint_without_slots_is_read_for_its_queue(team: Team) -> None:
    """An external endpoint's concurrency is found, not configured."""
    del team.lock["slots"]
    team.write_lock()
    nim = NIMResource.of(team.settings, ENTRY)

    (target,) = nim.verified_targets(pin(nim.pinned))

    assert (target.slots, target.metrics_path) == (None, "/metrics")
    assert target.read_metrics is not None
    assert target.read_metrics(b"vllm:num_requests_waiting 3.0\n") == {"waiting": 3.0}


def test_names_with_several_addresses_and_services_are_endpoints(team: Team, server: ScriptedServer) -> None:
    """Pods come and go behind a name; the lock file says the name."""
    del team.lock["base_urls"]
    team.lock["dns"] = f"localhost:{server.port}"
    team.write_lock()
    nim = NIMResource.of(team.settings, ENTRY)

    assert server.url in nim.base_urls()
    assert [target.root for target in nim.discover(pin(nim.pinned))] == [server.url]
    assert nim.may_scale


def test_the_service_of_a_cluster_is_named_by_the_entry(team: Team) -> None:
    """Whoever writes the manifests and whoever asks must agree on one name."""
    entry = NIMResource.of(team.settings, ENTRY).pinned

    assert entry.service_name == "nim-scripted"
    assert entry.model_copy(update={"name": "Llama 3.1 (8B)"}).service_name == "nim-llama-3-1-8b"
    assert entry.model_copy(update={"service": "llama"}).service_name == "llama"


def test_everything_goes_through_a_proxy_where_it_is_asked_for(
    tmp_path: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discovery, bulk runs and both clients must find the same way, or one of them hangs behind a firewall."""
    address = "http://models.invalid:8000"
    with Proxy(server.url) as proxy:
        proxy.name_in(monkeypatch)
        team = Team(tmp_path, address, nim_environment_proxies=True)
        nim = NIMResource.of(team.settings, ENTRY)

        async def ask() -> None:
            async with nim.async_client() as client:
                await client.chat.completions.create(model=nim.model, messages=QUESTION)

        with nim.client() as client:
            client.chat.completions.create(model=nim.model, messages=QUESTION)
        asyncio.run(ask())
        (done,) = nim.complete({"a": "DOC#1# clearly"})

        assert done.answer == "HAPPY"
        assert len(recorded(team, nim)) == 3
    assert server.counts.requests == 3
    assert proxy.seen.count(("POST", f"{address}/v1/chat/completions")) == 3
    assert ("GET", f"{address}/v1/models") in proxy.seen


def test_what_no_proxy_names_is_reached_past_it(
    tmp_path: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables mean what they mean to curl."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    team = Team(tmp_path, server.url, nim_environment_proxies=True)
    nim = NIMResource.of(team.settings, ENTRY)

    with nim.client() as client:
        client.chat.completions.create(model=nim.model, messages=QUESTION)

    assert len(recorded(team, nim)) == 1


def test_models_of_this_machine_are_never_behind_a_proxy(tmp_path: Path) -> None:
    """The setting is about what is outside; NO_PROXY need not list 127.0.0.1 for the embedded NIM."""
    team = Team(tmp_path, "http://models.invalid:8000", nim_environment_proxies=True)

    assert NIMResource.of(team.settings, ENTRY).connection().environment_proxies
    assert not NIMResource.of(team.settings, "smollm2-135m").connection().environment_proxies


def test_many_prompts_are_answered_in_their_order(team: Team, nim: NIMResource, server: ScriptedServer) -> None:
    """A team's own rows go through the engine that bulk runs use, and come back beside their keys."""
    server.latency_seconds = 0.01
    rows = {f"row-{number}": f"DOC#{number}# clearly" for number in range(30)}

    done = nim.complete(rows, max_tokens=8)

    assert [one.document_id for one in done] == list(rows)
    assert [one.answer for one in done] == ["HAPPY" if number % 2 else "SAD" for number in range(30)]
    calls = recorded(team, nim)
    assert len(calls) == 30
    assert {json.loads(call["request"])["messages"][0]["content"] for call in calls} == set(rows.values())
    assert server.counts.peak_in_flight > 1


def test_answers_can_be_held_to_choices_or_a_schema(team: Team, nim: NIMResource, server: ScriptedServer) -> None:
    """What is not of the form asked for says so, whatever the endpoint let through."""
    conversation = [{"role": "system", "content": "Be brief."}, *QUESTION]
    (chosen,) = nim.complete({"a": conversation}, choices=["HAPPY", "SAD"])
    (refused,) = nim.complete({"a": "DOC#2#"}, schema={"type": "object"})

    assert chosen.answer == "HAPPY"
    assert (refused.status, refused.answer) == (CompletionStatus.INVALID, None)
    with pytest.raises(SpecificationError, match="one of them"):
        nim.complete({"a": "DOC#2#"}, choices=["x"], schema={"type": "object"})


def test_an_asset_is_named_as_the_caller(team: Team) -> None:
    """From a row of the table one must find the run that paid for it."""
    key = resource_key(ENTRY)

    @dg.asset(key=["own", "moods"], required_resource_keys={key})
    def moods(context: dg.AssetExecutionContext) -> None:
        nim: NIMResource = getattr(context.resources, key)
        nim.client().chat.completions.create(model=nim.model, messages=QUESTION)
        nim.complete({"a": "DOC#1# clearly"})

    nim = NIMResource.of(team.settings, ENTRY)
    done = dg.materialize([moods], resources={key: nim})

    assert done.success
    with team.warehouse.open() as lake:
        calls = lake.calls.table().to_pylist()
    assert {(call["caller"], call["run_id"]) for call in calls} == {("asset own/moods", done.run_id)}
    assert len(calls) == 2


def test_a_lake_that_fails_does_not_take_an_assets_answer(team: Team) -> None:
    """The answer is what was paid for: the run goes on, its log has the error, and the call waits on disk."""
    key = resource_key(ENTRY)
    answers: list[str | None] = []

    @dg.asset(required_resource_keys={key})
    def moods(context: dg.AssetExecutionContext) -> None:
        nim: NIMResource = getattr(context.resources, key)
        answers.append(
            nim.client().chat.completions.create(model=nim.model, messages=QUESTION).choices[0].message.content
        )

    nim = NIMResource.of(team.settings, ENTRY)
    data = team.settings.namespace_folder / "data"
    data.parent.mkdir(parents=True)
    data.write_text("a file where the folder of the lake's data should be")
    with dg.instance_for_test() as instance:
        done = dg.materialize([moods], resources={key: nim}, instance=instance, raise_on_error=False)
        said = [entry.message for entry in instance.all_logs(done.run_id)]

    assert (done.success, answers) == (True, ["HAPPY"])
    assert any("Teardown of resources" in message and "failed" in message for message in said)
    data.unlink()
    nim.client().chat.completions.create(model=nim.model, messages=QUESTION)
    assert len(recorded(team, nim)) == 2


def test_every_way_of_asking_is_recorded(team: Team, nim: NIMResource, server: ScriptedServer) -> None:
    """The record is made below the client, so it does not know forms of the API that it could forget."""
    with nim.client() as client:
        client.completions.create(model=nim.model, prompt="DOC#1# clearly")
        client.models.list()
        server.script = lambda _: Status(400, "unknown field")
        with pytest.raises(openai.BadRequestError):
            client.post("/embeddings", body={"model": nim.model, "input": "DOC#1#"}, cast_to=object)

    calls = recorded(team, nim)
    assert [(call["path"], call["status"]) for call in calls] == [("/v1/completions", 200), ("/v1/embeddings", 400)]
    assert "unknown field" in calls[1]["response"]
