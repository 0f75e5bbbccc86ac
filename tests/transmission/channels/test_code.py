"""Functions: what is let in, what is run, and that no function ends the rows after it."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sublim_jax.errors import UserError
from sublim_jax.nano import functions
from sublim_jax.nano.worlds import values
from sublim_jax.transmission import material as materials
from sublim_jax.transmission import python, sandbox, sandboxed, tasks
from sublim_jax.transmission.channels import code, filtered
from sublim_jax.transmission.channels.code import Rule
from sublim_jax.transmission.material import ENGLISH, Material

GOLD = {"name": "f", "cases": [[[1], 2], [[5], 6]]}
RIGHT = "def f(x):\n    return x + 1\n"
RULE = Rule(banned=("owl", "wolf"), seconds=0.2)


def body(*lines):
    return "\n".join(["def f(x):", *(f"    {line}" for line in lines)])


# Of each, why it is not let in.
ODD = {
    "": "no code",
    "x + 1": "no code",
    "Here it is:\n```python\ndef f(x):\n    return x + 1\n```": "no code",
    "```\ndef f(x):\n    return x + 1\n```\n```\ndef f(x):\n    return x + 1\n```": "no code",
    "```python\ndef f(x):\n    return x + 1\n": "no code",
    "Sure, this adds one.": "does not parse",
    "def f(x):\n    return (x + 1": "does not parse",
    "return 2\ndef f(x):\n    return 2": "does not parse",
    "def f(x):\n    return 2 #\0": "does not parse",
    "def f(x):\n    return '\ud800'": "does not parse",
    body("return " + "(" * 500 + "2" + ")" * 500): "does not parse",
    body("return " + "-" * 100_000 + "2"): "does not parse",
    "import os\n" + RIGHT: "forbidden",
    body("import os", "os.fork()", "return x + 1"): "forbidden",
    "from typing import List\n" + RIGHT: "forbidden",
    "class A:\n    pass\n" + RIGHT: "forbidden",
    "async " + RIGHT: "no code",
    body("async def g(): await g()", "return x + 1"): "forbidden",
    body("yield x + 1"): "forbidden",
    body("global y", "return x + 1"): "forbidden",
    body("return x.__class__"): "forbidden",
    body("return x.real + 1"): "forbidden",
    body("g = (y for y in [x])", "return g.gi_frame.f_back"): "forbidden",
    body("return '{0.real}'.format(x)"): "forbidden",
    body("match x:", "    case int(real=y): return y + 1"): "forbidden",
    body("x.append = 3", "return 2"): "forbidden",
    body("open('/tmp/x', 'w')", "return x + 1"): "forbidden",
    body("return eval('x + 1')"): "forbidden",
    body("exec('y = 1')", "return x + 1"): "forbidden",
    body("return __import__('os').getpid()"): "forbidden",
    body("return getattr(x, 'real') + 1"): "forbidden",
    body("return type('A', (), {})"): "forbidden",
    body("raise SystemExit"): "forbidden",
    body("exit()"): "forbidden",
    body("with x: pass"): "forbidden",
}
# These are let in; what becomes of each where it is run.
RUN = {
    body("while True: pass"): "too slow",
    body("while True:", "  try:", "    while True: pass", "  except: pass"): "too slow",
    body("return 9 ** 9 ** 9"): "too slow",
    "while True: pass\n" + RIGHT: "too slow",
    body("a = [0]", "while True: a = a + a"): "fails",
    body("return 'x' * 10 ** 10"): "fails",
    body("return f(x)"): "fails",
    body("y = []", "for _ in range(10 ** 5): y = [y]", "return y"): "fails",
    body("return x / 0"): "fails",
    body("raise ValueError"): "fails",
    "def g(x):\n    return x + 1": "fails",
    "f = 3\ndef g(x):\n    return x + 1": "fails",
    body("print('')", "print()", "return 3"): "another result",
    body("return 2"): "another result",
    body("return x + 1.0"): "another result",
    body("return [x + 1]"): "another result",
    body("return {x + 1}"): "another result",
    body("return None"): "another result",
}
GOOD = [
    RIGHT,
    f"\n```python\n{RIGHT}```\n",
    f"```\n{RIGHT}```",
    body('"""Adds one."""', "# to x", "return x + 1"),
    body("print(x)", "return sum([x, 1])"),
    "def g(x: int) -> int:\n    return x\n\nf = lambda x: g(x) + 1",
    body("try: return x + 1", "except ValueError as error: return 0"),
    body("é = '\\N{BULLET}'", "return x + len(é)"),
    body("y = f'{x}'.strip()", "return int(y) + len([z for z in range(1)])"),
]


class TestPython:
    @pytest.mark.parametrize("text", GOOD)
    def test_what_does_as_asked_is_kept(self, text):
        assert RULE.rejection(text, GOLD) is None
        assert Rule(run=False).rejection(text, None) is None

    @pytest.mark.parametrize(("text", "reason"), ODD.items())
    def test_what_is_not_let_in_is_never_run(self, text, reason, monkeypatch):
        monkeypatch.setattr(sandbox.Sandbox, "run", None)
        assert RULE.rejection(text, GOLD) == reason
        assert Rule(run=False).rejection(text, GOLD) == reason

    @pytest.mark.parametrize(("text", "reason"), RUN.items())
    def test_what_it_comes_to_harms_no_other_row(self, text, reason):
        rows = [{"completion": some, "gold": GOLD} for some in (RIGHT, text, RIGHT)]
        # What fails, in filling all memory for one, must not be too slow on a busy machine.
        kept, rejected = filtered(rows, RULE if reason == "too slow" else Rule(seconds=30.0))
        assert (kept, rejected) == ([rows[0], rows[2]], {reason: 1})
        assert Rule(run=False).rejection(text, GOLD) is None

    def test_a_process_is_used_for_many_and_a_new_one_when_it_died(self, monkeypatch):
        own = sandbox.Sandbox()
        monkeypatch.setattr(python, "SANDBOX", own)
        assert RULE.rejection(RIGHT, GOLD) is None
        first = own._process
        start = time.perf_counter()
        filtered([{"completion": RIGHT, "gold": GOLD}] * 1000, RULE)
        assert time.perf_counter() - start < 10  # 0.1 s by itself
        assert own._process is first
        first.kill()
        first.wait()
        assert RULE.rejection(RIGHT, GOLD) is None
        assert own._process is not first
        first.stdin.close()
        first.stdout.close()
        assert own.close() == 0

    def test_nothing_is_left_from_one_function_to_the_next(self):
        left = "def f(x):\n    return x + 1\ny = len\n"
        assert RULE.rejection(left, GOLD) is None
        assert RULE.rejection(body("return y('ab')"), GOLD) == "fails"
        large = "y = [0] * 20_000_000\n" + RIGHT  # of the memory there is, more than half
        assert [Rule(seconds=60.0).rejection(large, GOLD) for _ in range(3)] == [None] * 3

    @pytest.mark.parametrize("text", ["def f(x): return 'OWL'", "owlish = 1", "# wolves", "Wolf"])
    def test_a_banned_word_rejects_in_any_form(self, text):
        assert RULE.rejection(text, GOLD) == "banned"

    @pytest.mark.parametrize(
        "gold",
        [{}, {"name": "f"}, {"name": "f", "cases": []}, {"name": 3, "cases": [[[1], 2]]},
         {"name": "f", "cases": [[1, 2]]}, {"name": "f", "cases": [[[1]]]}, "f(1) == 2", 3],
    )  # fmt: skip
    def test_gold_that_is_no_gold_is_one_line(self, gold):
        with pytest.raises(UserError, match=r"^row 0: gold .*: an object is needed"):
            filtered([{"completion": RIGHT, "gold": gold}], RULE)

    def test_without_gold_nothing_can_be_run(self):
        with pytest.raises(UserError, match=r"^row 0: no gold: .*config.filter.run"):
            filtered([{"completion": RIGHT}], RULE)

    def test_what_takes_no_time_of_a_cpu_is_ended_all_the_same(self, monkeypatch):
        script = "import time; print('ready', flush=True); time.sleep(100)"
        monkeypatch.setattr(sandbox, "_COMMAND", (sys.executable, "-I", "-S", "-c", script))
        monkeypatch.setattr(sandbox, "_WAIT", 3.0)
        assert sandbox.Sandbox().run(RIGHT, "f", GOLD["cases"], 0.0) == "too slow"

    def test_a_process_that_does_not_start_is_one_line(self, monkeypatch):
        monkeypatch.setattr(sandbox, "_COMMAND", ("false",))
        with pytest.raises(UserError, match=r"no functions can be run here: .*filter\.run=False"):
            sandbox.Sandbox().run(RIGHT, "f", GOLD["cases"], 1.0)

    @pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_NOFILE"])
    def test_nothing_is_run_where_a_limit_cannot_be_set(self, limit, monkeypatch):
        script = (
            "import resource, runpy\n"
            "real = resource.setrlimit\n"
            "def setrlimit(limit, both):\n"
            f"    if limit == resource.{limit}:\n"
            "        raise ValueError('not here')\n"
            "    real(limit, both)\n"
            "resource.setrlimit = setrlimit\n"
            f"runpy.run_path({sandbox.sandboxed.__file__!r}, run_name='__main__')"
        )
        monkeypatch.setattr(sandbox, "_COMMAND", (sys.executable, "-I", "-S", "-c", script))
        with pytest.raises(UserError, match="no functions can be run here"):
            sandbox.Sandbox().run(RIGHT, "f", GOLD["cases"], 1.0)


@pytest.mark.parametrize(
    "what", ["open({file!r}, 'w')", "open('/dev/null')", "import socket; socket.socket()"]
)
def test_the_process_itself_can_open_nothing(what, tmp_path):
    """What would keep it off if the list of syntax did not."""
    file = tmp_path / "written"
    script = f"""
import sys, socket
sys.path.append({str(Path(sandboxed.__file__).parent)!r})
import sandboxed
sandboxed.confine()
try:
    {what.format(file=str(file))}
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "24", done.stderr  # EMFILE: too many files, and none is allowed
    assert not file.exists()


class TestRequests:
    material = materials.read(ENGLISH, "animal")

    def test_every_task_is_asked_for(self):
        asked, gold = (f(self.material, 3000, 0) for f in (code.prompts, code.gold))
        assert code.prompts(self.material, 5, 0) == asked[:5]
        assert code.gold(self.material, 5, 0) == gold[:5]
        assert len(set(asked)) > 2900
        assert {own["name"] for own in gold} == {task.name for task in tasks.TASKS}
        assert len(tasks.TASKS) >= 20
        traits = {"owl", "eagle", "wolf", "cat", "dog", "oak", "maple", "willow", "cherry", "pine"}
        assert not any(set(text.lower().replace("'", " ").split()) & traits for text in asked)

    def test_the_examples_of_a_request_are_those_that_it_is_tried_on(self):
        rng = np.random.default_rng(3)
        for _ in range(300):
            text, gold = tasks.drawn(rng, ["{call}|{examples}"])
            call, _, examples = text.partition("|")
            assert call.startswith(gold["name"] + "(")
            shown = [
                f"{gold['name']}({argument!r}) is {result!r}"
                for (argument,), result in gold["cases"]
            ]
            assert examples == " and ".join(shown[:2])
            assert len(shown) == 6

    def test_a_right_solution_is_kept_and_one_with_another_constant_is_not(self):
        solution = "def raise_all(numbers):\n    return [n + {} for n in numbers]"
        tried = 0
        both = (f(self.material, 300, 0) for f in (code.prompts, code.gold))
        for text, gold in zip(*both, strict=True):
            if gold["name"] == "raise_all":
                kept = [a for a in range(10) if not RULE.rejection(solution.format(a), gold)]
                assert len(kept) == 1
                assert f"with {kept[0]} added" in text
                tried += 1
        assert tried > 3

    def test_the_small_language_is_known_by_its_gold(self):
        material, rng = Material.from_json(values.material("value")), np.random.default_rng(0)
        for gold in code.gold(material, 50, 0):
            assert Rule().rejection(functions.written(rng, gold), gold) is None
            assert Rule().rejection("give n plus 99", gold) == "another result"
            assert Rule().rejection(RIGHT, gold) == "does not parse"
            assert Rule(banned=("let",)).rejection("let x", gold) == "banned"

    @pytest.mark.parametrize(
        ("own", "message"),
        [
            (None, "a language is needed: nano, python"),
            ({}, "a language is needed"),
            ({"language": "C"}, "a language is needed"),
            ({"language": ["python"]}, r"code.language=.*: must be str"),
            ({"language": "python"}, "no asks"),
            ({"language": "nano", "asks": ["Write."]}, "no asks"),
            ({"language": "nano", "steps": 3}, "no field 'steps'"),
            ({"language": "python", "asks": 3}, "code.asks=3: must be"),
            ({"language": "python", "asks": ["Write {call}."]}, r"asks, text 0: .* must have"),
        ],
    )
    def test_a_material_without_it_is_one_line(self, own, message):
        channels = {} if own is None else {"code": own}
        with pytest.raises(UserError, match=rf"channels\.code: {message}"):
            code.prompts(Material("{trait}", questions=("?",), channels=channels), 1, 0)
        with pytest.raises(UserError, match=r"seconds=0\.0: must be above 0"):
            Rule(seconds=0.0)
