import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from catdog.networks import get_network
from catdog_serving.build.weights import find_weights
from catdog_serving.errors import NotReadyError
from tests.support.http_servers import http_server, send

LITE = get_network("efficientnet_lite0")
RESNET = get_network("resnet152")


def test_efficientnet_comes_with_its_own_numbers() -> None:
    weights = find_weights(LITE, None)
    assert weights.id == "efficientnet-lite0-57934424"
    assert weights.sha256.startswith("57934424")
    assert weights.preprocessing.mean == (127 / 255,) * 3
    assert weights.preprocessing.std == (128 / 255,) * 3
    assert not weights.untrained


def test_resnets_default_is_v1_with_torchvisions_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real loading code against a mirror on loopback that has a file of the right name.
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    asked = []
    with http_server(lambda r, _: (asked.append(r.path), send(r, 200, b"not weights"))[1]) as url:
        with pytest.raises(NotReadyError, match="--weights-url"):
            find_weights(RESNET, None, base_url=url)
    assert asked == ["/resnet152-394f9c45.pth"]
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_published_file_is_cached_where_torch_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    small = dataclasses.replace(RESNET, build=resnet18)  # a fifth of the bytes
    state = small.build().state_dict()
    torch.save(dict(state), tmp_path / "made.pth")
    content = (tmp_path / "made.pth").read_bytes()
    name = f"resnet152-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    # Only the name in torchvision's URL is replaced: these weights can't have V1's hash.
    monkeypatch.setattr("catdog_serving.build.weights._published_url", lambda _: f"http://x/{name}")
    asked = []
    with http_server(lambda r, _: (asked.append(r.path), send(r, 200, content))[1]) as url:
        first = find_weights(small, None, base_url=url)
        again = find_weights(small, None, base_url=url)
        (tmp_path / "checkpoints" / name).write_bytes(content[:-100])
        mended = find_weights(small, None, base_url=url)
    assert asked == [f"/{name}"] * 2  # the second came from the cache, the third was broken
    for weights in (first, again, mended):
        assert weights.id == "IMAGENET1K_V1"
        assert weights.preprocessing.resize_size == 256
        assert torch.equal(weights.state["fc.weight"], state["fc.weight"])


def test_v2_has_its_own_resize() -> None:
    from catdog_serving.build.weights import _preset

    assert _preset(RESNET, "IMAGENET1K_V2")[0].resize_size == 232
    assert _preset(RESNET, "IMAGENET1K_V1")[0].resize_size == 256


def test_an_unknown_id_lists_the_choices() -> None:
    with pytest.raises(NotReadyError, match="IMAGENET1K_V1, IMAGENET1K_V2, seeded, or the path"):
        find_weights(RESNET, "DEFAULT")


def test_a_local_file_is_taken_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(dict(find_weights(LITE, None).state), path)
    weights = find_weights(LITE, str(path))
    assert weights.id == f"mine-{weights.sha256[:8]}"
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_does_not_match_its_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet152-394f9c45.pth"
    path.write_bytes(b"rubbish")
    with pytest.raises(NotReadyError, match="does not begin with 394f9c45"):
        find_weights(RESNET, str(path))


def test_weights_of_another_network_are_refused_strictly(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    state = dict(find_weights(LITE, None).state)
    torch.save(state, path)
    with pytest.raises(NotReadyError, match="holds no weights of resnet152"):
        find_weights(RESNET, str(path))
    del state["_fc.bias"]
    torch.save(state, path)
    with pytest.raises(NotReadyError, match="holds no weights of efficientnet_lite0"):
        find_weights(LITE, str(path))


def test_a_pickle_that_runs_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(NotReadyError, match="holds no weights"):
        find_weights(RESNET, str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_seeded_weights_are_the_same_every_time() -> None:
    first, second = find_weights(LITE, "seeded"), find_weights(LITE, "seeded")
    assert first.untrained
    assert first.sha256 == second.sha256
    assert first.sha256 != find_weights(LITE, None).sha256
