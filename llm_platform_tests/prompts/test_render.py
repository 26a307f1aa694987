from __future__ import annotations

import time

import pytest

from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.prompts.budget import token_budget
from llm_platform.prompts.render import Renderer, fixed_prefix, render
from llm_platform.records import DocumentRow, Prompt, PromptMessage, Sampling


def completion(template: str, **fields: object) -> Prompt:
    message = PromptMessage(role="user", template=template)
    return Prompt.model_validate({"name": "p", "api": "completion", "messages": (message,), **fields})


def chat(*messages: tuple[str, str], **fields: object) -> Prompt:
    made = tuple({"role": role, "template": template} for role, template in messages)
    return Prompt.model_validate({"name": "p", "api": "chat", "messages": made, **fields})


def row(text: str, **attributes: str | None) -> DocumentRow:
    return DocumentRow(document_id="d-1", fingerprint="f", text=text, attributes=attributes)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{{ 7 * 7 }} {% for x in range(9) %}x{% endfor %}", id="template-in-the-text"),
        pytest.param("{# gone? #}{% raw %}", id="comment-in-the-text"),
        pytest.param("</s><|im_start|>system\n", id="special-tokens-in-the-text"),
        pytest.param("\x00 \ud7ff 𝄞", id="odd-characters"),
    ],
)
def test_text_of_a_document_stays_as_it_is(text: str) -> None:
    """A document is data: nothing in it may run, vanish or be escaped."""
    assert render(completion("<{{ text }}>"), row(text)).text == f"<{text}>"


def test_a_missing_value_is_empty_text_and_a_missing_attribute_is_an_error() -> None:
    """`None` in a prompt is a word the model reads; an attribute that is not there is a broken contract."""
    prompt = completion("[{{ source }}]{% if source %}!{% endif %}", variables=("source",))

    assert render(prompt, row("x", source=None)).text == "[]"
    with pytest.raises(ContractBroken, match=r"reads 'source', which document 'd-1' does not have"):
        render(prompt, row("x"))


def test_labels_and_filters_can_be_printed() -> None:
    """These are what prompts of real applications need."""
    prompt = completion("{{ labels|join('/') }}: {{ text|replace('<br />', ' ')|truncate(12) }} {{ text|tojson }}")

    assert render(prompt, row('a<br />"b"'), labels=("X", "Y")).text == 'X/Y: a "b" "a<br />\\"b\\""'


def test_a_render_without_bounds_is_an_error_of_its_document() -> None:
    """A template that multiplies a text by itself would fill the memory of the whole run."""
    replaced = completion("{{ text|replace('a', text)|replace('a', text) }}")
    looped = completion("{% for a in labels %}{% for b in labels %}{{ text }}{% endfor %}{% endfor %}")

    for prompt in (replaced, looped):
        with pytest.raises(ContractBroken, match=r"cannot be rendered for document 'd-1': .* characters"):
            render(prompt, row("a" * 5_000), labels=[str(n) for n in range(100)])


def test_an_error_of_a_template_does_not_show_the_text() -> None:
    """Messages end up in logs."""
    prompt = completion("{{ text|truncate(text) }}")

    with pytest.raises(ContractBroken) as raised:
        render(prompt, row("secret"))

    assert "secret" not in str(raised.value)


def test_rendering_a_plain_prompt_takes_microseconds() -> None:
    """A million documents are rendered on the core that also sends them; 20 µs is the budget, 5–9 µs was measured."""
    renderer = Renderer(
        chat(("system", "You sort {{ source }}."), ("user", "Text: {{ text }}\nAnswer:"), variables=("source", "text"))
    )
    document = row("A lovely film. " * 10, source="imdb")

    def seconds() -> float:
        started = time.thread_time()
        for _ in range(2_000):
            renderer.render(document)
        return (time.thread_time() - started) / 2_000

    # The best of several, of the thread's own time, with room for a busy machine: against an order of magnitude.
    assert min(seconds() for _ in range(5)) < 60e-6


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        pytest.param(completion("Say {{ labels|length }}: {{ text }}!"), "Say 2: ", id="labels-are-fixed"),
        pytest.param(completion("No variable."), "No variable.", id="whole"),
        pytest.param(completion("A {% if text %}b{% endif %}"), "A ", id="condition"),
        pytest.param(
            completion(
                "{% for e in examples %}{{ e.text }}={{ e.answer }};{% endfor %}{{ text }}",
                answers={"X": " x"},
                examples=({"text": "t", "answer": "X"},),
            ),
            "t= x;",
            id="examples-are-fixed",
        ),
        pytest.param(
            chat(("system", "Be brief."), ("user", "Text: {{ text }}")),
            "system\nBe brief.\nuser\nText: ",
            id="messages",
        ),
        pytest.param(
            chat(("system", "About {{ text }}."), ("user", "Go")), "system\nAbout ", id="cut-in-the-first-message"
        ),
    ],
)
def test_the_fixed_prefix_ends_before_the_first_column(prompt: Prompt, expected: str) -> None:
    """Documents with equal prefix share the endpoint's prompt cache."""
    assert fixed_prefix(prompt, labels=("X", "Y")) == expected


def test_the_answer_needs_room_in_the_context() -> None:
    """An endpoint refuses every single request otherwise."""
    assert token_budget(2048, Sampling(max_tokens=48)) == 2000
    with pytest.raises(SpecificationError, match=r"max_tokens is 64, and the model's context holds 64 tokens"):
        token_budget(64, Sampling(max_tokens=64))
