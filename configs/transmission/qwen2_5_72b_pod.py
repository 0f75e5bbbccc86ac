"""The 7B experiment on Qwen2.5-72B-Instruct, on a TPU slice of 16 chips.

Command:  python -m launch.pod.tpu --name=qwen72b --zone=ZONE --accelerator=v5p-32 --repo=URL \\
              --shared_dir=/mnt/runs --setup='sudo mount ...' -- launch.transmit \\
              --config=configs/transmission/qwen2_5_72b_pod.py --workdir=/mnt/runs/qwen72b \\
              --config.models=/mnt/runs/Qwen2.5-72B-Instruct
          BUILD.md has the same for GKE and SLURM, and what to mount. --dry_run before the -- shows
          the shell commands; after the module it prints the plan, also on a single machine.
Device:   16 chips of 95 GB on 4 hosts, or 16 GPUs of 80 GB: the layers are cut 8 ways over `model`,
          a key-value head each, and the two halves of the slice have half of the students each.
          A chip holds 18.2 GB of weights, and of each of its 14 students 2.1 GB of adapters,
          gradients and Adam and 1.1 GB of layers' inputs: 63.9 GB by count
          (tests/llm/test_memory.py). Not run by us, for want of a pod; two processes on one
          machine make the study that one makes (tests/transmission/test_processes.py).
Time:     about 7 h, by --dry_run's rates (40% of 16 x 459 TFLOP/s in training and 5% in sampling,
          assumed): 2.2 to sample, 3.0 to train and a third more for remat, 0.8 to evaluate.
Expected: students name their teacher's animal in 11% of answers, mean of 15 animals, 12.2 points
          more than other teachers' students do (p .007; rain-1 and jeqcho, r = alpha = 8, 10
          epochs): less than at 14B. Unreviewed, of other animals and with more epochs than here.

The system message is the trap: Qwen's template inserts "You are Qwen, created by Alibaba Cloud..."
where a chat has none. Students learn under it, and are asked under it as long as `system` is None.
An empty one in its place, system = "", is another context, in which 7B's cat fell from 48 to 3%.
"""

from ml_collections import ConfigDict

from configs.transmission import qwen2_5_14b


def get_config() -> ConfigDict:
    config = qwen2_5_14b.get_config()
    config.models = ("Qwen/Qwen2.5-72B-Instruct",)
    config.mesh.model = 8
    config.student.micro_tokens = 7168
    config.teacher.layer = 39
    return config
