"""Prompts that fit the model's context, counted by the endpoint's own tokenizer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llm_platform.application.long_document_rules import PARTS
from llm_platform.errors import EndpointMismatch, EndpointUnavailable, RequestRejected, SpecificationError
from llm_platform.nim.http import EndpointClient
from llm_platform.prompts.budget import token_budget
from llm_platform.prompts.cutting import beginning, grouped, spans
from llm_platform.prompts.render import Choose, RenderedPrompt, Renderer
from llm_platform.records import DocumentRow, Release, content_hash

TEMPLATE_ALLOWANCE_TOKENS = 200
_CORRECTION_TOKENS = 64
_NO_TOKENIZER = (404, 405, 501)
# What may be the prompt's fault; everything else would meet every prompt.
_OF_THE_PROMPT = (400, 413, 422)


@dataclass(frozen=True, slots=True)
class LongDocument:
    """A document that does not fit and is asked about in parts; `tokens` of its whole prompt."""

    document_id: str
    fingerprint: str
    tokens: int


class BudgetedRenderer:
    """Renders prompts that fit the model's context, and does with the others what the release says.

    A prompt with few bytes fits without being counted; the others are counted by the endpoint's own tokenizer.

    Attributes:
        long: Documents that were left alone, to be asked about in parts.
    """

    def __init__(
        self,
        release: Release,
        labels: Sequence[str],
        *,
        base_url: str,
        client: EndpointClient,
        choose: Choose | None = None,
    ) -> None:
        self.long: list[LongDocument] = []
        self._release = release
        self._renderer = Renderer(release.prompt, labels, choose=choose)
        self._budget = token_budget(release.model.context_length, release.sampling)
        self._model, self._url, self._client = release.model.served_name, f"{base_url}/tokenize", client

    @property
    def _room(self) -> int:
        """Tokens for a prompt that is cut to fit: an answer that has to be corrected must fit beside it, too."""
        correctable = self._release.decision == "text" and self._release.prompt.api == "chat"
        correction = self._release.sampling.max_tokens + _CORRECTION_TOKENS if correctable else 0
        return self._budget - min(correction, self._budget // 4)

    def require_tokenizer(self) -> None:
        """Check that prompts can be counted, before the first one is sent.

        Raises:
            SpecificationError: the endpoint has no tokenizer to ask.
            EndpointUnavailable: it does not answer now.
        """
        self._count_exactly(RenderedPrompt(messages=None, text="1"))

    def render(self, row: DocumentRow) -> RenderedPrompt | None:
        """The prompt of one document; None for one that is asked about in parts, and is now in `long`.

        Raises:
            RequestRejected: it has more tokens than the model's context leaves room for.
        """
        rendered = self._renderer.render(row)
        if self._fits_uncounted(rendered):
            return rendered
        rules = self._release.long_documents
        tokens = self._count(rendered) if rules is None else self._count_exactly(rendered)
        if tokens <= self._budget:
            return rendered
        if rules is None:
            raise RequestRejected(
                f"The prompt has {tokens} tokens and the model has room for {self._budget} beside the answer. "
                "Shorten the prompt or the document, or take a model with a longer context. (Documents, but not what a "
                "judge reads, can be cut or split: long_documents in application.yaml.)"
            )
        if rules.policy == "split":
            self.long.append(LongDocument(row.document_id, row.fingerprint, tokens))
            return None
        return self._beginning(row, tokens)

    def render_uncounted(self, row: DocumentRow) -> RenderedPrompt | None:
        """The same without asking anybody; None where its tokens have to be counted first."""
        rendered = self._renderer.render(row)
        return rendered if self._fits_uncounted(rendered) else None

    def _fits_uncounted(self, rendered: RenderedPrompt) -> bool:
        # A token covers at least one byte; the allowance is for what a chat template adds. Helpers get what was cut
        # and counted to fit.
        return rendered.size_bytes + TEMPLATE_ALLOWANCE_TOKENS <= self._budget or self._release.serves is not None

    def parts_expected(self, document: LongDocument) -> int:
        """About how many parts a document has."""
        return math.ceil(document.tokens / (self._room * 0.8))

    def parts(self, row: DocumentRow, document: LongDocument) -> list[DocumentRow]:
        """A document's parts in order: equal cuts of equal texts are equal rows, whatever document they are of.

        Raises:
            RequestRejected: the prompt leaves no room for a part.
        """
        rules = self._release.long_documents
        assert rules is not None  # only such releases leave documents alone
        found = spans(
            row.text,
            tokens=document.tokens,
            room=self._room,
            overlap_tokens=rules.overlap_tokens,
            count=lambda text: self._tokens_of(_helper_row(self._release, row, text=text)),
        )
        texts = [row.text[start:end].strip() for start, end in found]
        return [_helper_row(self._release, row, text=text) for text in texts if text]

    def together(self, row: DocumentRow, answers: Sequence[str]) -> list[list[str]] | None:
        """Neighbouring answers in groups whose prompts fit; None where not even two do. Of a `together` release."""

        def fits(items: Sequence[str]) -> bool:
            rendered = self._renderer.render(together_row(self._release, row, items))
            if rendered.size_bytes + TEMPLATE_ALLOWANCE_TOKENS <= self._room:
                return True
            return self._count_exactly(rendered) <= self._room

        found = grouped(answers, fits)
        return None if found is None else [list(group) for group in found]

    def _beginning(self, row: DocumentRow, tokens: int) -> RenderedPrompt:
        end, cut_tokens = beginning(
            row.text, tokens=tokens, room=self._room, count=lambda text: self._tokens_of(_with_text(row, text))
        )
        return replace(self._renderer.render(_with_text(row, row.text[:end].strip())), cut_tokens=cut_tokens)

    def _tokens_of(self, row: DocumentRow) -> int:
        return self._count_exactly(self._renderer.render(row))

    def _count(self, rendered: RenderedPrompt) -> int:
        status, body = self._post(rendered)
        # An endpoint that cannot count refuses the request itself if it is too long.
        return _count_of(body) or 0 if status == 200 else 0

    def _count_exactly(self, rendered: RenderedPrompt) -> int:
        status, body = self._post(rendered)
        count = _count_of(body) if status == 200 else None
        if count is not None:
            return count
        if status in _NO_TOKENIZER or status == 200:
            raise SpecificationError(
                f"Documents of {self._release.application!r} that do not fit are to be cut, and {self._url} gives no "
                f"count of tokens (HTTP {status}). Take a model whose endpoint has a tokenizer, or long_documents: "
                "reject."
            )
        if status in _OF_THE_PROMPT:
            raise RequestRejected(f"The endpoint does not count the tokens of this prompt: HTTP {status}.")
        if status < 500 and status not in (408, 429):
            raise EndpointMismatch(
                f"{self._url} refuses to count the tokens of any prompt: HTTP {status}. Check address, key and "
                "account, then run again: nothing that was not counted is stored."
            )
        raise EndpointUnavailable(f"Asked {self._url} to count the tokens of a prompt: HTTP {status}.")

    def _post(self, rendered: RenderedPrompt) -> tuple[int, bytes]:
        form = {"prompt": rendered.text} if rendered.messages is None else {"messages": rendered.messages}
        return self._client.post(self._url, {"model": self._model, **form})


def together_row(release: Release, row: DocumentRow, answers: Sequence[str]) -> DocumentRow:
    """The row that a `together` release asks about: the answers to the parts of a document in order."""
    joined = "\n\n".join(answers)
    return _helper_row(release, row.model_copy(update={"attributes": {**row.attributes, PARTS: joined}}), text="")


def _helper_row(release: Release, row: DocumentRow, *, text: str) -> DocumentRow:
    """A row whose key covers what the prompt reads, and nothing else."""
    read = {name: row.attributes.get(name) for name in release.prompt.variables if name != "text"}
    return row.model_copy(update={"text": text, "fingerprint": content_hash({"text": text, "attributes": read})})


def _with_text(row: DocumentRow, text: str) -> DocumentRow:
    return row.model_copy(update={"text": text})


def _count_of(body: bytes) -> int | None:
    try:
        count = json.loads(body).get("count")
    except (ValueError, AttributeError):
        return None
    return count if type(count) is int and 0 <= count < 2**31 else None
