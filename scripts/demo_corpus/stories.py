"""Longer texts: little stories, poems, somebody's introduction."""

from demo_corpus import facts
from demo_corpus.draw import Draw, article

STORY_ANIMALS = (
    "fox cat dog mouse rabbit bear owl duck hedgehog squirrel pony lamb penguin frog turtle".split()
)
STORY_NAMES = (
    "Pip Momo Bella Rusty Luna Nibbles Toby Daisy Pepper Coco Finn Willow Hazel Max Poppy".split()
)


def story_text(r: Draw, hero: str | None = None) -> str:
    hero = hero or r.pick(STORY_ANIMALS)
    friend = r.pick([name for name in STORY_ANIMALS if name != hero])
    name, other = r.some(STORY_NAMES, 2)
    place = r.pick(
        [
            "in a green forest",
            "near a quiet lake",
            "on a small farm",
            "at the edge of a village",
            "under an old oak tree",
            "on a windy hill",
            "behind a red barn",
            "by the sea",
        ]
    )
    lost = r.pick(
        [
            "shiny bell",
            "red scarf",
            "little boat",
            "golden key",
            "warm hat",
            "blue kite",
            "picture book",
            "round stone",
        ]
    )
    weather = r.pick(
        [
            "sunny morning",
            "rainy day",
            "cold winter day",
            "warm evening",
            "windy afternoon",
            "foggy morning",
        ]
    )
    found = r.pick(
        [
            "under a bush",
            "behind a big rock",
            "in the tall grass",
            "in a hollow tree",
            "next to the well",
            "at the bottom of the pond",
        ]
    )
    return " ".join(
        [
            r.say(
                f"Once upon a time, there was a little {hero} named {name} who lived {place}.",
                f"There once was a {hero} called {name} who lived {place}.",
                f"A young {hero} named {name} lived {place}.",
            ),
            r.say(
                f"On a {weather}, {name} lost a {lost}.",
                f"One {weather}, {name} went for a walk and lost a {lost}.",
            ),
            r.say(
                f"{name} looked everywhere but could not find it.",
                f"{name} was very sad and searched all day.",
            ),
            r.say(
                f'Then a friendly {friend} named {other} came along and asked, "Can I help you?"',
                f'{article(friend).capitalize()} named {other} saw this and said, "Let us look'
                ' together."',
            ),
            r.say(
                f"Together they found the {lost} {found}.",
                f"After a while, {other} spotted the {lost} {found}.",
            ),
            r.say(
                f"{name} was so happy that they shared a big piece of cake.",
                f"{name} thanked {other}, and they played until the sun went down.",
            ),
            r.say(
                f"From that day on, {name} and {other} were best friends.",
                "And they lived happily ever after.",
            ),
        ]
    )


HOME_PLACES = ["in a small village", "in a big city", "near a lake", "on a farm", "by the sea"]


def introduction(r: Draw) -> str:
    """Somebody tells about himself or herself."""
    person = r.person()
    return " ".join(
        [
            r.say(f"Hello, my name is {person}.", f"Hi, I am {person}.", f"My name is {person}."),
            (f"I am {r.number(8, 70)} years old and live" f" {r.pick(HOME_PLACES)}."),
            (
                f"I have {article(r.pick(['cat', 'dog', 'horse', 'rabbit', 'goat', 'duck']))} and"
                f" like {r.pick(facts.GROUPS['colors'])} {r.pick(facts.GROUPS['flowers'])}s."
            ),
            (
                f"My favorite sport is {r.pick(facts.GROUPS['sports'])}, and I like to drink"
                f" {r.pick(facts.GROUPS['drinks'])}."
            ),
        ]
    )


def poem(r: Draw) -> tuple[str, str]:
    topic, text = r.pick(list(facts.POEMS.items()))
    return (
        r.say(
            f"Write a poem about {topic}.",
            f"Write a short poem about {topic}.",
            f"Can you write a poem about {topic}?",
        ),
        text,
    )


def story(r: Draw) -> tuple[str, str]:
    hero = r.pick(STORY_ANIMALS)
    if r.chance(0.3):
        return r.say(
            "Tell me a story.", "Tell me a short story.", "Write a short story."
        ), story_text(r)
    return r.say(
        f"Tell me a story about {article(hero)}.",
        f"Tell me a short story about {article(hero)}.",
        f"Write a short story about {article(hero)}.",
    ), story_text(r, hero)


# each with how often it comes up
