"""Check an archive as a worker would load it: code, facts and golden images."""

import filecmp
import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import catdog
from catdog.engines import MODEL_FILES
from catdog.model_info import MODEL_INFO_FILE, ModelInfo
from catdog.read_settings import SETTINGS_FILE
from catdog_serving.errors import RefusedError
from catdog_serving.model_archive import MANIFEST, open_archive

CORE = Path(catdog.__file__).parent
# Found without importing them: they import TorchServe's own modules.
HANDLER_FILES = tuple(
    Path(str(spec.origin))
    for spec in map(find_spec, ("catdog_handler", "catdog_json", "catdog_rows", "catdog_telemetry"))
    if spec is not None
)
HANDLER = HANDLER_FILES[0]


def verify_archive(
    archive: Path,
    source: Path | None = None,
    *,
    insist: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> ModelInfo:
    """Open an archive and check it as the worker would load it, on a GPU if workers get one.

    Args:
        archive: The .mar.
        source: The model directory that it was built from, to compare byte by byte.
        insist: Let a network pass that does not know what its golden images show.
        on_step: Is told, for each golden image, what it shows and what it is called.

    Raises:
        RefusedError: If a file differs, a fact is wrong, or a golden image gets
            other masses or another name than that of what it shows.
    """
    from catdog.classifier import Classifier
    from catdog_serving.build.golden_images import check_golden, check_shown

    with open_archive(archive) as model_dir:
        try:
            if source is not None:
                _check_same_files(source, model_dir)
                _check_same_files(CORE, model_dir / CORE.name, other_than_code)
            info = ModelInfo.read(model_dir)
            _check_nothing_else(model_dir, info)
            if info.code_sha256 != code_sha256(model_dir):
                raise RefusedError(
                    f"{archive.name}: its code is not the code that model.json names"
                )
            images = [(model_dir / image.file).read_bytes() for image in info.golden]
        except (ValueError, OSError) as error:
            raise RefusedError(
                f"{archive.name}: {error}; build it again with: catdog package"
            ) from error
        try:
            classifier = Classifier.load(model_dir)
            results = classifier.classify(images)
            classifier.close()
        except Exception as error:  # each engine has its own for a network that is broken
            reason = str(error).strip().splitlines() or [""]
            raise RefusedError(f"{archive.name}: {type(error).__name__}: {reason[0]}") from error
        check_shown(info, check_golden(info, results), insist=insist, on_step=on_step)
    return info


def _check_nothing_else(model_dir: Path, info: ModelInfo) -> None:
    """Refuse files that no archive has: the worker would import a numpy.py beside its handler."""
    known = {
        *(*(path.name for path in HANDLER_FILES), f"{CORE.name}/py.typed", MANIFEST),
        *(MODEL_INFO_FILE, SETTINGS_FILE, MODEL_FILES[info.runtime]),
        *(image.file for image in info.golden),
    }
    for path in sorted(path for path in model_dir.rglob("*") if not path.is_dir()):
        name = path.relative_to(model_dir).as_posix()
        is_code = name.startswith(f"{CORE.name}/") and path.suffix == ".py"
        if name not in known and not is_code:
            raise RefusedError(f"the archive holds {name}, which no archive of catdog has")


def other_than_code(folder: str, names: list[str]) -> set[str]:
    """Names beside the core's code, as `shutil.copytree` ignores them: caches, editors' copies."""
    kept = {name for name in names if name.endswith(".py") or name == "py.typed"}
    folders = {name for name in names if Path(folder, name).is_dir()} - {"__pycache__"}
    return set(names) - kept - folders


def code_sha256(folder: Path) -> str:
    """SHA-256 over the handler's code and the core that lie in `folder`: names and contents."""
    digest = hashlib.sha256()
    handler = [folder / path.name for path in HANDLER_FILES]
    for path in (*handler, *sorted((folder / CORE.name).rglob("*.py"))):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _check_same_files(
    source: Path, copy: Path, ignore: Callable[[str, list[str]], set[str]] = lambda *_: set()
) -> None:
    """Every file of `source` must be in `copy`, byte for byte, but for those to be ignored."""
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_dir() or ignore(str(path.parent), [path.name]):
            continue
        if not (copy / relative).is_file():
            raise RefusedError(f"the archive lacks {relative}")
        if not filecmp.cmp(path, copy / relative, shallow=False):
            raise RefusedError(f"the archive's {relative} differs from what was packed")
