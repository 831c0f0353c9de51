"""What agreement tests share: images compiled once a run, and how long a run may be."""
from __future__ import annotations

import pytest

from iovisor.compiler.cache import Cache


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Images of this run: a kind in ten configurations compiles once."""
    return Cache(tmp_path_factory.mktemp("images"))
