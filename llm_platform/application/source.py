"""Where documents come from: a table that others write, or files."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from llm_platform.application.source_text import text_columns
from llm_platform.application.specification import Specification

FILE_COLUMNS = ("path", "text", "title", "pages", "page_starts", "media_type", "sha256", "bytes", "modified")
"""Columns of documents that are files."""


class TableRef(Specification):
    """A table that others write: a named warehouse and a table in it, or files (CSV, Parquet, JSONL): one, a folder, a
    pattern, on this machine or `s3://`."""

    warehouse: str | None = None
    table: str | None = None
    url: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        self._require_place()
        return self

    def _require_place(self) -> None:
        if self.url is not None and (self.warehouse or self.table):
            raise ValueError("give either 'url' or 'warehouse' and 'table', not both")
        if self.url is None and not (self.warehouse and self.table):
            raise ValueError("give 'url' (a CSV, Parquet or JSONL file), or 'warehouse' and 'table'")

    @property
    def address(self) -> str:
        """The place in one word, for messages and asset keys."""
        return self.url if self.url is not None else f"{self.warehouse}.{self.table}"

    @property
    def place_key(self) -> str:
        """The key of `application.yaml` that names it."""
        return "url" if self.url is not None else "table"


class Source(TableRef):
    """The table of documents.

    Attributes:
        text: The column that holds the text of a document; or several, joined by a blank line; or a template of them,
            such as `"{{ title }}: {{ body }}"`. Prompts, baseline, drift and reviewers read the same text.
        files: Instead of a table, a folder, a pattern or an `s3://` prefix of files, each one document. Its key is its
            path in there, and its columns are those of `FILE_COLUMNS`.
        overlap_minutes: Rows whose `watermark`, where it is a time, is up to so much older than the last one are read
            once more: a transaction that takes that long is seen when it is committed.
        look_minutes: The sensor looks at the source at most that often, and whenever it is notified.
        max_drop: Share of its rows that the table may lose from one look to the next; 20 rows always may. More is held
            until somebody confirms it.
        slot: Of a table in Postgres, the logical replication slot that tells which keys have changed. Nobody else reads
            it.
        publication: What the slot is read with; it has the table.
    """

    key: str
    text: str | tuple[str, ...]
    files: str | None = None
    attributes: tuple[str, ...] = ()
    watermark: str | None = None
    overlap_minutes: float = Field(default=10.0, ge=0.0, le=525_600.0)
    slot: str | None = Field(default=None, pattern=r"^[a-z0-9_]{1,63}$")
    publication: str = "llm_platform"
    look_minutes: float | None = Field(default=None, gt=0.0)
    max_drop: float = Field(default=0.2, ge=0.0, le=1.0)

    @model_validator(mode="before")
    @classmethod
    def _of_files(cls, value: Any) -> Any:
        """A file is its path and its text, unless something else is said."""
        return {"key": "path", "text": "text", **value} if isinstance(value, dict) and value.get("files") else value

    @field_validator("text", "attributes", mode="before")
    @classmethod
    def _of_a_list(cls, value: Any) -> Any:
        # Behind a validator of the whole mapping, strict reading takes no list for a tuple.
        return tuple(value) if isinstance(value, list) else value

    def _require_place(self) -> None:
        if self.slot is not None and (self.warehouse is None or self.watermark is not None):
            raise ValueError("'slot' is of a table in Postgres ('warehouse' and 'table'), and without a 'watermark'")
        if self.slot is None and "publication" in self.model_fields_set:
            raise ValueError("'publication' is what a 'slot' is read with, and there is none")
        if self.files is None:
            super()._require_place()
            return
        if self.url is not None or self.warehouse or self.table:
            raise ValueError("give either 'files' (one document each) or a table: 'url', or 'warehouse' and 'table'")
        unknown = [name for name in (*self.columns, self.watermark) if name not in (None, *FILE_COLUMNS)]
        if unknown or self.key != "path" or self.watermark is not None:
            raise ValueError(
                f"of 'files' the key is 'path', there is no watermark, and columns are {', '.join(FILE_COLUMNS)}"
            )

    @property
    def address(self) -> str:
        """The place in one word, for messages and asset keys."""
        return self.files if self.files is not None else super().address

    @property
    def place_key(self) -> str:
        """The key of `application.yaml` that names it."""
        return "files" if self.files is not None else super().place_key

    @model_serializer(mode="wrap")
    def _what_documents_are_made_of(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what only says when and whether it is read: where that changes, no document is another one."""
        left_out = {"max_drop", "overlap_minutes", "look_minutes", "slot", "publication"}
        left_out |= set() if self.files is not None else {"files"}
        return {name: value for name, value in dump(self).items() if name not in left_out}

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns that the text is made of, each once."""
        return text_columns(self.text)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that becomes part of a document, each once: key, text, attributes."""
        return tuple(dict.fromkeys((self.key, *self.text_columns, *self.attributes)))

    @property
    def optional(self) -> tuple[str, ...]:
        """Columns that writers of JSON leave out where they are null."""
        return tuple(name for name in self.columns if name not in (self.key, *self.text_columns))
