"""The files of a new application, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_platform.application.scaffold.columns import Columns
from llm_platform.records import Task


@dataclass(frozen=True)
class Draft:
    """What a new application is made from."""

    name: str
    task: Task
    place: Mapping[str, str]
    columns: Columns
    labels: tuple[str, ...]
    model: str
    prompt: str


def application_yaml(draft: Draft) -> str:
    """`application.yaml` with comments that say what to change."""
    columns = draft.columns
    lines = [
        f"# {draft.name}: check it with `llm-platform application check`, which reports every mistake with its line.",
        f"name: {draft.name}",
        f"title: {_quoted(draft.name.replace('_', ' ').capitalize())}",
        "description: Say here what is asked about which documents, and who reads the answers.",
        "",
        f"task: {draft.task}",
        *_answer_lines(draft),
        "",
        "# The table of documents. A path is read from this file's folder.",
        "source:",
        *_place(draft),
        f"  key: {_quoted(columns.key)}",
        f"  text: {_quoted(columns.text) if isinstance(columns.text, str) else _list(columns.text)}",
        "  # Further columns that prompts may read and reports may slice by. A column that says when a row was last",
        "  # changed, as `watermark: updated_at`, spares reading a table whole.",
        f"  attributes: {_list(columns.attributes)}",
        "",
        "documents:",
        "  # Longer texts are kept with that reason and not sent.",
        "  max_characters: 20000",
        "# What does not fit the model's context: `reject`, `truncate` (ask about the beginning) or `split` (ask about",
        "# every part). See docs/applications.md.",
        "# long_documents: truncate",
        *_reference_lines(draft),
        "",
        "# Every variant is a prompt file on a model of models.lock.yaml; the best that passes the gates is published.",
        "variants:",
        f"  {draft.prompt}:",
        f"    prompt: {draft.prompt}",
        f"    model: {_quoted(draft.model)}",
        f"    sampling: {{max_tokens: {_max_tokens(draft)}, temperature: 0.0}}",
        "",
        "evaluation:",
        f"  slices: {_list(columns.attributes)}",
        "  # A minimum is compared with the lower end of the interval, so a few documents are not enough to pass.",
        "  gates:",
        "    confidence: 0.95",
        *_gate_lines(draft),
        "",
        "# Once something serves, a change of it may come step by step, judged beside it (docs/rollout.md):",
        *(f"# {line}" for line in _rollout_lines(draft)),
    ]
    return "\n".join(lines) + "\n"


def prompt_text(draft: Draft) -> str:
    """The first prompt file: plain, and meant to be edited."""
    asked = {
        "classify": "Labels: {{ labels|join(', ') }}\n\nDocument:\n{{ text }}\n\nAnswer with the label that fits.",
        "extract": f"Document:\n{{{{ text }}}}\n\nWrite its fields {', '.join(_fields(draft))} as JSON.",
        "generate": "Document:\n{{ text }}\n\nSummarize the document in one sentence.",
    }
    system = {
        "classify": "You label documents.",
        "extract": "You read fields from documents. You write only what stands in the document.",
        "generate": "You summarize documents. You write only what stands in the document.",
    }
    return f"---\napi: chat\n---\n# system\n\n{system[draft.task]}\n\n# user\n\n{asked[draft.task]}\n"


def readme(draft: Draft) -> str:
    """What the folder holds and what to do with it."""
    columns = ["text", *draft.columns.attributes]
    return f"""# {draft.name}

- `application.yaml` says what is asked, about which documents, and how good an answer has to be.
- `prompts/{draft.prompt}.md` is the prompt. Templates are Jinja and read the columns {", ".join(columns)}.

    llm-platform application check      # every mistake with file and line
    llm-platform run {draft.name}

To compare prompts, copy the prompt file, change it, and add a variant that names it. Templates have `if`, `for` over
`examples` and `labels`, and filters such as `replace` and `truncate`; they have no calls and no arithmetic.

For few-shot examples put rows like `{{"text": "…", "answer": "…"}}` into `examples.jsonl`, and
`examples: {{pool: examples.jsonl, count: 4}}` into the front matter.
"""


def _answer_lines(draft: Draft) -> list[str]:
    if draft.task == "classify":
        return ["labels:", *(f"  - {_quoted(label)}" for label in draft.labels)]
    if draft.task == "extract":
        lines = [
            "# Types: string, integer, number, boolean, date, money, list, and enum with its `values`. What may be",
            "# absent has `required: false`.",
            "fields:",
        ]
        for name in _fields(draft):
            values = draft.columns.values.get(name)
            kind = ["    type: enum", f"    values: {_list(values)}"] if values else ["    type: string"]
            lines += [f"  {_quoted(name)}:", *kind, "    required: false"]
        return lines
    return []


def _fields(draft: Draft) -> Sequence[str]:
    return draft.columns.fields or ("title", "date")


def _place(draft: Draft) -> list[str]:
    return [f"  {key}: {_quoted(value)}" for key, value in draft.place.items()]


def _reference_lines(draft: Draft) -> list[str]:
    columns = draft.columns
    if columns.answer is None:
        return [
            "",
            "# With known answers of some documents, answers are graded and a gate on accuracy can be set:",
            "# references: {url: known.csv, key: id, answer: answer}",
        ]
    lines = ["", "# Known answers, split into training and evaluation by seed."]
    if columns.unlabelled:
        lines.append(f"# {columns.unlabelled} of {columns.rows} rows have none: they are answered, and judge nothing.")
    lines += ["references:", *_place(draft)]
    lines += [f"  key: {_quoted(columns.key)}", f"  answer: {_quoted(columns.answer)}"]
    if columns.split:
        lines.append(f"  split: {_quoted(columns.split)}")
    if columns.splits:
        named = ", ".join(f"{_quoted(given)}: {ours}" for given, ours in columns.splits.items())
        lines.append(f"  splits: {{{named}}}")
    return lines


def _rollout_lines(draft: Draft) -> list[str]:
    judged = draft.columns.answer is not None
    shown, labels = ("margin: 0.02", ", least_labels: 100") if judged else ("shows: nothing", "")
    return [
        "rollout:",
        "  stages:",
        f"    - {{stage: shadow, share: 0.2, {shown}{labels}, budget_tokens: 1000000}}",
        f"    - {{stage: canary, share: 0.05, {shown}, least_documents: 50}}",
        "    - {stage: champion}",
    ]


def _gate_lines(draft: Draft) -> list[str]:
    lines = []
    if draft.columns.answer is not None and draft.task != "generate":
        minimum, reason = _accuracy_gate(draft)
        lines += ["    accuracy:", f"      minimum: {minimum}", f"      reason: {_quoted(reason)}"]
    # Reached by 22 valid answers of 22: a new application has few known answers, and must be able to pass.
    reason = "A first minimum that a few dozen answers can show. Replace it by what readers need."
    return [*lines, "    valid_rate:", "      minimum: 0.85", f"      reason: {_quoted(reason)}"]


def _accuracy_gate(draft: Draft) -> tuple[float, str]:
    if draft.columns.commonest is None:
        return 0.5, "A first minimum: half of the answers right. Replace it by what readers need."
    label, share = draft.columns.commonest
    # A fifth of the way from the commonest label to perfection is clearly more than guessing, whatever the labels.
    if share == 1:
        reason = f"All known answers are {label!r}, so no minimum shows more than always saying it: add others first."
        return 0.9, reason
    minimum = share + (1 - share) / 5
    # As short as it can be written between the share, which guessing reaches, and 1, which nothing shows.
    digits = next(digits for digits in range(2, 18) if share < round(minimum, digits) < 1)
    minimum = round(minimum, digits)
    reason = f"Always answering {label!r} is right for {share:.{digits}f}; this is a fifth of the way from there to 1."
    return minimum, f"{reason} Replace it by what readers need."


def _max_tokens(draft: Draft) -> int:
    if draft.task == "classify":
        # A token is at least a character, and seldom less than two in a label.
        return max(16, *(len(label.encode()) for label in draft.labels))
    return 256


def _quoted(text: str) -> str:
    """Text as a YAML scalar: every JSON string is one."""
    return json.dumps(text, ensure_ascii=False)


def _list(items: Sequence[str]) -> str:
    return "[" + ", ".join(map(_quoted, items)) + "]"
