"""Every test runs on 8 CPU devices, with implicit promotions forbidden."""

import importlib.util

import jax
import pytest

from sublim_jax.compilation import keep_programs

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config: pytest.Config) -> None:
    # Most of the time of the fast tests is compilation. The slow ones share one process, where
    # jaxlib 0.10.2 was seen to crash once, while it loaded a kept program after many others.
    if "not slow" in config.getoption("markexpr"):
        keep_programs()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("torch") is None:
        for item in items:
            if item.get_closest_marker("oracle"):
                item.add_marker(pytest.mark.skip(reason="needs the oracle extra"))
