"""Archives that are built once for each content, and changed copies of them."""

import fcntl
import functools
import hashlib
import json
import platform
import zipfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import catdog_serving.build
from catdog.networks import get_network
from catdog_serving.archive_copies import pack_folder
from catdog_serving.build.build_archive import ArchiveSpec, build_archive
from catdog_serving.build.verify import CORE, HANDLER, HANDLER_FILES, code_sha256
from catdog_serving.build.weights import Weights, find_weights
from catdog_serving.model_archive import open_archive
from catdog_serving.sample_images import SAMPLES
from tests.support.paths import ROOT

BuildArchive = Callable[..., Path]
CACHE = ROOT / ".cache" / "archives"  # git ignores it; `make clean` deletes it
SETTINGS = ROOT / "config" / "model-config.yaml"


@functools.cache
def found_weights(network: str, weights: str | None) -> Weights:
    """Found once a process: making those of ResNet-152 takes 5 s."""
    return find_weights(get_network(network), weights)


def cached_archive(network: str, weights: str | None, runtime: str) -> Path:
    """An archive of fp32 and version 1.0, from the cache if what it is made of is unchanged.

    Nobody writes to it. Processes that want the same one wait for the first.
    """
    spec = ArchiveSpec(
        network=network,
        weights=weights,
        weights_url=None,
        runtime=runtime,
        precision="fp32",
        version="1.0",
        settings=SETTINGS,
    )
    CACHE.mkdir(parents=True, exist_ok=True)
    name = f"{network}-{weights or 'default'}-{runtime}"
    archive = CACHE / f"{name}-{_ingredients()[:16]}.mar"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            for old in CACHE.glob(f"{name}-*.mar"):
                old.unlink()
            with patch(
                "catdog_serving.build.weights.find_weights",
                lambda network, wanted, *_: found_weights(network.name, wanted),
            ):
                build_archive(spec, archive)
    return archive


def _ingredients() -> str:
    """SHA-256 over what archives are made of: handler, build code, samples, settings, packages."""
    build = Path(catdog_serving.build.__file__).parent
    files = [*HANDLER_FILES, SETTINGS, ROOT / "requirements.lock"]
    for folder in (CORE, build, SAMPLES):
        files += sorted(path for path in folder.rglob("*") if path.suffix != ".pyc")
    digest = hashlib.sha256(platform.python_version().encode())
    for path in files:
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def repack(archive: Path, target: Path, **replaced: bytes) -> Path:
    """A copy of an archive in which files (by their name's last part) have other content."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = replaced.get(Path(name).name.replace(".", "_"), source.read(name))
            copy.writestr(name, content)
    return target


def with_handler(archive: Path, target: Path, before: str, after: str) -> Path:
    """A copy of an archive with another handler, which its model.json tells truly."""
    with open_archive(archive) as folder:
        handler = folder / HANDLER.name
        code = handler.read_text()
        assert code.count(before) == 1
        handler.write_text(code.replace(before, after))
        facts = json.loads((folder / "model.json").read_text())
        facts["code_sha256"] = code_sha256(folder)
        (folder / "model.json").write_text(json.dumps(facts))
        pack_folder(folder, target, "1.0")
    return target
