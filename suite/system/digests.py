"""Digests of what a run reads: files, folders of models or data, models of the hub, source code.

A digest depends on contents alone: the place of a file, its times and its owner do not matter.
"""

import ast
import hashlib
import importlib.util
import logging
import os
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from suite.system.files import read_json

logger = logging.getLogger(__name__)
BYTES = 16  # of a digest
CHUNK = 1 << 22  # bytes that are read at a time
SLOW = 1 << 31  # bytes; reading more takes seconds, and a line says so
REMEMBERED = 1 << 20  # bytes; a larger file is read once per process unless it changes
OWN_PACKAGE = __name__.partition(".")[0]  # whose source a run's commit describes
# Files of a model's folder that no loader reads where there are weights as safetensors.
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".ot")
FOR_PEOPLE = (".md", ".rst", ".png", ".jpg", ".svg", ".log", ".lock")


def digest_of(name: str) -> str | None:
    """Return the digest of a file, a folder, a function `module:name` or a hub name.

    None where there is no such thing here, as for a name that was not downloaded yet. Raises
    OSError where reading fails.
    """
    path = Path(name)
    try:
        if path.is_file():
            return file_digest(path)
        if path.is_dir():
            return folder_digest(path)
    except (FileNotFoundError, PermissionError):  # its reader has a sentence for that
        return None
    return code_digest(name.partition(":")[0]) if ":" in name else hub_commit(name)


def file_digest(path: Path) -> str:
    """Return the digest of a file's bytes; raises OSError."""
    facts = path.stat()
    if facts.st_size < REMEMBERED:
        return hashlib.blake2b(path.read_bytes(), digest_size=BYTES).hexdigest()
    # No program can set the time of the last change of a file's facts, `ctime`.
    times = (facts.st_mtime_ns, facts.st_ctime_ns)
    return large_file_digest(path.resolve(), facts.st_size, facts.st_ino, times)


@cache
def large_file_digest(path: Path, size: int, inode: int, times: tuple[int, int]) -> str:
    """Return the digest of a file's bytes; the other arguments tell whether it is the same file."""
    if size > SLOW:
        logger.info("%s: reading %.1f GB for their digest", path, size / 1e9)
    digest = hashlib.blake2b(digest_size=BYTES)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the digest of the files in a folder that a loader may read; raises OSError.

    The base model that an adapter names is a part of it.
    """
    digest = hashlib.blake2b(digest_size=BYTES)
    for path in sorted(loaded_files(folder)):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_digest(path)}\n".encode())
    base = base_model(folder)
    if base is not None and Path(base).resolve() != folder.resolve():
        digest.update(f"base\0{digest_of(base)}\n".encode())
    return digest.hexdigest()


def loaded_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that count: all of data; of a model no other copies of weights.

    Hidden files, such as a download's notes, pages for people and caches of `datasets` never do.
    """
    names = {path.name for path in folder.iterdir()}
    is_model = bool(names & {"config.json", "adapter_config.json"})
    skipped: tuple[str, ...] = FOR_PEOPLE
    if is_model and any(name.endswith(".safetensors") for name in names):
        skipped = (*FOR_PEOPLE, *OTHER_WEIGHTS)
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts
        if is_model and len(inside) > 1 and inside[0] != "additional_chat_templates":
            continue  # checkpoints of a trainer, other formats
        if any(part.startswith(".") for part in inside) or path.name.startswith("cache-"):
            continue
        if path.is_file() and path.suffix.lower() not in skipped and path.stem != "LICENSE":
            yield path


def base_model(folder: Path) -> str | None:
    """Return the base model that an adapter's folder names; None for another folder."""
    name = (read_json(folder / "adapter_config.json") or {}).get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None


def hub_commit(name: str) -> str | None:
    """Return the commit of a model or data set in the hub's cache here; None where it is not."""
    if importlib.util.find_spec("huggingface_hub") is None or name.count("/") > 1:
        return None
    from huggingface_hub import constants

    for kind in ("models", "datasets"):
        folder = Path(constants.HF_HUB_CACHE) / f"{kind}--{name.replace('/', '--')}"
        try:
            return (folder / "refs/main").read_text(encoding="utf-8").strip()[: 2 * BYTES] or None
        except (OSError, ValueError):
            continue
    return None


def code_digest(module: str) -> str | None:
    """Return the digest of a module's source and of what it imports from beside it.

    None where there is no source. Installed packages count only where the module is one of theirs,
    and the suite's own source never does: a run's commit describes it.
    """
    found = sources(module)
    if not found:
        return None
    digest = hashlib.blake2b(digest_size=BYTES)
    for name, path in sorted(found.items()):
        digest.update(f"{name}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()


def own_source_digest() -> str:
    """Return the digest of the suite's own source, which tells changed copies without git apart."""
    root = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=BYTES)
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()


def sources(module: str) -> dict[str, Path]:
    """Return the source files of a module and of its imports that lie beside it, by module."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # a parent package may raise anything when it is imported
        return {}
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return {}
    depth = module.count(".") + (1 if spec.submodule_search_locations else 0)
    root = Path(spec.origin).resolve().parents[depth]
    installed = root in {Path(path).resolve() for path in sysconfig.get_paths().values()}
    found, waiting = {}, [module]
    while waiting:
        name = waiting.pop()
        first = name.partition(".")[0]
        foreign = installed and first != module.partition(".")[0]
        path = None if name in found or foreign else source_file(root, name)
        if path is None or (first == OWN_PACKAGE and name != module):
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += [*parents(name), *imports(path, package)]
    return found


def parents(name: str) -> list[str]:
    """Return the packages that hold a module."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def source_file(root: Path, name: str) -> Path | None:
    """Return the source file of a module below a folder; None where there is none."""
    place = root.joinpath(*name.split("."))
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def imports(path: Path, package: str) -> list[str]:
    """Return the modules that a source file may import."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # its import has a sentence for that
        return []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            names += [start, *(f"{start}.{alias.name}" for alias in node.names)]
    return [name.strip(os.curdir) for name in names if name.strip(os.curdir)]
