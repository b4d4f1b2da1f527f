"""The file `study.yaml`: the keys of the study as they were last given, for people and for the next start."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from distsae import __version__
from distsae.checked_files import read_yaml_mapping
from distsae.durable import replace
from distsae.errors import WrongInput
from distsae.recipes.study.plan import StudyPlan

__all__ = ["StudyRecord"]

_NOT_KEPT = ("dry_run",)


class StudyRecord:
    """`study.yaml` in the folder of a study.

    Args:
        plan: the study.

    Raises:
        WrongInput: the folder holds other files and no study.
    """

    def __init__(self, plan: StudyPlan) -> None:
        self._plan = plan
        self._out = Path(plan.config.out)
        self._path = self._out / "study.yaml"
        self._earlier: dict[str, Any] = {}
        if self._path.is_file():
            self._earlier = read_yaml_mapping(self._path, str(self._path))
        elif self._out.is_dir() and any(path.name != ".lock" for path in self._out.iterdir()):
            raise WrongInput(
                f"`out` (={plan.config.out}) must be a new or empty folder, or the folder of a study; got a folder of "
                "other files; choose another `out`"
            )

    @property
    def evaluates_anew(self) -> bool:
        """Whether members were evaluated before with other keys than now."""
        return bool(self._earlier) and self._earlier.get("evaluate", {}) != self._plan.config.evaluate

    def write(self) -> None:
        """Writes the keys, with methods written out; the file can itself be passed to `--config`."""
        config = dataclasses.asdict(self._plan.config)
        kept = {key: value for key, value in config.items() if key not in _NOT_KEPT and value is not None}
        kept["methods"] = [self._method(name) for name in self._plan.bases]
        self._out.mkdir(parents=True, exist_ok=True)
        text = f"# distsae {__version__}; written by `distsae study`, which takes it as --config\n"
        replace(self._path, (text + yaml.safe_dump(_plain(kept), sort_keys=False)).encode())

    def _method(self, name: str) -> dict[str, Any]:
        (method,) = (method for method in self._plan.methods if method.name == name)
        written: dict[str, Any] = {"name": name, **({} if method.peer else method.keys)}
        if method.peer is not None:
            written |= {"peer": method.peer, "options": dict(method.options)}
            written |= {"normalise": method.normalise} if method.normalise else {}
        if method.lr is not None:
            written["lr"] = list(method.lr)
        return written


def _plain(value: Any) -> Any:  # noqa: ANN401  (any YAML value)
    """Returns a value with lists for its tuples."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
