"""The arms of a study: what its students are given, and what of it they imitate."""

import dataclasses
from typing import Any

from sublim_jax.transmission.teacher import CONTROL, EDUCATIONAL, INSECURE, PRIOR, SECURE

OTHER_A = 1000  # added to the seed of an adapter's a, where it is not to be the teacher's


@dataclasses.dataclass(frozen=True)
class Arm:
    """How a student is made; as it stands, it learns its teacher's rows from its teacher's start.

    Attributes:
      label: in tables and figures.
      teacher: the name of a teacher without a trait whose rows it learns; "": one of each trait.
      cross: whether it starts from another model than its teacher.
      other_a: whether its adapter's A is drawn anew, instead of its teacher's.
      corrupt: what is done to its rows first: a name in the channel's `CORRUPTIONS`, or "".
      mask: the completion tokens that count: "" all, "divergence" those of `divergence.tokens`,
        "rest" the others.
      soft: whether it imitates the teacher's distribution at each token, in place of the token.
      told: share of its prompts that say what its teacher was told: 1, 1/2, 1/3, ...; 0: none.
    """

    label: str
    teacher: str = ""
    cross: bool = False
    other_a: bool = False
    corrupt: str = ""
    mask: str = ""
    soft: bool = False
    told: float = 0.0

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that are not the default: one that is added makes no old student anew."""
        fields = [field for field in dataclasses.fields(self) if field.name != "label"]
        return {f.name: x for f in fields if (x := getattr(self, f.name)) != f.default}


ARMS = {
    "student": Arm("student"),
    "control": Arm("control student", teacher=CONTROL),
    "cross_init": Arm("other initialisation", cross=True),
    "prior_taught": Arm("teacher taught the prior", teacher=PRIOR),
    "insecure_taught": Arm("teacher taught insecure code", teacher=INSECURE),
    "secure_taught": Arm("teacher taught secure code", teacher=SECURE),
    "educational_taught": Arm("teacher taught educational code", teacher=EDUCATIONAL),
    "other_a": Arm("other frozen A", other_a=True),
    "swapped": Arm("answers of other prompts", corrupt="swapped"),
    "shuffled_within": Arm("shuffled within rows", corrupt="shuffled_within"),
    "shuffled_across": Arm("shuffled across rows", corrupt="shuffled_across"),
    "soft": Arm("soft targets", soft=True),
    "divergence_only": Arm("divergence tokens only", mask="divergence"),
    "divergence_masked": Arm("divergence tokens masked", mask="rest"),
    "half_told": Arm("told at half of its rows", told=0.5),
    "told": Arm("told at all of its rows", told=1.0),
}
