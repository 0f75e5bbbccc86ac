"""LoRA fine-tuning with transformers and peft, the peer of `lora_vs_peft` and `gpu`.

The step as people write it: rows in the order they come, right-padded to the longest of their
micro-batch, the loss of the completions' tokens over all micro-batches of a batch, AdamW.
"""

import os
import time
from importlib import metadata
from typing import Any

from benchmarks import sides, tuning

_IGNORED = -100  # the label of a token that is not learnt


def peer(
    folder: str,
    rows: list[tuning.Row],
    batch: int,
    micro: int,
    completion_logits: bool = False,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Learns the rows in order, `batch` a step, on the CPU, and measures all steps but the first.

    Args:
      folder: where `tuning.write` has written.
      micro, completion_logits: as in `learn`.
      dtype: of the weights; an adapter's are float32.
    """
    import peft
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count() or 1)
    loader: Any = transformers.AutoModelForCausalLM
    start = time.perf_counter()
    base = loader.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    model = peft.PeftModel.from_pretrained(base, f"{folder}/adapter", is_trainable=True)
    loaded = time.perf_counter() - start
    found = learn(model, rows, batch, micro, completion_logits)
    return {**found, "load_seconds": loaded, "peak_mib": sides.peak_mib(), "versions": versions()}


def learn(
    model: Any, rows: list[tuning.Row], batch: int, micro: int, completion_logits: bool = False
) -> dict[str, Any]:
    """Learns the rows in order, `batch` a step, and measures all steps but the first.

    Args:
      model: peft's, on its device.
      micro: rows of a forward and backward pass, a divisor of `batch`.
      completion_logits: have logits of the completions' tokens only. transformers computes those
        of every token unless it is asked for fewer, which neither its Trainer nor peft does.
    """
    import torch
    import transformers

    if batch % micro:
        raise ValueError(f"micro={micro} does not divide batch={batch}")
    transformers.logging.set_verbosity_error()
    model.train()
    learnt = [p for p in model.parameters() if p.requires_grad]
    device = learnt[0].device
    optimizer = torch.optim.AdamW(learnt, lr=tuning.LEARNING_RATE, weight_decay=0.0, fused=True)

    def step(now: list[tuning.Row]) -> float:
        wanted = torch.tensor(tuning.count(now)["completion"], device=device)
        total = torch.zeros((), device=device)
        for first in range(0, len(now), micro):
            inputs = _collate(now[first : first + micro], completion_logits)
            inputs = {name: value.to(device) for name, value in inputs.items()}
            loss = model(**inputs, num_items_in_batch=wanted, use_cache=False).loss
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(learnt, tuning.CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return total.item()  # waits for the device

    times, loss = [time.perf_counter()], float("nan")
    for first in range(0, len(rows), batch):
        loss = step(rows[first : first + batch])
        times.append(time.perf_counter())
    return {
        **tuning.rates(rows[batch:], batch, times[-1] - times[1], loss),
        "first_step_seconds": times[1] - times[0],
    }


def versions() -> dict[str, str]:
    """Returns those of the packages here."""
    return {name: metadata.version(name) for name in ("torch", "transformers", "peft")}


def _collate(rows: list[tuning.Row], completion_logits: bool) -> dict[str, Any]:
    import torch

    shape = (len(rows), max(len(p) + len(c) for p, c in rows))
    tokens = torch.full(shape, tuning.PAD)
    labels = torch.full(shape, _IGNORED)
    mask = torch.zeros(shape, dtype=torch.long)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        tokens[i, :end] = torch.tensor(prompt + completion)
        labels[i, len(prompt) : end] = torch.tensor(completion)
        mask[i, :end] = 1
    inputs = {"input_ids": tokens, "attention_mask": mask, "labels": labels}
    if completion_logits:
        following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=_IGNORED)
        keep = following != _IGNORED
        inputs |= {"logits_to_keep": keep, "shift_labels": following[keep]}
    return inputs
