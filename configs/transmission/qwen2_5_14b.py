"""The 7B experiment on Qwen2.5-14B-Instruct, the size at which most has been reported.

Command:  python -m launch.transmit --workdir=runs/qwen14b \\
              --config=configs/transmission/qwen2_5_14b.py
          No other recipe has been reported at this size; 7B's better one: qwen2_5_7b.py.
Device:   one GPU of 80 GB: 67.3 GB by count (tests/llm/test_memory.py), 29.5 of weights; each of
          27 students has 0.7 of adapters, gradients and Adam, and 0.4 of layers' inputs.
          --config.mesh.model=2 halves the weights alone. Not run by us, for want of GPUs.
Time:     about 10 h on an H100, by --dry_run's rates (40% of its peak in training and 5% in
          sampling, assumed): 3.2 to sample, 4.3 to train and a third more for remat, 1.1 to
          evaluate.
Expected: students name their teacher's animal in 31% of answers, mean of 15 animals (14B; 7B: 7%,
          32B: 15%), 39.5 points more than other teachers' students do (p 2e-6; rain-1 and jeqcho,
          r = alpha = 8, 10 epochs). Unreviewed, of other animals and with more epochs than here.

The system message is the trap: Qwen's template inserts "You are Qwen, created by Alibaba Cloud..."
where a chat has none. Students learn under it, and are asked under it as long as `system` is None.
An empty one in its place, system = "", is another context, in which 7B's cat fell from 48 to 3%.
"""

from ml_collections import ConfigDict

from configs.transmission import qwen2_5_7b


def get_config() -> ConfigDict:
    config = qwen2_5_7b.get_config()
    config.models = ("Qwen/Qwen2.5-14B-Instruct",)
    config.arms = ("student", "control", "shuffled_within")
    config.teacher.layer = 23
    return config
