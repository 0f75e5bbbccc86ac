"""Every test runs on 8 CPU devices, with implicit promotions forbidden."""

import importlib.util
from collections.abc import Iterator

import jax
import pytest

from sublim_jax.compilation import keep_programs

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure() -> None:
    keep_programs()  # most of the time of the tests is compilation


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Forgets what a file compiled: a process of all files has more maps than Linux allows.

    The thousands of programs of the slow tests have some 65,000 maps of memory, the most that
    `vm.max_map_count` lets a process have; with the next, the compiler crashes.
    """
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("torch") is None:
        for item in items:
            if item.get_closest_marker("oracle"):
                item.add_marker(pytest.mark.skip(reason="needs the oracle extra"))
