"""Whose answer a caller gets, who answers after the reply, and which documents are kept."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llm_platform.online.desk import OnlineAnswer, Question, Turned
from llm_platform.operations.answering.documents import update_documents
from llm_platform.operations.live import Challenger, LiveRollouts, ServingRelease
from llm_platform.operations.online import asker
from llm_platform.operations.online.deciding import Arm, LiveDecision, live_decision
from llm_platform.operations.online.desk import LOOK_SECONDS, DeskPlace, OnlineDesk
from llm_platform.operations.online.open_lake import OpenLake
from llm_platform.operations.releases import LoadedApplication, loaded_application
from llm_platform.records import Calibration, Completion
from llm_platform.records.rollout import RolloutStage
from llm_platform.resources.asking import asking_online
from llm_platform.warehouse.store import ApplicationStore
from llm_platform_tests.online.cases import PATIENCE_SECONDS, promoted, stored
from llm_platform_tests.operations.answering.test_long_documents import (
    LONG,
    SHORT,
    LongTeam,
    answered,
    generating,
    long_text,
    said,
)
from llm_platform_tests.operations.answering.test_redacting import letters
from llm_platform_tests.servers.faults import Fault, Held
from llm_platform_tests.servers.scripted import ScriptedServer, Seen
from llm_platform_tests.team import NAME, Team, answer, right_answer


@dataclass
class Rollout:
    """A decision that a test makes: `clear` serves, `vague` challenges it at some stage."""

    stage: RolloutStage | None = None
    budget_tokens: int | None = None
    found: LiveDecision | None = field(default=None)

    def decide(self, store: ApplicationStore, loaded: LoadedApplication) -> LiveDecision | None:
        decision = live_decision(store, loaded)
        release = None if self.stage is None else loaded.release("vague", store)
        if decision is None or release is None or self.stage is None:
            return decision
        store.releases.put(release)
        challenger = Challenger("rollout", "vague", release.release_id, self.stage, is_held=False)
        is_shadow = self.stage.stage == "shadow"
        arm = Arm("vague", release, "rollout" if is_shadow else None, budget_tokens=self.budget_tokens)
        rollouts = replace(decision.rollouts, challengers=(challenger,))
        self.found = LiveDecision(rollouts, {**decision.arms, release.release_id: arm})
        return self.found


@pytest.fixture
def team(tmp_path: Path) -> Iterator[tuple[Team, ScriptedServer]]:
    with ScriptedServer(answer=answer) as model:
        found = Team(tmp_path, model.url)
        promoted(found)
        yield found, model


def served(team: Team, rollout: Rollout, use: Callable[[OnlineDesk], Awaitable[None]]) -> None:
    """Use a desk that is ready, then close it."""
    settings = team.settings

    async def run() -> None:
        lake = OpenLake(team.warehouse.open)
        with ThreadPoolExecutor(2) as threads:
            desk = OnlineDesk(
                NAME,
                partial(loaded_application, *settings.application_files, NAME),
                asking_of=partial(asking_online, settings),
                place=DeskPlace(lake, settings.namespace_folder / "journal", "serve-test", most_queued=100),
                threads=threads,
                deciding=rollout.decide,
            )
            async with asyncio.timeout(PATIENCE_SECONDS):
                await desk.refresh()
                await until(lambda: desk.state().problem is None and not desk.state().degraded)
                await use(desk)
                await desk.close()
            lake.close()

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.02)


async def counted(desk: OnlineDesk, answers: int) -> None:
    """The account knows of so many answers: it is a tenth of a second behind."""
    live = next(iter(desk.askers.values())).live
    await until(lambda: live.progress is not None and live.progress.stored >= answers)


async def ask(desk: OnlineDesk, number: int, **values: Any) -> OnlineAnswer:
    return await desk.answer(Question(str(number), {"body": Team.text(number), **values}, PATIENCE_SECONDS))


class LateLook:
    """The first look for a stored answer ends when it is let go: what happens meanwhile is the test's."""

    def __init__(self, desk: OnlineDesk) -> None:
        # The champion's; a shadow's comes after it.
        self._asker = next(iter(desk.askers.values()))
        self._stored, self._calls, self._let_go = self._asker.stored, 0, asyncio.Event()
        self._asker.stored = self._late  # type: ignore[method-assign]

    async def _late(self, fingerprint: str, *, look_seconds: float = PATIENCE_SECONDS) -> Completion | None:
        self._calls += 1
        is_first, found = self._calls == 1, await self._stored(fingerprint, look_seconds=look_seconds)
        if is_first:
            await self._let_go.wait()
        return found

    async def begin(self, desk: OnlineDesk, number: int) -> asyncio.Task[OnlineAnswer]:
        """A caller whose look has begun."""
        caller = asyncio.create_task(ask(desk, number))
        await until(lambda: self._calls == 1)
        return caller

    def let_go(self) -> None:
        self._let_go.set()


def test_a_text_that_somebody_else_got_while_it_was_looked_up_is_not_paid_for_again(
    team: tuple[Team, ScriptedServer],
) -> None:
    """Two tabs of one person: the answer to the first comes back between the other's look and its request."""
    files, model = team
    answers: list[OnlineAnswer] = []

    async def use(desk: OnlineDesk) -> None:
        look = LateLook(desk)
        late = await look.begin(desk, 7)
        answers.append(await ask(desk, 7))
        look.let_go()
        answers.append(await late)

    served(files, Rollout(), use)

    assert {one.completion.answer for one in answers} == {right_answer(7)}
    assert model.counts.asked["7"] == 1


@pytest.mark.parametrize("look_ends", [True, False], ids=["late", "never"])
def test_a_text_that_others_have_just_answered_is_asked_for_only_where_the_lake_does_not_say_so(
    team: tuple[Team, ScriptedServer], monkeypatch: pytest.MonkeyPatch, look_ends: bool
) -> None:
    """A lake that is slow at that moment costs a wait, and no second payment; one that hangs keeps nobody for ever."""
    monkeypatch.setattr(asker, "LONGEST_LOOK_SECONDS", PATIENCE_SECONDS if look_ends else 0.05)
    files, model = team
    answers: list[OnlineAnswer] = []

    async def use(desk: OnlineDesk) -> None:
        answers.append(await ask(desk, 5))
        ledger = next(iter(desk.askers.values())).ledger
        look, looking, let_go = ledger.look, threading.Event(), threading.Event()

        def late() -> None:
            looking.set()
            let_go.wait()
            look()

        ledger.look = late  # type: ignore[method-assign]
        with files.warehouse.open() as lake:
            store = lake.application(NAME)
            (seven,) = store.documents.some(["7"], ["document_id", "fingerprint"]).to_pylist()
            theirs = {**seven, "answer": right_answer(7), "run_id": "another process"}
            store.completions.restore([answers[0].completion.model_copy(update=theirs)])
        caller = asyncio.create_task(ask(desk, 7))
        await until(looking.is_set)
        if look_ends:
            let_go.set()
        answers.append(await caller)
        let_go.set()

    served(files, Rollout(), use)

    assert [one.completion.answer for one in answers] == [right_answer(5), right_answer(7)]
    assert answers[1].was_stored == look_ends
    assert model.counts.asked["7"] == (0 if look_ends else 1)


@pytest.mark.slow
def test_a_caller_gets_its_own_values_and_what_is_kept_has_none(tmp_path: Path) -> None:
    """Two letters that differ in their sender only are one text: paid for once, and each caller gets its own."""
    given: list[OnlineAnswer] = []

    async def use(desk: OnlineDesk) -> None:
        for name in ("ann", "bob"):
            body = {"body": f"DOC#9# write to {name}@example.org"}
            given.append(await desk.answer(Question(name, body, PATIENCE_SECONDS)))

    with ScriptedServer(answer=lambda _: '{"sender": "<EMAIL_ADDRESS_1>", "subject": null}') as model:
        files = letters(tmp_path, url=model.url, put_back=True)
        files.specification["online"] = {"keep_documents": True}
        files.write_specification()
        promoted(files)
        served(files, Rollout(), use)

        assert model.counts.asked["9"] == 1
    assert [json.loads(one.completion.answer or "")["sender"] for one in given] == [
        "ann@example.org",
        "bob@example.org",
    ]
    kept = [path for path in files.settings.state.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert not [path for path in kept if b"ann@" in path.read_bytes()]
    with files.warehouse.open() as lake:
        sent = {row["columns"] for row in lake.frame(NAME, "online_documents").to_pylist()}
        answers = lake.frame(NAME, "completions")["answer"].to_pylist()
    assert sent == {'{"body":"DOC#9# write to <EMAIL_ADDRESS_1>"}'}
    assert answers == ['{"sender":"<EMAIL_ADDRESS_1>","subject":null}']


def test_a_caller_whose_text_is_looked_up_while_the_release_changes_gets_its_answer(
    team: tuple[Team, ScriptedServer],
) -> None:
    """It was given to the release that serves no more and had sent nothing yet, so nothing seemed to be waited for."""
    files, _ = team
    answers: list[OnlineAnswer] = []

    async def use(desk: OnlineDesk) -> None:
        look = LateLook(desk)
        late = await look.begin(desk, 8)
        await asyncio.to_thread(promoted, files, "vague")
        while desk.state().variant != "vague":
            await desk.refresh()
            await asyncio.sleep(0.05)
        # Longer than a retired release without callers stays.
        await asyncio.sleep(10 * LOOK_SECONDS)
        look.let_go()
        answers.append(await late)

    served(files, Rollout(), use)

    assert [(one.variant, one.completion.answer) for one in answers] == [("clear", right_answer(8))]


def test_a_shadow_that_was_withdrawn_meanwhile_costs_no_caller_its_answer(team: tuple[Team, ScriptedServer]) -> None:
    """What is done after the reply was decided before it: by then there may be nobody to do it."""
    files, model = team
    rollout = Rollout(RolloutStage(stage="shadow", share=1.0))
    answers: list[OnlineAnswer] = []

    async def use(desk: OnlineDesk) -> None:
        look = LateLook(desk)
        late = await look.begin(desk, 9)
        rollout.stage = None
        # What is followed is read again once the lake has changed.
        await asyncio.to_thread(promoted, files, "clear")
        while len(desk.askers) > 1:
            await desk.refresh()
            await asyncio.sleep(0.05)
        look.let_go()
        answers.append(await late)

    served(files, rollout, use)

    assert [(one.variant, one.completion.answer) for one in answers] == [("clear", right_answer(9))]
    assert model.counts.asked["9"] == 1


def test_a_canary_answers_its_share_and_no_other_document(team: tuple[Team, ScriptedServer]) -> None:
    """A caller and a reader of the table get the same variant's answer about a document."""
    files, _ = team
    rollout = Rollout(RolloutStage(stage="canary", share=0.4))
    answers: list[OnlineAnswer] = []

    async def use(desk: OnlineDesk) -> None:
        for start in range(0, 60, 20):
            answers.extend(await asyncio.gather(*(ask(desk, number) for number in range(start, start + 20))))

    served(files, rollout, use)

    assert rollout.found is not None
    wanted = [rollout.found.rollouts.variant_of(str(number)) for number in range(60)]
    assert [one.variant for one in answers] == [one.variant for one in wanted if one is not None]
    assert 10 < sum(one.variant == "vague" for one in answers) < 40
    said = {number: one.completion.answer for number, one in enumerate(answers)}
    assert said == {
        number: right_answer(number) if one.variant == "clear" else "SAD" for number, one in enumerate(answers)
    }


def test_a_shadow_answers_after_the_reply_and_nobody_gets_it(team: tuple[Team, ScriptedServer]) -> None:
    """What it would have said is stored, to be compared with what callers got."""
    files, model = team
    rollout = Rollout(RolloutStage(stage="shadow", share=1.0))

    async def use(desk: OnlineDesk) -> None:
        answers = await asyncio.gather(*(ask(desk, number) for number in range(20)))
        assert {one.variant for one in answers} == {"clear"}
        await until(lambda: model.counts.requests == 40)

    served(files, rollout, use)

    assert rollout.found is not None
    challenger = rollout.found.rollouts.challengers[0]
    found = stored(files, challenger.release_id)
    assert {row["document_id"] for row in found} == set(map(str, range(20)))
    with files.warehouse.open(read_only=True) as lake:
        runs = lake.application(NAME).runs.of_release(challenger.release_id)
    # What it has cost stands where the rollout looks for it.
    assert sum(run.usage.total for run in runs) == 20 * 45


def test_a_shadow_ends_with_its_budget(team: tuple[Team, ScriptedServer]) -> None:
    """A challenger that nobody has decided about must not cost without end."""
    files, model = team
    rollout = Rollout(RolloutStage(stage="shadow", share=1.0, budget_tokens=200), budget_tokens=200)

    async def use(desk: OnlineDesk) -> None:
        shadow = next(asker.live for key, asker in desk.askers.items() if key[1] is not None)

        def is_accounted(asked: int) -> bool:
            stored = 0 if shadow.progress is None else shadow.progress.stored
            return stored + desk.state().skipped_shadows >= asked

        for number in range(30):
            await ask(desk, number)
            await until(partial(is_accounted, number + 1))
        assert desk.state().skipped_shadows >= 20

    served(files, rollout, use)

    # 200 tokens are five answers; what is in flight when they are used up is paid, too.
    assert 30 + 5 <= model.counts.requests <= 30 + 8


def test_the_budget_of_the_month_holds_for_callers_too(team: tuple[Team, ScriptedServer]) -> None:
    """What a month may cost is agreed on once, whoever asks; what is answered already costs nothing."""
    files, model = team

    def budget(tokens: int) -> None:
        files.specification["budget"] = {"month": {"tokens": tokens}}
        files.write_specification()

    async def use(desk: OnlineDesk) -> None:
        for number in range(3):  # 45 tokens each
            await ask(desk, number)
            await counted(desk, number + 1)
        with pytest.raises(Turned) as turned:
            await ask(desk, 3)
        assert (turned.value.status, turned.value.kind) == (503, "budget_used_up")
        assert (await ask(desk, 1)).was_stored
        assert "budget of the month" in desk.state().degraded[0]
        assert desk.state().problem is None

        budget(150)
        await desk.refresh()
        assert not (await ask(desk, 3)).was_stored
        await counted(desk, 4)
        await desk.put_on_record()
        await desk.refresh()
        with pytest.raises(Turned):
            await ask(desk, 4)

    budget(100)
    served(files, Rollout(), use)

    assert model.counts.asked.total() == 4


def test_a_challenger_whose_model_is_away_keeps_no_caller_waiting(team: tuple[Team, ScriptedServer]) -> None:
    """The champion answers, whatever becomes of what is tried beside it."""
    files, _ = team
    rollout = Rollout(RolloutStage(stage="shadow", share=1.0))

    async def use(desk: OnlineDesk) -> None:
        key = next(key for key in desk.askers if key[1] is not None)
        desk.askers[key].stop()
        await until(lambda: not desk.askers[key].is_ready)
        assert (await ask(desk, 1)).completion.answer == right_answer(1)
        assert desk.state().problem is None
        assert desk.state().skipped_shadows == 1

    served(files, rollout, use)


@pytest.mark.parametrize("keeps", [True, False])
def test_what_callers_send_becomes_documents_where_the_application_says_so(
    team: tuple[Team, ScriptedServer], keeps: bool
) -> None:
    """Live documents are what quality is measured on; without the setting nothing of them is kept but the answer."""
    files, _ = team
    files.specification["online"] = {"keep_documents": keeps}
    files.write_specification()

    async def use(desk: OnlineDesk) -> None:
        await desk.answer(Question(None, {"body": Team.text(777), "team": "green"}, PATIENCE_SECONDS))
        await desk.answer(Question("3", {"body": Team.text(3), "team": "blue"}, PATIENCE_SECONDS))
        await desk.answer(Question("later", {"body": Team.text(778)}, PATIENCE_SECONDS))

    served(files, Rollout(), use)
    with files.warehouse.open() as lake:
        update_documents(lake, files.loaded)
        documents = {row["document_id"]: row for row in lake.application(NAME).documents.table().to_pylist()}
        online = {key: row for key, row in documents.items() if row["origin"] == "online"}

    texts = {row["text"]: json.loads(row["attributes"]) for row in online.values()}
    assert texts == ({Team.text(777): {"team": "green"}, Team.text(778): {"team": None}} if keeps else {})
    assert len(documents) == 60 + len(online)
    assert documents["3"]["origin"] is None


def test_a_document_of_a_caller_outlives_updates_of_the_source_until_the_source_has_it(
    team: tuple[Team, ScriptedServer],
) -> None:
    """The source says what leaves of its own rows; a caller's document is none of them until it comes there."""
    files, model = team
    files.specification["online"] = {"keep_documents": True}
    files.write_specification()

    async def use(desk: OnlineDesk) -> None:
        for number in (900, 901):
            await ask(desk, number)

    served(files, Rollout(), use)

    def documents(texts: dict[str, str]) -> dict[str, str | None]:
        files.write_documents(texts)
        with files.warehouse.open() as lake:
            update_documents(lake, files.loaded)
            rows = lake.application(NAME).documents.table(columns=["document_id", "origin"]).to_pylist()
        return {row["document_id"]: row["origin"] for row in rows}

    source = {str(number): Team.text(number) for number in range(50)}
    first = documents(source)
    second = documents({**source, "900": Team.text(900)})
    third = documents(source)

    assert len(first) == 52
    assert (first["900"], first["901"]) == ("online", "online")
    assert (second["900"], second["901"]) == (None, "online")
    assert "900" not in third
    assert third["901"] == "online"
    # Its answer is that of the caller: the document, now the source's, is not paid again.
    assert model.counts.asked["900"] == 1


def test_a_calibrated_champion_answers_from_the_answers_that_were_sent(team: tuple[Team, ScriptedServer]) -> None:
    """The model is asked once, whatever the calibration: a caller and the batch derive the same answer."""
    files, model = team
    model.logprobs = {"HAPPY": -0.3, "SAD": -1.35}
    files.specification["variants"]["clear"] |= {"decision": "logprobs"}
    files.write_specification()
    calibration = Calibration(labels=("HAPPY", "SAD"), scale=1.0, bias=(0.0, 3.0), examples=20, references_version="v")
    promoted(files, calibration=calibration)
    found: list[OnlineAnswer] = []

    async def use(desk: OnlineDesk) -> None:
        found.append(await ask(desk, 1))
        await desk.commit()
        found.append(await ask(desk, 1))

    served(files, Rollout(), use)

    assert [one.completion.answer for one in found] == ["SAD", "SAD"]
    assert [one.was_stored for one in found] == [False, True]
    assert found[0].completion.confidence == pytest.approx(found[1].completion.confidence)
    assert model.counts.asked["1"] == 1
    with files.warehouse.open(read_only=True) as lake:
        rows = lake.frame(NAME, "completions").to_pylist()
    assert {row["release_id"]: (row["answer"], row["reused"]) for row in rows} == {
        found[0].release_id: ("SAD", True),
        next(row["release_id"] for row in rows if not row["reused"]): ("HAPPY", False),
    }


def test_a_long_document_is_asked_about_in_the_parts_of_a_run_and_they_are_paid_once(tmp_path: Path) -> None:
    """It is cut as a run cuts it and put together by the same rule, whichever of them comes first."""
    answers: list[OnlineAnswer] = []
    with ScriptedServer(answer=lambda seen: "SAD" if "-0#" in said(seen) else "HAPPY") as model:
        team = LongTeam(tmp_path, model.url, "split")
        promoted(team)

        async def use(desk: OnlineDesk) -> None:
            for name in ("long", "long", "longer"):
                if name == "longer":
                    await desk.commit()
                    await asyncio.to_thread(answered, team)
                answers.append(await desk.answer(Question(name, {"body": long_text(name, LONG[name])}, 60.0)))

        served(team, Rollout(), use)
        rows, counts, paid = team.rows(), model.counts, team.usage()
        with team.warehouse.open() as lake:
            runs = lake.application(NAME).runs.of_release(team.release.release_id)

    assert [(one.completion.answer, one.completion.parts) for one in answers] == [
        ("HAPPY", 3),
        ("HAPPY", 3),
        ("HAPPY", 4),
    ]
    assert [one.was_stored for one in answers] == [False, True, True]
    assert set(counts.asked.values()) == {1}
    assert (rows["long"].answer, rows["long"].parts) == ("HAPPY", 3)
    # What was paid for parts stands on the account of the release, whoever asked for them.
    assert sum(run.usage.total for run in runs) == counts.requests * 45 >= paid.total


def test_a_part_that_a_caller_waits_for_is_not_asked_for_by_a_run(tmp_path: Path) -> None:
    """A run puts it behind its others, as it does with a whole text."""
    let_go = threading.Event()

    def held(seen: Seen) -> Fault | None:
        return Held(let_go.is_set) if seen.document_id == "long-0" else None

    with ScriptedServer(answer=lambda _: "HAPPY", script=held) as model:
        team = LongTeam(tmp_path, model.url, "split")
        promoted(team)

        async def use(desk: OnlineDesk) -> None:
            question = Question("long", {"body": long_text("long", LONG["long"])}, PATIENCE_SECONDS)
            caller = asyncio.create_task(desk.answer(question))
            await until(lambda: model.counts.asked["long-0"] == 1)
            run = asyncio.create_task(asyncio.to_thread(answered, team))
            await until(lambda: model.counts.asked["longer-0"] == 1)
            let_go.set()
            await asyncio.gather(caller, run)

        served(team, Rollout(), use)
        rows, counts = team.rows(), model.counts

    assert set(counts.asked.values()) == {1}
    assert [(rows[name].answer, rows[name].parts) for name in LONG] == [("HAPPY", 3), ("HAPPY", 4)]


def test_a_long_document_whose_parts_a_model_puts_together_is_answered_as_by_a_run(tmp_path: Path) -> None:
    """What was asked for it stands in the ledger: the run that comes after it asks nothing about it."""
    answers: list[OnlineAnswer] = []
    with ScriptedServer(answer=lambda seen: "joined" if "Join of" in said(seen) else "DOC#part#") as model:
        team = generating(tmp_path, model.url, {"long": LONG["long"]})
        promoted(team)

        async def use(desk: OnlineDesk) -> None:
            values = {"body": long_text("long", LONG["long"]), "team": "blue"}
            question = Question("long", values, PATIENCE_SECONDS)
            answers.extend([await desk.answer(question), await desk.answer(question)])

        served(team, Rollout(), use)
        online = model.counts.requests
        answered(team)
        row, requests = team.rows()["long"], model.counts.requests

    assert [(one.completion.answer, one.completion.parts, one.was_stored) for one in answers] == [
        ("joined", row.parts, False),
        ("joined", row.parts, True),
    ]
    assert online == (row.parts or 0) + 1
    assert requests == online + SHORT
    assert (row.answer, row.reused) == ("joined", False)
    assert answers[0].completion.prompt_tokens == row.prompt_tokens


def test_a_change_of_the_files_is_followed_and_a_mistake_in_them_is_said(team: tuple[Team, ScriptedServer]) -> None:
    """Which columns a fingerprint covers is what the files say; the batch reads them at each run."""
    files, _ = team

    async def use(desk: OnlineDesk) -> None:
        before = await ask(desk, 1, team="red")
        files.write_prompt("vague", "HAPPY or SAD? {{ team }}: {{ text }}")
        await desk.refresh()
        after = await ask(desk, 1, team="red")
        assert before.completion.fingerprint != after.completion.fingerprint

        (files.folder / "application.yaml").write_text("name: [")
        await desk.refresh()
        assert (await ask(desk, 1, team="red")).was_stored
        assert "application.yaml" in desk.state().degraded[0]

    served(files, Rollout(), use)


def test_decisions_follow_the_rows_of_the_lake(team: tuple[Team, ScriptedServer]) -> None:
    """The service decides nothing of its own."""
    files, _ = team
    with files.warehouse.open() as lake:
        store = lake.application(NAME)
        decision = live_decision(store, files.loaded)
        champion = store.rollout.champion()

    assert decision is not None
    assert champion is not None
    assert decision.rollouts == LiveRollouts(ServingRelease(champion.variant, champion.release_id))
    assert decision.arm_of("anything").release_id == champion.release_id


def test_who_got_which_answer_is_in_the_access_log(team: tuple[Team, ScriptedServer]) -> None:
    """Also an answer that was stored before: to ask for it is to read it."""
    files, _ = team

    async def use(desk: OnlineDesk) -> None:
        for number, caller in ((1, "shop"), (2, "shop"), (1, "mailer")):
            await desk.answer(Question(str(number), {"body": Team.text(number)}, PATIENCE_SECONDS, caller=caller))

    served(files, Rollout(), use)

    with files.warehouse.open(read_only=True) as lake:
        reads = lake.application(NAME).reads
        assert [(row["by"], row["way"], row["rows"]) for row in reads.table().to_pylist()] == [
            ("shop", "serve", 1),
            ("shop", "serve", 1),
            ("mailer", "serve", 1),
        ]
        assert [row["by"] for row in reads.table(document_id="1").to_pylist()] == ["shop", "mailer"]
