"""Sharing out a cluster among actors."""

import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.on_ray.actor_plan import ActorPlan, plan_actors

LAPTOP = [{"CPU": 2.0}]
FARM = [{"CPU": 4.0}, {"CPU": 4.0}, {"CPU": 16.0}, {"memory": 1e9}]
GPUS = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0, "GPU": 1.0}, {"CPU": 64.0}]


@pytest.mark.parametrize(
    ("nodes", "wanted", "on_gpus", "plan"),
    [
        (LAPTOP, None, False, ActorPlan(2, 1, 0)),
        (LAPTOP, 1, False, ActorPlan(1, 2, 0)),
        (LAPTOP, 1, True, ActorPlan(1, 2, 0)),  # a torch archive where there is no GPU
        (LAPTOP, 9, False, ActorPlan(2, 1, 0)),
        (FARM, None, False, ActorPlan(24, 1, 0)),
        (FARM, 6, False, ActorPlan(6, 4, 0)),
        (FARM, 3, False, ActorPlan(3, 5, 0)),  # all three on the largest node: 5 CPUs each
        (FARM, 1, False, ActorPlan(1, 16, 0)),
        (GPUS, None, True, ActorPlan(3, 3, 1)),
        (GPUS, 1, True, ActorPlan(1, 8, 1)),
        (GPUS, None, False, ActorPlan(75, 1, 0)),
    ],
)
def test_all_actors_fit_and_get_what_there_is(
    nodes: list[dict[str, float]], wanted: int | None, on_gpus: bool, plan: ActorPlan
) -> None:
    assert plan_actors(nodes, wanted, on_gpus) == plan


def test_a_cluster_without_a_cpu_is_no_place_to_work() -> None:
    with pytest.raises(NotReadyError, match="has no CPU"):
        plan_actors([{"memory": 1e9}], None, on_gpus=False)
