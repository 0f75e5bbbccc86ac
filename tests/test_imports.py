"""Imports go down only: no circles, and each room imports those below it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sublim_jax"
# From the top down; a room imports those after it, and itself. What is not named is the ground.
ROOMS = ("transmission", "atlas", "nano", "mlp", "llm", "theory")
ENGINE = ("jobs", "testing", "training", "sampling", "decoder", "files", "packing", "model")


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in PACKAGE.rglob("*.py")}


def imported(tree: ast.AST) -> set[str]:
    """Returns the modules of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Returns the modules of a circle, or nothing."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


GRAPH = {name: imported(ast.parse(path.read_text("utf-8"))) for name, path in MODULES.items()}


def test_no_module_imports_itself_through_others():
    assert circle(GRAPH) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("home", "rooms"), [("sublim_jax", ROOMS), ("sublim_jax.llm", ENGINE)], ids=["house", "engine"]
)
def test_each_room_imports_those_below_it_alone(home, rooms):
    depth = home.count(".") + 1

    def floor(name):
        parts = name.split(".")
        if not name.startswith(f"{home}."):
            return len(rooms)
        return rooms.index(parts[depth]) if parts[depth] in rooms else len(rooms)

    upwards = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if name.startswith(f"{home}.") and other.startswith(f"{home}.")
        if floor(other) < floor(name)
    ]
    assert upwards == []
    found = {name.split(".")[depth] for name in MODULES if name.startswith(f"{home}.")}
    assert found >= {*rooms}
