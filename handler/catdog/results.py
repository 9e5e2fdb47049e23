"""What an answer is: predictions, boxes, maps, explanations, and the model that gave them.

Only the standard library is needed to read an answer, so that a client loads nothing else.
docs/openapi.yaml, the CSV columns and the Parquet schema say the same; a test compares them.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

Label = Literal["cat", "dog", "neither"]
LABELS: tuple[Label, ...] = get_args(Label)

# Where the certainty of a label is below this, the image is uncertain: all else is more probable.
UNCERTAIN_BELOW = 0.5

# A box that covers this part of its image fills it.
FILLS_FROM = 0.9

# The weights id of reproducible untrained weights, whose answers mean nothing.
SEEDED = "seeded"

# How a server knows the model: the last part of its paths.
MODEL_NAME = "catdog"
# The request header that asks for a prediction's map, with the value "true".
MAP_HEADER = "Catdog-Map"
# The one that asks for an explanation's animals, likewise.
ANIMALS_HEADER = "Catdog-Animals"


class Box(NamedTuple):
    """A rectangle in pixels; x1 and y1 are the first column and row outside."""

    x0: int
    y0: int
    x1: int
    y1: int

    def fills(self, size: tuple[int, int]) -> bool:
        """Whether it is nearly all of an image of `size`, and so says not where in it."""
        area = (self.x1 - self.x0) * (self.y1 - self.y0)
        return area >= FILLS_FROM * size[0] * size[1]

    def scaled(self, size: tuple[int, int], other: tuple[int, int]) -> "Box":
        """The box of an image of `size`, in the same image at another; it never gets narrower."""
        x, y = other[0] / size[0], other[1] / size[1]
        return Box(
            int(self.x0 * x),
            int(self.y0 * y),
            min(other[0], math.ceil(self.x1 * x)),
            min(other[1], math.ceil(self.y1 * y)),
        )


@dataclass(frozen=True)
class Breed:
    """The most probable class inside the winning group.

    Attributes:
        name: The class's name.
        index: Its ImageNet index, 0..999.
        share: Its part of the group's mass, in [0, 1].
        probability: Its own, of all classes, in [0, 1].
    """

    name: str
    index: int
    share: float
    probability: float

    @classmethod
    def from_dict(cls, values: dict[str, Any], mass: float) -> "Breed":
        """Read it back; servers before 0.2 gave no probability, but its share of the mass."""
        share = values["share"]
        probability = values.get("probability", round(share * mass, 6))
        return cls(values["name"], values["index"], share, probability)


@dataclass(frozen=True)
class ClassProbability:
    """One of the 1,000 classes with its probability in [0, 1]."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class ModelId:
    """Which model it is: results of different ones are not mixed.

    The version is left out: TorchServe's scale-down and deploys give the same model
    the next number.

    Attributes:
        network: Such as "resnet152".
        weights: The weights' id, such as "IMAGENET1K_V1".
        precision: What it computes in, such as "fp32".
    """

    network: str
    weights: str
    precision: str

    def __str__(self) -> str:
        return f"{self.name}, {self.precision}"

    @property
    def name(self) -> str:
        """Network and weights, for people; untrained weights are called that."""
        untrained = " (untrained: its answers mean nothing)" if self.untrained else ""
        return f"{self.network} {self.weights}{untrained}"

    @property
    def untrained(self) -> bool:
        return self.weights == SEEDED

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self) | {"untrained": self.untrained}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelId":
        """The model that an answer, or the like, names."""
        return cls(values["network"], values["weights"], values["precision"])


@dataclass(frozen=True)
class ActivationMap:
    """How much each part of an image speaks for the cat, or for the dog.

    Attributes:
        size: Width and height of the upright original, in pixels.
        view: x0, y0, x1, y1 in those pixels: what the grid covers.
        grid: h rows of w numbers in [0, 1], 3 decimals, from the top left.
    """

    size: tuple[int, int]
    view: tuple[float, float, float, float]
    grid: tuple[tuple[float, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; the view with 2 decimals."""
        view = [round(edge, 2) for edge in self.view]
        return {"size": list(self.size), "view": view, "grid": [list(row) for row in self.grid]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ActivationMap":
        width, height = map(int, values["size"])
        x0, y0, x1, y1 = values["view"]
        grid = tuple(tuple(map(float, row)) for row in values["grid"])
        return cls((width, height), (x0, y0, x1, y1), grid)

    def scaled(self, other: tuple[int, int]) -> "ActivationMap":
        """The same map of the same image at another size."""
        x, y = other[0] / self.size[0], other[1] / self.size[1]
        x0, y0, x1, y1 = self.view
        return ActivationMap(other, (x0 * x, y0 * y, x1 * x, y1 * y), self.grid)


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        label: "cat", "dog", or "neither" when cat + dog is below the threshold.
        cat: Mass of the cat classes, in [0, 1].
        dog: Mass of the dog classes, in [0, 1].
        other: Mass of the other 877 classes; the three add up to 1.
        breed: None for "neither".
        top: The most probable of all classes, the first the highest.
        box: Where the animal is, in pixels of the upright original, as far as the crop
            shows it; None for "neither".
        model: Which model answered.
        version: Its version in the server.
        map: What in the crop speaks for the label; None where it was not asked for. It is
            no part of what makes two predictions equal.
    """

    label: Label
    cat: float
    dog: float
    other: float
    breed: Breed | None
    top: tuple[ClassProbability, ...]
    box: Box | None
    model: ModelId
    version: str
    map: ActivationMap | None = field(default=None, compare=False, repr=False)

    @property
    def certainty(self) -> float:
        """The number behind the label, in [0, 1]: `cat`, `dog`, or `other` for "neither"."""
        numbers = {"cat": self.cat, "dog": self.dog, "neither": self.other}
        return numbers[self.label]

    @property
    def is_uncertain(self) -> bool:
        return self.certainty < UNCERTAIN_BELOW

    @property
    def certain_breed(self) -> Breed | None:
        """The breed as people are shown it: None where the label itself is uncertain."""
        return None if self.is_uncertain else self.breed

    def to_dict(self, with_map: bool = False) -> dict[str, Any]:
        """As plain values for JSON, in the order of the attributes; without the map by default."""
        values = {
            "label": self.label,
            "cat": self.cat,
            "dog": self.dog,
            "other": self.other,
            "breed": self.breed and dict(vars(self.breed)),
            "top": tuple(dict(vars(entry)) for entry in self.top),  # asdict takes 10 x as long
            "box": self.box,
            **vars(self.model),
            "version": self.version,
        }
        if with_map and self.map is not None:
            values["map"] = self.map.to_dict()
        return values

    def scaled(self, size: tuple[int, int], other: tuple[int, int]) -> "Prediction":
        """The same answer for the same image at another size: box and map move along."""
        return replace(
            self,
            box=self.box and self.box.scaled(size, other),
            map=self.map and self.map.scaled(other),
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Prediction":
        """Read an answer back; keys that a newer server added are left out.

        Raises:
            ValueError, KeyError, TypeError: If it is none.
        """
        label, breed = values["label"], values["breed"]
        if label not in LABELS:
            raise ValueError(f"the label is one of {', '.join(LABELS)}; got {label!r}")
        return cls(
            label=label,
            cat=values["cat"],
            dog=values["dog"],
            other=values["other"],
            breed=None if breed is None else Breed.from_dict(breed, values.get(label, 0.0)),
            top=tuple(ClassProbability(**entry) for entry in values["top"]),
            box=_read_box(values["box"]),
            model=ModelId.from_dict(values),
            version=values["version"],
            map=ActivationMap.from_dict(values["map"]) if "map" in values else None,
        )


@dataclass(frozen=True)
class Animal:
    """A cat or a dog in an image.

    Attributes:
        label: "cat" or "dog".
        box: Where it is, in pixels of the upright original.
        certainty: The label's number in a pass over its own region, in [0, 1].
    """

    label: Label
    box: Box
    certainty: float


@dataclass(frozen=True)
class Explanation:
    """A prediction, and where it comes from in the full image.

    Attributes:
        prediction: As the prediction API gives it, with its own box from the crop.
        box: Where the animal is, in pixels of the upright original, found in the full
            image; None for "neither".
        map: What speaks for the label in the full image; for "neither" for the group of
            the larger mass.
        animals: A cat, a dog, both or none, the label's first; None where it was not asked for.
    """

    prediction: Prediction
    box: Box | None
    map: ActivationMap
    animals: tuple[Animal, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; without `animals` where it was not asked for."""
        values: dict[str, Any] = {
            "prediction": self.prediction.to_dict(),
            "box": self.box,
            "map": self.map.to_dict(),
        }
        if self.animals is not None:
            values["animals"] = [dict(vars(animal)) for animal in self.animals]
        return values

    def scaled(self, other: tuple[int, int]) -> "Explanation":
        """The same explanation of the same image at another size."""
        size = self.map.size
        return Explanation(
            self.prediction.scaled(size, other),
            self.box and self.box.scaled(size, other),
            self.map.scaled(other),
            self.animals
            and tuple(replace(each, box=each.box.scaled(size, other)) for each in self.animals),
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Explanation":
        """Read an answer back.

        Raises:
            ValueError, KeyError, TypeError: If it is none.
        """
        prediction = Prediction.from_dict(values["prediction"])
        animals = values.get("animals")
        return cls(
            prediction,
            _read_box(values["box"]),
            ActivationMap.from_dict(values["map"]),
            None
            if animals is None
            else tuple(Animal(a["label"], Box(*a["box"]), a["certainty"]) for a in animals),
        )


def _read_box(values: Any) -> Box | None:
    return None if values is None else Box(*map(int, values))
