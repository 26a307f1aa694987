"""The reports of `repair_reports` that are PDF and DOCX; as a module it writes them.

Those of other kinds are written by hand. A test holds the files against what stands here.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import llm_platform
from llm_platform_tests.extraction.files import docx, paragraph, pdf

FOLDER = Path(llm_platform.__file__).parent / "applications" / "repair_reports" / "reports"
LONG = "north/110.pdf"
"""It has a second page, and more than fits the model's context."""
BROKEN = "south/213.pdf"
"""As an upload that was cut off leaves it."""
READINGS, ON_THE_FIRST_PAGE = 70, 8
"""The first page is short enough that the text is cut within the second."""
TEXTS = {
    "north/108.pdf": """Courtyard under the gutter

        Report 108, north quarter, house 13, 28 January

        The downpipe at the corner of the courtyard has come off at the second clamp, and rain from the whole roof runs
        down the facade. The wall of the bin room is wet to the height of a man, and moss grows on it. In the cellar
        behind it the paint falls off.

        I have turned the upper end away from the wall. When it rains again, it will flow over the paving towards the
        door.""",
    "north/109.pdf": """Entrance intercom dead

        Report 109, north quarter, house 14, 2 February

        The intercom at the entrance has been dead since the thunderstorm of Sunday. Its transformer in the meter room
        hums no more and gives 0 volts instead of 12. The surge arrester beside it shows red in all its windows. Door
        openers and the antenna amplifier hang on the same circuit and do not work, either.

        The door is held open by day; tenants have been told to use their keys at night.""",
    "north/110.pdf": """Falling pressure of the pumping station

        Report 110, north quarter, pumping station, 3 February

        Tenants of the upper floors of houses 1 to 8 have had next to nothing from their taps in the mornings since the
        weekend. Pump 2 runs all the time, pump 1 starts far too often, and the pressure at the outlet falls below 3 bar
        whenever many people draw at once. In the night, when nobody does, 1.9 cubic metres an hour still flow into the
        ground somewhere between the station and house 3.

        I walked along the line and found the lawn in front of house 3 soft and warm under the frost. The main has to be
        dug up there. The readings of the station since Sunday morning follow.""",
    "north/111.docx": """Meter cabinet of house 16

        Report 111, north quarter, house 16, 4 February

        The door of the meter cabinet stands open and its lock has been forced. Two seals are gone, and a thin cable has
        been laid from the terminals in front of the meter of flat 7 through the wall.

        It sparks when the door is moved. I have put up a barrier and touched nothing. The grid operator has to be
        told.""",
    "north/112.docx": """Roof over the stairs of house 16

        Report 112, north quarter, house 16, 5 February

        After the night's rain there is a puddle on the top landing. It comes through the skylight: the seal is brittle,
        and the outlet of the flat roof beside it is clogged with leaves, so the roof stands full like a basin.

        I have cleared the outlet by hand. The seal needs a new one before the next rain.""",
    "south/202.docx": """Server room of the library

        Report 202, south quarter, house 16, 27 January

        At 03:10 the air conditioning and both racks of the library went off. The uninterruptible supply held for twelve
        minutes and then shut down. The breaker of the sub-distribution had tripped on overcurrent.

        It holds since half of the load was moved to the other phase. The breaker is from 1987, and its cable is too
        thin for what hangs on it today.""",
    "south/206.docx": """Bathroom of flat 12

        Report 206, south quarter, house 20, 2 February

        The cistern of the toilet has been running without a stop for four days, and the tenant has turned the angle
        valve as far as it goes. It does not close any more, and a drop hangs at its nut.

        Cistern, valve and seal have to be replaced. The meter of the flat counts 30 litres an hour with all taps
        closed.""",
    "south/208.pdf": """Emergency lighting of the garage

        Report 208, south quarter, house 22, 5 February

        At the monthly test 11 of 24 emergency lamps of the underground garage stayed dark. The central battery is
        charged. The lamps that fail are all behind the same relay, which clicks but does not switch, and its terminals
        are discoloured by heat.

        Until it is replaced the garage has no escape lighting on its lower level. I have written this in the fire
        log.""",
    "south/212.docx": """Sprinkler line of the archive

        Report 212, south quarter, house 30, 11 February

        A flange of the sprinkler line above shelf 9 weeps. About forty folders are damp, and the carpet squelches. The
        pump of the line starts every twenty minutes to hold its pressure.

        The line is still in service, since the archive may not be without it. The folders are drying on the tables.""",
    "south/213.pdf": """Ventilation of the kitchen

        Report 213, south quarter, house 31, 12 February

        The fan of the extractor hood runs, but nothing is drawn in any more.""",
}
"""A title, and the paragraphs of a report."""


def reading(number: int) -> str:
    """One line of a pumping station's log, half an hour after the one before."""
    hour, half = divmod(number, 2)
    draw = abs(hour % 24 - 12) % 7
    return (
        f"{hour % 24:02}:{30 * half:02}  outlet {4.2 - 0.2 * draw:.1f} bar  flow {1.9 + 2.3 * draw + half:.1f} m3/h  "
        f"pump 1 {'on' if draw > 3 else 'off'}  pump 2 on"
    )


def made() -> dict[str, bytes]:
    """Files by their path in the folder of reports."""
    files = {}
    for path, text in TEXTS.items():
        title, *paragraphs = (" ".join(one.split()) for one in text.split("\n\n"))
        if path.endswith(".docx"):
            files[path] = docx("".join(paragraph(one) for one in paragraphs), title=title)
            continue
        first = "\n\n".join(textwrap.fill(one, 100) for one in paragraphs)
        files[path] = pdf(with_readings(first) if path == LONG else [first], title=title)
    files[BROKEN] = files[BROKEN][: len(files[BROKEN]) // 2]
    return files


def with_readings(first: str) -> list[str]:
    lines = [reading(number) for number in range(READINGS)]
    return ["\n".join([first, "", *lines[:ON_THE_FIRST_PAGE]]), "\n".join(lines[ON_THE_FIRST_PAGE:])]


def write() -> None:
    """Write them where they are shipped."""
    for path, data in made().items():
        (FOLDER / path).write_bytes(data)


if __name__ == "__main__":
    write()
