"""Configurations and sweeps by name, in the folder `configs` here or in the package."""

import difflib
from pathlib import Path

from suite.config.fields import ConfigError

HERE = Path("configs")
PACKAGED = Path(__file__).parents[1] / "configs"
SUFFIXES = (".yaml", ".yml")


def config_path(name: str) -> Path:
    """Return a file by its path, or an example by its name, such as `arithmetic` or `lm/rows`.

    Raises ConfigError for a name that is unknown, or that several examples have.
    """
    path = Path(name)
    if path.suffix in SUFFIXES or path.exists():
        return path
    for folder in (HERE, PACKAGED):
        matches = [p for label, p in examples(folder).items() if name in (label, p.stem)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            labels = ", ".join(label for label, p in examples(folder).items() if p in matches)
            raise ConfigError(f"{name}: several examples have this name: {labels}")
    known = list(examples(PACKAGED) | examples(HERE))
    names = known + [label.rpartition("/")[2] for label in known]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{name}: no such file; examples are {', '.join(sorted(known))}{hint}")


def sweep_path(name: str) -> Path:
    """Return a sweep file by its path or its name; raises ConfigError listing the sweeps."""
    if Path(name).suffix in SUFFIXES:
        return Path(name)
    path = sweeps().get(name)
    if path is None:
        known = ", ".join(sorted(sweeps())) or "none here"
        raise ConfigError(f"{HERE}/sweeps/{name}.yaml: no such file; sweeps are {known}")
    return path


def claims_path() -> Path:
    """Return the file of the paper's claims."""
    here = HERE / "claims.yaml"
    return here if here.exists() else PACKAGED / "claims.yaml"


def sweeps() -> dict[str, Path]:
    """Return the files of all sweeps by name; one here hides one of the package."""
    folders = (PACKAGED / "sweeps", HERE / "sweeps")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def examples(folder: Path) -> dict[str, Path]:
    """Return the configurations of a folder by label, as `lm/arithmetic`."""
    paths = sorted(folder.glob("*/*.yaml"))
    return {f"{p.parent.name}/{p.stem}": p for p in paths if p.parent.name != "sweeps"}
