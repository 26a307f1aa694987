from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.application.load import find_applications, load_application
from llm_platform.application.model import Application
from llm_platform.application.yaml.mistakes import listed
from llm_platform.errors import SpecificationError
from llm_platform.prompts.load import load_prompts
from llm_platform.redaction.kinds import KINDS

CLASSIFY = """\
name: tickets
title: Kinds of tickets
task: classify
labels: [BUG, WISH]
source:
  warehouse: upstream
  table: tickets
  key: id
  text: body
  attributes: [product, language]
references: {warehouse: upstream, table: known, key: id, answer: kind}
variants:
  plain:
    prompt: plain
    model: tiny
    decision: logprobs
    calibrate: true
evaluation:
  slices: [product]
  gates:
    accuracy: {minimum: 0.6, reason: better than always saying BUG}
"""

EXTRACT = """\
name: tickets
title: Fields of tickets
task: extract
fields:
  product: {type: string, max_length: 40}
  since: {type: date, required: false}
source: {url: tickets.csv, key: id, text: body}
variants:
  plain: {prompt: plain, model: tiny}
evaluation: {gates: {}}
"""

APPLICATION_KEYS = (
    "'name', 'title', 'description', 'owners', 'task', 'labels', 'fields', 'source', "
    "'documents', 'redaction', 'long_documents', 'references', "
    "'variants', 'finetuning', 'evaluation', 'rollout', 'publish', 'monitoring', 'schedules', 'online', 'review', "
    "'retention', 'max_failed_share', 'budget'"
)
SOURCE_KEYS = (
    "'warehouse', 'table', 'url', 'key', 'text', 'files', 'attributes', 'watermark', 'overlap_minutes', 'slot', "
    "'publication', 'look_minutes', 'max_drop'"
)
VARIANT_KEYS = "'prompt', 'model', 'adapter', 'sampling', 'decision', 'calibrate', 'repair'"


def application_folder(tmp_path: Path, text: str | bytes, name: str = "tickets") -> Path:
    folder = tmp_path / name
    (folder / "prompts").mkdir(parents=True)
    (folder / "prompts" / "plain.md").write_text("---\napi: chat\n---\n# user\n{{ text }}\n")
    (folder / "prompts" / "polite.md").write_text("---\napi: chat\n---\n# user\n{{ text }}\n")
    (folder / "application.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def mistakes_of(folder: Path) -> list[str]:
    with pytest.raises(SpecificationError) as raised:
        load_application(folder, models=["tiny", "large"])
    return str(raised.value).replace(str(folder), "F").split("\n")


@pytest.mark.parametrize("text", [pytest.param(CLASSIFY, id="classify"), pytest.param(EXTRACT, id="extract")])
def test_a_right_file_is_read_with_its_folder(tmp_path: Path, text: str) -> None:
    """The tables below change one thing of these files, so these files must be right."""
    folder = application_folder(tmp_path, text)

    application = load_application(folder, models=["tiny"])

    assert isinstance(application, Application)
    assert application.folder == folder


MISTAKES = [
    pytest.param(
        "title: Kinds",
        "titel: Kinds",
        [f"F/application.yaml:2: found key 'titel'; allowed: {APPLICATION_KEYS}; did you mean 'title'?"],
        id="unknown-key-is-not-reported-twice-as-a-missing-one",
    ),
    pytest.param(
        "title: Kinds of tickets\n",
        "",
        ["F/application.yaml:1: found no 'title'; allowed: text, which is required"],
        id="missing-key",
    ),
    pytest.param(
        "  table: tickets\n",
        "  tabel: tickets\n",
        [f"F/application.yaml:7: found key 'tabel' in source; allowed: {SOURCE_KEYS}; did you mean 'table'?"],
        id="unknown-key-below",
    ),
    pytest.param(
        "  table: tickets\n",
        "",
        [
            "F/application.yaml:5: found a mapping ('warehouse', 'key', 'text', 'attributes') as "
            "source; allowed: give "
            "'url' (a CSV, Parquet or JSONL file), or 'warehouse' and 'table'"
        ],
        id="source-without-a-place",
    ),
    pytest.param(
        "task: classify",
        "task: clasify",
        [
            "F/application.yaml:3: found 'clasify' as task; allowed: 'classify', 'extract', "
            "'generate'; "
            "did you mean 'classify'?"
        ],
        id="value-outside-an-enum",
    ),
    pytest.param(
        "decision: logprobs",
        "decision: logprob",
        [
            "F/application.yaml:16: found 'logprob' as variants.plain.decision; allowed: 'text', "
            "'logprobs'; "
            "did you mean 'logprobs'?",
            "F/application.yaml:17: found calibrate with decision 'text'; allowed: calibrate "
            "only with decision: logprobs",
        ],
        id="enum-in-a-mapping-of-names",
    ),
    pytest.param(
        "calibrate: true",
        "calibrate: yes",
        ["F/application.yaml:17: found 'yes' as variants.plain.calibrate; allowed: true or false"],
        id="yes-is-text",
    ),
    pytest.param(
        "title: Kinds of tickets",
        "title: 7",
        ["F/application.yaml:2: found '7' as title; allowed: text"],
        id="number-for-text",
    ),
    pytest.param(
        "    model: tiny\n",
        "    model: tiny\n    sampling: {max_tokens: '8'}\n",
        [
            "F/application.yaml:16: found '8' as variants.plain.sampling.max_tokens; allowed: a "
            "whole number ≥ 1 and ≤ 32768"
        ],
        id="text-for-a-number",
    ),
    pytest.param(
        "    model: tiny\n",
        "    model: tiny\n    sampling: {temperature: 3}\n",
        ["F/application.yaml:16: found '3' as variants.plain.sampling.temperature; allowed: a number ≥ 0.0 and ≤ 2.0"],
        id="number-out-of-range",
    ),
    pytest.param(
        "title: Kinds of tickets\n",
        "title: Kinds of tickets\nredaction: {kinds: [PERSON, EMAIL_ADRESS], patterns: {case: '['}}\n",
        [
            f"F/application.yaml:3: found kind 'EMAIL_ADRESS'; allowed: {listed(KINDS)}; did you mean 'EMAIL_ADDRESS'?",
            "F/application.yaml:3: found kind 'PERSON'; allowed: what patterns find; names and places need a model, "
            "which is not fetched",
            "F/application.yaml:3: found kind 'case'; allowed: a name of capital letters, digits and _ that Presidio "
            "does not have",
            "F/application.yaml:3: found pattern '[', which ends in an error (unterminated character set at position "
            "0); allowed: a regular expression",
        ],
        id="what-no-pattern-finds",
    ),
    pytest.param(
        "labels: [BUG, WISH]",
        "labels: BUG",
        ["F/application.yaml:4: found 'BUG' as labels; allowed: a list, each item text"],
        id="text-for-a-list",
    ),
    pytest.param(
        "labels: [BUG, WISH]",
        "labels: [BUG]",
        ["F/application.yaml:4: found one label, 'BUG'; allowed: at least two"],
        id="one-label",
    ),
    pytest.param(
        "labels: [BUG, WISH]\n",
        "",
        ["F/application.yaml:1: found no labels for task 'classify'; allowed: a list of at least two"],
        id="no-labels",
    ),
    pytest.param(
        "labels: [BUG, WISH]",
        "labels: [BUG, WISH, BUG]",
        ["F/application.yaml:4: found label 'BUG' a second time; allowed: each label once"],
        id="duplicate-label",
    ),
    pytest.param(
        "labels: [BUG, WISH]",
        "labels: [BUG, WISH]\nfields: {a: {type: string}}",
        [
            "F/application.yaml:5: found fields for task 'classify'; allowed: fields only for "
            "task 'extract'; did you mean 'extract'?"
        ],
        id="fields-for-classify",
    ),
    pytest.param(
        "prompt: plain",
        "prompt: plane",
        [
            "F/application.yaml:14: found prompt 'plane'; allowed: the name of a file in "
            "F/prompts without '.md' "
            "('plain', 'polite'); did you mean 'plain'?"
        ],
        id="prompt-file-that-is-not-there",
    ),
    pytest.param(
        "prompt: plain",
        "prompt: prompts/polite.md",
        [
            "F/application.yaml:14: found prompt 'prompts/polite.md'; allowed: the name of a "
            "file in F/prompts without '.md' "
            "('plain', 'polite'); did you mean 'polite'?"
        ],
        id="prompt-as-a-path",
    ),
    pytest.param(
        "model: tiny",
        "model: tinny",
        [
            "F/application.yaml:15: found model 'tinny'; allowed: an entry of the lock file "
            "('large', 'tiny'); "
            "did you mean 'tiny'?"
        ],
        id="unknown-model",
    ),
    pytest.param(
        "model: tiny",
        "model: tiny\n    adapter: mood",
        ["F/application.yaml:16: found adapter 'mood'; allowed: 'finetuning', which names adapters"],
        id="adapter-without-finetuning",
    ),
    pytest.param(
        "variants:\n  plain:",
        "finetuning:\n  mood: {prompt: plain, model: tiny}\nvariants:\n  plain:\n    adapter: moood",
        [
            "F/application.yaml:16: found adapter 'moood'; allowed: a name under 'finetuning' ('mood'); "
            "did you mean 'mood'?"
        ],
        id="unknown-adapter",
    ),
    pytest.param(
        "variants:\n  plain:",
        "finetuning:\n  mood: {prompt: polite, model: large}\nvariants:\n  plain:\n    adapter: mood",
        [
            "F/application.yaml:17: found prompt 'plain' with adapter 'mood'; allowed: the prompt that it is trained "
            "for, 'polite'; did you mean 'polite'?",
            "F/application.yaml:18: found model 'tiny' with adapter 'mood'; allowed: the model that it is trained for, "
            "'large'; did you mean 'large'?",
        ],
        id="adapter-of-another-prompt-and-model",
    ),
    pytest.param(
        "variants:",
        "finetuning:\n  mood: {prompt: plan, model: tinny, rank: 0}\nvariants:",
        [
            "F/application.yaml:13: found '0' as finetuning.mood.rank; allowed: a whole number ≥ 1 and ≤ 256",
            "F/application.yaml:13: found model 'tinny'; allowed: an entry of the lock file ('large', 'tiny'); "
            "did you mean 'tiny'?",
            "F/application.yaml:13: found prompt 'plan'; allowed: the name of a file in F/prompts without '.md' "
            "('plain', 'polite'); did you mean 'plain'?",
        ],
        id="fine-tuning-with-three-mistakes",
    ),
    pytest.param(
        "slices: [product]",
        "slices: [products]",
        [
            "F/application.yaml:19: found slice 'products'; allowed: an attribute of the source "
            "('product', 'language'); "
            "did you mean 'product'?"
        ],
        id="slice-that-is-not-an-attribute",
    ),
    pytest.param(
        ", reason: better than always saying BUG",
        "",
        [
            "F/application.yaml:21: found no 'reason' in evaluation.gates.accuracy; allowed: "
            "text of at least 10 "
            "characters, which is required"
        ],
        id="gate-without-a-reason",
    ),
    pytest.param(
        "reason: better than always saying BUG",
        "reason: why not",
        [
            "F/application.yaml:21: found 'why not' as evaluation.gates.accuracy.reason; "
            "allowed: text of at least 10 characters"
        ],
        id="gate-with-hardly-a-reason",
    ),
    pytest.param(
        "accuracy: {minimum: 0.6, reason: better than always saying BUG}",
        "accuracy: 0.6",
        [
            "F/application.yaml:21: found '0.6' as evaluation.gates.accuracy; allowed: a mapping "
            "with 'minimum', 'reason'"
        ],
        id="gate-as-a-number",
    ),
    pytest.param(
        "minimum: 0.6",
        "minimum: 60",
        ["F/application.yaml:21: found '60' as evaluation.gates.accuracy.minimum; allowed: a number ≥ 0.0 and ≤ 1.0"],
        id="minimum-in-percent",
    ),
    pytest.param(
        "references: {warehouse: upstream, table: known, key: id, answer: kind}\n",
        "",
        [
            "F/application.yaml:16: found calibrate without references; allowed: 'references', a "
            "table of known answers",
            "F/application.yaml:20: found a gate on accuracy without references; allowed: "
            "'references', a table of known answers",
        ],
        id="calibrate-and-gate-without-references",
    ),
    pytest.param(
        "    decision: logprobs\n",
        "",
        [
            "F/application.yaml:16: found calibrate with decision 'text'; allowed: calibrate "
            "only with decision: logprobs"
        ],
        id="calibrate-without-logprobs",
    ),
    pytest.param(
        "  plain:\n",
        "  Plain One:\n",
        ["F/application.yaml:13: found variant name 'Plain One'; allowed: text that matches ^[a-z][a-z0-9_]{1,47}$"],
        id="variant-name",
    ),
    pytest.param(
        "name: tickets",
        "name: Tickets!",
        [
            "F/application.yaml:1: found 'Tickets!' as name; allowed: text that matches ^[a-z][a-z0-9_]{1,47}$",
            "F/application.yaml:1: found name 'Tickets!'; allowed: the folder's name 'tickets'",
        ],
        id="name-of-invalid-characters",
    ),
    pytest.param(
        "name: tickets",
        "name: ticket",
        ["F/application.yaml:1: found name 'ticket'; allowed: the folder's name 'tickets'"],
        id="name-unlike-the-folder",
    ),
    pytest.param(
        "  key: id\n",
        "  key: id\n  key: number\n",
        ["F/application.yaml:9: found key 'key' a second time (first at line 8); allowed: each key once"],
        id="duplicate-key",
    ),
    pytest.param(
        "  key: id\n",
        "\tkey: id\n",
        ["F/application.yaml:8: found a tab in the indentation; allowed: spaces"],
        id="tab",
    ),
    pytest.param(
        "title: Kinds of tickets",
        "title: Kinds: of tickets",
        [
            "F/application.yaml:2: found YAML that cannot be read (mapping values are not "
            "allowed here); allowed: text that "
            "contains ': ' only in quotes"
        ],
        id="colon-in-text",
    ),
    pytest.param(
        "labels: [BUG, WISH]",
        "labels: [BUG, WISH",
        [
            "F/application.yaml:5: found YAML that cannot be read (expected ',' or ']', but got "
            "':' while parsing a flow "
            "sequence); allowed: valid YAML"
        ],
        id="bracket-left-open",
    ),
    pytest.param(
        "title: Kinds of tickets",
        "title: !!python/name:os.system",
        [
            "F/application.yaml:2: found tag 'tag:yaml.org,2002:python/name:os.system'; allowed: "
            "plain values without tags"
        ],
        id="tag",
    ),
    pytest.param(
        "title: Kinds of tickets",
        "title: Kinds of tickets\nfolder: /etc",
        [f"F/application.yaml:3: found key 'folder'; allowed: {APPLICATION_KEYS}"],
        id="field-that-code-fills-in",
    ),
    pytest.param(
        "attributes: [product, language]",
        "attributes: [product, text]",
        [
            "F/application.yaml:10: found attribute 'text', which templates use for something "
            "else; allowed: another "
            "column name"
        ],
        id="attribute-that-hides-the-text",
    ),
    pytest.param(
        ", answer: kind",
        "",
        ["F/application.yaml:11: found no 'answer' in references; allowed: the column that holds the label"],
        id="references-without-an-answer",
    ),
    pytest.param(
        "    accuracy: {",
        "    labels: {BUGS: {recall: {minimum: 0.9, reason: a bug must be found}}}\n    accuracy: {",
        [
            "F/application.yaml:21: found a gate on 'BUGS'; allowed: 'BUG', 'WISH'; did you mean 'BUG'?",
        ],
        id="gate-on-no-label",
    ),
    pytest.param(
        "    accuracy: {",
        "    labels: {BUG: {}}\n    accuracy: {",
        [
            "F/application.yaml:21: found a mapping (empty) as evaluation.gates.labels.BUG; allowed: give 'precision', "
            "'recall' or both, each with 'minimum' and 'reason'"
        ],
        id="gate-on-a-label-without-a-limit",
    ),
    pytest.param(
        "    accuracy: {",
        "    fields: {product: {minimum: 0.9, reason: products are billed}}\n    accuracy: {",
        ["F/application.yaml:21: found a gate on fields for task 'classify'; allowed: it only for task 'extract'"],
        id="gate-on-fields-of-a-classification",
    ),
    pytest.param(
        "    accuracy: {",
        "    metrics: {refusals: {maximum: 0.1, reason: people get angry}}\n    accuracy: {",
        [
            "F/application.yaml:21: found a gate on 'refusals'; allowed: a scorer after the first, or a function of "
            "'evaluation.metrics'"
        ],
        id="gate-on-no-metric",
    ),
    pytest.param(
        "  slices: [product]\n  gates:\n",
        '  slices: [product]\n  metrics: ["grading:refusal"]\n  gates:\n'
        "    metrics: {refusals: {maximum: 0.1, minimum: 0, reason: people get angry}}\n",
        [
            "F/application.yaml:22: found a gate on 'refusals'; allowed: 'refusal'; did you mean 'refusal'?",
            "F/application.yaml:22: found a mapping ('maximum', 'minimum', 'reason') as "
            "evaluation.gates.metrics.refusals; allowed: give 'minimum' or 'maximum', and not both",
        ],
        id="gate-on-a-metric-with-two-limits",
    ),
    pytest.param(
        "    accuracy: {",
        "    kappa: {minimum: 0.4}\n    accuracy: {",
        [
            "F/application.yaml:21: found no 'reason' in evaluation.gates.kappa; allowed: text of at least 10 "
            "characters, which is required"
        ],
        id="gate-on-kappa-without-a-reason",
    ),
    pytest.param(
        "text: body",
        "text: [body, 5]",
        ["F/application.yaml:9: found '5' as source.text.1; allowed: text"],
        id="text-of-a-number",
    ),
    pytest.param(
        "text: body",
        "text: {a: b}",
        ["F/application.yaml:9: found a mapping ('a') as source.text; allowed: text, or a list, each item text"],
        id="text-of-a-mapping",
    ),
    pytest.param(
        "text: body",
        "text: [body, title, body]",
        ["F/application.yaml:9: found column 'body' a second time; allowed: each column once"],
        id="text-of-one-column-twice",
    ),
    pytest.param(
        "text: body",
        "text: []",
        ["F/application.yaml:9: found an empty list as source.text; allowed: at least one column"],
        id="text-of-nothing",
    ),
    pytest.param(
        "text: body",
        "text: '{{ title }}: {{ body }'",
        [
            "F/application.yaml:9: found braces without a column in '{{ title }}: {{ body }'; "
            "allowed: {{ column }}, once for each column"
        ],
        id="text-of-a-broken-template",
    ),
    pytest.param(
        "answer: kind}",
        "answer: kind, labels: {bug: BUGS, wish: WISH}}",
        ["F/application.yaml:11: found label 'BUGS'; allowed: 'BUG', 'WISH'; did you mean 'BUG'?"],
        id="reference-mapped-to-no-label",
    ),
    pytest.param(
        "answer: kind}",
        "answer: kind, split: part, splits: {test: evaluate}}",
        [
            "F/application.yaml:11: found 'evaluate' as references.splits.test; allowed: 'train', 'evaluation', "
            "'unused'; did you mean 'evaluation'?"
        ],
        id="split-mapped-to-no-split",
    ),
    pytest.param(
        "answer: kind}",
        "answer: kind, splits: {test: evaluation}}",
        [
            "F/application.yaml:11: found splits without 'split'; allowed: 'split', the column that holds what they "
            "rename"
        ],
        id="splits-without-a-column",
    ),
    pytest.param(
        "answer: kind}",
        "answer: kind, fields: {kind: BUG}}",
        [
            "F/application.yaml:11: found fields for task 'classify'; allowed: fields only for task 'extract'; "
            "did you mean 'extract'?"
        ],
        id="reference-fields-for-classify",
    ),
    pytest.param(
        "slices: [product]",
        "slices: [product]\n  scorers: [exat]",
        [
            "F/application.yaml:20: found scorer 'exat'; allowed: exact, normalized, set, fields, token_f1, rouge_l, "
            "semantic, regex, json_schema, regex:PATTERN, json_schema:FILE, judge:NAME or module:function; "
            "did you mean 'exact'?"
        ],
        id="unknown-scorer",
    ),
    pytest.param(
        "slices: [product]",
        "slices: [product]\n  scorers: [exact, fields, exact]",
        [
            "F/application.yaml:20: found scorer 'exact' a second time; allowed: each scorer once",
            "F/application.yaml:20: found scorer 'fields' for task 'classify'; allowed: 'fields' only for task "
            "'extract'",
        ],
        id="scorer-of-another-task-and-doubled",
    ),
    pytest.param(
        "slices: [product]",
        "slices: [product]\n  scorers: ['regex:(']",
        [
            "F/application.yaml:20: found pattern '(', which ends in an error (missing ), unterminated subpattern at "
            "position 0); allowed: a regular expression"
        ],
        id="broken-pattern",
    ),
    pytest.param(
        "slices: [product]",
        "slices: [product]\n  cluster: langage\n  metrics: [no function]",
        [
            "F/application.yaml:20: found cluster 'langage'; allowed: an attribute of the source "
            "('product', 'language'); did you mean 'language'?",
            "F/application.yaml:21: found 'no function'; allowed: module:function, such as grading:strict",
        ],
        id="unknown-cluster-and-metric",
    ),
    pytest.param(
        "  slices: [product]\n  gates:",
        "  gates:\n    slices: {minimum: 0.5, reason: no product may be worse than a coin}",
        [
            "F/application.yaml:20: found a gate on slices without slices; allowed: 'evaluation.slices', a list of "
            "attributes"
        ],
        id="gate-on-slices-without-slices",
    ),
    pytest.param(
        "slices: [product]",
        "slices: [product]\n  scorers: ['judge:strict']",
        [
            "F/application.yaml:22: found a gate on the verdicts of 'judge:strict' without one on its agreement with "
            "people; allowed: 'judge_agreement', with a minimum and its reason"
        ],
        id="judge-that-nobody-checked",
    ),
    pytest.param(
        "accuracy: {minimum: 0.6, reason: better than always saying BUG}",
        "cost_usd_per_document: {maximum: 0, reason: nothing is free here}",
        ["F/application.yaml:21: found '0' as evaluation.gates.cost_usd_per_document.maximum; allowed: a number > 0.0"],
        id="ceiling-of-nothing",
    ),
]


def test_without_what_finds_it_nothing_can_be_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that goes on whole would send what it was told not to send."""
    monkeypatch.setattr("llm_platform.application.rules.installed", lambda: None)
    text = CLASSIFY.replace("task: classify\n", "task: classify\nredaction: {}\n", 1)

    [mistake] = mistakes_of(application_folder(tmp_path, text))

    assert mistake.endswith(
        "'redaction', and presidio-analyzer is not installed; allowed: it where what finds them is "
        "there: pip install 'llm-platform[redaction]'"
    )


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_a_mistake_is_reported_with_its_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    """Who edits the file has nothing else to go by."""
    assert CLASSIFY.count(old) >= 1
    folder = application_folder(tmp_path, CLASSIFY.replace(old, new, 1))

    assert mistakes_of(folder) == expected


EXTRACT_MISTAKES = [
    pytest.param(
        "{type: date, required: false}",
        "{type: enum}",
        ["F/application.yaml:6: found type 'enum' without 'values'; allowed: a list of the values it may have"],
        id="enum-without-values",
    ),
    pytest.param(
        "{type: date, required: false}",
        "{type: enum, values: [A, B, A]}",
        ["F/application.yaml:6: found value 'A' a second time; allowed: each value once"],
        id="enum-with-a-value-twice",
    ),
    pytest.param(
        "{type: date, required: false}",
        "{type: date, values: [A, B]}",
        [
            "F/application.yaml:6: found values for type 'date'; allowed: values only for type 'enum'; "
            "did you mean 'enum'?"
        ],
        id="values-of-another-type",
    ),
    pytest.param(
        "text: body}",
        "text: body}\nreferences: {url: k.csv, key: id, fields: {item: produkt}}",
        ["F/application.yaml:8: found field 'produkt'; allowed: 'product', 'since'; did you mean 'product'?"],
        id="column-mapped-to-no-field",
    ),
    pytest.param(
        "text: body}",
        "text: body}\nreferences: {url: k.csv, key: id, fields: {product: item}}",
        [
            "F/application.yaml:8: found field 'item' (it is written column: field; 'product' is a field); "
            "allowed: 'product', 'since'"
        ],
        id="mapping-the-wrong-way-round",
    ),
    pytest.param(
        "text: body}",
        "text: body}\nreferences: {url: k.csv, key: id, fields: {a: product, b: product}}",
        ["F/application.yaml:8: found field 'product' for column 'b' and for 'a'; allowed: each field from one column"],
        id="two-columns-for-a-field",
    ),
    pytest.param(
        "fields:\n  product: {type: string, max_length: 40}\n  since: {type: date, required: false}\n",
        "",
        ["F/application.yaml:1: found no fields for task 'extract'; allowed: a mapping of names, each to a 'type'"],
        id="no-fields",
    ),
    pytest.param(
        "task: extract",
        "task: extract\nlabels: [A, B]",
        [
            "F/application.yaml:4: found labels for task 'extract'; allowed: labels only for "
            "task 'classify'; did you mean 'classify'?"
        ],
        id="labels-for-extract",
    ),
    pytest.param(
        "type: date",
        "type: dat",
        [
            "F/application.yaml:6: found 'dat' as fields.since.type; allowed: 'string', "
            "'integer', 'number', 'boolean', "
            "'date', 'money', 'list', 'enum'; did you mean 'date'?"
        ],
        id="unknown-type",
    ),
    pytest.param(
        "type: date, required: false",
        "type: date, max_length: 4",
        ["F/application.yaml:6: found max_length for type 'date'; allowed: max_length only for type 'string'"],
        id="max-length-of-a-date",
    ),
    pytest.param(
        "model: tiny",
        "model: tiny, decision: logprobs",
        [
            "F/application.yaml:9: found decision 'logprobs' for task 'extract'; allowed: 'text' "
            "(log-probabilities choose "
            "among labels); did you mean 'text'?"
        ],
        id="logprobs-for-extract",
    ),
    pytest.param(
        "url: tickets.csv",
        "url: tickets.csv, table: tickets",
        [
            "F/application.yaml:7: found a mapping ('url', 'table', 'key', 'text') as source; "
            "allowed: give either 'url' or "
            "'warehouse' and 'table', not both"
        ],
        id="two-places",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), EXTRACT_MISTAKES)
def test_a_mistake_of_an_extract_application_is_reported(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    """The rules of one task must not be those of another."""
    assert EXTRACT.count(old) == 1
    folder = application_folder(tmp_path, EXTRACT.replace(old, new))

    assert mistakes_of(folder) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", "F/application.yaml:1: found an empty file; allowed: 'key: value' lines", id="empty"),
        pytest.param(
            b"- a\n",
            "F/application.yaml:1: found something that is not a mapping; allowed: 'key: value' lines",
            id="list",
        ),
        pytest.param(
            b"name: a\ntitle: caf\xe9\n",
            "F/application.yaml:2: found byte 0xe9, which is not UTF-8; allowed: text in UTF-8 "
            "(save the file in that "
            "encoding)",
            id="latin-1",
        ),
        pytest.param(
            b"name: a\n\ntitle: a\0b\n",
            "F/application.yaml:3: found control character U+0000; allowed: printable text",
            id="nul",
        ),
        pytest.param(
            b"name: a\n---\nname: b\n",
            "F/application.yaml:2: found YAML that cannot be read (but found another document "
            "expected a single document "
            "in the stream); allowed: one document, without a second '---'",
            id="two-documents",
        ),
        pytest.param(
            b"a: &a [" + b"[" * 500 + b"]" * 500 + b"]\n",
            "F/application.yaml:1: found values nested too deeply; allowed: a few levels, and no "
            "alias inside its own anchor",
            id="deep",
        ),
        pytest.param(
            b"a: &a [*a]\n",
            "F/application.yaml:1: found values nested too deeply; allowed: a few levels, and no "
            "alias inside its own anchor",
            id="alias-in-its-own-anchor",
        ),
        pytest.param(
            b"\n".join(
                [
                    b"a0: &a0 [x, x]",
                    *(b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)),
                ]
            ),
            "F/application.yaml:2: found more than 20000 values; allowed: fewer values and aliases",
            id="aliases-of-aliases",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_one_mistake(tmp_path: Path, content: bytes, expected: str) -> None:
    """A broken file must end in a message, not in a traceback or a machine without memory."""
    folder = application_folder(tmp_path, content)

    assert mistakes_of(folder) == [expected]


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    """A mistyped folder is the commonest mistake of all."""
    with pytest.raises(SpecificationError, match=r"found no readable file \(No such file or directory\)"):
        load_application(tmp_path / "nothing")


def test_all_mistakes_are_reported_at_once_by_line(tmp_path: Path) -> None:
    """Mistakes that come one by one cost a run each."""
    text = CLASSIFY.replace("task: classify", "task: sort").replace("[BUG, WISH]", "[BUG, BUG]").replace("tiny", "tin")
    text = text.replace("key: id\n  text", "kee: id\n  text").replace("slices: [product]", "slices: [colour]")
    folder = application_folder(tmp_path, text)

    lines = [int(mistake.split(":")[1]) for mistake in mistakes_of(folder)]

    assert lines == [3, 8, 15, 19]


def test_labels_are_in_one_form(tmp_path: Path) -> None:
    """Known answers and a model's words are compared with them; two that look the same are the same."""
    text = CLASSIFY.replace("[BUG, WISH]", "[cafe\u0301, wish]")

    assert load_application(application_folder(tmp_path, text), models=["tiny", "large"]).labels == (
        "caf\u00e9",
        "wish",
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("[Bug, bug]", "found label 'bug', which differs from 'Bug' in case or form only"),
        ("[\ufb01n, fin]", "found label 'fin', which differs from '\ufb01n' in case or form only"),
        ("[caf\u00e9, cafe\u0301]", "found label 'caf\u00e9' a second time"),
        ('["a\\0b", c]', "found label 'a\\x00b'; allowed: text without control characters"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(tmp_path: Path, labels: str, said: str) -> None:
    """Answers are read without regard to case, so one of two such labels would never be given."""
    found = mistakes_of(application_folder(tmp_path, CLASSIFY.replace("[BUG, WISH]", labels)))

    assert any(said in mistake for mistake in found), found


def test_words_that_yaml_often_takes_for_booleans_are_labels(tmp_path: Path) -> None:
    """Norway's code and a plain "yes" are labels that people use."""
    folder = application_folder(tmp_path, CLASSIFY.replace("[BUG, WISH]", "[no, yes, on, 2024-01-01]"))

    assert load_application(folder).labels == ("no", "yes", "on", "2024-01-01")


def test_applications_are_found_in_a_folder_of_folders_and_alone(tmp_path: Path) -> None:
    """A team may point at its repository or at one application."""
    one = application_folder(tmp_path / "one", CLASSIFY)
    two = application_folder(tmp_path / "two", CLASSIFY, name="letters")
    (tmp_path / "one" / "__pycache__").mkdir()
    (tmp_path / "one" / "notes").mkdir()

    found = find_applications([tmp_path / "one", two, one])

    assert found.broken == ()
    assert list(found.folders.items()) == [("letters", two), ("tickets", one)]


def test_two_applications_with_one_name_are_a_mistake(tmp_path: Path) -> None:
    """They would write the same tables."""
    one = application_folder(tmp_path / "one", CLASSIFY)
    two = application_folder(tmp_path / "two", CLASSIFY)

    found = find_applications([tmp_path / "one", tmp_path / "two"])

    assert found.folders == {"tickets": one}
    assert [other.mistakes for other in found.broken] == [
        f"{two}/application.yaml:1: found a second application 'tickets' (first in {one}); allowed: each name once"
    ]


def test_a_link_to_an_application_is_a_mistake_of_the_link(tmp_path: Path) -> None:
    """A second name for one folder would be a second graph that writes the same tables."""
    one = application_folder(tmp_path / "one", CLASSIFY)
    (tmp_path / "one" / "alias").symlink_to(one)
    (tmp_path / "one" / "nowhere").symlink_to(tmp_path / "one" / "gone")
    (tmp_path / "one" / "loop").symlink_to(tmp_path / "one" / "loop")

    found = find_applications([tmp_path / "one"])

    assert found.folders == {"tickets": one}
    assert [other.name for other in found.broken] == ["alias"]
    assert f"found a link to {one}" in found.broken[0].mistakes


def test_a_misnamed_file_and_a_missing_folder_are_mistakes(tmp_path: Path) -> None:
    """An application that is silently not found looks like one that was deleted."""
    folder = application_folder(tmp_path / "one", CLASSIFY)
    (folder / "application.yaml").rename(folder / "application.yml")

    found = find_applications([tmp_path / "one", tmp_path / "none"])

    assert found.folders == {}
    assert [one.mistakes for one in found.broken] == [
        f"{folder}/application.yml:1: found file 'application.yml'; allowed: "
        f"'application.yaml'; "
        "did you mean 'application.yaml'?",
        f"{tmp_path}/none:1: found no such folder; allowed: a folder with applications",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("first v2", "did you mean 'first_v2'?", id="a-blank"),
        pytest.param("über", "did you mean 'uber'?", id="not-ascii"),
        pytest.param("a:b", "did you mean 'a_b'?", id="a-colon"),
    ],
)
def test_a_prompt_s_name_is_checked_where_it_is_written(tmp_path: Path, name: str, said: str) -> None:
    """It becomes the name of an asset; what Dagster refuses, it refuses for the whole deployment."""
    folder = application_folder(tmp_path, CLASSIFY)
    path = folder / "prompts" / f"{name}.md"
    path.write_bytes(next((folder / "prompts").glob("*.md")).read_bytes())

    with pytest.raises(SpecificationError) as raised:
        load_prompts(load_application(folder))

    assert str(raised.value).startswith(f"{path}:1: file name: found name {name!r}")
    assert said in str(raised.value)


def test_files_that_other_systems_leave_beside_prompts_are_no_prompts(tmp_path: Path) -> None:
    """macOS writes `._first.md` beside `first.md`, and people a README."""
    folder = application_folder(tmp_path, CLASSIFY)
    before = load_prompts(load_application(folder))
    (folder / "prompts" / "._first.md").write_bytes(b"\x00\x05\x16\x07")
    (folder / "prompts" / "README.md").write_text("What these prompts are for.", encoding="utf-8")

    assert load_prompts(load_application(folder)) == before


def test_an_owner_is_an_address_or_a_team(tmp_path: Path) -> None:
    """Dagster refuses anything else, and with it every application of the deployment."""
    folder = application_folder(tmp_path, CLASSIFY.replace("task:", "owners: [Jane Doe]\ntask:", 1))

    assert any("found owner 'Jane Doe'" in mistake for mistake in mistakes_of(folder))
