"""The peers' models: transformers' and peft's, with random weights made on their device."""

from typing import Any

import numpy as np

from benchmarks import tuning


def random_model(config: Any, device: str) -> Any:
    """Returns transformers' decoder of our config, in bfloat16."""
    import torch
    import transformers

    from sublim_jax.llm.model.config import to_hf

    transformers.logging.set_verbosity_error()
    given = to_hf(config, "bfloat16")
    asked = transformers.AutoConfig.for_model(given.pop("model_type"), **given)
    loader: Any = transformers.AutoModelForCausalLM
    with torch.device(device):
        return loader.from_config(asked, dtype=torch.bfloat16, attn_implementation="sdpa").eval()


def with_adapter(model: Any) -> Any:
    """Returns peft's model, with the adapter that `tuning.recipe` has."""
    import peft

    targets = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    lora = peft.LoraConfig(r=tuning.RANK, lora_alpha=tuning.RANK, target_modules=targets)
    return peft.get_peft_model(model, lora)


def generate(model: Any, rows: int, prompt: int, new: int) -> None:
    """Samples `new` tokens after each of some prompts of one length."""
    import torch

    draw = np.random.default_rng(0)
    prompts = draw.integers(1, model.config.vocab_size, (rows, prompt))
    tokens = torch.tensor(prompts, device=model.device)
    with torch.inference_mode():
        drawn = model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=new,
            min_new_tokens=new,
            pad_token_id=0,
        )
    assert drawn.cpu().shape == (rows, prompt + new)  # waits for the device
