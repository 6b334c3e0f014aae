"""Random choices shared by the word problems and the chat: people, things, numbers, phrasings."""

import random
from typing import NamedTuple

SHE = (
    "Anna Maria Emma Olivia Sophie Grace Lily Nora Ruth Clara Alice Julia Zoe Mia Ella Hannah Ivy"
    " Leah Mei Priya Fatima Yuki Rosa Elena Tara Nina Amara Carla Dana Wendy"
).split()
HE = (
    "Tom Ben Jack Liam Noah Oscar Peter Sam Leo Max Paul Henry Adam Eric Felix George Hugo Ivan"
    " James Karl Luis Omar Raj Kenji Marco Daniel Victor Walter Dylan Caleb"
).split()

THINGS = (
    "apples oranges pens pencils notebooks books stickers marbles shells buttons cards stamps coins"
    " balloons candles cookies muffins cupcakes sandwiches ribbons beads toys kites magnets"
    " postcards erasers crayons lemons peaches tomatoes flowers tickets socks hats scarves bottles"
    " jars cups plates spoons lamps bricks tiles badges whistles ropes brushes masks puzzles"
    " bananas"
).split()
FRUITS = (
    "apples pears plums peaches oranges lemons melons cherries grapes mangoes figs kiwis".split()
)
SHOPS = (
    "corner shop;school fair;market;bookshop;garden shop;toy shop;bakery;craft store;museum shop;"
    "flea market;supermarket"
).split(";")
PLACES = "library;museum;farm;lake;beach;zoo;castle;airport;city;mountain hut;harbor;village".split(
    ";"
)


def article(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def join_words(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


class Person(NamedTuple):
    """A name with its pronouns: he/she, his/her, him/her."""

    name: str
    he: str
    his: str
    him: str

    def __str__(self) -> str:
        return self.name

    @property
    def He(self) -> str:
        return self.he.capitalize()


class Draw:
    """A seeded source of random choices; every draw of the corpus goes through one of these."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def number(self, low: int, high: int, step: int = 1) -> int:
        """A number in [low, high], a multiple of `step` away from low."""
        return low + step * int(self.random.random() * ((high - low) // step + 1))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, options):
        return options[int(self.random.random() * len(options))]

    def say(self, *phrasings: str) -> str:
        """One of several phrasings of the same thing."""
        return self.pick(phrasings)

    def some(self, options, count: int) -> list:
        """`count` different options."""
        return self.random.sample(options, count)

    def person(self) -> Person:
        if self.chance(0.5):
            return Person(self.pick(SHE), "she", "her", "her")
        return Person(self.pick(HE), "he", "his", "him")

    def people(self, count: int) -> list[Person]:
        """`count` people with different names."""
        found: dict[str, Person] = {}
        while len(found) < count:
            person = self.person()
            found[person.name] = person
        return list(found.values())
