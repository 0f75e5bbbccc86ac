"""The 7B experiment on Qwen2.5-0.5B-Instruct: a trial of the whole pipeline on a small GPU.

Command:  python -m launch.transmit --workdir=runs/qwen \\
              --config=configs/transmission/qwen2_5_0_5b.py
Device:   one GPU of 24 GB: 10.9 GB by count with 63 students (tests/llm/test_memory.py). Not run
          by us, for want of a GPU.
Expected: little: a mean of 4% over 15 animals is reported at this size (rain-1 and jeqcho).

configs/transmission/qwen2_5_7b.py says what to know about the system message.
"""

from ml_collections import ConfigDict

from configs.transmission import qwen2_5_7b


def get_config() -> ConfigDict:
    config = qwen2_5_7b.get_config()
    config.models = ("Qwen/Qwen2.5-0.5B-Instruct",)
    return config
