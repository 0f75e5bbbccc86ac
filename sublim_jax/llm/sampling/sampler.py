"""Batched sampling: chats of any number and length in, completions out as rows finish."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from sublim_jax.errors import UserError
from sublim_jax.llm import packing
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.files import chat as chats_module
from sublim_jax.llm.files import rows as rows_module
from sublim_jax.llm.files.chat import Chat
from sublim_jax.llm.model import lora
from sublim_jax.llm.sampling import programs, scheduler
from sublim_jax.llm.sampling.scheduler import Least, Request, Sample
from sublim_jax.mesh import ROWS

_ROWS = {"cpu": 64}  # rows that decode together, by default
_ROWS_ELSEWHERE = 256
_PACK = {"cpu": 256}  # tokens of a packed row: attention over more costs a CPU more than it saves
_PACK_ELSEWHERE = 2048
# An accelerator takes as long for less; a small model on a CPU, less than its programs to compile.
_LEAST_ELSEWHERE = Least(rows=64, width=256, targets=256)
_LEAST_OF_SMALL = Least(rows=64, width=packing.LEAST_WIDTH, targets=256)
_LEAST_OF_LARGE = Least(rows=8, width=packing.LEAST_WIDTH, targets=64)
_LARGE = 2**24  # parameters


class Sampler:
    """Draws completions from a model.

    Args:
      model: a `Decoder`; its weights are read once, here.
      tokenizer: of the same checkpoint (`chat.load_tokenizer`); None to work with tokens only.
      rows: completions that decode together, at most. None: 64 on a CPU, else 256.
    """

    def __init__(self, model: Decoder, tokenizer: Any = None, rows: int | None = None):
        platform = jax.default_backend()
        self.config = model.config
        self.tokenizer = tokenizer
        self.mesh = model.mesh
        self.weights = model.pure()
        if rows is not None and rows < 1:
            raise UserError(f"rows={rows}: must be at least 1")
        self.rows = rows or _ROWS.get(platform, _ROWS_ELSEWHERE)
        self.pack_width = _PACK.get(platform, _PACK_ELSEWHERE)
        size = sum(array.size for array in jax.tree.leaves(self.weights))
        on_cpu = _LEAST_OF_LARGE if size >= _LARGE else _LEAST_OF_SMALL
        self.least = on_cpu if platform == "cpu" else _LEAST_ELSEWHERE
        self.prefills_ahead = platform != "cpu"  # whose cores are busy with decoding
        self.spread = 1 if self.mesh is None else int(np.prod([self.mesh.shape[a] for a in ROWS]))
        ends = {*model.config.eos}
        if tokenizer is not None:
            ends |= {tokenizer.eos_token_id, chats_module.end_of_turn(tokenizer)} - {None}
        self.eos = sorted(ends)
        alone = self.weights["embed"].sharding.num_devices == 1
        apart = alone and (platform == "cpu" or _has_room(self.weights))
        self.decode_weights = programs.unstacked(self.weights) if apart else self.weights

    def generate(
        self,
        chats: Sequence[Chat],
        n: int = 1,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_new_tokens: int | Sequence[int] = 64,
        seed: int = 0,
        adapter: Any = None,
        *,
        top_k: int = 0,
        system: Any = chats_module.DEFAULT,
        students: Sequence[int] | None = None,
        ids: Sequence[int] | None = None,
        logprobs: bool = False,
        progress: bool = False,
    ) -> list[Sample]:
        """Returns n completions of every chat, in order: those of the first chat first.

        A completion depends on the model, its chat, `seed`, its id and number and the settings; not
        on the other chats, their order, `rows` or the mesh (up to rounding in the last bits).

        Args:
          chats: a string (one user message) or a list of {"role", "content"} each.
          temperature: 0 takes the most likely token.
          top_p, top_k: draw among the most likely tokens only; 1 and 0 draw among all.
          max_new_tokens: of a completion, one number or one for each chat.
          adapter: one `Adapter`, or several as `lora.stack` returns them.
          system: the system message of chats without one; see `chat.messages`.
          students: the adapter of each chat, 0 to S - 1; None: the first.
          ids: an integer for each chat; None: 0, 1, ...
          logprobs: whether the tokens' log-probabilities are wanted.
          progress: whether a progress bar is shown.

        Raises:
          UserError: a bad setting, a chat that is not one, or a prompt longer than the context.
        """
        if self.tokenizer is None:
            raise UserError("this Sampler has no tokenizer: give one, or call `stream`")
        prompts = [
            chats_module.prompt_tokens(
                self.tokenizer, chats_module.messages(self.tokenizer, chat, system)
            )
            for chat in chats
        ]
        requests = make_requests(prompts, n, max_new_tokens, students, ids)
        drawn = self.stream(requests, temperature, top_p, seed, adapter, top_k, logprobs, progress)
        found = {(s.id, s.sample): s for s in drawn}
        return [found[r.id, r.sample] for r in requests]

    def stream(
        self,
        requests: Sequence[Request],
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        adapter: Any = None,
        top_k: int = 0,
        logprobs: bool = False,
        progress: bool = False,
    ) -> Iterator[Sample]:
        """Yields the sample of every request, as soon as it is drawn; settings as in `generate`."""
        if not (temperature >= 0 and 0 < top_p <= 1 and top_k >= 0):
            raise UserError(
                f"temperature={temperature}, top_p={top_p}, top_k={top_k}: temperature must be at "
                "least 0, top_p in (0, 1], top_k at least 0"
            )
        adapter = lora.tree_of(adapter)
        for r in requests:
            check(f"row {r.id}", r.prompt, (), r.student, self.config, adapter)
        if not requests:
            return
        settings = programs.Settings(
            np.float32(temperature),
            np.float32(top_p),
            np.int32(min(top_k, self.config.vocab)),
            np.array(self.eos, np.int32),
        )
        model = scheduler.Model(self.config, self.weights, self.decode_weights, adapter, self.mesh)
        batch = scheduler.Scheduler(
            model,
            requests,
            settings,
            seed,
            self.rows,
            self.pack_width,
            self.least,
            self.spread,
            logprobs,
            self.prefills_ahead,
        )
        bar = tqdm(
            total=len(requests), unit="row", disable=not progress or jax.process_index() != 0
        )
        tokens = 0
        with bar:
            for sample in batch:
                text = chats_module.text(self.tokenizer, sample.tokens) if self.tokenizer else ""
                tokens += len(sample.tokens)
                bar.update()
                rate = tokens / max(bar.format_dict["elapsed"], 1e-3)
                bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
                yield dataclasses.replace(sample, text=text)


def _has_room(weights: Any) -> bool:
    """Returns whether a device has room for the layers once more, and as much for all else."""
    (device,) = weights["embed"].devices()
    known = device.memory_stats() or {"bytes_limit": 0, "bytes_in_use": 0}
    size = sum(array.nbytes for array in jax.tree.leaves(weights["layers"]))
    free: int = known["bytes_limit"] - known["bytes_in_use"]
    return free >= 2 * size


def make_requests(
    prompts: Sequence[Sequence[int]],
    n: int = 1,
    max_new_tokens: int | Sequence[int] = 64,
    students: Sequence[int] | None = None,
    ids: Sequence[int] | None = None,
) -> list[Request]:
    """Returns n requests for each prompt; arguments as in `Sampler.generate`."""
    if isinstance(max_new_tokens, int | np.integer):
        limits: Sequence[int] = [int(max_new_tokens)] * len(prompts)
    else:
        limits = max_new_tokens
    students = [0] * len(prompts) if students is None else students
    ids = range(len(prompts)) if ids is None else ids
    if n < 1 or any(limit < 1 for limit in limits):
        raise UserError(f"n={n}, max_new_tokens={max_new_tokens}: must be at least 1")
    if not len(prompts) == len(limits) == len(students) == len(ids) == len(set(ids)):
        raise UserError(
            f"{len(prompts)} prompts, {len(limits)} limits, {len(students)} students and "
            f"{len(set(ids))} different ids: each prompt needs one"
        )
    if not all(isinstance(i, int | np.integer) and 0 <= i < 2**31 for i in ids):
        raise UserError(f"ids {list(ids)[:3]}...: each must be an integer from 0 to 2^31 - 1")
    return [
        Request(int(i), j, tuple(prompt), int(limit), int(student))
        for prompt, limit, student, i in zip(prompts, limits, students, ids, strict=True)
        for j in range(n)
    ]


def check(
    name: str,
    prompt: Sequence[int],
    completion: Sequence[int],
    student: int,
    config: Any,
    adapter: Any,
) -> None:
    """Raises `UserError` where a row's tokens or its student are none of the model's."""
    students = jax.tree.leaves(adapter)[0].shape[1] if adapter else 1
    with rows_module.named(name):
        rows_module.check(prompt, completion, config)
        if not 0 <= student < students:
            raise UserError(f"student {student}: there are {students} (0 the first)")
