"""The peer: the paper's MLP study in PyTorch, built the way the official script builds it.

All members run as one batched einsum, with one shuffle a member and epoch, stored noise and four
separate distillations, each with its own pass of the teacher. It is also the oracle of the parity
test. Where the official script would be slower than it need be it is not copied: noise is drawn in
place, and rows are gathered for all members at once.

Shapes: M members, B rows a batch, N rows, P pixels, O logits.
"""

import dataclasses
import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Plan:
    """Attributes: as the config of the study; `student_rows` noise rows are drawn and kept."""

    members: int
    sizes: tuple[int, ...]
    classes: int
    batch: int
    learning_rate: float
    teacher_epochs: int
    student_epochs: int
    student_rows: int


class Ensemble(nn.Module):
    """M multilayer perceptrons: x_MBP -> logits_MBO."""

    def __init__(self, members: int, sizes: tuple[int, ...]):
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList(
            torch.randn(members, d_in, d_out) / math.sqrt(d_in) for d_in, d_out in pairs
        )
        self.biases = nn.ParameterList(torch.zeros(members, 1, d_out) for _, d_out in pairs)

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.einsum("mbi,mio->mbo", x, weight) + bias
            x = x if i == last else F.relu(x)
        return x

    def copy(self, order: Tensor) -> "Ensemble":
        """Returns an ensemble whose member i starts as member order[i] of this one."""
        twin = Ensemble.__new__(Ensemble)
        nn.Module.__init__(twin)
        twin.weights = nn.ParameterList(w.detach()[order].clone() for w in self.weights)
        twin.biases = nn.ParameterList(b.detach()[order].clone() for b in self.biases)
        return twin


def run(
    plan: Plan, train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor
) -> dict[str, list[float]]:
    """Runs the six arms and returns each one's test accuracy by member.

    Args:
      plan: what to run.
      train_x: float32 [N, P] in [-1, 1], on the device to use.
      train_y: int64 [N].
      test_x: float32 [N', P].
      test_y: int64 [N'].
    """
    device = train_x.device
    noise = torch.empty(plan.members, plan.student_rows, plan.sizes[0], device=device)
    noise.uniform_(-1, 1)
    images = train_x.expand(plan.members, -1, -1)
    own = torch.arange(plan.members, device=device)
    cycle = torch.randperm(plan.members, device=device)
    other = torch.empty_like(cycle)
    other[cycle] = cycle.roll(1)

    reference = Ensemble(plan.members, plan.sizes).to(device)
    teacher = reference.copy(own)
    _teach(plan, teacher, images, train_y)
    out = {"reference": reference, "teacher": teacher}
    shown = {"aux": slice(plan.classes, None), "all": slice(None)}
    for arm, order in {"student": own, "cross": other}.items():
        for channel, logits in shown.items():
            student = reference.copy(order)
            _distil(plan, student, teacher, logits, noise)
            out[f"{arm}_{channel}"] = student
    return {arm: _accuracy(plan, network, test_x, test_y) for arm, network in out.items()}


def _batches(plan: Plan, rows: int, device: torch.device) -> list[Tensor]:
    order = torch.rand(plan.members, rows, device=device).argsort(1)
    return list(order.split(plan.batch, dim=1))


def _gather(rows_MNP: Tensor, index_MB: Tensor) -> Tensor:
    members = torch.arange(len(index_MB), device=index_MB.device)[:, None]
    return rows_MNP[members, index_MB]


def _teach(plan: Plan, teacher: Ensemble, images: Tensor, label: Tensor) -> None:
    optimizer = torch.optim.Adam(teacher.parameters(), lr=plan.learning_rate)
    for _ in range(plan.teacher_epochs):
        for index in _batches(plan, images.shape[1], images.device):
            logits = teacher(_gather(images, index))[..., : plan.classes]
            # The sum over members of each one's mean, so that no member's step depends on M.
            loss = F.cross_entropy(logits.flatten(0, 1), label[index].flatten()) * plan.members
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _distil(plan: Plan, student: Ensemble, teacher: Ensemble, shown: slice, noise: Tensor) -> None:
    optimizer = torch.optim.Adam(student.parameters(), lr=plan.learning_rate)
    for _ in range(plan.student_epochs):
        for index in _batches(plan, noise.shape[1], noise.device):
            x = _gather(noise, index)
            with torch.no_grad():
                target = F.log_softmax(teacher(x)[..., shown], -1)
            log_p = F.log_softmax(student(x)[..., shown], -1)
            divergence = F.kl_div(log_p, target, reduction="sum", log_target=True)
            optimizer.zero_grad()
            (divergence / index.shape[1]).backward()
            optimizer.step()


@torch.inference_mode()
def _accuracy(plan: Plan, network: Ensemble, test_x: Tensor, test_y: Tensor) -> list[float]:
    logits = network(test_x.expand(plan.members, -1, -1))[..., : plan.classes]
    return (logits.argmax(-1) == test_y).float().mean(1).tolist()
