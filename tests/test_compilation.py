"""Compiled programs are kept between runs, in a folder of this kind of processor."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import compilation
from sublim_jax.mesh import constrain, in_mesh, make_mesh
from tests.test_app import ROOT, script

COMPILES = """
import jax
from sublim_jax import app
import jax.numpy as jnp

def main(config, workdir):
    jax.monitoring.register_event_listener(lambda name, **_: print(name))
    jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()

app.run(main, {default!r})
"""
HIT = "/jax/compilation_cache/cache_hits"


@pytest.fixture
def run(tmp_path, monkeypatch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    script(tmp_path)
    code = COMPILES.format(default=str(tmp_path / "config.py"))

    def launched(*arguments):
        command = [sys.executable, "-c", code, f"--workdir={tmp_path / 'run'}", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return launched


def test_what_is_compiled_is_counted_and_timed_once():
    with compilation.watched() as compiled:
        jax.jit(lambda x: jnp.cumsum(jnp.exp(x)) * 3)(np.ones(77)).block_until_ready()
    assert compiled.programs == 1
    assert compiled.seconds > 0
    jax.jit(lambda x: x * 5 - 2)(np.ones(77)).block_until_ready()
    assert compiled.programs == 1
    parts = compilation.Compiled()
    for span in ((1, 2), (0, 3), (2.5, 4), (7, 8)):  # nested, and on two threads
        parts.hear("/jax/core/compile/jaxpr_trace_duration", *span)
    assert parts.seconds == 5


@pytest.mark.parametrize("sizes", [None, (2, 2, 2)])
def test_a_program_compiled_ahead_is_there_for_its_call(sizes):
    mesh = sizes and make_mesh(*sizes)
    program = jax.jit(lambda x: constrain(jnp.sin(x) * 7, "data", None))
    with compilation.watched() as compiled, in_mesh(mesh):
        with compilation.ahead(mesh, program, np.ones((4, 3))):
            pass
        assert compiled.programs == 1
        program(np.ones((4, 3)))
    assert compiled.programs == 1


def test_what_is_not_compiled_ahead_is_for_the_call_to_say():
    with compilation.ahead(None, jax.jit(lambda x: x.none), np.ones(3)):
        pass


def test_a_second_run_takes_the_programs_of_the_first(run, tmp_path):
    assert HIT not in run()
    (folder,) = (tmp_path / "cache" / "sublim_jax").iterdir()
    assert list(folder.glob("jit__lambda*"))
    assert HIT in run()


def test_a_flag_turns_it_off(run, tmp_path):
    run("--nokeep_programs")
    assert not (tmp_path / "cache").exists()


def test_the_environment_s_folder_is_used(run, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    run()
    assert not (tmp_path / "cache").exists()
