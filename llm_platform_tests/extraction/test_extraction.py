"""Files of others: what they say, and what is done with those that are hostile."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llm_platform.extraction.kinds import DOCX, HTML, MAIL, MARKDOWN, PDF, PLAIN, FileText, is_document, media_type
from llm_platform.extraction.pool import FileReaders, ReadingLimits
from llm_platform.extraction.readers import FALLBACK
from llm_platform_tests.extraction.files import LAUGHS, docx, mail, paragraph, pdf

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def readers() -> Iterator[FileReaders]:
    with FileReaders(processes=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def small() -> Iterator[FileReaders]:
    """Little memory and little time, so that a hostile file is told soon."""
    with FileReaders(
        ReadingLimits(seconds=2, memory_bytes=400 * MEBIBYTE, file_bytes=50 * MEBIBYTE), processes=1
    ) as opened:
        yield opened


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        pytest.param(
            PDF,
            pdf(["The printer is on fire.", "Again."], title="Ticket 7"),
            FileText(b"The printer is on fire.\n\nAgain.", title="Ticket 7", pages=2, page_starts=(0, 25)),
            id="pdf",
        ),
        pytest.param(
            DOCX,
            docx(paragraph("The printer") + paragraph("is on fire &amp; loud."), title="Ticket 8", pages=1),
            FileText(b"The printer\nis on fire & loud.", title="Ticket 8", pages=1),
            id="docx",
        ),
        pytest.param(
            DOCX,
            docx("<w:p><w:del><w:r><w:t>gone</w:t></w:r></w:del><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t></w:r></w:p>"),
            FileText(b"a\tb"),
            id="docx-without-what-was-deleted",
        ),
        pytest.param(
            DOCX,
            docx(
                f'<mc:AlternateContent xmlns:mc="{FALLBACK.split()[0]}"><mc:Choice>{paragraph("box")}</mc:Choice>'
                f"<mc:Fallback>{paragraph('box')}</mc:Fallback></mc:AlternateContent>"
            ),
            FileText(b"box"),
            id="docx-with-a-text-box-that-word-writes-twice",
        ),
        pytest.param(
            HTML,
            b"<html><head><title>Ticket 9</title><style>p {}</style></head><body><h1>Printer</h1><p>It is\n on "
            b"<b>fire</b>.</p><script>alert(1)</script><ul><li>a<li>b</ul></body></html>",
            FileText(b"Printer\n\nIt is on fire.\n\na\nb", title="Ticket 9"),
            id="html",
        ),
        pytest.param(
            HTML,
            '<meta charset="iso-8859-1"><p>caf\u00e9</p>'.encode("latin-1"),
            FileText("caf\u00e9".encode()),
            id="html-latin",
        ),
        pytest.param(
            MAIL, mail("Fire!", "The printer burns.\n"), FileText(b"The printer burns.", title="Fire!"), id="mail"
        ),
        pytest.param(
            MAIL, mail("Fire!", None, "<p>It <b>burns</b>.</p>"), FileText(b"It burns.", title="Fire!"), id="mail-html"
        ),
        pytest.param(
            MARKDOWN,
            b"\xef\xbb\xbf# Ticket 10\n\nIt burns.\n",
            FileText(b"# Ticket 10\n\nIt burns.\n", "Ticket 10"),
            id="markdown",
        ),
        pytest.param(PLAIN, b"caf\xe9", FileText(b"caf\xe9"), id="plain-whose-bytes-are-judged-later"),
        pytest.param(PLAIN, "caf\u00e9".encode("utf-16"), FileText("caf\u00e9".encode()), id="plain-utf-16"),
        pytest.param(PLAIN, b"", FileText(b""), id="plain-empty"),
    ],
)
def test_a_file_says_what_a_person_reads_in_it(
    readers: FileReaders, kind: str, data: bytes, expected: FileText
) -> None:
    """What is sent to a model is this text, and nothing that a reader of the file does not see."""
    assert readers.read(data, kind) == expected


def encrypted_zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        packed.writestr("other.xml", "x")
    return made.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        pytest.param(PDF, b"<html>sign in</html>", "it is no PDF, though its name says so", id="page-named-pdf"),
        pytest.param(PDF, b"%PDF-1.4\n garbage", "the PDF is damaged", id="pdf-damaged"),
        pytest.param(PDF, pdf([""] * 3), "its 3 pages have no text: they are pictures", id="pdf-scanned"),
        pytest.param(DOCX, b"PK\x03\x04 garbage", "the DOCX is damaged", id="docx-damaged"),
        pytest.param(DOCX, encrypted_zip(), "it is no DOCX", id="docx-other-zip"),
        pytest.param(DOCX, b"\xd0\xcf\x11\xe0rest", "it is protected, or of an older Word", id="doc"),
        pytest.param(DOCX, docx(paragraph("x"))[:-40], "the DOCX is damaged", id="docx-cut"),
        pytest.param(DOCX, docx("<w:p>"), "the DOCX is damaged", id="docx-no-xml"),
        pytest.param(MAIL, b"no header at all\n", "it is no mail with a text", id="no-mail"),
        pytest.param(HTML, b"GIF89a\0\0\0", "it is no text", id="picture-named-html"),
        pytest.param(PLAIN, b"\x7fELF\2\1\1\0", "it is no text", id="program-named-txt"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_reason(
    readers: FileReaders, kind: str, data: bytes, said: str
) -> None:
    """One broken file of thousands is a line in a table, and not the end of a run."""
    found = readers.read(data, kind)

    assert found.text is None
    assert (found.refused or "").startswith(said)


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        pytest.param(DOCX, lambda: docx(paragraph("&j;"), before=LAUGHS), "declares entities", id="billion-laughs"),
        pytest.param(
            DOCX,
            lambda: docx("".join([paragraph("a" * MEBIBYTE)] * 256)),
            "unpacks to more than 200 MB|million characters|MB of memory",
            id="zip-bomb",
        ),
        pytest.param(
            PDF,
            lambda: pdf(["x"], content=zlib.compress(b" " * (500 * MEBIBYTE))),
            "MB of memory|of CPU|no text",
            id="pdf-bomb",
        ),
        pytest.param(
            PDF,
            lambda: pdf(["x"] * 4, content=zlib.compress(b"BT /F1 12 Tf (aaaaaaaa) Tj ET\n" * 2_000_000)),
            "of CPU|MB of memory|million characters",
            id="pdf-that-takes-for-ever",
        ),
        pytest.param(PDF, lambda: pdf(["x"], kids="2 0 R " * 1000), "", id="pdf-of-endless-pages"),
        pytest.param(HTML, lambda: b"<div>" * 2_000_000 + b"<p", "|of CPU|MB of memory", id="html-nested"),
        pytest.param(
            MAIL,
            lambda: b"Subject: a\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n" * 10**6,
            "",
            id="mail",
        ),
        pytest.param(PLAIN, lambda: b"a" * (51 * MEBIBYTE), "larger than 52 MB", id="large"),
        pytest.param(PLAIN, lambda: b"a" * (30 * MEBIBYTE), "more than 20 million characters", id="long"),
    ],
)
def test_a_hostile_file_costs_its_limit_and_nothing_else(
    small: FileReaders, kind: str, data: Callable[[], bytes], said: str
) -> None:
    """Whoever may put a file into the folder must not be able to stop the run; the next file is read as ever."""
    # Made here, not where tests are found: every worker would make a gigabyte before its first test.
    found = small.read(data(), kind)

    assert any(part in (found.refused or "") for part in said.split("|")), found.refused
    assert small.read(b"It burns.", PLAIN) == FileText(b"It burns.")
    assert small.read(pdf(["It burns."]), PDF).text == b"It burns."


def test_the_process_that_reads_has_no_secrets_and_writes_no_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that takes over its reader should find nothing there."""
    monkeypatch.setenv("LLM_PLATFORM_NIM_API_KEY", "s3cret")

    with FileReaders(processes=1) as opened:
        opened.read(b"x", PLAIN)
        (process,) = opened._all
        environment = Path(f"/proc/{process._process.pid}/environ").read_bytes()
        limits = Path(f"/proc/{process._process.pid}/limits").read_text()
        pid = process._process.pid

    assert b"s3cret" not in environment
    assert "Max file size             0                    0" in limits
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_files_are_read_at_once_and_told_in_their_order(readers: FileReaders) -> None:
    """A folder of scans takes hours one after the other."""
    with FileReaders(processes=2) as opened:
        found = list(opened.each(range(20), lambda number: opened.read(str(number).encode(), PLAIN)))
        processes = len(opened._all)

    assert [text.text for text in found] == [str(number).encode() for number in range(20)]
    assert processes <= 2


@pytest.mark.parametrize(
    ("path", "kind", "document"),
    [
        ("a/b.PDF", PDF, True),
        ("mail.eml", MAIL, True),
        ("sheet.xlsx", None, True),
        ("~$letter.docx", DOCX, False),
        (".git/config", None, False),
        ("upload.pdf.part", None, False),
        ("Thumbs.db", None, False),
    ],
)
def test_what_a_folder_has_for_documents(path: str, kind: str | None, document: bool) -> None:
    """A kind that is not read is a refusal that somebody sees; what is no document at all is none."""
    assert (media_type(path), is_document(path)) == (kind, document)
