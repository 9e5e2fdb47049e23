import pytest

from catdog.invalid_image import map_valid


def test_failures_keep_their_places() -> None:
    asked: list[list[int]] = []

    def double(items: list[int]) -> list[int]:
        asked.append(items)
        return [2 * item for item in items]

    assert map_valid(double, [1, "a", 2, "b", 3], str) == [2, "a", 4, "b", 6]
    assert map_valid(double, ["a", "b"], str) == ["a", "b"]
    assert asked == [[1, 2, 3]]
    with pytest.raises(ValueError, match="expected 2 results, got 1"):
        map_valid(lambda items: items[:1], [1, "a", 2], str)
