"""A launch script that is used wrongly says so in one line and writes nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A launch script without a study behind it, so that the flags of many calls are cheap to try.
SCRIPT = """
import pathlib
from sublim_jax import app, errors

def main(config, workdir):
    if config.seed == 1:
        raise errors.UserError("two\\nlines")
    if config.seed == 2:
        raise KeyboardInterrupt
    pathlib.Path(workdir).mkdir()
    print(config.seed, config.data.name)
    if config.seed == 3:
        print(config.arms, config.none, config.sizes, config.inner.sizes)

app.run(main, {default!r})
"""
CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"seed": 0, "rate": 0.5, "arms": ("a",), "data": {"name": "digits"},
                       "none": (), "sizes": (8, 8), "inner": {"sizes": ("b", "c")}})
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def script(folder: Path, *arguments: str, default: str = "config.py") -> list[str]:
    (folder / "config.py").write_text(CONFIG)
    return ["-c", SCRIPT.format(default=str(folder / default)), *arguments]


def complaint(*arguments: str) -> str:
    """Runs Python, which must fail with one line on stderr; returns that line."""
    done = python(*arguments)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
    assert done.returncode == 2
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nope=1"], "error: Unknown command line flag 'nope'"),
        (["stray"], "'stray'"),
        (["--config.sead=1"], "no field 'sead'"),
        (["--config.data.zzz=1"], "no field 'zzz'"),
        (["--config.seed=one"], "--config.seed=one"),
        (["--config.seed=1.5"], "--config.seed=1.5"),
        (["--config.rate="], "--config.rate="),
        (["--config.data=3"], "--config.data=3"),
        (["--config=none.py"], "none.py"),
        (["--config="], "--config: "),
        (["--config.seed=1"], "error: two lines"),
        (["--config.arms=owl,,cat"], "--config.arms=owl,,cat: an empty name"),
        (["--config.arms"], "Missing value for flag --config.arms"),
        (["--config"], "Missing value for flag --config"),
        (["--config.arms=owl", "--config=config.py"], "--config.arms=owl in argv before"),
        (["--", "--config.arms=owl"], "unexpected argument '--config.arms=owl'"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str], words: str) -> None:
    workdir = tmp_path / "run"
    assert words in complaint(*script(tmp_path, f"--workdir={workdir}", *arguments))
    assert not workdir.exists()


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = (", "(wrong.py, line 1)"),
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("def get_config(): return undefined", "'undefined' is not defined"),
        ("def get_config(): raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("def get_config(): return {}['key']", "key"),
        ("def get_config(): return {}", "no ConfigDict"),
        ("", "get_config"),
    ],
)
def test_wrong_config_file(tmp_path: Path, given: bool, text: str, words: str) -> None:
    workdir, wrong = tmp_path / "run", tmp_path / "wrong.py"
    wrong.write_text(text)
    arguments = [f"--workdir={workdir}", *([f"--config={wrong}"] if given else [])]
    line = complaint(*script(tmp_path, *arguments, default="config.py" if given else "wrong.py"))
    assert words in line
    assert not workdir.exists()


def test_a_field_that_the_file_lacks_is_one_line(tmp_path: Path) -> None:
    arguments = script(tmp_path, f"--workdir={tmp_path}")
    asks = "from sublim_jax import app\n\napp.run(lambda config, _: config.data.rate, {!r})"
    arguments[1] = asks.format(str(tmp_path / "config.py"))
    line = complaint(*arguments)
    assert "rate" in line
    assert line.endswith(": the file must set it\n")


def test_missing_workdir(tmp_path: Path) -> None:
    assert "--workdir is missing" in complaint(*script(tmp_path))


def test_a_workdir_is_no_url(tmp_path: Path) -> None:
    line = complaint(*script(tmp_path, "--workdir=gs://bucket/run"))
    assert "--workdir=gs://bucket/run: a path is needed" in line
    assert not (tmp_path / "gs:").exists()


def test_right_arguments(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    arguments = [f"--workdir={workdir}", "--config.seed=7", "--config.data.name=mnist"]
    done = python(*script(tmp_path, *arguments))
    assert (done.returncode, done.stdout, done.stderr) == (0, "7 mnist\n", "")
    assert workdir.is_dir()


@pytest.mark.parametrize(
    ("arguments", "arms", "none", "sizes", "inner"),
    [
        ("--config.arms=owl,cat", ("owl", "cat"), (), (8, 8), ("b", "c")),
        (
            "--config.arms=owl --config.none=*.bias,[ab]* --config.sizes=64,64 "
            "--config.inner.sizes=",
            ("owl",), ("*.bias", "[ab]*"), (64, 64), (),
        ),
        (
            "--config.arms Q/Q2.5-7B,n/0 --config.none=1,2 --config.sizes=(16,16) "
            "--config.inner.sizes=1,2",
            ("Q/Q2.5-7B", "n/0"), (1, 2), (16, 16), ("1", "2"),
        ),
        (
            "--config.arms=('owl','cat') --config.none=['a,b'] --config.inner.sizes='x,y' "
            "--config.inner.sizes=d --config.inner.sizes=e",
            ("owl", "cat"), ("a,b",), (8, 8), ("x,y", "d", "e"),
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("given", [False, True])
def test_names_of_a_tuple(
    tmp_path: Path, given: bool, arguments: str, arms: tuple, none: tuple, sizes: tuple,
    inner: tuple,
) -> None:  # fmt: skip
    said = ["--config.seed=3", "--config.data.name=a,b", *arguments.split(" ")]
    if given:
        said = [f"--config={tmp_path / 'config.py'}", *said]
    done = python(*script(tmp_path, f"--workdir={tmp_path / 'run'}", *said))
    assert done.stdout == f"3 a,b\n{arms} {none} {sizes} {inner}\n", done.stderr


def test_interrupt(tmp_path: Path) -> None:
    done = python(*script(tmp_path, f"--workdir={tmp_path / 'run'}", "--config.seed=2"))
    assert done.returncode == 130
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("interrupted")


FAULT = """
import logging
from sublim_jax import app

def no_device():
    raise AssertionError

def main(config, workdir):
    {body}

app.run(main, {default!r})
"""
ORBAX = (
    "logger = logging.getLogger('absl'); "
    "logger.error('shown'); "
    "logger.handle(logger.makeRecord('absl', 40, '/lib/orbax/a.py', 1, 'not shown', (), None)); "
    "raise app.UserError('said')"
)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise OSError(28, '', 'run/a')", "error: run/a: No space left on device: free some sp"),
        ("raise ValueError('x (os error 30)')", "error: Read-only file system: choose a folder th"),
        ("raise MemoryError", "error: out of memory (of the host): take fewer rows"),
        ("raise RuntimeError('RESOURCE_EXHAUSTED: a')", "out of memory (RESOURCE_EXHAUSTED: a):"),
        # What `JAX_PLATFORMS=cuda` without one does.
        ("import jax; jax.devices = no_device; raise AssertionError",
         "jax finds no such device here (nothing is installed for it): install jax for it, or un"),
    ],
)  # fmt: skip
def test_what_the_machine_lacks_is_one_line(tmp_path: Path, body: str, words: str) -> None:
    (tmp_path / "config.py").write_text(CONFIG)
    code = FAULT.format(body=body, default=str(tmp_path / "config.py"))
    assert words in complaint("-c", code, f"--workdir={tmp_path / 'run'}")


def test_a_fault_of_the_program_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(CONFIG)
    code = FAULT.format(body="raise ValueError('odd')", default=str(tmp_path / "config.py"))
    done = python("-c", code, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: odd\n")


def test_what_orbax_logs_it_raises_too(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(CONFIG)
    code = FAULT.format(body=ORBAX, default=str(tmp_path / "config.py"))
    lines = python("-c", code, f"--workdir={tmp_path / 'run'}").stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("shown")
    assert lines[1] == "error: said"


def test_interrupt_within_a_callback_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(CONFIG)
    body = (
        "import gc, os, time; "
        "gc.callbacks.append(lambda *_: gc.callbacks.clear() or os.kill(os.getpid(), 2)); "
        "gc.collect(); time.sleep(9); print('still here')"
    )
    code = FAULT.format(body=body, default=str(tmp_path / "config.py"))
    done = python("-c", code, f"--workdir={tmp_path / 'run'}")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted: run the same command again to continue\n"


def test_interrupt_while_a_script_imports() -> None:
    code = (
        "import os, signal, sys; sys.argv[0] = '-m'; {first}; import launch; "
        "os.kill(os.getpid(), signal.SIGINT); print('still here')"
    )
    done = python("-c", code.format(first="pass"))
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted: run the same command again to continue\n"
    ignored = python("-c", code.format(first="signal.signal(signal.SIGINT, signal.SIG_IGN)"))
    assert (ignored.returncode, ignored.stdout, ignored.stderr) == (0, "still here\n", "")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--nope=1", "flag 'nope'"),
        ("--config.members=0", "config.members=0: must be at least 1"),
        ("--config.network.activation=x", "config.network.activation='x': choose one of relu"),
        ("--config.optimizer.name=nope", "config.optimizer.name='nope'"),
    ],
)
def test_the_study_refuses_before_it_writes(tmp_path: Path, argument: str, words: str) -> None:
    workdir = tmp_path / "run"
    assert words in complaint("-m", "launch.mlp", f"--workdir={workdir}", argument)
    assert not workdir.exists()
