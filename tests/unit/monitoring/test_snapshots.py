"""What `catdog status --watch` asks and computes, beside a stand-in for TorchServe's two ports."""

import math
from collections.abc import Iterator

import pytest
from rich.console import Console

from catdog_serving.errors import ServerError
from catdog_serving.monitoring.metrics_text import parse_metrics
from catdog_serving.monitoring.rates import quantile, rates
from catdog_serving.monitoring.snapshots import Snapshot, take_snapshots
from catdog_serving.monitoring.watch import line, screen
from catdog_serving.torchserve.server import TorchServe
from tests.support.configs import MakeConfig
from tests.support.fake_server import FACTS, FakeServer, metrics
from tests.support.http_servers import http_server


def test_rates_are_the_rise_over_the_time() -> None:
    # 5xx have no series before the first one.
    after = metrics(requests=150, answered=120, batches=30) + 'Requests5XX{Level="Host",} 30\n'
    found = rates(parse_metrics(metrics(50, 40, 10)), parse_metrics(after), seconds=4)
    assert (found.requests_per_s, found.answers_per_s) == (25, 20)
    assert (found.invalid_per_s, found.errors_per_s) == (10, 7.5)
    assert (found.request_s, found.queue_s) == pytest.approx((0.2, 0.1))
    assert found.batch_images == 4
    assert found.busy_workers == pytest.approx(20 * (0.02 + 0.1) / 4)
    assert found.stages.keys() == {"inference"}
    assert found.stages["inference"].p50_s == pytest.approx(0.1)
    assert found.stages["inference"].p95_s == pytest.approx(0.1 + 0.15 * 0.9)


def test_a_mean_of_nothing_is_none() -> None:
    same = parse_metrics(metrics(50, 40, 10))
    found = rates(same, same, seconds=2)
    assert (found.requests_per_s, found.answers_per_s) == (0, 0)
    assert (found.request_s, found.queue_s, found.batch_images) == (None, None, None)
    assert found.stages == {}


def test_a_restarted_server_counts_from_0() -> None:
    found = rates(
        parse_metrics(metrics(500, 400, 100)), parse_metrics(metrics(30, 20, 10)), seconds=2
    )
    assert (found.requests_per_s, found.answers_per_s, found.batch_images) == (15, 10, 2)


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.1, 0.5), (0.2, 1), (0.5, 1.75), (0.6, 2), (0.8, 2), (0.99, 2)],
)
def test_quantiles_are_prometheus_own(q: float, expected: float) -> None:
    """Checked by hand: 2 up to 1, 4 more up to 2, none up to 5 and 4 beyond."""
    buckets = {1.0: 2.0, 2.0: 6.0, math.inf: 10.0}
    assert quantile(q, buckets) == pytest.approx(expected)


# --- what is asked --------------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    fake = FakeServer()
    with http_server(lambda request, body: fake.answer(request, body)) as fake.url:
        yield fake


@pytest.fixture
def watched(fake: FakeServer, make_config: MakeConfig) -> Iterator[Snapshot | ServerError]:
    config = make_config(None, management_address=fake.url, metrics_address=fake.url)
    return take_snapshots(TorchServe(config), 0.01)


def test_a_server_that_is_away_is_waited_for(
    fake: FakeServer, watched: Iterator[Snapshot | ServerError]
) -> None:
    assert isinstance(next(watched), Snapshot)
    fake.down = True
    assert isinstance(next(watched), ServerError)
    assert isinstance(next(watched), ServerError)
    fake.down, fake.text = False, metrics(5, 4, 1)
    back = next(watched)
    assert isinstance(back, Snapshot)
    assert back.rates is None  # nothing to compare with
    again = next(watched)
    assert isinstance(again, Snapshot)
    assert again.rates is not None
    assert again.rates.requests_per_s == 0


def test_an_error_is_one_line(fake: FakeServer, watched: Iterator[Snapshot | ServerError]) -> None:
    fake.text = "<html>\nnot found\n</html>"
    told = line(next(watched))
    assert " down: no metrics at " in told
    assert "\n" not in told


def test_nonsense_at_the_metrics_address_is_named(
    fake: FakeServer, watched: Iterator[Snapshot | ServerError]
) -> None:
    fake.text = "<html>not found</html>"
    error = next(watched)
    assert isinstance(error, ServerError)
    assert "no metrics at" in str(error)


def test_facts_are_asked_for_once_per_set_of_workers_and_never_while_requests_wait(
    fake: FakeServer, watched: Iterator[Snapshot | ServerError]
) -> None:
    fake.pending = 3
    assert [snapshot_facts(next(watched)) for _ in range(2)] == [None, None]
    assert fake.facts_asked == 0
    fake.pending = 0
    assert [snapshot_facts(next(watched)) for _ in range(3)] == [FACTS] * 3
    assert fake.facts_asked == 1
    fake.state = "UNLOADING"
    assert snapshot_facts(next(watched)) is None
    fake.state, fake.pid = "READY", 0
    assert [snapshot_facts(next(watched)) for _ in range(3)] == [FACTS] * 3
    assert fake.facts_asked == 2


def snapshot_facts(snapshot: Snapshot | ServerError) -> dict[str, object] | None:
    assert isinstance(snapshot, Snapshot)
    return snapshot.status.facts


def test_a_line_and_a_screen_say_what_was_measured(
    fake: FakeServer, watched: Iterator[Snapshot | ServerError]
) -> None:
    next(watched)
    fake.text = metrics(150, 120, 30)
    snapshot = next(watched)
    values = dict(pair.split("=") for pair in line(snapshot).split()[1:])
    assert (values["model"], values["ready"]) == ("resnet152/IMAGENET1K_V1", "1/1")
    assert (values["batch"], values["mean_ms"], values["wait_ms"]) == ("4.0", "200.0", "100.0")
    assert values["inference_p50_ms"] == "100.0"
    console = Console(width=100)
    with console.capture() as capture:
        console.print(screen(snapshot))
    text = capture.get()
    assert "resnet152 IMAGENET1K_V1, runtime onnx fp32 on cpu" in text
    assert "4.0 of 8 images (50%)" in text
    assert "200.0 ms mean, 100.0 ms of it waiting" in text
    assert "0 queued, 48 free" in text
