"""What is wrong with `publish`, line by line, like the rest of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.application.load import load_application
from llm_platform_tests.application.test_application_files import application_folder, mistakes_of

CLASSIFY = """\
name: tickets
title: Kinds of tickets
task: classify
labels: [BUG, WISH]
source: {url: tickets.csv, key: id, text: body}
variants:
  plain: {prompt: plain, model: tiny}
evaluation: {gates: {}}
publish:
"""
EXTRACT = """\
name: tickets
title: Fields of tickets
task: extract
fields:
  product: {type: string}
  price: {type: money}
  status: {type: enum, values: [new, old]}
source: {url: tickets.csv, key: id, text: body}
variants:
  plain: {prompt: plain, model: tiny}
evaluation: {gates: {}}
publish:
"""
STANDARD = (
    "'document_id', 'confidence', 'release_id', 'variant', 'answered_at', 'status', 'reason', 'fingerprint', "
    "'source_snapshot', 'documents_snapshot', 'published_at'"
)


def test_everything_that_can_be_promised_is_read(tmp_path: Path) -> None:
    """The tables below change one thing, so what they change must be right."""
    folder = application_folder(
        tmp_path,
        EXTRACT
        + """\
  contract: 2
  version: 2.1.0
  description: Tickets for the help desk
  owner: team:desk
  columns:
    product: {description: What it is about, type: string}
    state: {field: status, type: string, deprecated: true}
  freshness_hours: 24
  completeness: 0.98
  beside:
    1: {retired: 2026-12-31, fields: {item: product}}
  copies: [../readers, s3://bucket/readers, "postgres:dbname=readers host=db"]
  consumers:
    dashboard: {queries: [q.sql], dialect: postgres, owner: "team:desk"}
  assets: ["summaries:assets"]
""",
    )
    (folder / "q.sql").write_text("SELECT 1")

    publish = load_application(folder, models=["tiny"]).publish

    assert publish.version == "2.1.0"
    assert str(publish.beside["1"].retired) == "2026-12-31"
    assert len(publish.copies) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "  version: 2.0.0\n",
            "10: found version '2.0.0' of contract 1; allowed: a version that begins with 1, or 'contract: 2', which "
            "makes a table beside that one",
            id="version-of-another-number",
        ),
        pytest.param("  owner: desk\n", "10: found owner 'desk'; allowed: an address like", id="owner"),
        pytest.param(
            "  columns:\n    anser: {}\n",
            f"11: found column 'anser'; allowed: {STANDARD}, 'answer'; did you mean 'answer'?",
            id="column",
        ),
        pytest.param(
            "  columns:\n    answer:\n      type: date\n",
            "12: found type 'date' of column 'answer'; allowed: 'string', which it has; did you mean 'string'?",
            id="another-type",
        ),
        pytest.param(
            "  columns:\n    kind: {field: label}\n",
            "11: found field for task 'classify'; allowed: field only for task 'extract'",
            id="field-of-no-extraction",
        ),
        pytest.param(
            "  beside:\n    1: {}\n",
            "11: found '1' as a contract beside 1; allowed: the number of another",
            id="itself",
        ),
        pytest.param(
            "  beside:\n    2:\n      labels: {BUGS: BUG}\n",
            "12: found label 'BUGS'; allowed: 'BUG', 'WISH'; did you mean 'BUG'?",
            id="label",
        ),
        pytest.param("  beside:\n    2: {retired: soon}\n", "11: found 'soon' as publish.beside.2.retired", id="day"),
        pytest.param(
            '  copies:\n  - "postgres:dbname=x password=s3cret"\n',
            "11: found a password in an address; allowed: it in PGPASSWORD",
            id="password",
        ),
        pytest.param("  copies: [gs://bucket/x]\n", "10: found 'gs://bucket/x'; allowed: a folder, s3:", id="store"),
        pytest.param(
            "  consumers:\n    dash: {queries: [nothing.sql]}\n",
            "11: found query 'nothing.sql'; allowed: a file of SQL in F",
            id="query",
        ),
        pytest.param(
            "  masks: {anser: hash}\n",
            f"10: found column 'anser'; allowed: {STANDARD}, 'answer'; did you mean 'answer'?",
            id="mask-of-no-column",
        ),
        pytest.param(
            "  masks: {document_id: drop}\n",
            "10: found 'drop' of 'document_id'; allowed: 'hash', since every row has a key of its own",
            id="mask-of-the-key",
        ),
        pytest.param(
            "  masks: {status: redact}\n", "10: found a mask of 'status'; allowed: it for", id="mask-of-status"
        ),
        pytest.param(
            "  masks: {answer: hide}\n",
            "10: found 'hide' as publish.masks.answer; allowed: 'hash', 'redact', 'drop'",
            id="no-mask",
        ),
        pytest.param(
            "  copies: [s3://b/readers]\n  full_copies: [s3://b/readers/full]\n",
            "11: found tables without masks where the masked ones are; allowed: a place of its own",
            id="full-copies-among-the-masked",
        ),
        pytest.param(
            '  full_copies: ["postgres:dbname=x password=s3cret"]\n',
            "10: found a password in an address; allowed: it in PGPASSWORD",
            id="password-of-full-copies",
        ),
        pytest.param("  assets: [summaries]\n", "10: found 'summaries'; allowed: module:function", id="own-assets"),
        pytest.param("  completeness: 98\n", "10: found '98' as publish.completeness; allowed: a number", id="percent"),
    ],
)
def test_a_mistake_of_a_classification_has_its_line(tmp_path: Path, text: str, said: str) -> None:
    """A contract with a mistake would be a promise that nobody meant."""
    (found,) = mistakes_of(application_folder(tmp_path, CLASSIFY + text))

    assert found.startswith(f"F/application.yaml:{said}")
    assert "s3cret" not in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "  columns:\n    item: {field: produkt}\n",
            "14: found field 'produkt'; allowed: 'product', 'price', 'status'; did you mean 'product'?",
            id="field",
        ),
        pytest.param(
            "  columns:\n    reason: {field: product}\n",
            "14: found field 'product' in column 'reason', which another value has; allowed: a name of its own",
            id="name-that-every-row-has",
        ),
        pytest.param(
            "  columns:\n    a: {field: product}\n    b: {field: product}\n",
            "15: found field 'product' in columns 'a' and 'b'; allowed: each field in one column",
            id="field-twice",
        ),
        pytest.param(
            "  columns:\n    total_currency: {}\n",
            f"14: found column 'total_currency'; allowed: {STANDARD}, 'product', 'price', 'price_currency', "
            "'answer_status', or 'field' with the field that fills it; did you mean 'price_currency'?",
            id="column",
        ),
        pytest.param(
            "  masks: {produkt: drop}\n",
            f"13: found column 'produkt'; allowed: {STANDARD}, 'product', 'price', 'price_currency', "
            "'answer_status'; did you mean 'product'?",
            id="mask",
        ),
        pytest.param(
            "  beside:\n    2:\n      fields: {item: produkt}\n",
            "15: found field 'produkt'; allowed: 'product', 'price', 'status'; did you mean 'product'?",
            id="field-beside",
        ),
    ],
)
def test_a_mistake_of_an_extraction_has_its_line(tmp_path: Path, text: str, said: str) -> None:
    """Columns are those of the fields, so a name that is none of them is a slip."""
    (found,) = mistakes_of(application_folder(tmp_path, EXTRACT + text))

    assert found == f"F/application.yaml:{said}"
