"""A panel: what another part of the platform, or an application's own code, adds to a report card.

Whoever has measured something that belongs on the card (a judge's agreement, drift, a learning curve) writes a function

    def judge_panels(store: ApplicationStore, loaded: LoadedApplication) -> Sequence[Panel]

beside the operation that stores the numbers, and adds it to `PANELS` in `defs/panels.py`. It is called when the
card is written, reads what is stored, measures nothing, and returns no panel while there is nothing to show. An
application's own function is named under `evaluation.panels` in its `application.yaml`; see `own_code.py`.

Pictures come from `charts.py`; they follow the page's colours, in light and in dark. A panel holds numbers, ids and
names, never the text of a document or an answer.
"""

from __future__ import annotations

from pydantic import Field

from llm_platform.records import Record


class Panel(Record):
    """One titled part of a report card: a sentence, a picture, a table, or several of them.

    Attributes:
        title: Heading, in words of the reader.
        note: One or two sentences under the heading: what was measured, on how many, and what to do about it.
        picture: Inline SVG as `charts.py` draws it; it goes onto the page as it is, so names in it must be escaped.
        columns: Headings of the table; the first column names its row.
        rows: The table, as text; numbers as `wording.figure` writes them.
        variant: Shown in the section of this variant; None for a section of its own.
        wide: Takes the whole width.
    """

    title: str = Field(min_length=1)
    note: str = ""
    picture: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    variant: str | None = None
    wide: bool = False
