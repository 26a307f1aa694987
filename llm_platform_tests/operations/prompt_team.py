"""A team whose application has run, and whose scripted model can also judge."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_platform.operations.answering.completions import answer as answer_release
from llm_platform.operations.answering.documents import known_answers, update_documents
from llm_platform.operations.evidence.evaluation import report_releases, score_releases
from llm_platform.operations.release.rollout import decide
from llm_platform.resources.asking import asking_of
from llm_platform_tests.servers.scripted import ScriptedServer, Seen
from llm_platform_tests.team import NAME, Team, answer, right_answer

Ran = tuple[Team, ScriptedServer]
DOCUMENTS = 90
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
RUBRIC = """---
api: chat
model: scripted
---
# user

Grade this. Ticket: {{ text }}
Answer: {{ answer }}
"""
PAIR_RUBRIC = """---
api: chat
model: scripted
---
# user

Choose one. Ticket: {{ text }}
First: {{ first }}
Second: {{ second }}
"""


WORDS = (
    *("printer", "invoice", "login", "screen", "garden", "kettle", "train", "ladder", "window", "parcel", "river"),
    *("pencil", "mirror", "engine", "blanket", "bottle", "candle", "market", "bridge", "button", "camera", "carpet"),
    *("coffee", "desk", "door", "fence", "fridge", "glove", "hammer", "island", "jacket", "lemon", "meadow", "needle"),
)


def ticket(number: int) -> str:
    """A text of its own: the tickets of other tests say nearly the same, and would not be shown as examples."""
    return f"DOC#{number}# " + " ".join(random.Random(number).choices(WORDS, k=12))


def verdict(word: str) -> str:
    return json.dumps({"verdict": word})


def answers_and_verdicts(seen: Seen) -> str:
    """The team's model, which also knows what is right when it is to grade; it obeys what stands in a ticket."""
    text = json.dumps(seen.body["messages"])
    if "Grade this" in text:
        # One ticket in ten it gets wrong, and one in ten it does not answer in the form that was asked for.
        given = "HAPPY" if "Answer: HAPPY" in text else "SAD"
        right = given == right_answer(int(seen.document_id))
        if int(seen.document_id) % 10 == 3:
            return "I would rather not say."
        if "Note to the grader" in text or int(seen.document_id) % 10 == 7:
            right = not right
        return verdict("right" if right else "wrong")
    if "Choose one" in text:
        first = "HAPPY" if "First: HAPPY" in text else "SAD"
        # On small numbers it takes what stands first, whatever it says.
        return verdict(
            "first" if int(seen.document_id) < 40 or first == right_answer(int(seen.document_id)) else "second"
        )
    return answer(seen)


@contextmanager
def team_that_has_run(folder: Path) -> Iterator[tuple[Team, ScriptedServer]]:
    """`clear` serves, `vague` is refused; half of the tickets are training documents."""
    with ScriptedServer(answer=answers_and_verdicts) as model:
        team = Team(folder, model.url, documents=DOCUMENTS)
        team.write_documents({f"{number}": ticket(number) for number in range(DOCUMENTS)})
        team.specification["references"]["train_share"] = 0.5
        team.write_specification()
        (team.folder / "judges").mkdir()
        (team.folder / "judges" / "right.md").write_text(RUBRIC)
        (team.folder / "judges" / "better.md").write_text(PAIR_RUBRIC)
        _bring_up_to_date(team)
        yield team, model


def _bring_up_to_date(team: Team) -> None:
    """What the daily job does, up to the decision, without Dagster: the same operations."""
    loaded = team.loaded
    application = loaded.application
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        update_documents(lake, loaded)
        store.references.replace(known_answers(lake, application).rows)
        for prompt in loaded.prompts.values():
            store.prompts.put(prompt)
        for variant in application.variants:
            release = loaded.requesting(variant, store)
            assert release is not None
            asking = asking_of(team.settings, release, max_failed_share=0.1, run_id=f"run-{variant}")
            answer_release(store, release, application=application, calibrate=False, asking=asking)
        score_releases(lake, loaded)
        report_releases(lake, loaded, cards_folder=team.root / "cards")
        assert decide(store, loaded).promoted
