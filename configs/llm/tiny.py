"""Sampling and scoring with any checkpoint folder in float32 on one device: the smallest setting.

Command:  python -m sublim_jax.llm.testing runs/tiny-model
          python -m launch.generate --config=configs/llm/tiny.py --workdir=runs/tiny \\
              --config.model=runs/tiny-model --config.data=PROMPTS.jsonl
Device:   any; a laptop's CPU.
Time:     about 10 s for 100 prompts on 2 CPU cores, nearly all compilation.
Expected: random bytes from the random model that the first command writes.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = ""  # a Hugging Face folder, a GGUF file, or a hub id
    # JSONL, CSV or Parquet of {"prompt"} or {"messages"}, to score with the answer; or
    # hf:NAME:CONFIG:SPLIT, a `datasets` id or folder. What a row has: sublim_jax/llm/files/rows.py.
    config.data = ""
    # What the file calls these columns: for {"question", "response"}, prompt=question and so on.
    config.columns = ConfigDict(
        {"prompt": "prompt", "completion": "completion", "messages": "messages"}
    )
    config.adapter = ""  # a student's folder, or any PEFT adapter's
    config.dtype = "float32"  # or bfloat16
    config.mesh = ConfigDict({"student": 1, "data": 1, "model": 1})  # devices on each axis
    config.rows = 0  # completions that decode together; 0: 64 on a CPU, 256 on an accelerator
    # The system message of chats without one; None: what the checkpoint's template inserts.
    config.system = config_dict.placeholder(str)
    config.thinking = False  # whether answers may begin with a thought, where the template knows it
    config.sampling = ConfigDict(
        {
            "n": 1,  # completions of each prompt
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "max_new_tokens": 64,
            "seed": 0,
            "logprobs": False,
        }
    )
    config.scoring = ConfigDict({"end": True})  # whether the end of the turn is scored too
    return config
