"""catdog token: when the server's tokens end; the inference token as an include of nginx's."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import requests
import typer

from catdog_serving.atomic_write import atomic_file
from catdog_serving.cli.options import ConfigOption, configured_server, print_line
from catdog_serving.errors import NotReadyError, RefusedError, UsageError
from catdog_serving.torchserve.server import TorchServe

_RENEW_BELOW = 0.1  # of a token's time
_NGINX_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"  # cron's PATH lacks the first
_NGINX_TIMEOUT_S = 30
_OWN_INCLUDE = re.compile(r'\s*(default "(Bearer [^"\s]*)?";\s*)?')


def token(
    config: ConfigOption,
    nginx: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the inference token as an include of nginx's, and reload nginx. "
            "It is renewed when less than a tenth of its time is left.",
        ),
    ] = None,
) -> None:
    """Show when the server's tokens end; --nginx gives nginx the inference token."""
    server = configured_server(config)
    if not server.is_running():
        raise NotReadyError(
            "no server of this configuration runs that catdog started; start it with: catdog serve"
        )
    if nginx is not None:
        _check_own(nginx)
        _write_include(nginx.resolve(), _nginx_line(server))
        _reload_nginx(nginx)
    _print_ends(server)


def _print_ends(server: TorchServe) -> None:
    tokens = {kind: server.key_file.token(kind) for kind in ("inference", "management")}
    for kind, found in tokens.items():
        if found is not None:
            print_line(f"{kind:<10} ends {found.ends:%Y-%m-%d %H:%M:%S} UTC")
    if any(tokens.values()):
        print_line(f"{'keys':<10} {server.key_file.path}")
    else:
        print_line("no tokens: every address of this server is on loopback")


def _nginx_line(server: TorchServe) -> str:
    """The entry of nginx's map: the token, renewed if it ends soon; empty without tokens."""
    renew_below_s = server.config.token_expiration_min * 60 * _RENEW_BELOW
    now = server.key_file.token("inference")
    try:
        found = server.key_file.renewed("inference", now.key, renew_below_s) if now else None
    except requests.RequestException as error:
        raise NotReadyError(f"the server gives no new token: {error}") from error
    if found is None:
        return 'default "";\n'
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", found.key):  # it becomes a part of nginx.conf
        raise NotReadyError(f"{server.key_file.path} holds a token that no header can carry")
    return f'default "Bearer {found.key}";\n'


def _check_own(path: Path) -> None:
    """Make sure that the include replaces no other file, such as nginx.conf itself."""
    if not path.exists():
        return
    if not path.is_file():
        raise UsageError(f"{path} is no file; choose another name")
    if not _OWN_INCLUDE.fullmatch(path.read_text(errors="replace")):
        raise RefusedError(
            f"{path} is there, and catdog did not make it; choose another name, or delete it"
        )


def _write_include(path: Path, line: str) -> None:
    """Write the file anew, with the owner and the mode that it has; 0640 when it is new."""
    with atomic_file(path) as partial:
        partial.touch(mode=0o600)
        partial.write_text(line)
        old = path.stat() if path.exists() else None
        if old is None:
            partial.chmod(0o640)
        elif (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(partial, old.st_uid, old.st_gid)


def _reload_nginx(path: Path) -> None:
    """Have nginx read it; another user than root needs a rule of sudo's without a password."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:{_NGINX_FOLDERS}")
    why = "there is no nginx"
    if program:
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        try:
            result = subprocess.run(
                [*sudo, program, "-s", "reload"],
                capture_output=True,
                text=True,
                timeout=_NGINX_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
        else:
            if result.returncode == 0:
                return
            why = (result.stderr.strip().splitlines() or ["it failed"])[-1]
    raise NotReadyError(
        f"{path} is written, but nginx was not reloaded: {why}; as root: nginx -s reload"
    )
