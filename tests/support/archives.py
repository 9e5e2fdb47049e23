"""Changed copies of archives."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from catdog_serving.build.verify import HANDLER, code_sha256
from catdog_serving.model_archive import open_archive
from catdog_serving.operate.stamping import pack

BuildArchive = Callable[..., Path]


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
        pack(folder, target, "1.0")
    return target
