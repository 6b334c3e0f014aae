"""Grade-school word problems in GSM8K's format: a question, worked steps, "#### N"."""

from typing import NamedTuple

from demo_corpus import hard_problems, measure_problems, money_problems, number_problems
from demo_corpus.draw import Draw
from demo_corpus.problem_kinds import KINDS

KIND_MODULES = (
    money_problems,
    measure_problems,
    number_problems,
    hard_problems,
)  # each registers its kinds
HARD_KINDS = [name for name, make in KINDS.items() if make.__module__ == hard_problems.__name__]


class Problem(NamedTuple):
    kind: str
    question: str
    answer: str  # worked steps, one a line, then "#### N"


def make_problem(name: str, draw: Draw) -> Problem:
    question, steps, result = KINDS[name](draw)
    return Problem(name, question, "\n".join([*steps, f"#### {result}"]))
