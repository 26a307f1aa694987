"""What a file is, by its name, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

PDF, DOCX, HTML = (
    "application/pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "text/html",
)
MAIL, MARKDOWN, PLAIN = "message/rfc822", "text/markdown", "text/plain"
MEDIA_TYPES = {
    ".pdf": PDF,
    ".docx": DOCX,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".eml": MAIL,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": PLAIN,
    ".text": PLAIN,
}
UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".filepart")
"""Endings of files that somebody is still writing."""
OFFICE_LOCK, SYSTEM_FILES = "~$", ("thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class FileText:
    """What was read of a file.

    Attributes:
        text: As bytes, which need not be UTF-8 where the file is a plain text.
        refused: Why there is no text; None where there is.
        page_starts: Of a file with pages, at which character of its text each begins.
    """

    text: bytes | None = None
    title: str | None = None
    pages: int | None = None
    refused: str | None = None
    page_starts: tuple[int, ...] | None = None


def media_type(path: str) -> str | None:
    """What a file is, by the ending of its name; None where files of its kind are not read."""
    return MEDIA_TYPES.get(PurePosixPath(path).suffix.lower())


def is_document(path: str) -> bool:
    """Whether a file is a document: what is hidden, half written, or of the operating system is none."""
    parts = PurePosixPath(path).parts
    name = parts[-1].lower()
    hidden = any(part.startswith(".") for part in parts)
    return not (hidden or name.startswith(OFFICE_LOCK) or name.endswith(UNFINISHED) or name in SYSTEM_FILES)
