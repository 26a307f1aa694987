from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.application.model import Application
from llm_platform.errors import SpecificationError
from llm_platform.prompts.load import load_prompts
from llm_platform.prompts.render import RenderedPrompt, render
from llm_platform.records import DocumentRow

CHAT = """\
---
api: chat
answers:
  BUG: " bug"
  WISH: " wish"
examples: {pool: pool.jsonl, count: 2}
---
# system

You sort tickets of {{ product }}.

# user

{% for example in examples %}
Ticket: {{ example.text }} ({{ example.product }}): {{ example.answer }}
{% endfor %}
Ticket: {{ text }}
"""

POOL = """\
{"text": "It crashes", "product": "app", "answer": "BUG"}
{"text": "Make it blue", "product": "web", "answer": "WISH"}
{"text": "Never read", "product": "web", "answer": "WISH"}
"""


def application_in(folder: Path, prompt: str | bytes, pool: str = POOL, *, task: str = "classify") -> Application:
    (folder / "prompts").mkdir()
    (folder / "prompts" / "sort.md").write_bytes(prompt if isinstance(prompt, bytes) else prompt.encode())
    (folder / "pool.jsonl").write_text(pool)
    description = {
        "name": "tickets",
        "title": "Tickets",
        "task": task,
        "labels": ("BUG", "WISH") if task == "classify" else (),
        "fields": {"kind": {"type": "string"}, "since": {"type": "date", "required": False}}
        if task == "extract"
        else {},
        "source": {"url": "t.csv", "key": "id", "text": "body", "attributes": ("product", "language")},
        "variants": {"sort": {"prompt": "sort", "model": "tiny"}},
        "evaluation": {"gates": {}},
        "folder": folder,
    }
    return Application.model_validate(description)


def mistakes_of(application: Application) -> list[str]:
    with pytest.raises(SpecificationError) as raised:
        load_prompts(application)
    return str(raised.value).replace(str(application.folder), "F").split("\n")


def row(text: str, **attributes: str | None) -> DocumentRow:
    return DocumentRow(document_id="d", fingerprint="f", text=text, attributes=attributes)


def test_a_chat_prompt_is_read_with_answers_examples_and_variables(tmp_path: Path) -> None:
    """All that decides an answer has to be in the prompt, because its hash is the version."""
    application = application_in(tmp_path, CHAT)

    prompt = load_prompts(application)["sort"]

    assert [message.role for message in prompt.messages] == ["system", "user"]
    assert prompt.answers == {"BUG": " bug", "WISH": " wish"}
    assert [example["text"] for example in prompt.examples] == ["It crashes", "Make it blue"]
    assert prompt.variables == ("product", "text")


def test_examples_show_the_answer_as_the_model_is_to_write_it(tmp_path: Path) -> None:
    """Examples with labels and a constraint to other words would teach the wrong answer."""
    application = application_in(tmp_path, CHAT)
    prompt = load_prompts(application)["sort"]

    rendered = render(prompt, row("Text", product="app", language=None), labels=application.labels)

    assert rendered == RenderedPrompt(
        [
            {"role": "system", "content": "You sort tickets of app."},
            {
                "role": "user",
                "content": "Ticket: It crashes (app):  bug\nTicket: Make it blue (web):  wish\nTicket: Text",
            },
        ],
        None,
    )


@pytest.mark.parametrize(
    ("body", "template"),
    [
        pytest.param("Review: {{ text }}\nSentiment:\n", "Review: {{ text }}\nSentiment:", id="one-newline-goes"),
        pytest.param("{{ text }}\n\n", "{{ text }}\n", id="only-one"),
        pytest.param("{{ text }} is ", "{{ text }} is ", id="last-space-stays"),
        pytest.param("\n  {{ text }}:\r\n", "\n  {{ text }}:", id="first-blank-line-stays"),
    ],
)
def test_a_completion_template_keeps_its_last_character(tmp_path: Path, body: str, template: str) -> None:
    """Whether a prompt ends in a space decides how its answer is cut into tokens."""
    application = application_in(tmp_path, f"---\napi: completion\n---\n{body}")

    assert load_prompts(application)["sort"].messages[0].template == template


def test_labels_are_the_answers_where_none_are_given(tmp_path: Path) -> None:
    """Then the version of the prompt must change with the labels."""
    application = application_in(tmp_path, "---\napi: completion\n---\n{{ text }}\n")

    assert load_prompts(application)["sort"].answers == {"BUG": "BUG", "WISH": "WISH"}


def test_the_version_follows_the_examples_and_not_the_name_or_the_unread_rows(tmp_path: Path) -> None:
    """Editing a row that is not used must not pay for all answers again."""
    application = application_in(tmp_path, CHAT)
    first = load_prompts(application)["sort"]

    (tmp_path / "pool.jsonl").write_text(POOL.replace("Never read", "Still not read"))
    unread = load_prompts(application)["sort"]
    (tmp_path / "pool.jsonl").write_text(POOL.replace("It crashes", "It hangs"))
    (tmp_path / "prompts" / "sort.md").rename(tmp_path / "prompts" / "renamed.md")
    read = load_prompts(application)["renamed"]

    assert unread.version == first.version
    assert read.version != first.version


CHAT_MISTAKES = [
    pytest.param(
        "api: chat",
        "api: chatt",
        ["F/prompts/sort.md:2: found 'chatt' as api; allowed: 'chat', 'completion'; did you mean 'chat'?"],
        id="api",
    ),
    pytest.param(
        "api: chat\n",
        "",
        ["F/prompts/sort.md:2: found no 'api'; allowed: 'chat', 'completion', which is required"],
        id="no-api",
    ),
    pytest.param(
        "answers:\n",
        "answer:\n",
        ["F/prompts/sort.md:3: found key 'answer'; allowed: 'api', 'answers', 'examples'; did you mean 'answers'?"],
        id="unknown-key",
    ),
    pytest.param(
        '  WISH: " wish"\n',
        "",
        [
            "F/prompts/sort.md:3: found no answer for label 'WISH'; allowed: the exact text of "
            "the answer for every label"
        ],
        id="missing-answer",
    ),
    pytest.param(
        '  WISH: " wish"\n',
        '  WISH: " bug"\n',
        [
            "F/prompts/sort.md:5: found ' bug' as the answer for 'WISH' and for 'BUG'; allowed: "
            "a different text for each label"
        ],
        id="equal-answers",
    ),
    pytest.param(
        '  WISH: " wish"\n',
        '  WISH: " wish"\n  BUGS: " b"\n',
        ["F/prompts/sort.md:6: found label 'BUGS'; allowed: 'BUG', 'WISH'; did you mean 'BUG'?"],
        id="unknown-label",
    ),
    pytest.param(
        '  WISH: " wish"\n',
        '  WISH: " "\n',
        ["F/prompts/sort.md:5: found ' ' as the answer for 'WISH'; allowed: text that is not blank"],
        id="blank-answer",
    ),
    pytest.param(
        "pool.jsonl",
        "pol.jsonl",
        [
            "F/prompts/sort.md:6: found pool 'pol.jsonl'; allowed: a JSON Lines file in F "
            "('pool.jsonl'); did you mean 'pool.jsonl'?"
        ],
        id="no-pool",
    ),
    pytest.param(
        "pool.jsonl",
        "../pool.jsonl",
        ["F/prompts/sort.md:6: found pool '../pool.jsonl'; allowed: a file in the application's own folder"],
        id="pool-outside",
    ),
    pytest.param(
        "count: 2",
        "count: 9",
        ["F/prompts/sort.md:6: found count 9; allowed: at most 3, the rows of 'pool.jsonl'"],
        id="count",
    ),
    pytest.param(
        "---\napi",
        "api",
        [
            "F/prompts/sort.md:1: found 'api: chat' as the first line; allowed: '---', then the "
            "front matter ('api: chat'), then '---'"
        ],
        id="no-front-matter",
    ),
    pytest.param(
        "# system\n",
        "# sytem\n",
        [
            "F/prompts/sort.md:8: found heading '# sytem'; allowed: '# system', '# user', '# "
            "assistant'; did you mean '# system'?",
            "F/prompts/sort.md:8: found text before the first message heading; allowed: a line "
            "'# system' or '# user' or '# assistant' first",
        ],
        id="heading",
    ),
    pytest.param(
        "# user",
        "# assistant",
        [
            "F/prompts/sort.md:12: found '# assistant' where '# user' is due; allowed: an "
            "optional '# system' first, then '# user' and '# assistant' in turn"
        ],
        id="order",
    ),
    pytest.param(
        "Ticket: {{ text }}\n",
        "Ticket: {{ text }}\n# assistant\nIt is\n",
        [
            "F/prompts/sort.md:18: found '# assistant' as the last message; allowed: '# user' "
            "last: it is what is answered"
        ],
        id="last",
    ),
    pytest.param(
        "{{ product }}",
        "{{ prodct }}",
        [
            "F/prompts/sort.md:10: found variable 'prodct'; allowed: 'text', 'product', "
            "'language', 'examples', 'labels'; did you mean 'product'?"
        ],
        id="unknown-variable",
    ),
    pytest.param(
        "{{ product }}",
        "{{ product",
        [
            "F/prompts/sort.md:10: found a template that cannot be read (expected name or "
            "number); allowed: Jinja's syntax"
        ],
        id="syntax",
    ),
    pytest.param(
        "{{ product }}",
        "{{ ''.__class__ }}",
        ["F/prompts/sort.md:10: found attribute '__class__'; allowed: attributes of an example or of 'loop' only"],
        id="attribute",
    ),
    pytest.param(
        "{{ product }}",
        "{{ text['__class__'] }}",
        ["F/prompts/sort.md:10: found attribute '__class__'; allowed: attributes of an example or of 'loop' only"],
        id="item",
    ),
    pytest.param(
        "{{ product }}",
        "{{ text|attr('__class__') }}",
        [
            "F/prompts/sort.md:10: found filter 'attr'; allowed: 'capitalize', 'count', "
            "'default', 'first', 'join', 'last', 'length', 'lower', 'replace', 'striptags', "
            "'title', 'tojson', 'trim', 'truncate', 'upper', 'wordcount'"
        ],
        id="filter",
    ),
    pytest.param(
        "{{ example.text }}",
        "{{ example.txt }}",
        [
            "F/prompts/sort.md:15: found attribute 'txt'; allowed: 'answer', 'label', 'product', "
            "'text'; did you mean 'text'?"
        ],
        id="example-attribute",
    ),
    pytest.param(
        "{{ product }}",
        "{% for a in range(999999999) %}{% endfor %}",
        [
            "F/prompts/sort.md:10: found a loop over something else; allowed: a loop over "
            "'examples' or 'labels', or a part of them"
        ],
        id="endless-loop",
    ),
    pytest.param(
        "{{ product }}",
        "{{ text.upper() }}",
        [
            "F/prompts/sort.md:10: found a call; allowed: variables, text, comparisons and the "
            "filters 'capitalize', 'count', 'default', 'first', 'join', 'last', 'length', "
            "'lower', 'replace', 'striptags', 'title', 'tojson', 'trim', 'truncate', 'upper', "
            "'wordcount'"
        ],
        id="call",
    ),
    pytest.param(
        "{{ product }}",
        "{{ product * 999999999 }}",
        [
            "F/prompts/sort.md:10: found 'mul'; allowed: variables, text, comparisons and the "
            "filters 'capitalize', 'count', 'default', 'first', 'join', 'last', 'length', "
            "'lower', 'replace', 'striptags', 'title', 'tojson', 'trim', 'truncate', 'upper', "
            "'wordcount'"
        ],
        id="arithmetic",
    ),
    pytest.param(
        "{{ product }}",
        "{% set a = text %}{{ a }}",
        [
            "F/prompts/sort.md:10: found an assignment; allowed: text, {{ … }}, {% if %} and {% "
            "for … in examples %} or {% for … in labels %}",
            "F/prompts/sort.md:10: found variable 'a'; allowed: 'text', 'product', 'language', 'examples', 'labels'",
        ],
        id="assignment",
    ),
    pytest.param(
        "{{ product }}",
        "{% include 'secrets' %}",
        [
            "F/prompts/sort.md:10: found an include; allowed: text, {{ … }}, {% if %} and {% for "
            "… in examples %} or {% for … in labels %}"
        ],
        id="include",
    ),
    pytest.param(
        "{{ product }}",
        "{{ product|truncate('long') }}",
        [
            "F/prompts/sort.md:10: found a template that fails ('>=' not supported between "
            "instances of 'str' and 'int'); allowed: one that renders, also where an attribute "
            "is empty"
        ],
        id="fails-when-rendered",
    ),
    pytest.param(
        "{{ product }}",
        "{{ product|first }}",
        [
            "F/prompts/sort.md:10: found a template that fails (No first item, sequence was "
            "empty.); allowed: one that renders, also where an attribute is empty"
        ],
        id="fails-where-empty",
    ),
    pytest.param("in examples", "in examples if false", [], id="a-condition-on-a-loop-is-allowed"),
]


@pytest.mark.parametrize(("old", "new", "expected"), CHAT_MISTAKES)
def test_a_mistake_is_reported_with_its_line(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    """A prompt that fails after the first thousand documents has cost them."""
    assert CHAT.count(old) == 1 or old in ("# user",)
    application = application_in(tmp_path, CHAT.replace(old, new, 1))

    if not expected:
        assert load_prompts(application)
    else:
        assert mistakes_of(application) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        pytest.param(
            b"---\napi: chat\n---\n# user\n\ncaf\xe9 {{ text }}\n",
            "F/prompts/sort.md:6: found byte 0xe9, which is not UTF-8; allowed: text in UTF-8 "
            "(save the file in that encoding)",
            id="latin-1",
        ),
        pytest.param(
            "---\napi: chat\n",
            "F/prompts/sort.md:1: found a front matter without an end; allowed: '---' on a line of its own",
            id="no-end",
        ),
        pytest.param(
            "---\napi: chat\n---\n{{ text }}\n",
            "F/prompts/sort.md:4: found text before the first message heading; allowed: a line "
            "'# system' or '# user' or '# assistant' first",
            id="no-heading",
        ),
        pytest.param(
            "---\napi: chat\n---\n", "F/prompts/sort.md:4: found no message; allowed: '# user'", id="empty-chat"
        ),
        pytest.param(
            "---\napi: chat\n---\n# user\n",
            "F/prompts/sort.md:4: found message '# user' without text; allowed: the template of the message",
            id="empty-message",
        ),
        pytest.param(
            "---\napi: completion\n---\n\n",
            "F/prompts/sort.md:4: found an empty body; allowed: the template of the prompt",
            id="empty-completion",
        ),
        pytest.param(
            "---\napi: completion\n---\n# user\n{{ text }}\n",
            "F/prompts/sort.md:4: found a message heading in a prompt with api 'completion'; "
            "allowed: one template, or 'api: chat'; did you mean 'chat'?",
            id="heading-in-completion",
        ),
        pytest.param(
            "---\napi: completion\n---\n{% for e in examples %}{{ e.text }}{% endfor %}{{ text }}",
            "F/prompts/sort.md:4: found 'examples' in the template only; allowed: 'examples' in "
            "the front matter as well",
            id="examples-without-a-pool",
        ),
        pytest.param(
            "---\napi: completion\nexamples: {pool: pool.jsonl, count: 1}\n---\n{{ text }}",
            "F/prompts/sort.md:3: found examples that no template reads; allowed: a loop {% for "
            "example in examples %}, or no examples",
            id="pool-without-examples",
        ),
    ],
)
def test_a_file_of_a_wrong_form_is_one_mistake(tmp_path: Path, prompt: str | bytes, expected: str) -> None:
    """Whatever is in the file, the answer is a line to look at."""
    mistakes = mistakes_of(application_in(tmp_path, prompt))

    # What cannot be printed for want of a pool is also an unknown attribute: the cause comes first.
    assert mistakes[0] == expected


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        pytest.param(
            "oops\n", "F/pool.jsonl:1: found a line that is not JSON; allowed: one JSON object a line", id="json"
        ),
        pytest.param(
            "[1]\n",
            "F/pool.jsonl:1: found a line that is not a JSON object; allowed: one JSON object a line",
            id="list",
        ),
        pytest.param(
            '\n{"text": "a"}\n',
            "F/pool.jsonl:2: found no 'answer'; allowed: a row with 'answer' and the columns that the template reads",
            id="no-answer",
        ),
        pytest.param(
            '{"text": "a", "answer": "BUGG"}\n',
            "F/pool.jsonl:1: found answer 'BUGG'; allowed: 'BUG', 'WISH'; did you mean 'BUG'?",
            id="label",
        ),
        pytest.param(
            '{"text": 7, "answer": "BUG"}\n',
            "F/pool.jsonl:1: found 'text' that is not text; allowed: text in every column",
            id="number",
        ),
        pytest.param(
            '\n{"text": "a", "answer": "BUG", "text": "b"}\n',
            "F/pool.jsonl:2: found 'text' twice in one row; allowed: each name once",
            id="name-twice",
        ),
    ],
)
def test_a_row_of_the_pool_that_cannot_be_used_is_a_mistake(tmp_path: Path, pool: str, expected: str) -> None:
    """An example with a wrong label teaches it."""
    prompt = "---\napi: completion\nexamples: {pool: pool.jsonl, count: 1}\n---\n{{ text }} {{ examples|length }}"

    assert mistakes_of(application_in(tmp_path, prompt, pool)) == [expected]


@pytest.mark.parametrize(
    "template",
    [
        "{{ text.__class__.__mro__ }}",
        "{{ examples.__class__ }}",
        "{{ labels[0]['__class__'] }}",
        "{{ text[text] }}",
        "{{ text[labels[0]] }}",
        "{{ text.upper }}",
        "{{ ()|attr('__class__') }}",
        "{{ text|map('upper') }}",
        "{{ text|format(text) }}",
        "{{ '%99999999d' % 1 }}",
        "{{ 'a' * 99999999 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ text ~ text }}",
        "{{ text + text }}",
        "{{ cycler(1) }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ lipsum.__globals__ }}",
        "{% for a in labels %}{{ loop.__init__ }}{% endfor %}",
        "{% for a in labels %}{% for b in labels %}{% for c in labels %}x{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in labels recursive %}{{ loop(labels) }}{% endfor %}",
        "{% for a in text %}{{ text }}{% endfor %}",
        "{% for a in [1, 2, 3] %}{{ text }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set x = text %}",
        "{% filter upper %}{{ text }}{% endfilter %}",
        "{% block a %}{% endblock %}",
        "{% autoescape true %}{{ text }}{% endautoescape %}",
        "{% autoescape text %}{% endautoescape %}",
        "{% import 'os' as os %}",
        "{% extends text %}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{% if text %}" * 150 + "x" + "{% endif %}" * 150,
        "{{ text",
    ],
)  # fmt: skip
def test_a_template_that_could_escape_or_never_end_is_refused(tmp_path: Path, template: str) -> None:
    """Prompt files come from other teams' repositories and run in a process that holds credentials."""
    application = application_in(tmp_path, f"---\napi: completion\n---\nRead this:\n{template} {{{{ text }}}}\n")

    assert mistakes_of(application)[0].split(":")[1] in ("4", "5")


def test_examples_lack_no_column_that_the_template_reads(tmp_path: Path) -> None:
    """The loop would fail, or show examples of another form than the question."""
    pool = POOL.replace('"product": "web", ', "")
    application = application_in(tmp_path, CHAT.replace(" ({{ example.product }})", ""), pool)

    assert mistakes_of(application) == [
        "F/prompts/sort.md:6: found no 'product' in row 2 of the pool; allowed: every column that the template reads"
    ]


def test_answers_of_extract_examples_are_objects_of_known_fields(tmp_path: Path) -> None:
    """They are written in the order of the fields, as guided decoding will write them."""
    prompt = "---\napi: completion\nexamples: {pool: pool.jsonl, count: 1}\n---\n{{ examples[0].answer }} {{ text }}"
    pool = '{"text": "a", "answer": {"since": "2024-01-01", "kind": "é"}}\n'
    application = application_in(tmp_path, prompt, pool, task="extract")

    assert load_prompts(application)["sort"].examples[0]["answer"] == '{"kind": "é", "since": "2024-01-01"}'

    (tmp_path / "pool.jsonl").write_text('{"text": "a", "answer": "{\\"kind\\": 1, \\"kind\\": 2}"}\n')

    assert mistakes_of(application) == [
        "F/pool.jsonl:1: found field 'kind' twice in the answer; allowed: each field once"
    ]

    (tmp_path / "pool.jsonl").write_text(pool.replace("kind", "kinds"))

    assert mistakes_of(application) == [
        "F/pool.jsonl:1: found field 'kinds' in the answer; allowed: 'kind', 'since'; did you mean 'kind'?"
    ]


def test_answers_are_refused_for_other_tasks(tmp_path: Path) -> None:
    """They would be ignored without a word."""
    application = application_in(
        tmp_path, CHAT.replace("examples: {pool: pool.jsonl, count: 2}\n", ""), task="generate"
    )

    assert mistakes_of(application)[0] == (
        "F/prompts/sort.md:3: found answers for task 'generate'; allowed: answers only for task 'classify'"
    )


def test_the_mistakes_of_all_files_are_reported_at_once(tmp_path: Path) -> None:
    """One run of the check is enough to see them all."""
    application = application_in(tmp_path, "---\napi: x\n---\n")
    (tmp_path / "prompts" / "other.md").write_text("no front matter")

    assert [mistake.split(":")[0] for mistake in mistakes_of(application)] == [
        "F/prompts/other.md",
        "F/prompts/sort.md",
    ]


def test_mistakes_of_front_matter_and_template_are_reported_together(tmp_path: Path) -> None:
    """One wrong key must not hide what is wrong below it."""
    application = application_in(tmp_path, "---\napi: completion\nanswer: x\n---\n{{ txt }}\n")

    assert [mistake.split(";")[0] for mistake in mistakes_of(application)] == [
        "F/prompts/sort.md:3: found key 'answer'",
        "F/prompts/sort.md:5: found variable 'txt'",
    ]
