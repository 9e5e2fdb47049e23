"""errors.py's drawn tree is the tree of its classes, with the exit codes that they have."""

import inspect
import re

from catdog_serving import errors
from catdog_serving.errors import CatDogError


def test_the_drawn_tree_is_that_of_the_classes() -> None:
    drawn, path = {}, [""]
    for line in str(errors.__doc__).splitlines():
        if match := re.fullmatch(r"([│├└─ ]*)(\w+Error)(?: .* (\d))?", line):
            path[len(match[1]) // 4 + 1 :] = [match[2]]
            drawn[match[2]] = (path[-2], match[3])
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert {name: parent for name, (parent, _) in drawn.items()} == {
        kind.__name__: kind.__base__.__name__.replace("Exception", "") for kind in kinds
    }
    codes = {name: int(code) for name, (_, code) in drawn.items() if code}
    assert codes == {kind.__name__: kind.exit_code for kind in kinds if kind is not CatDogError}
