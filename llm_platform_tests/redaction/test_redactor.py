"""What names or reaches somebody goes out of a text, and comes back into an answer."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_platform.application.documents import Redaction
from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.redaction.kinds import INSTALL, KINDS, installed
from llm_platform.redaction.recognizers import Recognized, Recognizers
from llm_platform.redaction.redactor import Redactor, _merged, put_back

if installed() is None:
    pytest.skip(f"Presidio is not installed: {INSTALL}", allow_module_level=True)

RULE = Redaction(patterns={"CASE": r"\bT-\d{6}\b"}).rule()
MAIL, PHONE, IBAN = "jane@example.org", "+49 171 2345678", "DE89370400440532013000"


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(RULE)


def test_a_value_has_one_placeholder_wherever_it_stands_in_a_document(redactor: Redactor) -> None:
    """A model has to see that two lines are about one person, and not who that is."""
    texts = [f"Mail {MAIL} or bob@intra.corp, call {PHONE}.", None, f'{{"from": "{MAIL}", "case": "T-123456"}}']

    found = redactor.redact(texts)

    assert found.texts == (
        "Mail <EMAIL_ADDRESS_1> or <EMAIL_ADDRESS_2>, call <PHONE_NUMBER_1>.",
        None,
        '{"from": "<EMAIL_ADDRESS_1>", "case": "<CASE_1>"}',
    )
    assert found.withheld["<EMAIL_ADDRESS_2>"] == "bob@intra.corp", "no public list has a company's own domain"
    assert redactor.redact(found.texts).texts == found.texts, "what is redacted stays as it is"


def test_a_value_that_is_recognized_by_its_context_goes_everywhere(redactor: Redactor) -> None:
    """The second time, nobody says that it is a number of a telephone."""
    rule = Redaction(kinds=("US_PASSPORT",)).rule()

    found = Redactor(rule).redact(["His passport number is 912803456.", "912803456, he said, and 9128034567"])

    assert found.texts == ("His passport number is <US_PASSPORT_1>.", "<US_PASSPORT_1>, he said, and 9128034567")


def test_a_placeholder_that_a_text_brings_along_is_nobodys(redactor: Redactor) -> None:
    """Whoever writes one into a document must not get somebody's address into the answer."""
    found = redactor.redact([f"<EMAIL_ADDRESS_1> is written here; {MAIL} is meant"])

    assert found.texts == ("<EMAIL_ADDRESS_1> is written here; <EMAIL_ADDRESS_2> is meant",)
    assert put_back("<EMAIL_ADDRESS_1> <EMAIL_ADDRESS_2>", found.withheld, is_json=False) == f"<EMAIL_ADDRESS_1> {MAIL}"


@given(st.lists(st.sampled_from([MAIL, PHONE, IBAN, "T-000001", 'a "quote"', "\\", "<", "é", "<CASE_1>"]), max_size=8))
def test_what_is_put_back_is_what_was_taken_out(pieces: list[str]) -> None:
    """Readers get what the document says, to the letter, also within JSON."""
    text = " ; ".join(pieces)
    found = _KEPT.redact([text])
    answer = _KEPT.redact_json(json.dumps({"all": [text, 1, None]}))

    assert put_back(found.texts[0] or "", found.withheld, is_json=False) == text
    assert all(value not in (found.texts[0] or "") for value in found.withheld.values())
    assert MAIL not in answer
    assert json.loads(put_back(answer, found.withheld, is_json=True)) == {"all": [text, 1, None]}


_KEPT = Redactor(RULE)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        pytest.param("卡號4111111111111111。", "卡號<CREDIT_CARD_1>。", id="no-blank-before"),
        pytest.param("بطاقة ٤١١١١١١١١١١١١١١١", "بطاقة <CREDIT_CARD_1>", id="other-digits"),
        pytest.param("４１１１１１１１１１１１１１１１", "<CREDIT_CARD_1>", id="wide-digits"),
        pytest.param("4111\u00a01111\u20111111 1111", "<CREDIT_CARD_1>", id="other-blanks-and-dashes"),
        pytest.param("\u202ejane\u200b@example.org\u202c 😀", "\u202e<EMAIL_ADDRESS_1>\u202c 😀", id="invisible"),
        pytest.param("josé, 2 × ½", "josé, 2 × ½", id="nothing-there"),
    ],
)
def test_what_patterns_know_is_found_in_every_script(redactor: Redactor, text: str, left: str) -> None:
    """A number is no less somebody's where no blank stands before it, or its digits are another script's."""
    found = redactor.redact([text])

    assert found.texts == (left,)
    assert put_back(left, found.withheld, is_json=False) == text


def test_a_text_full_of_values_is_redacted_in_the_time_that_its_length_asks_for(redactor: Redactor) -> None:
    """An export of an address book is a document, too: with one pattern of all values it took minutes."""
    text = " ".join(f"person{number} is person{number}@example.org, or T-{number:06}." for number in range(6000))

    found = redactor.redact([text], known={"<CASE_1>": "person7"})

    assert found.texts[0] is not None
    assert found.texts[0].startswith("person0 is <EMAIL_ADDRESS_1>, or <CASE_2>.")
    assert "<CASE_1> is <EMAIL_ADDRESS_8>, or <CASE_9>." in found.texts[0]
    assert len(found.withheld) == 12_001
    assert put_back(found.texts[0], found.withheld, is_json=False) == text


def test_findings_that_overlap_leave_no_end() -> None:
    """Half an account number is still somebody's."""
    found = [Recognized(5, 15, "B"), Recognized(0, 8, "A"), Recognized(20, 22, "C"), Recognized(15, 16, "D")]

    assert _merged(found) == [Recognized(0, 15, "B"), Recognized(15, 16, "D"), Recognized(20, 22, "C")]


def test_a_text_that_cannot_be_searched_is_an_error_and_no_text_is_logged(redactor: Redactor) -> None:
    """Presidio leaves out what takes too long, and writes values that it cannot read into its log."""
    redactor.load()
    log, root = logging.getLogger("presidio-analyzer"), logging.getLogger()
    logged: list[logging.LogRecord] = []
    everything = logging.Handler()
    everything.emit = logged.append  # type: ignore[method-assign]
    root.addHandler(everything)

    with pytest.raises(ContractBroken, match="longer than a minute"):
        log.warning("Regex pattern '%s' timed out after %s seconds, skipping.", "slow", 60)
    log.error("Failed to validate text %s", IBAN)
    root.removeHandler(everything)

    assert logged == []


def test_every_kind_has_its_recognizer_and_no_other_has_come() -> None:
    """A newer Presidio knows kinds that nobody has looked at yet, and may have renamed some."""
    import presidio_analyzer.predefined_recognizers as predefined
    from presidio_analyzer import PatternRecognizer

    classes = [getattr(predefined, name) for name in dir(predefined)]
    there = {one for one in classes if isinstance(one, type) and issubclass(one, PatternRecognizer)} - {
        PatternRecognizer
    }

    assert {one.__name__ for one in there} | {"PhoneRecognizer"} == set(KINDS.values())
    for kind, name in KINDS.items():
        assert getattr(predefined, name)().supported_entities == [kind]


def test_another_version_is_another_rule() -> None:
    """Two versions find different values, so a release made with one is not answered with the other."""
    other = RULE.model_copy(update={"recognizers": "presidio-analyzer 0.0.1"})

    with pytest.raises(SpecificationError, match=r"pip install 'llm-platform\[redaction\]'"):
        Recognizers(other)
