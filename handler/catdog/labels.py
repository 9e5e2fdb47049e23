"""Which of the 1,000 ImageNet-1k classes are cats and which are dogs."""

from collections.abc import Sequence

NUM_CLASSES = 1000
CAT_INDICES = range(281, 286)  # tabby .. Egyptian cat: the domestic cats, without lynx and cougar
DOG_INDICES = range(151, 269)  # Chihuahua .. Mexican hairless: 118 breeds, without wolves and foxes
GROUPS = (CAT_INDICES, DOG_INDICES)  # in the order of masses and maps

# The classes at both edges of both ranges, inside and outside. A list that is
# shifted, sorted by name or of another data set misses at least one of them.
_LANDMARKS = {
    150: "sea lion",
    151: "Chihuahua",
    268: "Mexican hairless",
    269: "timber wolf",
    280: "grey fox",
    281: "tabby",
    285: "Egyptian cat",
    286: "cougar",
}


def check_categories(categories: Sequence[str]) -> None:
    """Make sure that the indices above mean cats and dogs in this list of names.

    Args:
        categories: The network's class names in the order of its logits, as in
            torchvision's `weights.meta["categories"]`.

    Raises:
        ValueError: If the list is not ImageNet-1k in the usual order.
    """
    if len(categories) != NUM_CLASSES:
        raise ValueError(f"expected {NUM_CLASSES} categories, got {len(categories)}")
    for index, name in _LANDMARKS.items():
        if categories[index] != name:
            raise ValueError(
                f"category {index} is {categories[index]!r}, expected {name!r}; "
                "these categories are not ImageNet-1k in torchvision's order"
            )
