"""A branch's paid answers become production's, if the platform wrote them; what would change is known before."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from llm_platform.cli.main import app
from llm_platform.errors import ContractBroken
from llm_platform.models.lock import load_lock
from llm_platform.operations.release.merging import branch_diff, merge_branch
from llm_platform.records import Release
from llm_platform.records.contracts import text_contract
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.engine import connect, load
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.published import Served
from llm_platform_tests.deployments.test_branches import promote_variant, run, settings_of
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team, answer
from llm_platform_tests.warehouse.builders import batch, completion, consumed, document, release

DOCUMENTS = 30
BETTER = "Say very clearly whether this is HAPPY or SAD: {{ text }}"


class Company:
    """Production that has been run, and a branch of it with another prompt, run and promoted there."""

    def __init__(self, root: Path, model: ScriptedServer) -> None:
        self.model = model
        self.team = Team(root, model.url, documents=DOCUMENTS)
        # Of no variant, as those are that adapters are trained with.
        self.team.write_prompt("spare", "HAPPY or SAD, in a word: {{ text }}")
        self.production = settings_of(self.team, "production")
        assert run(self.production).success
        self.branch = settings_of(self.team, "branch", upstream="production")
        self.team.write_prompt("clear", BETTER)
        assert run(self.branch).success
        promote_variant(self.branch, "clear")
        assert run(self.branch).success

    @property
    def into(self) -> Settings:
        """Production with the branch in the place of an upstream, as a merge attaches it."""
        return self.production.model_copy(update={"upstream": "branch"})

    def merge(self) -> Any:
        with WarehouseResource.of(self.into).open() as lake:
            return merge_branch(lake.application(NAME), load_lock(self.team.lock_file), branch="branch")

    def rows(self, settings: Settings) -> dict[str, tuple[Any, ...]]:
        with WarehouseResource.of(settings).open(read_only=True) as lake:
            table = lake.application(NAME).published.table(1).to_pylist()
        return {row["document_id"]: (row["answer"], row["status"], row["release_id"]) for row in table}


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    with ScriptedServer(answer=answer) as model:
        yield Company(tmp_path, model)


@pytest.mark.slow
def test_after_a_merge_production_asks_nothing_and_changes_exactly_what_was_said(company: Company) -> None:
    """A company pays for a good idea once, and knows what it changes before readers do."""
    loaded = company.team.loaded
    with WarehouseResource.of(company.branch).open() as lake:
        said = branch_diff(lake.application(NAME), loaded)
    before, asked = company.rows(company.production), company.model.counts.requests

    done = company.merge()
    assert done.rows["completions"] == DOCUMENTS
    assert not company.merge().rows["completions"]
    assert run(company.production).success
    promote_variant(company.production, "clear")
    assert run(company.production).success

    assert company.model.counts.requests == asked
    after = company.rows(company.production)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed == set(said.rows.column("document_id").to_pylist())
    assert len(changed) == DOCUMENTS
    assert [line.split(":")[0] for line in said.changes if line.startswith("prompt")] == ["prompt clear"]
    assert said.usage.total > 0
    assert {one.variant: one.standing for one in said.measured}["clear"] == "approved"


def by_sql(company: Company, *statements: str) -> None:
    """What somebody does who has the catalog and a DuckDB."""
    catalog, data, _ = company.branch.location("branch")
    with closing(connect()) as lake:
        load(lake, "ducklake", "sqlite_scanner")
        lake.execute(f"ATTACH 'ducklake:{catalog}' AS lake (DATA_PATH '{data}')")
        for statement in statements:
            lake.execute(statement)


def in_a_file(company: Company) -> None:
    """An answer exchanged in the Parquet file itself, with the catalog as it was."""
    _, data, _ = company.branch.location("branch")
    (path, *_) = sorted(Path(data, NAME, "completions").rglob("*.parquet"))
    table = pq.read_table(path)
    answers = table.column("answer").to_pylist()
    turned = ["SAD" if one == "HAPPY" else "HAPPY" for one in answers]
    position = table.schema.get_field_index("answer")
    field = table.schema.field(position)
    pq.write_table(table.set_column(position, field, [turned]), path)
    catalog = company.branch.location("branch")[0].removeprefix("sqlite:")
    with closing(sqlite3.connect(catalog)) as connection, connection:
        name = path.name
        footer = int.from_bytes(path.read_bytes()[-8:-4], "little")
        connection.execute(
            "UPDATE ducklake_data_file SET file_size_bytes = ?, footer_size = ? WHERE path LIKE ?",
            [path.stat().st_size, footer, f"%{name}"],
        )


FORGED = f"lake.{NAME}.completions"
ALTERED: list[tuple[str, Callable[[Company], None], str]] = [
    (
        "an-answer",
        lambda one: by_sql(one, f"UPDATE {FORGED} SET answer = 'SAD' WHERE answer = 'HAPPY'"),
        "was not written by the platform",
    ),
    (
        "a-row-added",
        lambda one: by_sql(
            one, f"INSERT INTO {FORGED} SELECT * REPLACE ('other' AS fingerprint) FROM {FORGED} LIMIT 1"
        ),
        "was not written by the platform",
    ),
    ("rows-deleted", lambda one: by_sql(one, f"DELETE FROM {FORGED} WHERE document_id = '1'"), "was not written by"),
    (
        "in-our-name",
        lambda one: by_sql(
            one,
            "BEGIN",
            f"INSERT INTO {FORGED} SELECT * REPLACE ('other' AS fingerprint) FROM {FORGED} LIMIT 1",
            "CALL lake.set_commit_message('llm_platform', 'answers', extra_info => '{\"completions\": \"1:7\"}')",
            "COMMIT",
        ),
        "are not those that the platform stored",
    ),
    ("in-a-file", in_a_file, "are not those that the platform stored"),
    (
        "a-release",
        lambda one: by_sql(
            one, f"UPDATE lake.{NAME}.releases SET content = replace(content, 'very clearly', 'loudly')"
        ),
        "has another content than its id says",
    ),
    (
        "another-table",
        lambda one: by_sql(
            one,
            f"CREATE TABLE lake.{NAME}.copied AS SELECT * FROM {FORGED}",
            f"DROP TABLE {FORGED}",
            f"ALTER TABLE lake.{NAME}.copied RENAME TO completions",
        ),
        "was replaced by another one|was not written by the platform",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("alter", "said"), [pytest.param(*one[1:], id=one[0]) for one in ALTERED])
def test_a_lake_that_was_altered_by_hand_is_refused(
    company: Company, alter: Callable[[Company], None], said: str
) -> None:
    """Whoever can write a branch's lake could otherwise write production's answers."""
    alter(company)
    before = company.rows(company.production)

    with pytest.raises(ContractBroken, match=said):
        company.merge()

    assert company.rows(company.production) == before
    with WarehouseResource.of(company.production).open(read_only=True) as lake:
        assert lake.frame(NAME, "completions").num_rows == 2 * DOCUMENTS


# The same kinds on a lake of three rows, without a run: every one of them is tried at every change.
SMALL = [one for one in ALTERED if one[0] not in ("a-release", "in-a-file")]


class Small:
    """A production and a branch of a few rows."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.locations = {
            name: LakeLocation(f"sqlite:{root / name / 'catalog.sqlite'}", str(root / name / "data"))
            for name in ("production", "branch")
        }

    @property
    def branch(self) -> Small:
        return self

    def location(self, name: str) -> tuple[str, str, None]:
        return self.locations[name].catalog, self.locations[name].data_path, None

    def open(self, name: str) -> Warehouse:
        other = {"branch": "production", "production": "branch"}[name]
        there = Path(self.locations[other].target).exists()
        return Warehouse.attach(self.locations[name], upstream=self.locations[other] if there else None)


def released(number: int) -> Release:
    found = release().model_copy(update={"application": NAME})
    return found.model_copy(update={"sampling": found.sampling.model_copy(update={"seed": number})})


def answered(lake: Warehouse, one: Release, answers: dict[str, str | None], **values: Any) -> None:
    store = lake.application(NAME)
    store.releases.put(one)
    rows = [
        completion(key, release_id=one.release_id, request_id=one.request_id, answer=text, **values)
        for key, text in answers.items()
    ]
    with store.completions.lease(one.release_id, holder="test") as lease:
        store.completions.append(lease, rows)


@pytest.mark.parametrize(("alter", "said"), [pytest.param(*one[1:], id=one[0]) for one in SMALL])
def test_every_way_of_altering_answers_by_hand_is_seen(tmp_path: Path, alter: Callable[[Any], None], said: str) -> None:
    """Rows of a commit that is not ours, or that does not say what is there now."""
    small, one = Small(tmp_path), released(1)
    with small.open("production") as lake:
        lake.application(NAME).documents.apply(batch([document("1")]), deleted=None, full=True, consumed=consumed())
    with small.open("branch") as lake:
        answered(lake, one, {"1": "HAPPY", "2": "SAD", "3": None})
    with small.open("production") as lake:
        assert lake.application(NAME).adoption.alterations() == []

    alter(small)

    with small.open("production") as lake:
        found = lake.application(NAME).adoption.alterations()
    assert any(any(part in line for part in said.split("|")) for line in found)


def test_a_merge_leaves_nothing_to_ask_and_changes_nothing_when_it_is_repeated(tmp_path: Path) -> None:
    """The branch has paid; whoever pays again has not merged."""
    small, one = Small(tmp_path), released(1)
    rows = batch([document("1"), document("2")])
    for name in ("production", "branch"):
        with small.open(name) as lake:
            lake.application(NAME).documents.apply(rows, deleted=None, full=True, consumed=consumed())
    with small.open("branch") as lake:
        answered(lake, one, {"1": "HAPPY", "2": None})

    with small.open("production") as lake:
        store = lake.application(NAME)
        first = store.adoption.take([one.release_id])
        snapshot = lake.snapshot()
        again = store.adoption.take([one.release_id])
        assert lake.snapshot() == snapshot
    with Warehouse.attach(small.locations["production"]) as lake:
        store = lake.application(NAME)
        assert store.completions.missing_count(one.release_id) == 0
        assert store.releases.get(one.release_id) == one

    assert (first["completions"], first["releases"]) == (2, 1)
    assert not any(again.values())


def lock_of(folder: Path) -> Any:
    """A lock file without an entry: what is left on the branch is another test's."""
    path = folder / "lock.yaml"
    path.write_text("models: {}\n")
    return load_lock(path)


def test_answers_of_a_model_that_the_lock_file_pins_otherwise_stay_on_the_branch(tmp_path: Path) -> None:
    """They would be answers that nobody asks for, of a model that nobody approved."""
    small, one = Small(tmp_path), released(1)
    with small.open("production") as lake:
        lake.application(NAME).documents.apply(batch([document("1")]), deleted=None, full=True, consumed=consumed())
    with small.open("branch") as lake:
        answered(lake, one, {"1": "HAPPY"})

    with small.open("production") as lake:
        done = merge_branch(lake.application(NAME), lock_of(tmp_path), branch="branch")

    assert list(done.left) == [one.release_id]
    assert not done.rows["completions"]


def prediction(root: Path, seed: int) -> None:
    """One random branch: what it says it would change, against what changes."""
    chance = random.Random(seed)
    keys = [f"d{number}" for number in range(chance.randint(1, 12))]
    words = ["HAPPY", "SAD", None]
    small, first, second = Small(root), released(1), released(2)

    def documents(lake: Warehouse, texts: dict[str, str]) -> None:
        rows = [
            document(key, fingerprint=text, status=chance.choice(["sendable"] * 4 + ["empty"]))
            for key, text in texts.items()
        ]
        lake.application(NAME).documents.apply(
            batch(rows), deleted=None, full=True, consumed=consumed(chance.randint(1, 99))
        )
        stored.clear()
        stored.extend(rows)

    def others(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> int:
        a, b = ({row["document_id"]: (row["fingerprint"], row["status"]) for row in rows} for rows in (one, two))
        return sum(a.get(key) != b.get(key) for key in a.keys() | b.keys())

    stored: list[dict[str, Any]] = []
    texts = {key: f"text of {key}" for key in keys}
    with small.open("production") as lake:
        documents(lake, texts)
        theirs = list(stored)
        answered(lake, first, {key: chance.choice(words) for key in keys if chance.random() < 0.9})
        if chance.random() < 0.9:
            lake.application(NAME).published.publish(first.release_id, 1)
    # The source moves on: documents leave, come, change.
    texts = {key: text for key, text in texts.items() if chance.random() < 0.8}
    texts |= {f"new{number}": f"text of new{number}" for number in range(chance.randint(0, 3))}
    texts = {key: f"{text}, changed" if chance.random() < 0.2 else text for key, text in texts.items()}
    target = chance.choice([first, second])
    with small.open("branch") as lake:
        documents(lake, texts)
        moved = list(stored)
        rows = {key: chance.choice(words) for key in texts if chance.random() < 0.9}
        store = lake.application(NAME)
        store.releases.put(target)
        with store.completions.lease(target.release_id, holder="test") as lease:
            store.completions.append(
                lease,
                [
                    completion(
                        key,
                        release_id=target.release_id,
                        request_id=target.request_id,
                        answer=text,
                        fingerprint=texts[key],
                    )
                    for key, text in rows.items()
                ],
            )
        said = store.published.changes_of_upstream(
            Served(target.release_id, None, ()), text_contract(1, application=NAME)
        )
        assert store.documents.others_upstream() == others(theirs, moved)
    with small.open("production") as lake:
        store = lake.application(NAME)
        compared = ("answer", "confidence", "release_id", "status", "reason", "fingerprint", "answered_at")

        def published() -> dict[str, tuple[Any, ...]]:
            return {
                row["document_id"]: tuple(row[name] for name in compared)
                for row in store.published.table(1).to_pylist()
            }

        before = published()
        assert store.adoption.alterations() == []
        store.adoption.take([first.release_id, second.release_id])
    with Warehouse.attach(small.locations["production"]) as lake:
        store = lake.application(NAME)
        store.documents.apply(batch(moved), deleted=None, full=True, consumed=consumed(100))
        store.published.publish(target.release_id, 1)
        after = published()

    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert set(said.column("document_id").to_pylist()) == changed
    for row in said.to_pylist():
        key = row["document_id"]
        kind = "inserted" if key not in before else "deleted" if key not in after else "updated"
        assert row["change"] == kind
        assert row["answer_before"] == before.get(key, [None])[0]
        assert row["answer_after"] == after.get(key, [None])[0]


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 100))])
def test_what_a_branch_says_it_would_change_is_what_changes(tmp_path: Path, seed: int) -> None:
    """A hundred random branches: a preview that is nearly right is one that nobody reads."""
    prediction(tmp_path, seed)


def test_branches_are_listed_and_go_when_their_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody takes down is kept for ever, documents and all."""
    monkeypatch.setenv("LLM_PLATFORM_STATE", str(tmp_path))
    monkeypatch.setenv("LLM_PLATFORM_NAMESPACE", "production")
    cli = CliRunner()
    assert "no branch here" in cli.invoke(app, ["branch", "list"]).output
    for arguments in (["short", "--days", "0"], ["long", "--days", "9"], ["for-ever"]):
        assert cli.invoke(app, ["branch", "up", *arguments]).exit_code == 0

    listed = cli.invoke(app, ["branch", "list"]).output
    of_others = tmp_path / "namespaces" / "short" / "thesis.odt"
    of_others.touch()
    kept = cli.invoke(app, ["branch", "down", "--expired", "--yes"])
    of_others.unlink()
    gone = cli.invoke(app, ["branch", "down", "--expired", "--yes"]).output

    assert "(over)" in listed
    assert "holds what is not the platform's (thesis.odt)" in str(kept.exception)
    assert listed.count("production") == 3
    assert "short is gone" in gone
    left = sorted(path.name for path in (tmp_path / "namespaces").iterdir())
    assert len(left) == 2
    assert "long" in left
