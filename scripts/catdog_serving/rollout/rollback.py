"""catdog rollback: what was served before the last deploy takes over again."""

from catdog_serving.errors import NotReadyError
from catdog_serving.model_archive import check_owner
from catdog_serving.rollout.deploy import DeployTimes, Trust, take_over
from catdog_serving.rollout.switch import OnStep, operator
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
        As `deploy` does, and `NotReadyError` if there was no deploy.
    """
    previous = server.config.previous_archive
    with operator(server, "rollback") as management:
        if not previous.is_file():
            raise NotReadyError(f"there is no {previous} to go back to: nothing was deployed yet")
        check_owner(previous)
        trust = Trust(insist=insist, untrained=True)
        return take_over(server, management, previous, times, trust, on_step)
