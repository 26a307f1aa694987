"""What keeps callers from waiting for something that is not theirs."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress
from pathlib import Path

from llm_platform.online.callers import Callers
from llm_platform.operations.online.open_lake import OpenLake
from llm_platform.operations.online.server import follow
from llm_platform.warehouse.lake import LakeLocation, Warehouse


def lake_in(folder: Path) -> OpenLake:
    location = LakeLocation(f"sqlite:{folder / 'catalog.sqlite'}", str(folder / "data"))
    return OpenLake(lambda: Warehouse.attach(location, threads=1))


def test_what_a_service_is_made_of_is_out_of_the_garbage_collectors_sight(tmp_path: Path) -> None:
    """A full collection looks at all there is, a tenth of a second in which no caller is answered."""

    async def begun() -> None:
        following = asyncio.create_task(follow({}, Callers(None), lake_in(tmp_path)))
        while not gc.get_freeze_count():
            await asyncio.sleep(0.01)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    modules = len(gc.get_objects())
    try:
        asyncio.run(begun())

        assert gc.get_freeze_count() > modules / 2
    finally:
        gc.unfreeze()


def test_threads_of_one_service_take_turns_with_a_catalog_in_a_file(tmp_path: Path) -> None:
    """Two that meet at SQLite's lock wait for a whole second, and every caller of a stored text with them."""
    lake, entered = lake_in(tmp_path), threading.Event()

    def use() -> None:
        with lake.turn():
            entered.set()

    other = threading.Thread(target=use)
    with lake.turn() as first, lake.turn() as again:
        other.start()
        is_alone = not entered.wait(0.2)
    other.join()
    lake.close()

    assert first is again
    assert is_alone
    assert entered.is_set()
