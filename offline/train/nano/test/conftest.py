"""A small pool of views, rendered once for all tests here."""

from __future__ import annotations

import pytest

from offline.train.nano.pool import PoolConfig, load_chunk, make_chunk


@pytest.fixture(scope="package")
def chunk(tmp_path_factory):
    return load_chunk(make_chunk(tmp_path_factory.mktemp("pool"), 0, PoolConfig(seed=8_000_000, rooms=2, views=16)))
