"""The type of the fixture that makes configurations."""

from collections.abc import Callable

from catdog_serving.torchserve.serving_config import ServingConfig

MakeConfig = Callable[..., ServingConfig]
