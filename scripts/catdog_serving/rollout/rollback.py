"""catdog rollback: what was served before the last deploy takes over again."""

from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.model_archive import check_owner
from catdog_serving.rollout.deploy import DeployTimes, Trust, is_served, take_over
from catdog_serving.rollout.switch import OnStep, default_version, operator
from catdog_serving.torchserve.server import TorchServe


def rollback(
    server: TorchServe,
    times: DeployTimes,
    *,
    insist: bool = False,
    on_step: OnStep = lambda _: None,
) -> str:
    """Deploy what was served before the last deploy; a second rollback undoes the first.

    Seeded weights that were served may be gone back to. `insist` is as in `Trust`.

    Raises:
        As `deploy` does, `NotReadyError` if there was no deploy, and `RefusedError` if that is
            what is served now.
    """
    previous = server.config.previous_archive
    with operator(server, "rollback") as management:
        if not previous.is_file():
            raise NotReadyError(
                f"there is no {previous} to go back to: no other archive was deployed yet"
            )
        check_owner(previous)
        if is_served(previous, server.config, default_version(management)):
            raise RefusedError(
                f"{previous} is what is served already, so there is nothing to go back to; "
                "nothing was changed"
            )
        trust = Trust(insist=insist, untrained=True)
        return take_over(server, management, previous, times, trust, on_step)
