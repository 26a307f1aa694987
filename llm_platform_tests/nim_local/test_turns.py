"""Who computes when several adapters are asked for."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from llm_platform.nim_local.turns import Turns

SLOTS = 4


async def settle() -> None:
    """Let every task run until all of them wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_one_adapter_is_served_in_order_of_arrival() -> None:
    """Without a second adapter there is nobody to take turns with."""

    async def run() -> list[int]:
        turns, order = Turns(1), list[int]()

        async def work(number: int) -> None:
            await turns.enter("a")
            order.append(number)
            await asyncio.sleep(0)
            turns.leave()

        await asyncio.gather(*(work(number) for number in range(20)))
        return order

    assert asyncio.run(run()) == list(range(20))


@pytest.mark.parametrize("seed", range(5))
def test_two_adapters_never_compute_together_and_everyone_is_served(seed: int) -> None:
    """llama.cpp makes one of them wait for as long as the other has work."""
    chance = random.Random(seed)

    async def run() -> tuple[int, int]:
        turns, running, served, most = Turns(SLOTS), Counter[str | None](), 0, 0

        async def work(adapter: str | None) -> None:
            nonlocal served, most
            await asyncio.sleep(chance.random() / 1000)
            await turns.enter(adapter)
            running[adapter] += 1
            assert [name for name, count in running.items() if count] == [adapter]
            most = max(most, running.total())
            await asyncio.sleep(chance.random() / 1000)
            running[adapter] -= 1
            served += 1
            turns.leave()

        await asyncio.gather(*(work(chance.choice([None, "a", "b"])) for _ in range(200)))
        return served, most

    served, most = asyncio.run(run())
    assert served == 200
    assert 1 < most <= SLOTS


def test_an_adapter_gets_its_turn_while_another_one_is_always_asked_for() -> None:
    """A bulk run on the base model would otherwise keep everybody else out for hours."""

    async def run() -> int:
        turns, served, over = Turns(SLOTS), 0, asyncio.Event()

        async def bulk() -> None:
            nonlocal served
            while not over.is_set():
                await turns.enter(None)
                await asyncio.sleep(0)
                served += 1
                turns.leave()

        tasks = [asyncio.create_task(bulk()) for _ in range(3 * SLOTS)]
        await settle()
        before = served
        await asyncio.wait_for(turns.enter("a"), timeout=10)
        waited = served - before
        turns.leave()
        over.set()
        await asyncio.gather(*tasks)
        return waited

    assert asyncio.run(run()) <= 8 * SLOTS


def test_who_gives_up_waiting_holds_nobody_up() -> None:
    """A client that goes away must not keep the turn that it was waiting for."""

    async def run() -> None:
        turns = Turns(1)
        await turns.enter("a")
        gone = asyncio.create_task(turns.enter("b"))
        later = asyncio.create_task(turns.enter("a"))
        await settle()
        gone.cancel()
        turns.leave()
        await asyncio.wait_for(later, timeout=10)

    asyncio.run(run())


def test_who_is_cancelled_while_being_admitted_gives_the_place_back() -> None:
    """A place that is lost is lost for as long as the server runs."""

    async def run() -> None:
        turns = Turns(1)
        await turns.enter("a")
        unlucky = asyncio.create_task(turns.enter("a"))
        await settle()
        turns.leave()
        unlucky.cancel()
        await asyncio.gather(unlucky, return_exceptions=True)
        await asyncio.wait_for(turns.enter("b"), timeout=10)

    asyncio.run(run())
