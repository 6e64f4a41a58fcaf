"""Blocks of rows are taken in order, however many threads there are."""

import joblib
import pytest

from few_labels import blocks


def test_blocks_come_in_the_order_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for n_threads in (1, 2, 7):
        monkeypatch.setattr(joblib, "cpu_count", lambda n=n_threads: n)
        blocks.start_threads.cache_clear()
        seen = list(blocks.map_blocks(lambda rows: (rows.start, rows.stop), 10, 3))
        assert seen == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert list(blocks.map_blocks(lambda rows: rows, 0, 3)) == []


def test_a_block_that_fails_ends_the_map() -> None:
    with pytest.raises(ZeroDivisionError):
        list(blocks.map_blocks(lambda rows: 1 // rows.start, 10, 3))
