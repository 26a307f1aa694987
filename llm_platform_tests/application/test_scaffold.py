from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_platform.application.load import load_application
from llm_platform.application.model import Application
from llm_platform.application.scaffold.folder import new_application
from llm_platform.errors import SpecificationError
from llm_platform.prompts.load import load_prompts
from llm_platform.prompts.render import render
from llm_platform.records import DocumentRow

ROWS = [
    {"id": str(n), "channel": "web" if n % 2 else "mail", "body": f"Ticket number {n} says something", "label": label}
    for n, label in enumerate(["bug", "wish", "bug", "bug"] * 8)
]


def csv_file(path: Path, rows: list[dict[str, str]] = ROWS) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def loaded(folder: Path) -> Application:
    application = load_application(folder, models=["smollm2-135m"])
    prompts = load_prompts(application)
    row = DocumentRow(document_id="1", fingerprint="f", text="Some {{ text }}", attributes={})
    assert all("Some {{ text }}" in str(render(prompt, row, labels=application.labels)) for prompt in prompts.values())
    return application


def test_a_csv_with_labels_becomes_an_application_that_loads(tmp_path: Path) -> None:
    """The first contact with the platform is this command on somebody's own file."""
    source = csv_file(tmp_path / "tickets.csv")

    folder = new_application("tickets", source, tmp_path / "applications")

    application = loaded(folder)
    assert (application.source.key, application.source.text) == ("id", "body")
    assert application.source.attributes == application.evaluation.slices == ("channel",)
    assert application.labels == ("bug", "wish")
    assert application.references is not None
    assert application.references.answer == "label"
    assert application.evaluation.gates.accuracy is not None
    assert application.evaluation.gates.accuracy.minimum == 0.8  # 0.75, and a fifth of the way to 1
    assert (folder / "README.md").is_file()


def test_a_file_that_moves_with_the_application_is_named_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository with data and application is cloned to other places."""
    source = csv_file(tmp_path / "tickets.csv")

    inside = loaded(new_application("inside", source, tmp_path))
    outside = loaded(new_application("outside", source, tmp_path / "applications"))

    assert inside.source.url == "../tickets.csv"
    assert outside.source.url == source

    monkeypatch.chdir(tmp_path)
    in_checkout = loaded(new_application("in_checkout", "tickets.csv", Path("applications")))
    assert in_checkout.source.url == "../../tickets.csv"


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".ndjson", ".tsv"])
def test_every_format_gives_the_same_application(tmp_path: Path, suffix: str) -> None:
    """The columns decide, not how they are stored."""
    path = tmp_path / f"tickets{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif suffix == ".tsv":
        path.write_text("\n".join("\t".join(row) for row in [list(ROWS[0]), *(list(row.values()) for row in ROWS)]))
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)))

    application = loaded(new_application("tickets", str(path), tmp_path / "applications"))

    assert (application.source.key, application.source.text, application.labels) == ("id", "body", ("bug", "wish"))


def test_objects_of_known_answers_become_fields(tmp_path: Path) -> None:
    """The names of the fields are already there; typing them again invites a mistake."""
    path = tmp_path / "receipts.jsonl"
    rows = [{"id": n, "text": "OCR", "truth": {"total": "9.00", "date": "1/2"}} for n in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)))

    application = loaded(new_application("receipts", str(path), tmp_path / "applications", task="extract"))

    assert list(application.fields) == ["total", "date"]
    assert application.references is not None
    assert application.references.answer == "truth"


def test_a_text_of_several_columns_is_written_as_it_was_given(tmp_path: Path) -> None:
    """The title says what the body leaves out; a misspelt one of them is named."""
    source = csv_file(tmp_path / "tickets.csv")

    several = loaded(new_application("several", source, tmp_path, text="channel, body"))
    template = loaded(new_application("template", source, tmp_path, text="{{ channel }}: {{ body }}"))

    assert several.source.text == ("channel", "body")
    assert "channel" not in several.source.attributes
    assert template.source.text_columns == ("channel", "body")
    with pytest.raises(SpecificationError, match=r"no column 'bdy' \(--text\).*Did you mean 'body'"):
        new_application("wrong", source, tmp_path, text="channel,bdy")


@pytest.mark.parametrize(
    ("parts", "splits"),
    [
        pytest.param(("train", "test"), {"test": "evaluation"}, id="test"),
        pytest.param(("train", "val", "test"), {"test": "evaluation", "val": "train"}, id="validation-is-trained-on"),
        pytest.param(("training", "dev"), {"dev": "evaluation", "training": "train"}, id="validation-is-evaluated"),
        pytest.param(("train", "evaluation"), {}, id="ours"),
        pytest.param(("train", "north"), None, id="not-a-split"),
    ],
)
def test_a_column_of_splits_is_read_by_the_names_in_use(
    tmp_path: Path, parts: tuple[str, ...], splits: dict[str, str] | None
) -> None:
    """Drawing another split would train on what the owners hold out."""
    rows = [{**row, "split": parts[n % len(parts)]} for n, row in enumerate(ROWS)]

    application = loaded(new_application("tickets", csv_file(tmp_path / "t.csv", rows), tmp_path))

    assert application.references is not None
    assert application.references.split == (None if splits is None else "split")
    assert application.references.splits == (splits or {})


def test_a_field_with_few_values_becomes_a_closed_set(tmp_path: Path) -> None:
    """The set constrains the model; a name or a total must not be taken for one."""
    rows = [
        {"id": n, "text": "OCR", "truth": {"paid": "CASH" if n % 2 else "CARD", "total": str(n), "note": ""}}
        for n in range(40)
    ]
    path = tmp_path / "receipts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))

    application = loaded(new_application("receipts", str(path), tmp_path / "applications", task="extract"))

    assert {name: (field.type, field.values) for name, field in application.fields.items()} == {
        "paid": ("enum", ("CARD", "CASH")),
        "total": ("string", ()),
        "note": ("string", ()),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"task": "generate"}, id="generate"),
        pytest.param({"task": "extract"}, id="extract-without-known-answers"),
        pytest.param({"labels": ("A: b", "#c", "no", "{{ d }}", 'e"')}, id="labels-that-yaml-could-misread"),
    ],
)
def test_a_warehouse_table_needs_its_columns_named_and_then_loads(tmp_path: Path, arguments: dict[str, object]) -> None:
    """The table is not read here: it may be behind credentials that this command does not need."""
    folder = new_application("tickets", "upstream.main.t", tmp_path, key="Key: 1", text="#text", **arguments)  # type: ignore[arg-type]

    application = loaded(folder)

    assert (application.source.warehouse, application.source.table) == ("upstream", "main.t")
    assert (application.source.key, application.source.text) == ("Key: 1", "#text")
    assert application.labels == arguments.get("labels", ())


def test_columns_that_cannot_be_guessed_are_listed_with_the_flags(tmp_path: Path) -> None:
    """A wrong guess costs a run; a list costs one more line."""
    rows = [{"number": "1", "a": "Some longer text in here", "b": "Some other longer text"}]
    source = csv_file(tmp_path / "t.csv", rows)

    with pytest.raises(SpecificationError) as raised:
        new_application("tickets", source, tmp_path, labels=("A", "B"))

    assert str(raised.value) == (
        f"Cannot tell from the columns of {source!r} which one is the key and the text of a document. "
        "Columns: 'number', 'a', 'b'. Give --key and --text."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"name": "Tickets"}, "Application name 'Tickets' is not allowed", id="name"),
        pytest.param({"task": "clasify"}, "Task 'clasify' is not known. Choose one of classify, extract", id="task"),
        pytest.param(
            {"key": "idd"}, "has no column 'idd' (--key); it has 'id', 'channel', 'body', 'label'. Did", id="key"
        ),
        pytest.param({"key": "channel"}, "'channel' of", id="key-that-repeats"),
        pytest.param({"labels": ("bug",)}, "Labels of 'tickets' have only 'bug'", id="one-label"),
        pytest.param({"labels": ("bug", "bug")}, "Labels of 'tickets' have 'bug' twice", id="label-twice"),
        pytest.param({"labels": ("bug", "idea")}, "Column 'label' has 1 values that are not labels", id="other-labels"),
        pytest.param({"task": "extract", "labels": ("a", "b")}, "Labels were given for task 'extract'", id="labels"),
        pytest.param({"source": "nothing.csv"}, "Cannot read", id="no-file"),
        pytest.param({"source": "https://example.com/t.csv"}, "Copy what is elsewhere to this machine", id="remote"),
        pytest.param({"source": "tickets"}, "Source 'tickets' is neither a file", id="neither"),
    ],
)
def test_what_cannot_be_made_says_why_and_leaves_nothing(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    """Half an application is found by the next run, and fails it."""
    source = csv_file(tmp_path / "tickets.csv")
    given: dict[str, object] = {"name": "tickets", "source": source, "folder": tmp_path / "made", **arguments}

    with pytest.raises(SpecificationError) as raised:
        new_application(**given)  # type: ignore[arg-type]

    assert message in str(raised.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("t.csv", b"", id="empty"),
        pytest.param("t.csv", b"id,text\n", id="header-only"),
        pytest.param("t.csv", b"id,text\n1,caf\xe9\n", id="latin-1"),
        pytest.param("t.jsonl", b"oops\n", id="not-json"),
        pytest.param("t.parquet", b"oops", id="not-parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_message(tmp_path: Path, name: str, content: bytes) -> None:
    """The file is the user's; a traceback would be ours."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SpecificationError, match=r"Cannot read|has no rows"):
        new_application("tickets", str(tmp_path / name), tmp_path, labels=("A", "B"))


def test_an_application_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """It may hold a day's work on a prompt."""
    source = csv_file(tmp_path / "tickets.csv")
    folder = new_application("tickets", source, tmp_path)
    (folder / "application.yaml").write_text("mine")

    with pytest.raises(SpecificationError, match="is there already and is not overwritten"):
        new_application("tickets", source, tmp_path)

    assert (folder / "application.yaml").read_text() == "mine"


def test_rows_without_a_label_are_documents_without_a_known_answer(tmp_path: Path) -> None:
    """The commonest table has a text in every row and a label in some; null is none of the labels."""
    rows = [{**row, "label": row["label"] if number % 4 == 0 else None} for number, row in enumerate(ROWS)]
    rows[4]["label"] = "wish"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")

    folder = new_application("tickets", str(tmp_path / "t.parquet"), tmp_path, answer="label")

    application = loaded(folder)
    assert application.labels == ("bug", "wish")
    assert application.references is not None
    assert "# 24 of 32 rows have none" in (folder / "application.yaml").read_text()


def test_labels_that_are_numbers_are_labels(tmp_path: Path) -> None:
    """A table with 0 and 1 beside nulls became floats, and none of them was a label."""
    table = pa.table({"id": [1, 2, 3], "text": ["one text", "another", "third"], "label": pa.array([1, None, 0])})
    pq.write_table(table, tmp_path / "t.parquet")

    assert loaded(new_application("tickets", str(tmp_path / "t.parquet"), tmp_path)).labels == ("0", "1")


@pytest.mark.parametrize(("rare", "expected"), [(0, 0.9), (1, 0.9984), (50, 0.92)])
def test_the_first_minimum_is_between_guessing_and_certainty(tmp_path: Path, rare: int, expected: float) -> None:
    """A minimum of 1.0 is one that nothing can show, and one that guessing reaches is no minimum."""
    rows = [{"id": str(n), "body": f"Ticket {n}", "label": "wish" if n < rare else "bug"} for n in range(500)]
    source = csv_file(tmp_path / "t.csv", rows)

    application = loaded(new_application("tickets", source, tmp_path, labels=("bug", "wish"), answer="label"))

    assert application.evaluation.gates.accuracy is not None
    assert application.evaluation.gates.accuracy.minimum == expected


def test_names_with_blanks_and_dots_can_be_given(tmp_path: Path) -> None:
    """Exports call their columns what people call them."""
    rows = [{"the id": row["id"], "meta.text, in full": row["body"], "the label": row["label"]} for row in ROWS]
    source = csv_file(tmp_path / "t.csv", rows)

    folder = new_application("tickets", source, tmp_path, key="the id", text="meta.text, in full", answer="the label")

    application = loaded(folder)
    assert (application.source.key, application.source.text) == ("the id", "meta.text, in full")
    assert application.references is not None
    assert application.references.answer == "the label"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.xlsx", b"x", "Save its sheet as CSV"),
        ("t.zip", b"x", "must end in one of .csv"),
        ("t.csv", b'id,text\n1,a\n2,"b\n', "quote that is not closed"),
        ("t.csv", b"id,text,text\n1,a,b\n", "more than one column 'text'"),
        ("t.csv", b"id,text,label\n1,a,Bug\n2,b,bug\n", "'Bug' and 'bug', which differ in case or form only"),
        ("t.csv", b"id,text,label\n1,a,bug \n2,b,wish\n", "1 values that cannot be labels: they have"),
        (
            "t.jsonl",
            b'{"id": "a\\u0000", "text": "a"}\n',
            "cannot be the key: 0 rows have none, 0 repeat one, and 1 are",
        ),
        ("t.csv", b"id,text,label\n" + b"".join(b"%d,a,l%d\n" % (n, n) for n in range(300)), "300 different"),
    ],
)
def test_a_table_that_cannot_be_run_is_refused_when_it_is_met(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    """What `new` accepts, `run` reads: it is one reader."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SpecificationError, match=said):
        new_application(
            "tickets",
            str(tmp_path / name),
            tmp_path,
            key="id",
            text="text",
            answer="label" if b"label" in content else None,
        )


@pytest.mark.parametrize("key", [b"d\0x", b"k" * 3000])
def test_a_column_named_as_a_key_that_is_passed_over_is_said(tmp_path: Path, key: bytes) -> None:
    """ "Give --key" is no help where the key is plain to see, and one of its values is impossible."""
    (tmp_path / "t.csv").write_bytes(b"id,text\n" + key + b",a\n2,b\n")

    with pytest.raises(SpecificationError, match="'id' cannot be it: 0 rows have none, 0 repeat one, and 1 are"):
        new_application("tickets", str(tmp_path / "t.csv"), tmp_path, task="generate")


def test_texts_named_as_labels_are_not_printed(tmp_path: Path) -> None:
    """`--answer body` is a slip of the hand, and a document is not for a terminal that others see."""
    (tmp_path / "t.csv").write_text('id,text,body\n1,a,"a private\nmatter"\n2,b,other\n', encoding="utf-8")

    with pytest.raises(SpecificationError, match="1 values that cannot be labels") as refused:
        new_application("tickets", str(tmp_path / "t.csv"), tmp_path, key="id", text="text", answer="body")

    assert "private" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b"id;text;label\n1;one, two;bug\n2;b;wish\n"),
        ("t.csv", b"\n\nid,text,label\n1,a,bug\n2,b,wish\n"),
        ("t.csv", "id,text,label\n1,a,bug\n2,b,wish\n".encode("utf-16")),
        ("t.csv.gz", gzip.compress(b"id,text,label\n1,a,bug\n2,b,wish\n", mtime=0)),
        ("t.jsonl", b'\xef\xbb\xbf{"id": 1, "text": "a", "label": "bug"}\n{"id": 2, "text": "b", "label": "wish"}\n'),
        ("t.json", b'[{"id": 1, "text": "a", "label": "bug"}, {"id": 2, "text": "b", "label": "wish"}]'),
    ],
)
def test_what_exports_look_like_is_read(tmp_path: Path, name: str, content: bytes) -> None:
    """Each of these is what some program writes when somebody asks it for a table."""
    (tmp_path / name).write_bytes(content)

    application = loaded(new_application("tickets", str(tmp_path / name), tmp_path))

    assert (application.source.key, application.source.text, application.labels) == ("id", "text", ("bug", "wish"))


@pytest.mark.parametrize("known", [True, False], ids=["with-known-answers", "without"])
def test_the_stages_that_a_new_file_suggests_can_be_used_as_they_stand(tmp_path: Path, known: bool) -> None:
    """Whoever takes the marks of comment away must not be told that the suggestion is wrong."""
    rows = ROWS if known else [{name: row[name] for name in ("id", "channel", "body")} for row in ROWS]
    source = csv_file(tmp_path / "tickets.csv", rows)
    folder = new_application("tickets", source, tmp_path / "applications", labels=("bug", "wish"))
    file = folder / "application.yaml"
    text = file.read_text(encoding="utf-8")
    start = text.index("# rollout:")

    file.write_text(text[:start] + text[start:].replace("# ", ""), encoding="utf-8")

    policy = loaded(folder).rollout.policy
    assert policy is not None
    assert [stage.stage for stage in policy.stages] == ["shadow", "canary", "champion"]


def test_a_folder_of_files_and_a_prefix_of_a_bucket_are_sources(tmp_path: Path) -> None:
    """An export is rarely one file; what cannot be looked at yet is named by its columns."""
    (tmp_path / "exports").mkdir()
    for number in (1, 2):
        (tmp_path / "exports" / f"{number}.csv").write_text(f"id,body\n{number},the printer is on fire again\n")

    folder = new_application("first", str(tmp_path / "exports"), tmp_path, labels=("A", "B"))
    pattern = new_application("second", str(tmp_path / "exports" / "*.csv"), tmp_path, labels=("A", "B"))
    bucket = new_application("third", "s3://exports/day/", tmp_path, labels=("A", "B"), key="id", text="body")

    places = [load_application(path).source.url for path in (folder, pattern, bucket)]
    assert places == ["../exports", "../exports/*.csv", "s3://exports/day/"]


def test_a_folder_of_documents_is_a_source_of_files(tmp_path: Path) -> None:
    """Who has a share of contracts has no table, and needs none."""
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "a.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "contracts" / "b.eml").write_bytes(b"Subject: b\n\nText")

    folder = new_application("contracts", str(tmp_path / "contracts"), tmp_path / "applications", labels=("A", "B"))

    source = load_application(folder).source
    assert (source.url, source.key, source.text) == (None, "path", "text")
    assert (folder / str(source.files)).resolve() == tmp_path / "contracts"
