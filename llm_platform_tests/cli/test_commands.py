"""Commands on an application that has run."""

from __future__ import annotations

import json

import pytest

from llm_platform.cli.console import require_guard
from llm_platform.errors import SpecificationError
from llm_platform.files import MARKER
from llm_platform.operations.answering.documents import update_documents
from llm_platform.operations.release.branches import make_branch
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform_tests.cli.conftest import Ran
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.survival.command import Finished, Terminal
from llm_platform_tests.survival.ledger import ledger
from llm_platform_tests.team import NAME, Team, right_answer

SECTIONS = ["published", "document", "completion", "run", "release", "pin", "prompt", "model", "rollout", "report"]
TEXT = "the printer is on fire"
PROMPT = "Say clearly whether"


def test_plan_says_what_is_missing_and_then_that_nothing_is(fresh: Terminal, ran: Ran) -> None:
    """Before paying, people want to know what for."""
    before = fresh.run("plan", NAME)
    after = ran[0].run("plan", NAME)

    assert before.status == after.status == 0
    assert "documents: never read" in before.out
    assert "prompt_clear: new" in before.out
    assert after.out.strip() == "Nothing to do."


def test_a_notice_is_written_down_for_the_sensor(ran: Ran) -> None:
    """Whoever changes a source that is looked at seldom says so."""
    terminal, model = ran
    asked = model.counts.requests

    said = terminal.run("notify", NAME)

    assert said.status == 0, said.said
    assert "looks at its source" in said.out
    with terminal.team.warehouse.open(read_only=True) as lake:
        assert [way for _, way in lake.application(NAME).notices.rows()] == ["command"]
    assert model.counts.requests == asked


def test_explain_prints_the_whole_chain_without_texts(ran: Ran) -> None:
    """An auditor's question, answered from a row to the commit of the code, in a terminal that may be recorded."""
    terminal, model = ran

    finished = terminal.run("explain", NAME, "7")
    chain = json.loads(terminal.run("explain", NAME, "7", "--json").out)

    assert finished.status == 0, finished.said
    paragraph, *sections = [line for line in finished.out.splitlines() if line and not line.startswith(" ")]
    assert paragraph.startswith(f"Readers of {NAME} get the answer")
    assert sections == SECTIONS
    assert list(chain) == SECTIONS
    assert chain["published"]["answer"] == right_answer(7)
    assert chain["published"]["documents_snapshot"] > 0
    assert chain["completion"]["documents_snapshot"] > 0
    assert chain["completion"]["run_id"] == chain["run"]["run_id"]
    assert len(chain["run"]["git_commit"]) == 40 or chain["run"]["git_commit"] == "unknown"
    assert chain["release"]["prompt_version"] == chain["prompt"]["version"]
    assert chain["pin"]["served_name"] == "scripted-model"
    assert chain["pin"]["context_length"] == 4096
    assert model.url in chain["model"]["observed"]
    assert chain["rollout"]["report_id"] == chain["report"]["report_id"]
    assert chain["report"]["passed"] is True
    assert TEXT not in finished.said + json.dumps(chain)
    assert PROMPT not in finished.said + json.dumps(chain)


def test_explain_says_that_a_document_is_not_published(fresh: Terminal) -> None:
    """A document alone, without a word, read as a chain that is broken."""
    with fresh.team.warehouse.open() as lake:
        update_documents(lake, fresh.team.loaded)

    explained = fresh.run("explain", NAME, "3")

    assert explained.status == 0, explained.said
    assert "document_id: 3" in explained.out
    assert "Nothing of this document is published yet" in explained.out


def test_explain_shows_texts_when_asked_to(ran: Ran) -> None:
    """The prompt's text and the document are there for whoever may read them."""
    finished = ran[0].run("explain", NAME, "7", "--texts")

    assert finished.status == 0, finished.said
    assert TEXT in finished.out
    assert PROMPT in finished.out


def test_promotion_needs_evidence_and_can_be_taken_back(ran: Ran) -> None:
    """What readers see changes by decisions on record: refused without evidence, reversible with one command."""
    terminal, model = ran
    asked = model.counts.requests

    refused = terminal.run("promote", NAME, "vague")
    promoted = terminal.run("promote", NAME, "brief", "--note", "shorter")
    after_promotion = ledger(terminal.team)
    rolled_back = terminal.run("rollback", NAME, "--note", "shorter was worse")
    after_rollback = ledger(terminal.team)

    assert refused.failed_plainly, refused.said
    assert f"{NAME}/vague" in refused.err
    assert "accuracy: lower bound" in refused.err
    assert "minimum 0.700" in refused.err
    assert promoted.status == 0, promoted.said
    assert "serves from now on" in promoted.out
    assert after_promotion.champion == "brief"
    assert rolled_back.status == 0, rolled_back.said
    assert "serves again" in rolled_back.out
    assert after_rollback.champion == "clear"
    releases = [{row["release_id"] for row in found.published.values()} for found in (after_promotion, after_rollback)]
    assert [len(found) for found in releases] == [1, 1]
    assert releases[0] != releases[1]
    assert model.counts.requests == asked


@pytest.mark.slow
def test_branch_reads_stored_answers_and_is_removed_alone(ran: Ran) -> None:
    """An unchanged application on a branch costs nothing, and taking the branch away takes nothing else."""
    terminal, model = ran
    asked = model.counts.requests
    branch = Terminal(terminal.team, LLM_PLATFORM_NAMESPACE="trial")

    up = terminal.run("branch", "up", "trial")
    run = branch.run("run", NAME)
    folder = terminal.team.settings.state / "namespaces" / "trial"
    was_there = folder.is_dir()
    down = terminal.run("branch", "down", "trial", "--yes")

    assert up.status == 0, up.said
    assert "LLM_PLATFORM_NAMESPACE=trial" in up.out
    assert run.status == 0, run.said
    assert model.counts.requests == asked
    assert was_there
    assert down.status == 0, down.said
    assert not folder.exists()
    assert ledger(terminal.team).is_whole(60)


def test_lists_name_applications_models_and_servers(fresh: Terminal) -> None:
    """What there is to choose from."""
    applications, models, servers = (
        fresh.run(*command) for command in (("application", "list"), ("model", "list"), ("nim", "status"))
    )

    assert applications.status == models.status == servers.status == 0
    for name in (NAME, "movie_reviews", "package_metadata", "repair_reports", "clear, vague"):
        assert name in applications.out
    for name in ("smollm2-135m", "scripted", "0c1d3326cd97", "Apache-2.0", "4096"):
        assert name in models.out
    assert any("smollm2-135m" in line and "not running" in line for line in servers.out.splitlines())


def test_reset_deletes_one_namespace_and_asks_first(fresh: Terminal) -> None:
    """Nobody may lose paid answers by a typing error."""
    state = fresh.team.settings.state
    for namespace in ("test", "other"):
        (state / "namespaces" / namespace).mkdir(parents=True)

    asked = fresh.script("state", "reset")
    kept = (state / "namespaces" / "test").is_dir()
    done = fresh.run("state", "reset", "--yes")
    again = fresh.run("state", "reset", "--yes")

    assert asked.status == 1
    assert "Traceback" not in asked.said
    assert kept
    assert done.status == 0, done.said
    assert not (state / "namespaces" / "test").exists()
    assert (state / "namespaces" / "other").is_dir()
    assert "nothing to delete" in again.out


@pytest.mark.slow
def test_another_systems_answers_are_judged_beside_ours_without_a_server(fresh: Terminal) -> None:
    """The first question of a team that has something already: is the model better than it."""
    team = fresh.team
    numbers = range(120)
    team.write_documents({str(number): Team.text(number) for number in numbers})
    team.write_references({str(number): right_answer(number) for number in numbers})
    rows = [f"{number},{right_answer(number) if number % 4 else 'SAD'},0.7" for number in numbers]
    legacy = team.folder / "legacy.csv"
    legacy.write_text("\n".join(["document_id,answer,confidence", *rows]) + "\n", encoding="utf-8")
    team.specification["variants"]["legacy"] = {"predictions": "legacy.csv"}
    team.specification["variants"].pop("vague")
    team.write_specification()
    with ScriptedServer(answer=lambda seen: right_answer(int(seen.document_id))) as model:
        team.lock["base_urls"] = [model.url]
        team.write_lock()

        run = fresh.run("run", NAME)
        asked = model.counts.requests
        again = fresh.run("run", NAME)
        compared = fresh.run("compare", "legacy", "clear")
        promoted = fresh.run("promote", NAME, "legacy")
        legacy.write_text(legacy.read_text(encoding="utf-8").replace(",SAD,", ",HAPPY,"), encoding="utf-8")
        planned = fresh.run("plan", NAME)
        changed = fresh.run("run", NAME)

    assert run.status == 0, run.said
    assert asked == 120
    assert "legacy " in run.out
    assert "0 tokens" in run.out
    assert "Published   tickets.published_v1, 120 rows by clear" in run.out
    assert "Nothing to do" in again.out or again.status == 0, again.said
    assert compared.status == 0, compared.said
    assert "legacy: recorded answers of another system, from legacy.csv" in compared.out
    assert promoted.failed_plainly
    assert "cannot answer the next document" in promoted.err
    assert "completions_legacy: 120 recorded answers are not stored" in planned.out, planned.said
    assert changed.status == 0, changed.said
    assert model.counts.requests == asked
    card = (team.settings.cards_folder / NAME / "card.html").read_text(encoding="utf-8")
    assert "Recorded answers of another system, from legacy.csv" in card


@pytest.mark.parametrize(
    ("where", "what", "said"),
    [
        pytest.param("source", {"text": "bdy"}, "found column 'bdy'", id="text"),
        pytest.param("source", {"text": ["ticket", "bdy"]}, "found column 'bdy'", id="one-of-several"),
        pytest.param("source", {"text": "{{ ticket }}: {{ bdy }}"}, "found column 'bdy'", id="in-a-template"),
        pytest.param("source", {"attributes": ["teem"]}, "found column 'teem'", id="attribute"),
        pytest.param("source", {"watermark": "changed"}, "found column 'changed'", id="watermark"),
        pytest.param("references", {"answer": "moood"}, "found column 'moood'", id="answer"),
        pytest.param("references", {"split": "part"}, "found column 'part'", id="split"),
    ],
)
def test_check_finds_columns_that_are_not_there(
    fresh: Terminal, where: str, what: dict[str, object], said: str
) -> None:
    """Otherwise `check` passes and the first run, after everything else was set up, does not."""
    fresh.team.specification[where] |= what
    fresh.team.specification["evaluation"].pop("slices")
    fresh.team.write_specification()

    checked = fresh.run("application", "check", NAME)

    assert checked.failed_plainly, checked.said
    assert said in checked.err
    assert "application.yaml:" in checked.err


def test_check_says_which_columns_it_could_not_look_at(fresh: Terminal) -> None:
    """A warehouse behind credentials is no mistake of the file; passing in silence would be one of ours."""
    (fresh.team.root / "tickets.csv").unlink()

    checked = fresh.run("application", "check")

    assert checked.status == 0, checked.said
    assert "columns are checked before anything is sent, and could not be now" in checked.out
    assert "tickets.csv" in checked.out


@pytest.mark.parametrize("command", [("dev",), ("nim", "serve", "smollm2-135m")], ids=["dev", "nim-serve"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7"])
def test_pages_that_ask_nobody_who_they_are_are_not_opened_to_others(
    fresh: Terminal, command: tuple[str, ...], host: str
) -> None:
    """`--host 0.0.0.0` is typed quickly, and whoever reaches Dagster's UI can launch runs."""
    refused = fresh.run(*command, "--host", host)

    assert refused.failed_plainly, refused.said
    assert "others can reach it" in refused.err
    assert "--open-to-others" in refused.err


def test_a_page_behind_a_proxy_is_opened_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """In a container there is no other way, and whoever starts it there has to read what that means."""
    require_guard("127.0.0.1", "a page", "break it", open_to_others=False)
    assert capsys.readouterr().out == ""

    require_guard("0.0.0.0", "a page", "break it", open_to_others=True)

    assert "nothing here asks who somebody is" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("--all",), ()], ids=["state", "namespace"])
@pytest.mark.parametrize("marked", [False, True])
def test_reset_deletes_no_folder_that_is_not_the_platforms(
    fresh: Terminal, arguments: tuple[str, ...], *, marked: bool
) -> None:
    """The variable names a folder, and somebody's home is a folder, too; what was empty once is filled by others."""
    state = fresh.team.settings.state
    namespace = state / "namespaces" / "test"
    (namespace / "data").mkdir(parents=True)
    (state if arguments else namespace).joinpath("thesis.tex").write_text("years of work")
    if marked:
        (state if arguments else namespace).joinpath(MARKER).write_text("")

    refused = fresh.run("state", "reset", *arguments, "--yes")

    assert refused.failed_plainly, refused.said
    assert "thesis.tex" in refused.err
    assert (namespace / "data").is_dir()
    next(state.rglob("thesis.tex")).unlink()
    done = fresh.run("state", "reset", *arguments, "--yes")
    assert done.status == 0, done.said
    assert not namespace.exists()


def test_reset_deletes_no_folder_of_weights_that_nothing_says_is_ours(fresh: Terminal) -> None:
    """Many a home has a folder 'models', and nothing else whose name is ours."""
    state = fresh.team.settings.state
    (state / "models").mkdir(parents=True)

    refused = fresh.run("state", "reset", "--all", "--yes")

    assert refused.failed_plainly, refused.said
    assert (state / "models").is_dir()


@pytest.mark.parametrize(
    "torn",
    ['{"upstream": "te', "[]", '{"upstream": 3}', "", "\x00" * 64],
    ids=["cut", "list", "number", "empty", "zeros"],
)
def test_a_torn_note_of_a_branch_is_an_error_with_a_way_out(fresh: Terminal, torn: str) -> None:
    """A note that says nothing must not make a branch that stands alone: it would pay for everything again."""
    settings = fresh.team.settings.in_namespace("mine")
    make_branch(settings.state, "mine", "test")
    (settings.namespace_folder / "branch.json").write_text(torn)

    refused = fresh.run("branch", "up", "mine", "--from", "mine")
    with pytest.raises(SpecificationError, match="branch up mine --from NAMESPACE"):
        WarehouseResource.of(settings)

    assert refused.failed_plainly, refused.said
    make_branch(settings.state, "mine", "test")
    assert settings.upstream_namespace == "test"


def new_mails(terminal: Terminal) -> Finished:
    """An application for 400 mails."""
    root = terminal.team.root
    rows = "\n".join(f"{number},{Team.text(number)},{right_answer(number)}" for number in range(400))
    (root / "mails.csv").write_text(f"mail,message,mood\n{rows}\n", encoding="utf-8")
    return terminal.run(
        *("application", "new", "mails", "--source", str(root / "mails.csv"), "--folder"),
        *(str(root / "applications"), "--key", "mail", "--text", "message"),
        *("--answer", "mood", "--model", "scripted"),
    )


def test_new_application_is_checked_as_it_was_written(fresh: Terminal) -> None:
    """From a CSV to what can be run, with no file edited; a second time would take somebody's edits."""
    new = new_mails(fresh)
    checked = fresh.run("application", "check", str(fresh.team.root / "applications" / "mails"))
    again = new_mails(fresh)

    assert new.status == 0, new.said
    assert "llm-platform run mails" in new.out
    assert checked.status == 0, checked.said
    assert "no mistakes" in checked.out
    assert again.failed_plainly, again.said
    assert "is there already and is not overwritten" in again.err


@pytest.mark.slow
def test_new_application_runs_as_it_was_written(ran: Ran) -> None:
    """From a CSV to a published table in two commands."""
    terminal, _ = ran
    with ScriptedServer(answer=lambda seen: right_answer(int(seen.document_id))) as model:
        terminal.team.lock["base_urls"] = [model.url]
        terminal.team.write_lock()
        new_mails(terminal)
        run = terminal.run("run", "mails")

    assert run.status == 0, run.said
    assert model.counts.requests == 400
    assert "Published   mails.published_v1, 400 rows" in run.out


def test_source_check_says_what_is_in_a_table(fresh: Terminal) -> None:
    """Before anything runs: how many rows, what is empty, and which known answers are of use."""
    fresh.team.write_documents({**{f"{n}": fresh.team.text(n) for n in range(8)}, "8": ""})
    fresh.team.write_references({"0": "SAD", "1": "HAPPY", "x": "SAD", "2": ""})

    of_application = fresh.run("source", "check", NAME)
    of_file = fresh.run("source", "check", str(fresh.team.root / "tickets.csv"))

    assert of_application.status == of_file.status == 0, of_application.said + of_file.said
    assert "9 rows" in of_application.out
    assert "Texts: 8 can be sent; 1 are empty." in of_application.out
    assert "1 rows without one" in of_application.out
    assert "1 of 3 known answers name no document (first: 'x')" in of_application.out
    assert "Columns that could be keys: 'ticket'." in of_file.out


def test_source_check_offers_no_key_that_a_run_would_refuse(fresh: Terminal) -> None:
    """A column of different values is no key while one of them is impossible; an empty table still has columns."""
    (fresh.team.root / "nul.csv").write_bytes(b"id,text\nd\0x,one\n2,two\n")
    (fresh.team.root / "nested.jsonl").write_text('{"id": [1], "text": "one"}\n{"id": [2], "text": "two"}\n')
    (fresh.team.root / "header.csv").write_text("id,text\n")

    nul = fresh.run("source", "check", str(fresh.team.root / "nul.csv"))
    nested = fresh.run("source", "check", str(fresh.team.root / "nested.jsonl"))
    header = fresh.run("source", "check", str(fresh.team.root / "header.csv"))

    for said in (nul, nested):
        assert "Columns that could be keys: 'text'." in said.out
        assert "Column 'id' has another value in every row, but cannot be the key" in said.out
    assert "0 rows" in header.out
    assert "text" in header.out
    assert "Columns that could be keys: none." in header.out


def test_source_check_says_what_a_run_would_refuse(fresh: Terminal) -> None:
    """The same reader, so the same mistakes, without a run that fails."""
    (fresh.team.root / "tickets.csv").write_text("ticket,body,team\n1,one,red\n1,two,red\n")
    doubled = fresh.run("source", "check", NAME)
    (fresh.team.root / "tickets.csv").write_text('ticket,body,team\n1,"one,red\n')
    open_quote = fresh.run("source", "check", NAME)

    assert doubled.failed_plainly
    assert "1 keys occur more than once (first: '1')" in doubled.err
    assert open_quote.failed_plainly
    assert "quote that is not closed" in open_quote.err
