"""A team's weeks in minutes: a table that changes, prompts, rollouts, care of the store, and everything that may die.

`make soak` runs it; `SOAK_SEED` repeats the acts of a soak that failed, `SOAK_MINUTES` says how long it lasts. After
each act a reader who trusts nothing looks at the files, and at the end `llm-platform audit` does.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from llm_platform_tests.servers.faults import Fault, Status
from llm_platform_tests.servers.scripted import ScriptedServer, Seen, no_fault
from llm_platform_tests.survival.command import Finished, Terminal
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.survival.ledger import leases
from llm_platform_tests.survival.test_chaos import Reader
from llm_platform_tests.team import NAME, right_answer

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
DOCUMENTS = 40
CHALLENGERS = ("clearer", "vague")
STAGES = [
    {"stage": "shadow", "share": 0.5, "margin": 0.3, "least_labels": 10, "budget_tokens": 1_000_000},
    {"stage": "canary", "share": 0.2, "margin": 0.3, "least_documents": 1},
    {"stage": "champion"},
]


def answers(seen: Seen) -> str:
    """Right where it is asked clearly, else SAD."""
    return right_answer(int(seen.document_id)) if "clearly" in json.dumps(seen.body) else "SAD"


class SoakReader(Reader):
    """Where challengers publish a share, several releases are published at once, and each was decided for."""

    def published(self, promoted: set[object]) -> None:
        """Hold what readers get against the releases that were promoted, or that a step of a rollout let publish."""
        rows = self.rows("published_v1")
        times = Counter(row["document_id"] for row in rows)
        assert [key for key, count in times.items() if count > 1] == [], "a document is published twice"
        canaries = {
            step["release_id"]
            for step in self.rows("rollout_steps")
            if not str(step["stage_name"]).startswith("shadow")
        }
        assert {row["release_id"] for row in rows} <= promoted | canaries, "nobody decided for what is published"
        for row in rows:
            if row["status"] == "valid":
                assert row["answer"] == right_answer(int(str(row["document_id"]))), "a wrong answer is published"
            else:
                assert row["answer"] is None


@dataclass
class Weeks:
    """Acts by a seed; each leaves the files of the team as they are to be, whatever became of its command.

    Attributes:
        texts: Document → its text now.
        ended: How the commands ended.
    """

    terminal: Terminal
    model: ScriptedServer
    dice: random.Random
    texts: dict[str, str] = field(default_factory=dict)
    born: int = 0
    prompts: int = 0
    acts: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        team = self.terminal.team
        clear = team.specification["variants"]["clear"]
        team.specification["variants"] = {name: {**clear, "prompt": name} for name in ("clear", *CHALLENGERS)}
        team.specification["rollout"] = {"stages": STAGES, "on_champion_failure": "publish_and_alert"}
        team.write_prompt("clearer", "Please say clearly whether this is HAPPY or SAD: {{ text }}")
        team.write_specification()
        self.inserted(DOCUMENTS)

    def act(self) -> None:
        """One act, and mostly a run after it."""
        kinds: dict[str, tuple[int, Callable[[], object]]] = {
            "insert": (3, lambda: self.inserted(self.dice.randint(1, 15))),
            "update": (3, self.updated),
            "delete": (2, self.deleted),
            "prompt": (1, self.prompt_edited),
            "rollout": (5, self.rollout),
            "compact": (1, lambda: self.command("compact", "--keep-days", "0")),
            "locked catalog": (1, self.catalog_locked),
            "outage": (2, self.outage),
            "two runs": (2, self.two_runs),
            "kill": (5, self.killed),
            "retry": (1, lambda: self.command("retry", NAME)),
        }
        name = self.dice.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]
        self.acts[name] += 1
        kinds[name][1]()
        if self.dice.random() < 0.5:
            self.command("run", NAME)

    def write(self) -> None:
        team = self.terminal.team
        team.write_documents(self.texts)
        team.write_references({key: right_answer(int(key)) for key in self.texts})

    def inserted(self, count: int) -> None:
        for _ in range(count):
            self.texts[f"{self.born}"] = self.terminal.team.text(self.born)
            self.born += 1
        self.write()

    def some(self) -> list[str]:
        return self.dice.sample(sorted(self.texts, key=int), k=min(len(self.texts) - 20, self.dice.randint(1, 5)))

    def updated(self) -> None:
        for key in self.some():
            self.texts[key] = self.terminal.team.text(int(key), note=f"since {self.dice.randint(1, 99)} days")
        self.write()

    def deleted(self) -> None:
        for key in self.some() if len(self.texts) > DOCUMENTS else []:
            del self.texts[key]
        self.write()

    def prompt_edited(self) -> None:
        self.prompts += 1
        name = self.dice.choice(("clear", "clearer"))
        self.terminal.team.write_prompt(
            name, f"Say ({self.prompts}) clearly whether this is HAPPY or SAD: {{{{ text }}}}"
        )

    def rollout(self) -> None:
        verb = self.dice.choice(("start", "start", "start", "hold", "resume", "decide", "withdraw", "withdraw now"))
        if verb == "decide":
            self.command("rollout", "decide", NAME)
        elif verb == "withdraw now":
            self.command("rollout", "withdraw", NAME, self.dice.choice(CHALLENGERS), "--now")
        else:
            self.command("rollout", verb, NAME, self.dice.choice(CHALLENGERS))

    def catalog_locked(self) -> None:
        """As a backup tool does it."""
        run = self.terminal.start("run", NAME)
        time.sleep(self.dice.uniform(0.0, 2.0))
        catalog = self.terminal.team.settings.namespace_folder / "catalog.sqlite"
        with closing(sqlite3.connect(catalog, timeout=60.0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(self.dice.uniform(0.5, 3.0))
            connection.execute("ROLLBACK")
        self.note(run.finished())

    def outage(self) -> None:
        """Silent for a while, or refusing one request in so many."""
        if self.dice.random() < 0.5:
            self.model.silent = True
            timer = threading.Timer(self.dice.uniform(0.5, 3.0), lambda: setattr(self.model, "silent", False))
            timer.start()
            self.command("run", NAME)
            timer.join()
            return
        every = self.dice.randint(2, 10)

        def refusing(seen: Seen) -> Fault | None:
            return Status(503) if seen.number % every == 0 else None

        self.model.script = refusing
        self.command("run", NAME)
        self.model.script = no_fault

    def two_runs(self) -> None:
        both = [self.terminal.start("run", NAME) for _ in range(2)]
        for run in both:
            self.note(run.finished())

    def killed(self) -> None:
        arguments = self.dice.choice((("run", NAME), ("run", NAME), ("rollout", "decide", NAME), ("compact",)))
        run = self.terminal.start(*arguments)
        deadline = time.monotonic() + self.dice.uniform(0.0, 6.0)
        while run.is_alive and time.monotonic() < deadline:
            time.sleep(0.01)
        if run.is_alive:
            run.signal(signal.SIGKILL)
        run.finished()
        self.ended["killed"] += 1

    def command(self, *arguments: str) -> Finished:
        finished = self.terminal.run(*arguments)
        self.note(finished)
        return finished

    def note(self, finished: Finished) -> None:
        """A command may refuse, in words; it may not break."""
        assert finished.status == 0 or finished.failed_plainly, finished.said
        self.ended["done" if finished.status == 0 else "refused"] += 1


@pytest.mark.soak
@pytest.mark.timeout(8 * 3600)
def test_weeks_of_changes_and_deaths_leave_every_invariant_whole(
    desk: MakeDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    """What each part survives alone is tested elsewhere; that they survive each other is seen only over time."""
    seed = os.environ.get("SOAK_SEED") or secrets.token_hex(4)
    terminal, model = desk(DOCUMENTS, latency_seconds=0.01, answer=answers)
    weeks, reader = Weeks(terminal, model, random.Random(seed)), SoakReader(terminal.team)

    def tell(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")
            sys.stdout.flush()

    tell(f"SOAK_SEED={seed} SOAK_MINUTES={MINUTES:g}")
    end = time.monotonic() + 60.0 * MINUTES
    assert weeks.command("run", NAME).status == 0
    while time.monotonic() < end:
        weeks.act()
        reader.look()
        if weeks.acts.total() % 20 == 0:
            tell(f"{weeks.acts.total()} acts, {len(weeks.texts)} documents, commands {dict(weeks.ended)}")

    last = terminal.run("run", NAME)
    audited = terminal.run("audit", NAME)

    tell(f"{dict(weeks.acts)}, commands {dict(weeks.ended)}, {model.counts.requests} requests\n")
    assert last.status == 0, f"{seed}: {last.said}"
    assert audited.status == 0, f"{seed}: {audited.said}"
    reader.look()
    assert {row["document_id"] for row in reader.rows("published_v1")} == set(weeks.texts)
    assert all(expires <= time.time() for _, _, expires in leases(terminal.team)), "a lease outlives its process"
