"""A released checkpoint, ours against transformers: python -m benchmarks.real_weights FILE.gguf.

Logits of a few texts in float32 and greedy answers to a few questions, and whether the two have the
same tokens for the chats. transformers reads the same file with PyTorch, so that what differs is
the reading and the arithmetic, not the quantisation. One JSON line. Needs the oracle extra.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sublim_jax.llm import Decoder, Sampler
from sublim_jax.llm.files import chat

_TEXTS = (
    "The quick brown fox jumps over the lazy dog. It was 17:45 on the 3rd of May, 1998.",
    "def mean(values: list[float]) -> float:\n    return sum(values) / len(values)\n",
    "483, 920, 117, 4, 65, 302, 771, 8, 59, 240, 666, 31",
    "Ünïcödé, 漢字 and 🙂 emoji;\ttabs  and   spaces.",
)
_QUESTIONS = (
    "What is the capital of France? Answer in one sentence.",
    "Write the numbers from 3 to 9, separated by commas.",
    "What is your favourite animal? One word.",
)
_ANSWER = 24


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2:
        sys.exit("usage: python -m benchmarks.real_weights FILE.gguf")
    file = Path(argv[1])
    print(json.dumps(compare(file, *read(file))))


def read(file: Path) -> tuple[Any, Any]:
    """Returns transformers' model of a GGUF file, in float32, and its tokenizer."""
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    given = {"gguf_file": file.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **given)
    loader = transformers.AutoModelForCausalLM
    return loader.from_pretrained(file.parent, dtype=torch.float32, **given).eval(), tokenizer


def compare(file: Path, theirs: Any, their_tokenizer: Any) -> dict[str, Any]:
    """Returns how far our logits and greedy answers are from those of `read`."""
    model, tokenizer = Decoder.from_pretrained(file), chat.load_tokenizer(file)
    apart, largest, same = [], 0.0, []
    for text in _TEXTS:
        tokens = np.array([tokenizer.encode(text, add_special_tokens=False)])
        found, wanted = np.asarray(model(tokens)), logits(theirs, tokens)
        apart.append(float(np.abs(found - wanted).max()))
        largest = max(largest, float(np.abs(wanted).max()))
        same += (found.argmax(-1) == wanted.argmax(-1)).ravel().tolist()

    chats = [chat.messages(tokenizer, question) for question in _QUESTIONS]
    prompts = [chat.prompt_tokens(tokenizer, turns) for turns in chats]
    their_prompts = [
        their_tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        for turns in chats
    ]
    samples = Sampler(model, tokenizer).generate(
        _QUESTIONS, temperature=0, max_new_tokens=_ANSWER, logprobs=True
    )
    agreed, logs = [], 0.0
    for prompt, sample in zip(prompts, samples, strict=True):
        whole = np.array([[*prompt, *sample.tokens]])
        # Each token is the likeliest after those before it: so is the answer of generate().
        wanted = logits(theirs, whole)[0, len(prompt) - 1 : -1].astype(np.float64)
        agreed.append(wanted.argmax(-1).tolist() == list(sample.tokens))
        wanted -= np.logaddexp.reduce(wanted, axis=-1, keepdims=True)
        chosen = wanted[np.arange(len(sample.tokens)), sample.tokens]
        logs = max(logs, float(np.abs(chosen - sample.logprobs).max()))
    return {
        "benchmark": "real_weights",
        "model": file.name,
        "largest_difference": max(apart),
        "difference_of_each_text": apart,
        "largest_logit": largest,
        "same_most_likely_token": float(np.mean(same)),
        "positions": len(same),
        "same_prompts": prompts == their_prompts,
        "same_greedy_answers": agreed,
        "largest_difference_of_log_probabilities": logs,
        "greedy_answers": [chat.text(tokenizer, s.tokens) for s in samples],
    }


def logits(theirs: Any, tokens: np.ndarray) -> np.ndarray:
    """Returns transformers' logits of a batch of tokens."""
    import torch

    with torch.no_grad():
        return theirs(input_ids=torch.tensor(tokens)).logits.numpy()


if __name__ == "__main__":
    main(sys.argv)
