"""How many actors, and how much of the cluster each gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catdog_serving.errors import NotReadyError


@dataclass(frozen=True)
class ActorPlan:
    """What Ray is asked for.

    Attributes:
        actors: How many.
        cpus: CPUs of each, and its threads.
        gpus: GPUs of each, 0 or 1.
    """

    actors: int
    cpus: int
    gpus: int


def plan_actors(
    nodes: Sequence[Mapping[str, float]], wanted: int | None, on_gpus: bool
) -> ActorPlan:
    """Share out a cluster, so that all actors fit and have as many CPUs as they can.

    Args:
        nodes: The resources of each node, as Ray gives them: "CPU", "GPU".
        wanted: How many actors; None: one per GPU if they use them, else one per CPU.
            More than fit are not asked for: Ray would wait for nodes that never come.
        on_gpus: Whether the archive runs on GPUs, where there are some.

    Raises:
        NotReadyError: If there is no CPU to run on.
    """
    gpus = 1 if on_gpus and any(node.get("GPU", 0) >= 1 for node in nodes) else 0

    def fitting(cpus: int) -> int:
        """How many actors with so many CPUs fit."""
        return sum(
            min(int(node.get("CPU", 0)) // cpus, int(node.get("GPU", 0)) if gpus else 1 << 30)
            for node in nodes
        )

    most = fitting(1)
    if not most:
        raise NotReadyError("the Ray cluster has no CPU to run on; add a node to it")
    actors = min(wanted or most, most)
    cpus = max(cpus for cpus in range(1, _most_cpus(nodes) + 1) if fitting(cpus) >= actors)
    return ActorPlan(actors, cpus, gpus)


def _most_cpus(nodes: Sequence[Mapping[str, float]]) -> int:
    return max(int(node.get("CPU", 0)) for node in nodes)
