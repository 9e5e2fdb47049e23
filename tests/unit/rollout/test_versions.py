"""What lies in the model store, and what of it is catdog's."""

import shutil
import zipfile

from catdog_serving.rollout.versions import stored_archives
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import BuildArchive
from tests.support.configs import MakeConfig


def test_what_is_not_catdogs_is_not_listed(build: BuildArchive, make_config: MakeConfig) -> None:
    archive = build("efficientnet_lite0", None, "onnx")
    server = TorchServe(make_config(archive))
    store = server.config.model_store
    for name in ("next.mar", ".catdog-next.mar"):  # the second: of a deploy that is at work
        shutil.copy(archive, store / name)
    (store / "junk.mar").write_bytes(b"junk")
    for name, entry in (("another.mar", "model.json"), ("hostile.mar", "../model.json")):
        with zipfile.ZipFile(store / name, "w") as packed:
            packed.writestr(entry, "{}")
    found = {stored.path.name: stored.use for stored in stored_archives(server)}
    assert found == {
        server.config.archive.name: "a restart serves",
        "next.mar": "catdog deploy takes",
    }
