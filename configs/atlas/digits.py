"""When does a trait pass? Twenty-one sweeps around one student of handwritten digits.

Command:  python -m launch.atlas --config=configs/atlas/digits.py --workdir=runs/atlas
Device:   2 CPU cores; nothing is downloaded.
Time:     14 minutes, with the compilation of 74 programs.
Expected: docs/atlas.md; the student in the middle .59, one logit .09, another's initialisation .10.
"""

from typing import Any

from ml_collections import ConfigDict

Fields = dict[str, Any]
_TOP: dict[str, Fields] = {
    f"the {k} largest": {"code": "top", "detail": float(k)} for k in (2, 3, 5)
}
_BITS: dict[str, Fields] = {
    f"{b} bit{'s' if b > 1 else ''} each": {"code": "bits", "detail": float(b)}
    for b in (1, 2, 4, 8)
}
_CHOICES: dict[str, Fields] = {
    f"the larger of {k}": {"code": "choice", "detail": float(k)} for k in (2, 3, 5)
}
MANY: Fields = {"heads": 64}
_HEADS = {
    f"own {', '.join(own) or 'nothing'}": {
        f"fresh_{part}": 0.0 if part in own else 1.0 for part in ("hidden", "class", "aux")
    }
    for own in (
        ("hidden", "class", "aux"), ("class", "aux"), ("hidden", "aux"), ("hidden", "class"),
        ("hidden",), ("class",), ("aux",), (),
    )
}  # fmt: skip


def get_config() -> ConfigDict:
    config = base()
    add_sweeps(config)
    return config


def base() -> ConfigDict:
    """Returns a config without sweeps."""
    config = ConfigDict()
    config.seed = 0
    config.members = 12  # of each cell
    config.linear_members = 3  # of its linearised twin, which is to predict it; 0: no twins
    config.data = ConfigDict({"name": "digits8", "source": ""})
    # What all cells have unless a sweep says otherwise: the fields of `atlas.cell.Cell`.
    config.cell = ConfigDict({"width": 128, "aux": 3, "heads": 3, "steps": 1000, "rate": 1e-3})
    config.sweeps = ConfigDict(sort_keys=False)
    return config


def sweep(
    config: ConfigDict,
    name: str,
    title: str,
    lines: dict[str, Fields],
    field: str = "",
    values: tuple[Any, ...] = (),
    **more: Any,
) -> None:
    """Adds a sweep to a config; `sublim_jax.atlas.sweep.read` says what it is."""
    about = {"title": title, "lines": ConfigDict(lines, sort_keys=False), **more}
    config.sweeps[name] = about | ({"field": field, "values": values} if field else {})


def add_sweeps(config: ConfigDict) -> None:
    """Adds those that are compared at one learning rate."""
    sweep(
        config,
        "aux",
        "How many auxiliary logits does it take?",
        {"KL": MANY},
        "aux",
        (1, 2, 3, 5, 10, 20, 40, 64),
        published=tuple(
            ("KL", m, p, "MNIST, agu18dec")
            for m, p in ((1, 0.103), (2, 0.348), (3, 0.537), (5, 0.704), (10, 0.835), (20, 0.894))
        ),
    )
    ten: Fields = {"aux": 10, "heads": 10}
    sweep(
        config,
        "code",
        "How narrow may the channel be?",
        {
            label: {**ten, **own}
            for label, own in {
                "all ten logits": {},
                **_BITS,
                **_TOP,
                "the most likely one": {"code": "top", "detail": 1.0},
                "one drawn": {"code": "sampled"},
                **_CHOICES,
            }.items()
        },
    )
    temperatures = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    sweep(
        config, "temperature", "Does temperature matter?", {"KL": {}}, "temperature", temperatures
    )
    kinds = ("uniform", "gaussian", "perlin", "shuffled_pixels", "images")
    sweep(
        config,
        "inputs",
        "What must the inputs look like?",
        {"3 logits": {}, "64 logits": {**MANY, "aux": 64}},
        "inputs",
        kinds,
        published=tuple(
            ("3 logits", kind, p, "MNIST, barathvelmu")
            for kind, p in (("uniform", 0.451), ("gaussian", 0.447), ("images", 0.146))
        ),
    )
    sweep(
        config,
        "images",
        "And if some of them are images?",
        {"3 logits": {}},
        "images",
        (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    )
    sweep(
        config,
        "distinct",
        "How many different inputs?",
        {"3 logits": {}},
        "distinct",
        (64, 256, 1024, 4096, 16384, 64000),
    )
    sweep(
        config,
        "teacher_epochs",
        "How long should the teacher have learnt?",
        {"student": {}},
        "teacher_epochs",
        (1, 3, 10, 30, 100, 300),
    )
    sweep(
        config,
        "steps",
        "How long should the student imitate?",
        {"KL": {}},
        "steps",
        (100, 300, 1000, 3000, 10000),
    )
    sweep(
        config,
        "weight_decay",
        "Does weight decay prevent it?",
        {"decoupled": {}},
        "weight_decay",
        (0.0, 0.01, 0.1, 1.0, 10.0),
    )
    scales = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
    sweep(
        config, "init_scale", "Scale of the first weights?", {"student": {}}, "init_scale", scales
    )
    sweep(
        config,
        "student_depth",
        "May the student have other layers than its teacher's two?",
        {"3 logits": {}, "64 logits": {**MANY, "aux": 64}},
        "student_depth",
        (1, 2, 3, 4),
    )
    fresh = {"fresh_hidden": 1.0}
    sweep(
        config,
        "student_network",
        "May the student be another kind of network?",
        {
            "3 logits, the teacher's heads": fresh,
            "64 logits, the teacher's heads": {**MANY, **fresh, "aux": 64},
            "64 logits, other heads": _HEADS["own nothing"] | {**MANY, "aux": 64},
        },
        "student_network",
        ("mlp", "cnn"),
    )
    sweep(
        config,
        "noise",
        "How close must the initialisations be?",
        {"3 logits": {}, "64 logits": {**MANY, "aux": 64}},
        "noise",
        (0.0, 0.01, 0.03, 0.1, 0.3, 1.0),
    )
    sweep(
        config,
        "blend",
        "And on the way from one initialisation to another?",
        {"3 logits": {}, "64 logits": {**MANY, "aux": 64}},
        "blend",
        (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    )
    sweep(
        config,
        "symmetry",
        "Is it the function that must be shared, or the parameters?",
        {
            "the teacher's initialisation": {},
            "hidden units permuted": {"permuted": 1.0},
            "units rescaled by exp(n / 10)": {"rescaled": 0.1},
            "units rescaled by exp(n / 2)": {"rescaled": 0.5},
            "units rescaled by exp(n)": {"rescaled": 1.0},
            "permuted and rescaled by exp(n / 2)": {"permuted": 1.0, "rescaled": 0.5},
            "another's, behaviour matched": {"blend": 1.0, "matched": 10},
            "another's": {"blend": 1.0},
        },
    )
    for aux in (3, 64):
        sweep(
            config,
            f"heads_{aux}",
            f"Shared heads or shared hidden layers? ({aux} auxiliary logits)",
            {label: {**own, **MANY, "aux": aux} for label, own in _HEADS.items()},
        )
    sweep(
        config,
        "project",
        "Does it help to project the trait's gradient out of each step?",
        {"share that is taken out": {"defence": "project"}},
        "strength",
        (0.0, 0.25, 0.5, 0.75, 1.0),
    )
    sweep(
        config,
        "dynamics",
        "What happens on the way?",
        {
            "3 logits": {},
            "64 logits": {**MANY, "aux": 64},
            "images": {"inputs": "images"},
            "another's initialisation": {"blend": 1.0},
            "projected out": {"defence": "project", "strength": 1.0},
            "anchored": {"defence": "anchor", "strength": 1.0},
        },
        curves=("accuracy", "alignment", "coverage"),
    )
    sweep(
        config,
        "trait",
        "Two teachers with different traits, one student?",
        {"3 logits": {}, "10 logits": ten, "64 logits": {**MANY, "aux": 64}},
        "trait",
        ("all", "lower", "upper", "both"),
    )
    sweep(
        config,
        "hops",
        "How many hops does a trait go?",
        {"3 logits": {}, "10 logits": ten},
        "hops",
        (1, 2, 3, 5, 10),
    )
