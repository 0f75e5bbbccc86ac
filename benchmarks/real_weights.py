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
    print(json.dumps(compare(Path(argv[1]))))


def compare(file: Path) -> dict[str, Any]:
    """Returns how far our logits and greedy answers are from those of transformers."""
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    model, tokenizer = Decoder.from_pretrained(file), chat.load_tokenizer(file)
    given = {"gguf_file": file.name}
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **given)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, dtype=torch.float32, **given
    ).eval()

    apart, scale, same = [], 0.0, []
    for text in _TEXTS:
        tokens = np.array([tokenizer.encode(text, add_special_tokens=False)])
        found = np.asarray(model(tokens))
        with torch.no_grad():
            wanted = theirs(input_ids=torch.tensor(tokens)).logits.numpy()
        apart.append(float(np.abs(found - wanted).max()))
        scale = max(scale, float(np.abs(wanted).max()))
        same += (found.argmax(-1) == wanted.argmax(-1)).ravel().tolist()

    prompts = [chat.prompt_tokens(tokenizer, chat.messages(tokenizer, q)) for q in _QUESTIONS]
    their_prompts = [
        their_tokenizer.apply_chat_template(
            chat.messages(tokenizer, q), add_generation_prompt=True, return_dict=False
        )
        for q in _QUESTIONS
    ]
    samples = Sampler(model, tokenizer).generate(
        _QUESTIONS, temperature=0, max_new_tokens=_ANSWER, logprobs=True
    )
    answers = []
    for prompt in prompts:
        out = theirs.generate(
            torch.tensor([prompt]),
            max_new_tokens=_ANSWER,
            do_sample=False,
            eos_token_id=list(model.config.eos),
            pad_token_id=model.config.eos[0],
        )
        answers.append(out[0, len(prompt) :].tolist())
    return {
        "benchmark": "real_weights",
        "model": file.name,
        "largest_difference": max(apart),
        "difference_of_each_text": apart,
        "largest_logit": scale,
        "same_most_likely_token": float(np.mean(same)),
        "positions": len(same),
        "same_prompts": prompts == their_prompts,
        "same_greedy_answers": [list(s.tokens) == a for s, a in zip(samples, answers, strict=True)],
        "greedy_answers": [chat.text(tokenizer, s.tokens) for s in samples],
    }


if __name__ == "__main__":
    main(sys.argv)
