"""One answer asked for out of several: all of them where they fit a prompt, else in groups, and those again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llm_platform.errors import RequestRejected
from llm_platform.inference.answers import ReadAnswer
from llm_platform.operations.answering.account import Helpers
from llm_platform.operations.answering.fitting import BudgetedRenderer, together_row
from llm_platform.records import Completion, CompletionStatus, DocumentRow, Release
from llm_platform.warehouse.store import ApplicationStore


class Joining:
    """What is to be asked to put the answers to parts together, level by level; it asks nothing itself.

    Args:
        renderer: Of `together`.

    Attributes:
        readings: Fingerprint of a document → its answer, or why it has none.
        asked: Fingerprint of a document → what was asked to put its parts together.
    """

    def __init__(self, together: Release, renderer: BudgetedRenderer) -> None:
        self._together, self._renderer = together, renderer
        self.readings: dict[str, ReadAnswer] = {}
        self.asked: dict[str, list[Completion]] = {}

    def groups(self, row: DocumentRow, answers: Sequence[str]) -> list[list[str]] | None:
        """Neighbouring answers that fit one prompt; None where they do not, which is then the reading."""
        try:
            found = self._renderer.together(row, answers)
        except RequestRejected as error:
            self.readings[row.fingerprint] = ReadAnswer(CompletionStatus.REJECTED, reason=str(error))
            return None
        if found is None:
            reason = (
                f"the answers to {len(answers)} parts cannot be put together: not even two of them fit the prompt of "
                "long_documents. Lower max_tokens, or ask for shorter answers."
            )
            self.readings[row.fingerprint] = ReadAnswer(CompletionStatus.REJECTED, reason=reason)
        return found

    def questions(self, row: DocumentRow, groups: Sequence[Sequence[str]]) -> list[DocumentRow]:
        """What is to be asked about them."""
        return [together_row(self._together, row, group) for group in groups if self._is_asked(group, groups)]

    @staticmethod
    def _is_asked(group: Sequence[str], groups: Sequence[Sequence[str]]) -> bool:
        """One answer beside other groups waits for the next level as it is."""
        return len(group) > 1 or len(groups) == 1

    def next_level(
        self, row: DocumentRow, groups: Sequence[Sequence[str]], said: Mapping[str, Completion]
    ) -> list[str] | None:
        """The answers of the next level; None where there is none, because this one was the last, or has failed."""
        answers = []
        for group in groups:
            if not self._is_asked(group, groups):
                answers.append(group[0])
                continue
            found = said.get(together_row(self._together, row, group).fingerprint)
            if found is None:
                return None  # the endpoint gave none; the document stays missing
            self.asked.setdefault(row.fingerprint, []).append(found)
            if found.status is not CompletionStatus.VALID or len(groups) == 1:
                self.readings[row.fingerprint] = _reading(found)
                return None
            answers.append(found.answer or "")
        return answers


class Levels:
    """Answers to parts put together by a prompt: all of them where they fit, else in groups, and those again.

    Attributes:
        readings, asked: As of `Joining`.
    """

    def __init__(self, store: ApplicationStore, together: Release, helpers: Helpers) -> None:
        self._store, self._together, self._helpers = store, together, helpers
        self._joining = Joining(together, helpers.renderer(together))
        self.readings, self.asked = self._joining.readings, self._joining.asked

    def run(self, documents: Sequence[tuple[DocumentRow, Sequence[Completion]]]) -> bool:
        """Put together what can be; False where a budget stopped it."""
        pending = {row.fingerprint: (row, [part.answer or "" for part in parts]) for row, parts in documents}
        while pending:
            groups = {key: found for key, one in pending.items() if (found := self._joining.groups(*one)) is not None}
            questions = {
                question.fingerprint: question
                for key, found in groups.items()
                for question in self._joining.questions(pending[key][0], found)
            }
            total = len(self._missing(questions))
            # Looked for again when it is our turn: another process may have asked some meanwhile.
            turn = (self._missing(asked) for asked in [questions])
            if total and not self._helpers.ask(self._together, turn, total=total):
                return False
            said = {one.fingerprint: one for one in self._records(list(questions))}
            level = ((key, self._joining.next_level(pending[key][0], found, said)) for key, found in groups.items())
            pending = {key: (pending[key][0], answers) for key, answers in level if answers is not None}
        return True

    def _missing(self, questions: Mapping[str, DocumentRow]) -> list[DocumentRow]:
        stored = {one.fingerprint for one in self._records(list(questions))}
        return [question for key, question in questions.items() if key not in stored]

    def _records(self, keys: Sequence[str]) -> Iterator[Completion]:
        return self._store.completions.records(self._together.release_id, keys)


def _reading(found: Completion) -> ReadAnswer:
    valid = found.status is CompletionStatus.VALID
    return ReadAnswer(
        found.status,
        answer=found.answer,
        reason=found.reason if valid else f"putting the answers to the parts together: {found.reason}",
        raw=found.raw,
        said=found.said,
        confidence=found.confidence,
        label_logprobs=found.label_logprobs,
        finish_reason=found.finish_reason,
    )
