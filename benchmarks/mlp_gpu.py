"""The paper's setting on one GPU, against PyTorch on the same one: python -m benchmarks.mlp_gpu.

100 members, 5 + 5 epochs, on images of MNIST's size: `benchmarks.mlp_vs_torch` with other defaults.
Targets: ratio 10, and 10 s for the whole study after compilation. `floor_fraction` is against a
square float32 matmul at jax's default precision, which on such a card is TF32.
"""

from absl import app, flags

from benchmarks import mlp_vs_torch

if __name__ == "__main__":
    for name, value in {"device": "cuda", "members": 100, "epochs": 5}.items():
        flags.FLAGS.set_default(name, value)
    app.run(mlp_vs_torch.main)
