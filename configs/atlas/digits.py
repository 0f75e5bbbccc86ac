"""When does a trait pass? Two dozen sweeps around one student of handwritten digits.

Command:  python -m launch.atlas --config=configs/atlas/digits.py --workdir=runs/atlas
Device:   2 CPU cores; nothing is downloaded.
Time:     20 minutes, with the compilation of 133 programs.
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
_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
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
    config = ConfigDict()
    config.seed = 0
    config.members = 12  # of each cell
    config.linear_members = 3  # of its linearised twin, which is to predict it; 0: no twins
    config.data = ConfigDict({"name": "digits8", "source": ""})
    # What all cells have unless a sweep says otherwise: the fields of `atlas.cell.Cell`.
    config.cell = ConfigDict({"width": 128, "aux": 3, "heads": 3, "steps": 1000, "rate": 1e-3})
    config.sweeps = ConfigDict(sort_keys=False)

    def sweep(
        name: str,
        title: str,
        lines: dict[str, Any],
        field: str = "",
        values: tuple[Any, ...] = (),
        published: tuple[Any, ...] = (),
        curves: tuple[str, ...] = (),
    ) -> None:
        shown = ConfigDict(lines, sort_keys=False)
        about = {"title": title, "lines": shown, "published": published, "curves": curves}
        config.sweeps[name] = about | ({"field": field, "values": values} if field else {})

    many: Fields = {"heads": 64}
    sweep(
        "aux",
        "How many auxiliary logits does it take?",
        {"KL": many, "squared error": {**many, "loss": "mse"}},
        "aux",
        (1, 2, 3, 5, 10, 20, 40, 64),
        tuple(
            ("KL", m, p, "MNIST, agu18dec")
            for m, p in ((1, 0.103), (2, 0.348), (3, 0.537), (5, 0.704), (10, 0.835), (20, 0.894))
        ),
    )
    ten: Fields = {"aux": 10, "heads": 10}
    sweep(
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
    sweep("temperature", "Does temperature matter?", {"KL": {}}, "temperature", temperatures)
    kinds = ("uniform", "gaussian", "perlin", "shuffled_pixels", "images")
    sweep(
        "inputs",
        "What must the inputs look like?",
        {"3 logits": {}, "64 logits": {**many, "aux": 64}},
        "inputs",
        kinds,
        tuple(
            ("3 logits", kind, p, "MNIST, barathvelmu")
            for kind, p in (("uniform", 0.451), ("gaussian", 0.447), ("images", 0.146))
        ),
    )
    sweep(
        "images",
        "And if some of them are images?",
        {"3 logits": {}},
        "images",
        (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    )
    sweep(
        "distinct",
        "How many different inputs?",
        {"3 logits": {}},
        "distinct",
        (64, 256, 1024, 4096, 16384, 64000),
    )
    names = {"sgd": "SGD", "momentum": "momentum", "sign_sgd": "sign of the gradient",
             "rmsprop": "RMSprop", "adam": "Adam", "muon": "Muon"}  # fmt: skip
    sweep(
        "optimizer",
        "Which optimisers transfer, at which learning rate?",
        {label: {"optimizer": name} for name, label in names.items()},
        "rate",
        _RATES,
    )
    sweep("batch", "Batch size?", {"1,000 steps": {}}, "batch", (8, 16, 32, 64, 128, 256))
    sweep(
        "teacher_epochs",
        "How long should the teacher have learnt?",
        {"student": {}},
        "teacher_epochs",
        (1, 3, 10, 30, 100, 300),
    )
    sweep(
        "steps",
        "How long should the student imitate?",
        {"KL": {}, "squared error": {"loss": "mse"}},
        "steps",
        (100, 300, 1000, 3000, 10000),
    )
    sweep(
        "weight_decay",
        "Does weight decay prevent it?",
        {"decoupled": {}},
        "weight_decay",
        (0.0, 0.01, 0.1, 1.0, 10.0),
    )
    sweep("width", "Width?", {"student": {}}, "width", (32, 64, 128, 256, 512))
    sweep("depth", "Depth?", {"student": {}}, "depth", (1, 2, 3, 4, 6))
    sweep("activation", "Activation?", {"student": {}}, "activation",
          ("relu", "gelu", "silu", "tanh"))  # fmt: skip
    scales = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
    sweep("init_scale", "Scale of the first weights?", {"student": {}}, "init_scale", scales)
    sweep(
        "student_depth",
        "May the student have other layers than its teacher's two?",
        {"3 logits": {}, "64 logits": {**many, "aux": 64}},
        "student_depth",
        (1, 2, 3, 4),
    )
    fresh = {"fresh_hidden": 1.0}
    sweep(
        "student_network",
        "May the student be another kind of network?",
        {
            "3 logits, the teacher's heads": fresh,
            "64 logits, the teacher's heads": {**many, **fresh, "aux": 64},
            "64 logits, other heads": _HEADS["own nothing"] | {**many, "aux": 64},
        },
        "student_network",
        ("mlp", "cnn"),
    )
    sweep(
        "noise",
        "How close must the initialisations be?",
        {"3 logits": {}, "64 logits": {**many, "aux": 64}},
        "noise",
        (0.0, 0.01, 0.03, 0.1, 0.3, 1.0),
    )
    sweep(
        "blend",
        "And on the way from one initialisation to another?",
        {"3 logits": {}, "64 logits": {**many, "aux": 64}},
        "blend",
        (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    )
    sweep(
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
            f"heads_{aux}",
            f"Shared heads or shared hidden layers? ({aux} auxiliary logits)",
            {label: {**own, **many, "aux": aux} for label, own in _HEADS.items()},
        )
    sweep(
        "defence",
        "What keeps the trait out: a divergence from the start?",
        {name: {"defence": name} for name in ("liminal", "anchor")},
        "strength",
        (0.1, 1.0, 10.0, 100.0),
    )
    sweep(
        "project",
        "Or the trait's gradient projected out of each step?",
        {"share that is taken out": {"defence": "project"}},
        "strength",
        (0.0, 0.25, 0.5, 0.75, 1.0),
    )
    sweep(
        "dynamics",
        "What happens on the way?",
        {
            "3 logits": {},
            "64 logits": {**many, "aux": 64},
            "images": {"inputs": "images"},
            "another's initialisation": {"blend": 1.0},
            "projected out": {"defence": "project", "strength": 1.0},
            "anchored": {"defence": "anchor", "strength": 1.0},
        },
        curves=("accuracy", "alignment", "coverage"),
    )
    sweep(
        "trait",
        "Two teachers with different traits, one student?",
        {"3 logits": {}, "10 logits": ten, "64 logits": {**many, "aux": 64}},
        "trait",
        ("all", "lower", "upper", "both"),
    )
    sweep(
        "hops",
        "How many hops does a trait go?",
        {"3 logits": {}, "10 logits": ten},
        "hops",
        (1, 2, 3, 5, 10),
    )
    return config
