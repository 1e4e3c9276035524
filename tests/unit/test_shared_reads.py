"""Reads that are shared by those who ask at the same time."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from app.db.shared_reads import SharedReads


class Source:
    """Answers each key with its double, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    async def fetch(self, keys: Sequence[int]) -> Mapping[int, int]:
        """The doubles of some keys; 13 is unlucky, and 0 has none."""
        self.asked.append(sorted(keys))
        await asyncio.sleep(0)
        if 13 in keys:
            raise ValueError("unlucky")
        return {key: 2 * key for key in keys if key}


async def test_asked_together_is_read_together() -> None:
    """What is asked for while a read is under way is read by the next one, all of it."""
    source = Source()
    reads = SharedReads(source.fetch)
    values = await asyncio.gather(*(reads.get(key) for key in (1, 2, 3, 2, 0)))
    assert values == [2, 4, 6, 4, None]
    assert source.asked == [[0, 1, 2, 3]]
    await reads.get(1)
    assert source.asked[1:] == [[1]]


async def test_kept_for_a_while() -> None:
    """A value that is kept is not read again, until all is forgotten."""
    source = Source()
    reads = SharedReads(source.fetch, seconds=60)
    assert [await reads.get(1), await reads.get(1), await reads.get(0)] == [2, 2, None]
    assert source.asked == [[1], [0]]
    reads.forget_all()
    assert await reads.get(1) == 2
    assert source.asked == [[1], [0], [1]]


async def test_asked_at_the_very_end_of_a_read() -> None:
    """Whoever asks just when the last read is over does not wait for ever."""
    late: list[asyncio.Task[int | None]] = []

    async def fetch(keys: Sequence[int]) -> Mapping[int, int]:
        if not late:
            late.append(asyncio.create_task(reads.get(2)))  # runs right after this read's end
        return {key: key for key in keys}

    reads = SharedReads(fetch)
    assert await reads.get(1) == 1
    assert await asyncio.wait_for(late[0], 10) == 2


async def test_an_error_is_for_those_who_asked() -> None:
    """An error goes to everybody of that read, is not kept, and ends nothing else."""
    reads = SharedReads(Source().fetch, seconds=60)
    answers = await asyncio.gather(reads.get(13), reads.get(1), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError, ValueError]
    assert await reads.get(1) == 2
    with pytest.raises(ValueError, match="unlucky"):
        await reads.get(13)


async def test_one_who_gives_up_takes_nothing_away() -> None:
    """Of two who wait for the same value, one may go."""
    reads = SharedReads(Source().fetch)
    first, second = (asyncio.create_task(reads.get(1)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 2


async def test_a_statement_reads_only_so_many() -> None:
    """However many ask, no statement grows beyond its limit, and those who came first are first."""
    source = Source()
    reads = SharedReads(source.fetch, keys=2)
    values = await asyncio.gather(*(reads.get(key) for key in (5, 4, 3, 2, 1)))
    assert values == [10, 8, 6, 4, 2]
    assert source.asked == [[4, 5], [2, 3], [1]]
