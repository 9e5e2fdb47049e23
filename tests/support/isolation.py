"""What Linux alone gives of a container: a process number 1, user 10001 without capabilities, and a
root file system of which nothing but the volumes can be written to.

For root alone, who may make namespaces; else the same commands are plain processes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.support.paths import ROOT

USER = 10001

# A Python below a folder that is root's alone, such as pyenv's, would be out of that user's reach.
_NEEDED = {Path(sys.base_prefix), Path(sys.prefix), ROOT, Path(tempfile.gettempdir())}
_CLOSED = sorted(
    {parent for path in _NEEDED for parent in path.parents if not parent.stat().st_mode & 0o001}
)[:1]

_READ_ONLY = """
mount --make-rprivate /
for closed in $CLOSED; do
  mount --rbind "$closed" /mnt
  mount -t tmpfs -o mode=755 tmpfs "$closed"
  for path in $NEEDED; do
    case $path in "$closed"/*)
      mkdir -p "$path"
      mount --rbind "/mnt${path#"$closed"}" "$path"
    esac
  done
  umount -l /mnt
done
for volume in $VOLUMES; do mount --bind "$volume" "$volume"; done
mount -o remount,bind,ro /
"""
_AS_USER = f"""
cd "$0"
exec setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps=-all --bounding-set=-all \\
  --no-new-privs -- "$@"
"""
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def contained(words: list[str], workdir: Path, volumes: Iterable[Path] = ()) -> list[str]:
    """A command as the first process of a container that may write to `volumes` alone."""
    lists = {"CLOSED": _CLOSED, "NEEDED": _NEEDED, "VOLUMES": volumes}
    setting = "".join(f"{k}='{' '.join(map(str, v))}'\n" for k, v in lists.items())
    return [*_UNSHARE, "sh", "-euc", setting + _READ_ONLY + _AS_USER, str(workdir), *words]


def entering(first: int, words: list[str], workdir: Path) -> list[str]:
    """A command as one more process of the container whose first process has that pid."""
    enter = ["nsenter", f"--target={first}", "--mount", "--pid"]
    return [*enter, "sh", "-euc", _AS_USER, str(workdir), *words]


def give(path: Path, mode: int, owner: int = 0) -> None:
    """Let the containers' user, or its group, at a file."""
    if ISOLATED:
        os.chown(path, owner, USER)
        path.chmod(mode)


def _can_isolate() -> bool:
    if not all(map(shutil.which, ("unshare", "nsenter", "setpriv"))):
        return False
    program = contained(["sh", "-c", f"'{sys.executable}' -c pass"], Path("/"))
    return subprocess.run(program, capture_output=True, check=False).returncode == 0


ISOLATED = _can_isolate()
