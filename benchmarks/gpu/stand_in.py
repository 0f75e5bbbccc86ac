"""What our configs use of `ml_collections`, for a machine where it is not installed."""

import importlib.util
import sys
import types
from collections.abc import Mapping
from typing import Any


class ConfigDict(dict[str, Any]):
    """A mapping whose keys are attributes; mappings in it become such mappings too."""

    def __init__(self, given: Mapping[str, Any] | None = None, sort_keys: bool = True):
        super().__init__()
        for name, value in (given or {}).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        plain = isinstance(value, Mapping) and not isinstance(value, ConfigDict)
        super().__setitem__(name, ConfigDict(value) if plain else value)

    __setattr__ = __setitem__
    __delattr__ = dict.__delitem__

    def __getattribute__(self, name: str) -> Any:
        if dict.__contains__(self, name):  # also `values`, which a sweep has
            return dict.__getitem__(self, name)
        return super().__getattribute__(name)

    def update(self, *given: Any, **more: Any) -> None:
        """Takes over values; those of mappings into the mappings that are there."""
        for name, value in {**dict(*given), **more}.items():
            if isinstance(value, Mapping) and isinstance(dict.get(self, name), ConfigDict):
                self[name].update(value)
            else:
                self[name] = value

    def to_dict(self) -> dict[str, Any]:
        """Returns plain dictionaries."""
        return {
            name: value.to_dict() if isinstance(value, ConfigDict) else value
            for name, value in dict.items(self)
        }


def install() -> None:
    """Makes it what `import ml_collections` finds, if there is no other."""
    if importlib.util.find_spec("ml_collections"):
        return
    module: Any = types.ModuleType("ml_collections")
    module.ConfigDict = ConfigDict
    module.config_dict = types.SimpleNamespace(placeholder=lambda kind: None)
    sys.modules["ml_collections"] = module
