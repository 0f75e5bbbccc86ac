"""A checkpoint that cannot be written is told in one line, and the earlier ones stay."""

import jax.numpy as jnp
import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm.training.checkpoints import Checkpoints

STATE = {"a": jnp.arange(3)}


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        # TensorStore's, by way of Orbax.
        ValueError("RESOURCE_EXHAUSTED: Failed writing: No space [os_error_code='28']\nmore"),
    ],
)
@pytest.mark.parametrize("method", ["save_async", "close"])
def test_a_full_disk(tmp_path, monkeypatch, error, method):
    checkpoints = Checkpoints(tmp_path / "steps")
    checkpoints.save(1, STATE)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path / "steps")

    def full(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._orbax, method, full)
        with pytest.raises(UserError) as caught:
            checkpoints.save(2, STATE) if method == "save_async" else checkpoints.close()
    assert str(caught.value) == (
        f"{tmp_path / 'steps'}: a checkpoint cannot be written: No space left on device: free "
        "some space, then run the same command again; the earlier ones are kept, and training goes "
        "on from the last"
    )
    assert checkpoints.latest() == 1
    checkpoints.close()


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    from orbax.checkpoint import v1 as ocp

    def fail(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ocp.training, "Checkpointer", fail)
    with pytest.raises(UserError, match=r"steps: Permission denied: choose a folder that can be"):
        Checkpoints(tmp_path / "steps")
