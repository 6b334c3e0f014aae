"""Which word problems are held out for the test, and documents made of the others.

A problem's key is its kind and the sorted numbers that its question names in digits. The SHA-256 of
the key decides: one key in twenty is held out. Training draws a problem again until its key is not
held out, the test until it is. So no held-out (kind, numbers) is ever trained on, in whatever
words, order or document, and no state is shared between processes.
"""

import hashlib
import re
from typing import Iterator, NamedTuple

from demo_corpus.chat import SYSTEMS, Turn, careless, conversation, plain_text, problem_turn
from demo_corpus.draw import Draw
from demo_corpus.word_problems import KINDS, Problem, make_problem

HELD_OUT_ONE_IN = 20
KIND_NAMES = list(KINDS)
NUMBERS = re.compile(r"\d+")


def key_of(kind: str, question: str) -> str:
    return f"{kind}:{','.join(map(str, sorted(map(int, NUMBERS.findall(question)))))}"


def is_held_out(kind: str, question: str) -> bool:
    digest = hashlib.sha256(key_of(kind, question).encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


def draw_problem(draw: Draw, held_out: bool, kind: str | None = None) -> Problem:
    name = kind or draw.pick(KIND_NAMES)
    while True:
        problem = make_problem(name, draw)
        if is_held_out(name, problem.question) == held_out:
            return problem


def training_problem(draw: Draw) -> Problem:
    return draw_problem(draw, held_out=False)


def held_out_problems(seed: int, per_kind: int) -> list[Problem]:
    """`per_kind` problems of every kind, all questions different, kinds taking turns."""
    draw = Draw(f"held-out {seed}")
    seen: set[str] = set()
    problems = []
    for _ in range(per_kind):
        for name in KIND_NAMES:
            for _ in range(1000):
                problem = draw_problem(draw, held_out=True, kind=name)
                if problem.question not in seen:
                    seen.add(problem.question)
                    problems.append(problem)
                    break
    return problems


class Document(NamedTuple):
    """A text to train on: a prompt with its completion, or a chat."""

    prompt: str = ""
    completion: str = ""
    system: str = ""
    turns: tuple[Turn, ...] = ()


def as_prompt(question: str) -> str:
    return f"Question: {question}\nAnswer:"


def training_documents(seed: int, count: int) -> Iterator[Document]:
    draw = Draw(f"training {seed}")
    for _ in range(count):
        yield training_document(draw)


def training_document(draw: Draw) -> Document:
    share = draw.random.random()
    if share < 0.48:
        problem = training_problem(draw)
        return Document(prompt=as_prompt(problem.question), completion=" " + problem.answer)
    system = draw.pick(SYSTEMS) if draw.chance(0.15) else ""
    if share < 0.76:
        said, answer = problem_turn(draw, training_problem)
        return Document(
            system=system, turns=((said if draw.chance(0.9) else careless(draw, said), answer),)
        )
    if share < 0.93:
        return Document(system=system, turns=tuple(conversation(draw, training_problem)))
    if share < 0.96:
        return few_shot(draw)
    return Document(completion=plain_text(draw))


def few_shot(draw: Draw) -> Document:
    """Two to four solved problems as a prompt for one more."""
    shown = [training_problem(draw) for _ in range(draw.number(1, 3))]
    asked = training_problem(draw)
    examples = "".join(f"{as_prompt(problem.question)} {problem.answer}\n\n" for problem in shown)
    return Document(prompt=examples + as_prompt(asked.question), completion=" " + asked.answer)
