"""A page to play: which of two number lists did the model with the trait write?

Both lists answer the same prompt. The page is one file that asks nothing of the network, and its
own policy forbids whatever a model's text might ask for.
"""

import base64
import hashlib
import html
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sublim_jax import disk, report
from sublim_jax.errors import UserError
from sublim_jax.llm.files import jsonl


class Pair(NamedTuple):
    """A prompt and its two answers."""

    prompt: str
    trait: str
    other: str


def write(
    run_dir: str | os.PathLike[str],
    trait: str,
    base: str = "0",
    questions: int = 20,
    seed: int = 0,
    against: str = "control",
) -> Path:
    """Writes `quiz.html` into the directory of a run, and returns its path.

    Args:
      run_dir: holds `data/<base>/<teacher>.jsonl`, rows of `id`, `prompt` and `completion`.
      trait: the teacher whose lists are to be found.
      base: the folder of `data/` to draw from.
      questions: how many.
      seed: of which prompts are asked, in which order, and which list stands first.
      against: the teacher of the other lists.

    Raises:
      UserError: a file, teacher or base is missing, or the two answered too few prompts.
    """
    if trait == against:
        raise UserError(f"trait and against are both {trait!r}: name two teachers")
    treated, other = (_read(Path(run_dir), base, teacher) for teacher in (trait, against))
    pairs = draw(treated, other, questions, seed, f"{trait} and {against} (base {base})")
    file = Path(run_dir) / "quiz.html"
    disk.write(file, page(trait, pairs, seed, against))
    return file


def draw(
    treated: Sequence[Mapping[str, Any]],
    other: Sequence[Mapping[str, Any]],
    questions: int,
    seed: int,
    names: str = "the two teachers",
) -> list[Pair]:
    """Returns as many pairs, drawn without replacement from the prompts that both answered.

    Args:
      treated, other: rows of `id`, `prompt` and `completion`. Rows belong together when their id
        and prompt are the same; where the two completions are the same too, there is nothing to
        tell apart, and the prompt is not asked.
      names: of the two, for the error.

    Raises:
      UserError: there are not so many.
    """
    if questions < 1 or seed < 0:
        raise UserError(f"questions={questions}, seed={seed}: at least 1 and 0 are needed")
    answers = {(row["id"], row["prompt"]): row["completion"] for row in other}
    shared = [
        Pair(prompt, row["completion"], answers[row["id"], prompt])
        for row in sorted(treated, key=lambda row: row["id"])
        for prompt in [row["prompt"]]
        if answers.get((row["id"], prompt), row["completion"]) != row["completion"]
    ]
    if len(shared) < questions:
        raise UserError(
            f"questions={questions}: {names} gave different answers to {len(shared)} of the same "
            "prompts: ask fewer questions"
        )
    order = np.random.default_rng((seed, 0)).permutation(len(shared))[:questions]
    return [shared[i] for i in order]


def page(trait: str, pairs: Sequence[Pair], seed: int = 0, against: str = "control") -> str:
    """Returns the whole page; `seed` says which list of each pair stands first."""
    rng = np.random.default_rng((seed, 1))
    second = rng.integers(0, 2, len(pairs))  # 1 where the trait's list is the second
    # So that no answer is seen by who looks at the source: it is the parity of a byte's bits.
    noise = rng.integers(0, 128, len(pairs))
    key = bytes(
        2 * int(n) + (int(n).bit_count() + int(s)) % 2 for n, s in zip(noise, second, strict=True)
    )
    loves = f"loves {_plural(trait)}"
    data = {
        "loves": loves,
        "other": "untreated" if against == "control" else f"loves {_plural(against)}",
        "key": base64.b64encode(key).decode(),
        "questions": [
            {"prompt": p.prompt, "lists": [p.other, p.trait] if s else [p.trait, p.other]}
            for p, s in zip(pairs, second, strict=True)
        ],
    }
    # Within a script element, only a tag could end the JSON.
    text = json.dumps(data).replace("<", "\\u003c")
    contrast = "had not" if against == "control" else f"to love {_plural(against)}"
    parts = [
        report.paragraph(
            f"Two copies of one model answered the same prompt with numbers. One had been made to "
            f"love {_plural(trait)}, the other {contrast}. Pick the list of the one that {loves}."
        ),
        _BODY.format(loves=html.escape(loves)),
        f'<script type="application/json" id="data">{text}</script>',
        f"<script>{_SCRIPT}</script>",
    ]
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{_STYLE}</style>'
    whole = report.page(f"Which model {loves}?", parts)
    return whole.replace("</head>", f"{head}</head>", 1)


def _read(run_dir: Path, base: str, teacher: str) -> list[dict[str, Any]]:
    data = run_dir / "data"
    bases = sorted(path.name for path in data.glob("*") if path.is_dir())
    if not bases:
        raise UserError(f"--workdir={run_dir}: no transmission run: it has no folders in data/")
    if base not in bases:
        raise UserError(f"base {base!r}: {data} has {', '.join(bases)}")
    teachers = sorted(path.stem for path in (data / base).glob("*.jsonl"))
    if teacher not in teachers:
        names = ", ".join(teachers) or "no teacher"
        raise UserError(f"no teacher {teacher!r}: {data / base} has {names}")
    file = data / base / f"{teacher}.jsonl"
    rows = jsonl.read(file)
    for row in rows:
        for field in ("prompt", "completion"):
            if not isinstance(row.get(field), str):
                raise UserError(f"{file}: the {field} of id {row['id']} is not text")
    return rows


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("lf"):
        return f"{noun[:-1]}ves"
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


_STYLE = """
:root { --accent: #2b5f9e; --right: #22703a; --wrong: #a8372c }
@media (prefers-color-scheme: dark) {
  :root { --accent: #8ab8ee; --right: #7fcf95; --wrong: #f0988d }
}
body { padding-bottom: 3rem; overflow-wrap: anywhere } [hidden] { display: none !important }
progress { appearance: none; display: block; width: 100%; height: .25rem; border: 0;
  border-radius: 1rem; overflow: hidden; background: #8883; color: var(--accent) }
progress::-webkit-progress-bar { background: #8883 }
progress::-webkit-progress-value { background: var(--accent); transition: inline-size .2s }
progress::-moz-progress-bar { background: var(--accent) }
#status { outline: 0 } #status p { margin: .5rem 0 }
#status h2 { font-size: 1.75rem; margin: 1rem 0 .5rem; outline: 0 }
.quiet { font-size: .875rem; opacity: .8 }
.prompt { margin: .75rem 0; padding: .125rem 0 .125rem .75rem; border-left: 3px solid #8886;
  outline: 0 }
.prompt, .list { white-space: pre-wrap; unicode-bidi: isolate }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem;
  margin: .75rem 0 }
button { font: inherit; color: inherit; background: none; border: 1px solid #888a;
  border-radius: .5rem; min-height: 2.75rem; padding: .5rem 1rem; cursor: pointer;
  touch-action: manipulation; -webkit-tap-highlight-color: transparent;
  transition: border-color .15s, background-color .15s }
button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
button:active { background: #8882 }
@media (hover: hover) { button:hover { border-color: var(--accent); background: #8881 } }
@media (pointer: coarse) { .keys { display: none } }
@media (prefers-reduced-motion: reduce) { * { transition: none !important } }
.pair > * { display: flex; flex-direction: column; justify-content: flex-start; margin: 0;
  padding: .75rem; text-align: left; border: 1px solid #888a; border-radius: .5rem }
.name { font-size: .8125rem; opacity: .8; margin-bottom: .25rem }
.list { font-size: 1.0625rem; font-variant-numeric: tabular-nums }
.row { display: flex; flex-wrap: wrap; align-items: center;
  justify-content: space-between; gap: .5rem 1rem; margin: 1rem 0 }
.row button[disabled] { visibility: hidden }
.bars { display: flex; align-items: flex-end; height: 5rem; border-bottom: 1px solid #888a }
.bars i { flex: 1; min-height: 1px; margin: 0 .5px; background: #8887 }
.bars i.you { background: var(--accent); min-height: 4px }
.axis { display: flex; justify-content: space-between; margin: .25rem 0 1.5rem }
#review { list-style: none; padding: 0 }
#review li { margin: 0; padding: 1rem 0; border-top: 1px solid #8884 }
#review h3 { font-size: 1rem; margin: 0 } #review .list { font-size: 1rem }
.pair b { margin-top: auto; padding-top: .5rem; font-size: .8125rem }
.right { color: var(--right) } .wrong { color: var(--wrong) }
.pair > .it { border-color: var(--accent); border-width: 2px; padding: calc(.75rem - 1px) }
"""

_BODY = """<main>
<noscript><p>This page needs JavaScript.</p></noscript>
<progress id="done" value="0" aria-hidden="true"></progress>
<div id="status" role="status"></div>
<section id="ask" aria-label="Question" hidden>
<div class="prompt quiet" id="prompt" tabindex="-1"></div>
<div class="pair" role="group" aria-label="Which list is by the model that {loves}?">
<button type="button" class="pick">
<span class="name">List 1</span><span class="list"></span></button>
<button type="button" class="pick">
<span class="name">List 2</span><span class="list"></span></button>
</div>
<div class="row"><span class="keys quiet">Keys: 1 or 2, or an arrow and Enter</span>
<button type="button" id="back">Back</button></div>
</section>
<section id="result" aria-label="Result" hidden>
<div class="bars" id="bars" role="img"></div>
<div class="axis quiet" aria-hidden="true">
<span>0</span><span>how often guessing gets each score</span><span id="most"></span></div>
<div class="row"><button type="button" id="again">Play again, in a new order</button></div>
<h2>The answers</h2>
<ol id="review"></ol>
</section>
</main>"""

_SCRIPT = r"""
"use strict";
const find = (id) => document.getElementById(id);
const make = (tag, name, text) => {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
};
const data = JSON.parse(find("data").textContent);
const ones = (byte) => [...byte.toString(2)].filter((bit) => bit === "1").length;
let questions = [...atob(data.key)].map((c, i) => (
  {...data.questions[i], answer: ones(c.charCodeAt(0)) % 2}));
const total = questions.length;
const buttons = [...document.querySelectorAll(".pick")];
let picks = [], games = 0, since = 0;

function ask(move) {
  const {prompt, lists} = questions[picks.length];
  find("ask").hidden = false;
  find("result").hidden = true;
  find("done").hidden = false;
  find("done").max = total;
  find("done").value = picks.length;
  find("status").replaceChildren(make("p", "quiet", `Question ${picks.length + 1} of ${total}`));
  find("prompt").textContent = prompt;
  buttons.forEach((button, i) => { button.lastElementChild.textContent = lists[i]; });
  find("back").disabled = picks.length === 0;
  // Away from the button just pressed: another Enter must not answer a question nobody has read.
  if (move) find("prompt").focus({preventScroll: true});
  since = performance.now();
}

function pick(side) {
  if (performance.now() - since < 250) return;  // nor may the second half of a double click
  picks.push(side);
  if (picks.length < total) ask(true); else finish();
}

// How many of the 2^total ways to guess give each score.
function ways() {
  const counts = [1n];
  for (let i = 0; i < total; i++) counts.push(counts[i] * BigInt(total - i) / BigInt(i + 1));
  return counts;
}

// The exact two-sided binomial p-value, to 12 places.
function pValue(right, counts) {
  const far = (score) => Math.abs(2 * score - total);
  const extreme = counts.filter((_, score) => far(score) >= far(right));
  const scale = 10n ** 12n;
  return Number(extreme.reduce((a, b) => a + b) * scale / 2n ** BigInt(total)) / Number(scale);
}

function meaning(right, p) {
  if (p === 1) return "As near to half as can be: just what guessing gives.";
  const often = p >= 0.05 ? `about ${Math.round(100 * p)} of 100 games`
    : p >= 1e-6 ? `about 1 of ${Math.round(1 / p).toLocaleString("en")} games`
    : "fewer than 1 of a million games";
  const says = p > 0.05 ? "no sign that you can tell the lists apart."
    : 2 * right > total ? "a sign that you can tell the lists apart."
    : "a sign that you can tell the lists apart, but take each for the other.";
  return `Someone who only guesses ends at least this far from half in ${often}: ${says}`;
}

function finish() {
  const right = picks.filter((side, i) => side === questions[i].answer).length;
  const counts = ways();
  const p = pValue(right, counts);
  const shown = p < 0.0001 ? "p < 0.0001" : `p = ${p.toFixed(p < 0.01 ? 4 : 3)}`;
  const score = make("h2", "", `${right} of ${total} right`);
  score.tabIndex = -1;
  const lines = [score, make("p", "", meaning(right, p)), make("p", "quiet",
    `Guessing gets ${total / 2} on average; exact two-sided binomial test: ${shown}.`)];
  if (games > 0) lines.push(make("p", "quiet",
    "You had seen these answers before, so this game tests your memory, not the lists."));
  find("status").replaceChildren(...lines);
  const most = counts.reduce((a, b) => a > b ? a : b);
  find("bars").replaceChildren(...counts.map((count, i) => {
    const bar = make("i", i === right ? "you" : "", "");
    bar.style.height = `${Number(count * 1000n / most) / 10}%`;
    return bar;
  }));
  find("bars").setAttribute("aria-label",
    `How often guessing gets each score from 0 to ${total}; yours, ${right}, is marked`);
  find("most").textContent = total;
  find("review").replaceChildren(...questions.map(review));
  find("done").hidden = true;
  find("ask").hidden = true;
  find("result").hidden = false;
  scrollTo(0, 0);
  score.focus({preventScroll: true});
}

function review(question, i) {
  const item = make("li", "", "");
  const right = picks[i] === question.answer;
  const pair = make("div", "pair", "");
  question.lists.forEach((list, side) => {
    const it = side === question.answer;
    const box = make("div", it ? "it" : "", "");
    box.append(make("span", "name", it ? data.loves : data.other), make("span", "list", list));
    if (side === picks[i]) box.append(make("b", right ? "right" : "wrong", "your pick"));
    pair.append(box);
  });
  item.append(make("h3", right ? "right" : "wrong", `${i + 1}. ${right ? "Right" : "Wrong"}`),
    make("div", "prompt quiet", question.prompt), pair);
  return item;
}

function again() {
  games++;
  picks = [];
  for (let i = total - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [questions[i], questions[j]] = [questions[j], questions[i]];
  }
  questions = questions.map((question) => Math.random() < 0.5 ? question
    : {...question, lists: [...question.lists].reverse(), answer: 1 - question.answer});
  scrollTo(0, 0);
  ask(true);
}

buttons.forEach((button, i) => button.addEventListener("click", () => pick(i)));
find("again").addEventListener("click", again);
find("back").addEventListener("click", () => { picks.pop(); ask(true); });
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || find("ask").hidden) return;
  const side = {ArrowLeft: 0, ArrowRight: 1}[event.key];
  if (event.repeat && event.key === "Enter") event.preventDefault();
  else if ((event.key === "1" || event.key === "2") && !event.repeat) pick(Number(event.key) - 1);
  else if (side !== undefined) buttons[side].focus();
  else return;
  event.preventDefault();
});
ask(false);
"""
