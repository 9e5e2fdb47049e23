"""config/: a checkout's, or the copy that a wheel brings; `catdog init` writes one to edit."""

import os
import pwd
import shlex
import shutil
from pathlib import Path

from catdog_serving.atomic_write import scratch_folder
from catdog_serving.errors import NotReadyError, RefusedError

_HERE = Path(__file__).resolve()
_CHECKOUTS = _HERE.parents[2] / "config"
_SHIPPED = _HERE.parent / "_config" / "config"  # in a wheel alone
# What a wheel leaves out too: what belongs to one site, and what builds from a checkout alone.
_NOT_COPIED = ("api-keys.map", "certificate.*", "docker")
FILE = "config.properties"


def config_folder() -> Path:
    """The config/ that came with catdog: the checkout's, which may be edited, or a wheel's."""
    return _CHECKOUTS if (_CHECKOUTS / FILE).is_file() else _SHIPPED


def is_shipped(config: Path) -> bool:
    """Whether a config.properties is a wheel's: nobody edits it, and nothing is kept beside it."""
    return config.resolve().parent == _SHIPPED


def default_config() -> Path:
    """$CATDOG_CONFIG, else ./config/config.properties, else what came with catdog."""
    if named := os.environ.get("CATDOG_CONFIG"):
        return Path(named)
    here = Path("config", FILE)
    return here if here.is_file() else config_folder() / FILE


def command_line(config: Path, command: str) -> str:
    """What a shell takes to run `catdog COMMAND` on a configuration; the default needs no name."""
    if config.resolve() == default_config().resolve():
        return f"catdog {command}"
    return f"catdog --config {shlex.quote(str(config))} {command}"


def account_home() -> Path | None:
    """The home that the password database has; None without an entry, as in a container.

    The environment's is another one in cron and under sudo.
    """
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def data_folder() -> Path:
    """Where this user's archives are, where no folder was made for them.

    $XDG_DATA_HOME/catdog, else .local/share/catdog of `account_home`, else of $HOME.
    """
    chosen = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(chosen):  # others are ignored, as the specification says
        return Path(chosen) / "catdog"
    home = account_home() or Path(os.environ.get("HOME", "/"))
    return home / ".local" / "share" / "catdog"


def make_config(folder: Path) -> None:
    """Write config/ and model-store/ into a folder.

    Raises:
        RefusedError: If it has a config/ already.
        NotReadyError: If they cannot be written.
    """
    target = folder / "config"
    if target.exists() or target.is_symlink():
        raise RefusedError(f"{target} is there already; nothing was changed")
    try:
        (folder / "model-store").mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder) as scratch:
            copy = scratch / "config"
            shutil.copytree(config_folder(), copy, ignore=shutil.ignore_patterns(*_NOT_COPIED))
            copy.rename(target)
    except (OSError, shutil.Error) as error:
        raise NotReadyError(f"cannot write {target}: {error}") from error
