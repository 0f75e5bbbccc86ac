"""Many jobs as one program."""

import jax
import numpy as np
import pytest

from sublim_jax.mlp import ensemble


@pytest.mark.parametrize(("devices", "at_once"), [(8, 1), (2, 2), (1, 3)])
def test_jobs_are_spread_over_devices_and_done_at_once(monkeypatch, devices, at_once):
    sizes = []

    @jax.custom_batching.custom_vmap
    def squared(x):
        return x * x

    @squared.def_vmap
    def _(size, batched, x):
        sizes.append(size)
        return x * x, True

    monkeypatch.setattr(ensemble, "at_once", lambda jobs, mesh: at_once)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("student",))
    jobs = {"x": np.arange(5.0, dtype=np.float32)}  # not a multiple of the devices
    program = ensemble.compiled(
        lambda job, data: {"y": squared(job["x"]) + data}, jobs, np.float32(1), mesh
    )
    np.testing.assert_array_equal(program(jobs)["y"], jobs["x"] ** 2 + 1)
    fewer = {"x": np.float32([3, 4])}
    np.testing.assert_array_equal(program(fewer)["y"], [10, 17])
    assert set(sizes) <= {at_once, 5 % at_once}
    assert (at_once in sizes) == (at_once > 1)
