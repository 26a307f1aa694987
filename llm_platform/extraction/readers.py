"""Texts from the bytes of files. Only the process of `worker` reads files of others with these."""

from __future__ import annotations

import codecs
import email
import email.policy
import io
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from email.message import EmailMessage
from html.parser import HTMLParser
from itertools import accumulate
from xml.parsers import expat

from llm_platform.extraction.kinds import DOCX, HTML, MAIL, MARKDOWN, PDF, PLAIN, FileText

MOST_CHARACTERS = 20_000_000
"""Of one text; a book has a million."""
MOST_XML_BYTES = 200_000_000
"""To which one part of a DOCX may unpack."""
FALLBACK = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
"""What Word writes a second time, for older readers: the text of a text box among it."""
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_BLOCK_NAMES = (
    "address article aside blockquote br dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header "
    "hr li main nav ol option p pre section table td th tr ul"
)
BLOCKS = frozenset(_BLOCK_NAMES.split())
"""Elements after which a line ends."""
UNSAID = frozenset(("script", "style", "template", "noscript", "head"))
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
META_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)


class RefusedError(Exception):
    """A file cannot be read; the message says why, without a word of the file."""


def read(data: bytes, kind: str) -> FileText:
    """What a file of this media type says.

    Raises:
        RefusedError: it is damaged, protected, or not what its name says.
        MemoryError: there is not enough memory for it.
    """
    return READERS[kind](data)


def _pdf(data: bytes) -> FileText:
    if b"%PDF-" not in data[:1024]:
        raise RefusedError("it is no PDF, though its name says so")
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        protected = "password" in str(error).lower()
        raise RefusedError("it is protected by a password" if protected else "the PDF is damaged") from error
    pages, left, broken = [], MOST_CHARACTERS, 0
    count = len(document)
    for number in range(count):
        try:
            page = document[number]
            text = page.get_textpage().get_text_bounded()
            page.close()
        except pypdfium2.PdfiumError:
            broken += 1
            continue
        left -= len(text)
        _require_room(left)
        pages.append(_tidy(text))
    if broken:
        raise RefusedError(f"{broken} of its {count} pages are damaged")
    joined = "\n\n".join(pages)
    text = joined.strip()
    lost = len(joined) - len(joined.lstrip())
    starts = [max(start - lost, 0) for start in accumulate((len(page) + 2 for page in pages[:-1]), initial=0)]
    if count and not text:
        raise RefusedError(f"its {count} pages have no text: they are pictures, as of a scanner. Recognize them first")
    title = _said(document.get_metadata_value("Title"))
    return FileText(text=_bytes(text), title=title, pages=count, page_starts=tuple(starts) if count else None)


def _tidy(text: str) -> str:
    """A page as it stands in a document's text, where nothing of it is changed any more: its characters are counted."""
    lines = CONTROL.sub("", unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip()


def _docx(data: bytes) -> FileText:
    if data[:4] != b"PK\x03\x04":
        old = data[:4] == b"\xd0\xcf\x11\xe0"
        raise RefusedError("it is protected, or of an older Word" if old else "it is no DOCX, though its name says so")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            names = set(packed.namelist())
            if "word/document.xml" not in names:
                raise RefusedError("it is no DOCX, though its name says so")
            text = _paragraphs(packed, "word/document.xml")
            title = _core(packed, "title") if "docProps/core.xml" in names else None
            pages = _core(packed, "Pages", part="docProps/app.xml") if "docProps/app.xml" in names else None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, expat.ExpatError) as error:
        raise RefusedError("the DOCX is damaged, or protected") from error
    return FileText(text=_bytes(text), title=title, pages=int(pages) if pages and pages.isdigit() else None)


def _parse(packed: zipfile.ZipFile, part: str, parser: expat.XMLParserType) -> None:
    """Parse a part as far as it may unpack. A document type is refused: no writer needs one, and one of a kilobyte can
    stand for gigabytes."""

    def doctype(*_: object) -> None:
        raise RefusedError("it declares entities, which no word processor does")

    parser.StartDoctypeDeclHandler = doctype
    left = MOST_XML_BYTES
    with packed.open(part) as file:
        while chunk := file.read(1 << 20):
            left -= len(chunk)
            if left < 0:
                raise RefusedError(f"it unpacks to more than {MOST_XML_BYTES // 1_000_000} MB")
            parser.Parse(chunk, False)
    parser.Parse(b"", True)


def _paragraphs(packed: zipfile.ZipFile, part: str) -> str:
    found: list[str] = []
    state = {"text": False, "left": MOST_CHARACTERS, "deleted": 0}
    marks = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
    ends = {"p": "\n", "tc": "\t", "tr": "\n"}

    def start(name: str, _: object) -> None:
        space, _, local = name.rpartition(" ")
        state["deleted"] += name == FALLBACK
        if space != WORD:
            return
        state["text"] = local == "t"
        state["deleted"] += local == "del"
        if local in marks:
            found.append(marks[local])

    def end(name: str) -> None:
        space, _, local = name.rpartition(" ")
        state["deleted"] -= name == FALLBACK
        if space == WORD:
            state["text"] = False
            state["deleted"] -= local == "del"
            if local in ends:
                found.append(ends[local])

    def said(text: str) -> None:
        if state["text"] and not state["deleted"]:
            state["left"] -= len(text)
            _require_room(state["left"])
            found.append(text)

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, said
    _parse(packed, part, parser)
    return re.sub(r"\n\t", "\t", "".join(found)).strip()


def _core(packed: zipfile.ZipFile, name: str, *, part: str = "docProps/core.xml") -> str | None:
    """The text of one property of a document."""
    found: list[str] = []
    inside = [False]

    def start(element: str, _: object) -> None:
        inside[0] = element.rpartition(" ")[2] == name

    def end(_: str) -> None:
        inside[0] = False

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = lambda text: found.append(text) if inside[0] else None
    _parse(packed, part, parser)
    return _said("".join(found))


class _Html(HTMLParser):
    """Collects what a page says; what is no text to be read is left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.title: list[str] = []
        self._unsaid: list[str] = []
        self._pre = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag == "body":
            self._unsaid.clear()
        if tag in UNSAID:
            self._unsaid.append(tag)
        self._in_title = tag == "title"
        self._pre += tag == "pre"
        if tag in BLOCKS:
            self.found.append("\n" if tag not in ("td", "th") else "\t")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unsaid:
            del self._unsaid[self._unsaid.index(tag) :]
        self._in_title = False
        self._pre -= tag == "pre" and self._pre > 0
        if tag in BLOCKS and tag not in ("td", "th", "br"):
            self.found.append("\n\n" if tag in ("p", "div", "table", "section", "article") else "\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._unsaid:
            self.found.append(data if self._pre else re.sub(r"\s+", " ", data))


def _html_text(text: str) -> FileText:
    parser = _Html()
    parser.feed(text)
    parser.close()
    said = re.sub(r"[ \t]*\n[ ]*", "\n", "".join(parser.found))
    said = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ ]{2,}", " ", said)).strip()
    return FileText(text=_bytes(said), title=_said(" ".join("".join(parser.title).split())))


def _html(data: bytes) -> FileText:
    _require_text(data)
    return _html_text(_decoded_html(data))


def _decoded_html(data: bytes) -> str:
    """As browsers do: by its mark, by what it says, in UTF-8, else in Windows-1252."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    said = META_CHARSET.search(data[:4096])
    for encoding in [*([said[1].decode()] if said else []), "utf-8-sig"]:
        try:
            return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("windows-1252", "replace")


def _mail(data: bytes) -> FileText:
    _require_text(data)
    message = email.message_from_bytes(data, policy=email.policy.default)
    if not isinstance(message, EmailMessage) or not (message.keys() and message.get_body(("plain", "html"))):
        raise RefusedError("it is no mail with a text, though its name says so")
    body = message.get_body(("plain", "html"))
    assert body is not None
    try:
        content = body.get_content()
    except (LookupError, ValueError, AssertionError) as error:
        raise RefusedError("its text is in an encoding that is not known") from error
    if not isinstance(content, str):
        raise RefusedError("its text is no text")
    title = _said(str(message["subject"])) if message["subject"] is not None else None
    made = _html_text(content) if body.get_content_type() == HTML else FileText(text=_bytes(content.strip()))
    return FileText(text=made.text, title=title)


def _markdown(data: bytes) -> FileText:
    text = _plain(data)
    heading = re.search(rb"^#\s+(.+?)\s*#*\s*$", (text.text or b"")[:10_000], re.MULTILINE)
    return FileText(text=text.text, title=_said(heading[1].decode(errors="replace")) if heading else None)


def _plain(data: bytes) -> FileText:
    """The bytes themselves: whether they are text is judged like that of a column."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise RefusedError("it is no valid UTF-16") from error
    _require_text(data)
    _require_room(MOST_CHARACTERS - len(data))
    return FileText(text=data.removeprefix(codecs.BOM_UTF8))


def _require_text(data: bytes) -> None:
    if b"\0" in data[:4096] and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise RefusedError("it is no text, though its name says so")


def _require_room(left: int) -> None:
    if left < 0:
        raise RefusedError(f"it has more than {MOST_CHARACTERS // 1_000_000} million characters")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _said(text: str | None) -> str | None:
    return (text or "").replace("\0", "").strip()[:1000] or None


READERS: dict[str, Callable[[bytes], FileText]] = {
    PDF: _pdf,
    DOCX: _docx,
    HTML: _html,
    MAIL: _mail,
    MARKDOWN: _markdown,
    PLAIN: _plain,
}
