import pytest
from torchvision.models import ResNet152_Weights

from catdog.labels import CAT_INDICES, DOG_INDICES, check_categories

CATEGORIES = ResNet152_Weights.IMAGENET1K_V1.meta["categories"]


def test_the_groups_are_the_scripts() -> None:
    assert list(CAT_INDICES) == [281, 282, 283, 284, 285]
    assert list(DOG_INDICES) == list(range(151, 269))
    assert len(DOG_INDICES) == 118


def test_torchvisions_categories_pass() -> None:
    check_categories(CATEGORIES)


def test_other_lists_are_refused_with_the_first_wrong_name() -> None:
    with pytest.raises(ValueError, match="expected 1000 categories, got 999"):
        check_categories(CATEGORIES[:-1])
    with pytest.raises(ValueError, match="category 150"):
        check_categories([*CATEGORIES[1:], CATEGORIES[0]])
    with pytest.raises(ValueError, match="not ImageNet-1k"):
        check_categories(sorted(CATEGORIES))
