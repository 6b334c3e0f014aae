"""What a kind of word problem is, and the arithmetic that its worked answer shows.

A kind takes a Draw and returns (question, steps, result). The steps are the lines of the worked
answer; each shows its calculation. All results are whole numbers.
"""

from typing import Callable

from demo_corpus.draw import Draw

Parts = tuple[str, list[str], int]  # question, steps, result

KINDS: dict[str, Callable[[Draw], Parts]] = {}


def kind(function: Callable[[Draw], Parts]) -> Callable[[Draw], Parts]:
    """Registers a kind under the name of its function."""
    KINDS[function.__name__] = function
    return function


def times(a: int, b: int) -> str:
    """ "24 * 13 = 240 + 72 = 312": two factors above ten are multiplied by tens and ones."""
    tens, ones = b // 10 * 10, b % 10
    if a > 10 and tens and ones:
        return f"{a} * {b} = {a * tens} + {a * ones} = {a * b}"
    return f"{a} * {b} = {a * b}"


def plus(*terms: int) -> str:
    """ "5 + 6 + 7 = 11 + 7 = 18": one addition at a time."""
    left = " + ".join(map(str, terms))
    total = terms[0]
    for index in range(1, len(terms)):
        total += terms[index]
        left += " = " + " + ".join(map(str, [total, *terms[index + 1 :]]))
    return left


def listed(values: list[int]) -> str:
    """ "3, 5 and 8"."""
    return ", ".join(map(str, values[:-1])) + f" and {values[-1]}"
