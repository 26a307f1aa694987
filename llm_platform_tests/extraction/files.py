"""Files as others write them, and as nobody should."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from email.message import EmailMessage

OFFICE = "http://schemas.openxmlformats.org"
CONTENT_TYPES = (
    f'<Types xmlns="{OFFICE}/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>'
    '<Override PartName="/docProps/core.xml" '
    'ContentType="application/vnd.openxmlformats-package.core-properties+xml"/></Types>'
)
MAIN = f"{OFFICE}/officeDocument/2006/relationships/officeDocument"
CORE = f"{OFFICE}/package/2006/relationships/metadata/core-properties"
RELATIONS = (
    f'<Relationships xmlns="{OFFICE}/package/2006/relationships">'
    f'<Relationship Id="r1" Type="{MAIN}" Target="word/document.xml"/>'
    f'<Relationship Id="r2" Type="{CORE}" Target="docProps/core.xml"/></Relationships>'
)
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def pdf(pages: Sequence[str], *, title: str = "", content: bytes | None = None, kids: str | None = None) -> bytes:
    """A PDF of pages, each with its lines.

    Args:
        content: Deflated content of every page instead of its lines.
        kids: What the tree of pages has for pages instead of them.
    """
    numbers = range(len(pages))
    own = " ".join(f"{5 + 2 * number} 0 R" for number in numbers)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids or own}] /Count {len(pages) if kids is None else 100_000_000} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Title ({title}) >>".encode(),
    ]
    for number, page in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {6 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        shown = " T* ".join(f"({line}) Tj" for line in page.split("\n"))
        drawn = content or zlib.compress(f"BT /F1 9 Tf 11 TL 72 740 Td {shown} ET".encode())
        objects.append(f"<< /Length {len(drawn)} /Filter /FlateDecode >>\nstream\n".encode() + drawn + b"\nendstream")
    made, places = io.BytesIO(), []
    made.write(b"%PDF-1.4\n")
    for number, one in enumerate(objects, start=1):
        places.append(made.tell())
        made.write(f"{number} 0 obj\n".encode() + one + b"\nendobj\n")
    start = made.tell()
    made.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    made.write(b"".join(f"{place:010} 00000 n \n".encode() for place in places))
    made.write(f"trailer << /Size {len(objects) + 1} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{start}\n%%EOF".encode())
    return made.getvalue()


def paragraph(text: str) -> str:
    return f'<w:p><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def docx(body: str, *, title: str = "", pages: int | None = None, before: str = "") -> bytes:
    """A DOCX with this body; `before` stands between the declaration of XML and the document."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        parts = {
            "[Content_Types].xml": CONTENT_TYPES,
            "_rels/.rels": RELATIONS,
            "word/document.xml": (f'<?xml version="1.0"?>{before}<w:document {W}><w:body>{body}</w:body></w:document>'),
            "docProps/core.xml": (
                f'<cp:coreProperties xmlns:cp="{OFFICE}/package/2006/metadata/core-properties" '
                f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></cp:coreProperties>'
            ),
        }
        if pages is not None:
            parts["docProps/app.xml"] = f'<Properties xmlns="p"><Pages>{pages}</Pages></Properties>'
        for name, part in parts.items():
            # Without the time at which it is made: the same document is the same bytes.
            packed.writestr(zipfile.ZipInfo(name), part, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def mail(subject: str, plain: str | None, html: str | None = None) -> bytes:
    """A mail with one body or both, and an attachment."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "a@example.com", "b@example.com"
    if plain is not None:
        message.set_content(plain)
        if html is not None:
            message.add_alternative(html, subtype="html")
    elif html is not None:
        message.set_content(html, subtype="html")
    message.add_attachment(b"\0\1\2", maintype="application", subtype="octet-stream", filename="scan.bin")
    return message.as_bytes()


LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]>"
)
"""A kilobyte that stands for a gigabyte."""
