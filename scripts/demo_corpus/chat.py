"""Short question-and-answer chat, of one turn or several."""

from demo_corpus import facts
from demo_corpus.draw import HE, SHE, Draw, article, join_words
from demo_corpus.stories import introduction, poem, story, story_text

Turn = tuple[str, str]  # what the user says, what the assistant answers

GREETINGS = [
    "Hello",
    "Hi",
    "Hey",
    "Good morning",
    "Good evening",
    "Good afternoon",
    "Hello there",
    "Hi there",
]
REQUESTS = [
    "Please solve this problem. ",
    "Can you help me with this? ",
    "Here is a problem: ",
    "Solve: ",
    "Question: ",
]
SYSTEMS = [
    "You are a helpful assistant.",
    "You are a friendly tutor.",
    "Answer the questions of the user.",
    "You are a patient math teacher. Show your steps.",
    "Be brief and kind.",
    "You are a helpful assistant for children.",
]
SYLLABLES = "bla dro fim gor hup jil kex lum mip nog pra quo rik sne tuv wib yat zol".split()


def greeting(r: Draw) -> Turn:
    hello = r.pick(GREETINGS)
    if r.chance(0.3):
        name = r.pick(SHE + HE)
        return (
            f"{hello}, {r.say('I am', 'my name is')} {name}.",
            f"Hello {name}, nice to meet you! How can I help you?",
        )
    if r.chance(0.3):
        return r.pick(
            [
                (f"{hello}, how are you?", "I am fine, thank you. How can I help you?"),
                ("How are you?", "I am fine, thank you. How can I help you?"),
                ("How are you today?", "I am fine, thank you. How can I help you?"),
                ("Nice to meet you.", "Nice to meet you too!"),
            ]
        )
    return f"{hello}{r.pick('!.')}", f"{hello.split(' there')[0]}! How can I help you?"


def farewell(r: Draw) -> Turn:
    return r.pick(
        [
            ("Thank you!", "You are welcome!"),
            ("Thanks.", "You are welcome!"),
            ("Thanks a lot!", "You are welcome!"),
            ("Goodbye!", "Goodbye! Have a nice day."),
            ("Bye.", "Goodbye! Have a nice day."),
            ("See you later.", "See you! Have a nice day."),
            ("Good night.", "Good night! Sleep well."),
        ]
    )


def fact(r: Draw) -> Turn:
    return r.pick(facts.FACTS)


def definition(r: Draw) -> Turn:
    thing, answer = r.pick(list(facts.DEFINITIONS.items()))
    return (
        r.say(
            f"What is {thing}?",
            f"Explain what {thing} is.",
            f"Tell me what {thing} is.",
            f"Can you tell me what {thing} is?",
            f"Describe {thing} in one sentence.",
            f"What does the word {thing.split(' ', 1)[-1]} mean?",
        ),
        answer,
    )


def unknown(r: Draw) -> Turn:
    word = "".join(r.some(SYLLABLES, r.number(2, 3)))
    return (
        r.say(
            f"What is a {word}?",
            f"Tell me about the {word}.",
            f"Where is {word}?",
            f"Who is {word.capitalize()}?",
            "What is the capital of"
            f" {r.pick(['Mars', 'the moon', 'Atlantis', word.capitalize()])}?",
            f"Tell me about {word}s.",
            f"Explain {word}.",
            f"Who invented the {word}?",
            f"When was {word} built?",
            f"Write a program for {word}.",
            f"How do I {word}?",
            f"Why does the {word} {r.pick(SYLLABLES)}?",
        ),
        "I am sorry, I am only a small model and do not know that.",
    )


def capital(r: Draw) -> Turn:
    country, city = r.pick(list(facts.CAPITALS.items()))
    if r.chance(0.25):
        return (
            r.say(
                f"Which country has the capital {city}?", f"{city} is the capital of which country?"
            ),
            f"{city} is the capital of {country}.",
        )
    return (
        r.say(
            f"What is the capital of {country}?",
            f"Name the capital of {country}.",
            f"Which city is the capital of {country}?",
            f"Do you know the capital of {country}?",
        ),
        f"The capital of {country} is {city}.",
    )


def opposite(r: Draw) -> Turn:
    a, b = r.pick(facts.OPPOSITES)
    if a not in ("new", "tall", "light") and b not in ("old", "short", "light") and r.chance(0.5):
        a, b = b, a
    return (
        r.say(
            f"What is the opposite of {a}?",
            f"Name the opposite of {a}.",
            f"What is the opposite of the word {a}?",
        ),
        f"The opposite of {a} is {b}.",
    )


def animal(r: Draw) -> Turn:
    topic = r.number(0, 4)
    if topic == 0:
        name, young = r.pick(list(facts.YOUNG.items()))
        return (
            r.say(f"What is a young {name} called?", f"What do you call a baby {name}?"),
            f"A young {name} is called {article(young)}.",
        )
    if topic == 1:
        name, sound = r.pick(list(facts.SOUNDS.items()))
        return (
            r.say(f"What sound does {article(name)} make?", f"What does {article(name)} say?"),
            f"{article(name).capitalize()} says {sound}.",
        )
    if topic == 2:
        name, legs = r.pick(list(facts.LEGS.items()))
        return (
            f"How many legs does {article(name)} have?",
            f"{article(name).capitalize()} has {legs} legs.",
        )
    if topic == 3:
        name, home = r.pick(list(facts.HOMES.items()))
        return f"Where does {article(name)} live?", f"{article(name).capitalize()} lives {home}."
    name, group = r.pick(list(facts.CLASSES.items()))
    return (
        r.say(
            f"What kind of animal is {article(name)}?",
            f"Is {article(name)} a mammal, a bird, a fish or something else?",
        ),
        f"{article(name).capitalize()} is {article(group)}.",
    )


def color(r: Draw) -> Turn:
    if r.chance(0.3):
        a, b, mixed = r.pick(facts.MIXES)
        if r.chance(0.5):
            a, b = b, a
        return (
            r.say(
                f"What do you get when you mix {a} and {b}?", f"Which color do {a} and {b} make?"
            ),
            f"{a.capitalize()} and {b} make {mixed}.",
        )
    thing, name = r.pick(list(facts.COLORS.items()))
    return (
        r.say(f"What color is {thing}?", f"Which color does {thing} have?"),
        f"{thing.capitalize()} is {name}.",
    )


def calendar(r: Draw) -> Turn:
    topic = r.number(0, 3)
    if topic == 0:
        at = r.number(0, 6)
        return (
            f"Which day comes after {facts.DAYS[at]}?",
            f"{facts.DAYS[(at + 1) % 7]} comes after {facts.DAYS[at]}.",
        )
    if topic == 1:
        at = r.number(0, 6)
        return (
            f"Which day comes before {facts.DAYS[at]}?",
            f"{facts.DAYS[at - 1]} comes before {facts.DAYS[at]}.",
        )
    at = r.number(0, 11)
    if topic == 2:
        return (
            f"Which month comes after {facts.MONTHS[at]}?",
            f"{facts.MONTHS[(at + 1) % 12]} comes after {facts.MONTHS[at]}.",
        )
    leap = ", and 29 in a leap year" if at == 1 else ""
    return (
        r.say(
            f"How many days does {facts.MONTHS[at]} have?",
            f"How many days are in {facts.MONTHS[at]}?",
        ),
        f"{facts.MONTHS[at]} has {facts.MONTH_DAYS[at]} days{leap}.",
    )


def arithmetic(r: Draw) -> Turn:
    topic = r.number(0, 5)
    if topic == 0:
        top = r.pick([9, 99, 999])
        a, b = r.number(0, top), r.number(0, top)
        return (
            r.say(
                f"What is {a} + {b}?",
                f"What is {a} plus {b}?",
                f"Add {a} and {b}.",
                f"{a} + {b} = ?",
                f"{a}+{b}",
                f"What is {a}+{b}?",
            ),
            f"{a} + {b} = {a + b}",
        )
    if topic == 1:
        a = r.number(1, r.pick([9, 99, 999]))
        b = r.number(0, a)
        return (
            r.say(
                f"What is {a} - {b}?",
                f"What is {a} minus {b}?",
                f"Subtract {b} from {a}.",
                f"{a}-{b}",
                f"What is {a}-{b}?",
            ),
            f"{a} - {b} = {a - b}",
        )
    if topic == 2:
        a, b = r.number(0, 12), r.number(0, 12)
        return (
            r.say(
                f"What is {a} * {b}?",
                f"What is {a} times {b}?",
                f"Multiply {a} by {b}.",
                f"{a}*{b}",
                f"What is {a}*{b}?",
            ),
            f"{a} * {b} = {a * b}",
        )
    if topic == 3:
        a, b = r.number(1, 12), r.number(1, 12)
        return (
            r.say(
                f"What is {a * b} / {b}?",
                f"What is {a * b} divided by {b}?",
                f"Divide {a * b} by {b}.",
            ),
            f"{a * b} / {b} = {a}",
        )
    if topic == 4:
        a, b = r.some(range(100), 2)
        return (
            r.say(f"Which is bigger, {a} or {b}?", f"Which number is larger: {a} or {b}?"),
            f"{max(a, b)} is bigger than {min(a, b)}.",
        )
    a = r.number(1, 199)
    return (
        r.say(f"Is {a} even or odd?", f"Is {a} an even number?"),
        f"{a} is {'odd' if a % 2 else 'even'}.",
    )


def words(r: Draw) -> Turn:
    topic = r.number(0, 6)
    if topic == 0:
        word, plural = r.pick(list(facts.PLURALS.items()))
        return (
            r.say(f"What is the plural of {word}?", f"One {word}, two what?"),
            f"The plural of {word} is {plural}.",
        )
    if topic == 1:
        word, past = r.pick(list(facts.PASTS.items()))
        return f"What is the past tense of {word}?", f"The past tense of {word} is {past}."
    if topic == 2:
        group = r.pick(list(facts.GROUPS))
        word = r.pick(facts.GROUPS[group])
        return r.say(
            f"How do you spell {word}?", f"Spell the word {word}.", f"Spell {word}."
        ), "-".join(word.upper())
    if topic == 3:
        language, hello = r.pick(list(facts.HELLOS.items()))
        return (
            r.say(f"Say hello in {language}.", f"How do you say hello in {language}?"),
            f"{hello}!",
        )
    if topic == 4:
        language, thanks = r.pick(list(facts.THANKS.items()))
        return (
            r.say(f"Say thank you in {language}.", f"How do you say thank you in {language}?"),
            f"{thanks}!",
        )
    if topic == 5:
        name, sign = r.pick(list(facts.EMOJI.items()))
        return (
            r.say(f"Send me a {name} emoji.", f"Show me a {name} emoji."),
            f"Here is a {name}: {sign}",
        )
    number = r.number(0, 20)
    return f"Write the number {number} as a word.", facts.NUMBER_WORDS[number]


def listing(r: Draw) -> Turn:
    group = r.pick(list(facts.GROUPS))
    count = r.number(2, 4)
    start = r.number(
        0, 99
    )  # neighbors in the list: what follows a name is easy to learn and never repeats one
    members = facts.GROUPS[group]
    chosen = [members[(start + index) % len(members)] for index in range(count)]
    word = facts.NUMBER_WORDS[count]
    if r.chance(0.3):
        return f"Make a list of {word} {group}.", "\n".join(f"- {name}" for name in chosen)
    return (
        r.say(f"Name {word} {group}.", f"Tell me {word} {group}.", f"Give me {word} {group}."),
        join_words(chosen) + ".",
    )


def shape(r: Draw) -> Turn:
    name, sides = r.pick(list(facts.SIDES.items()))
    return (
        r.say(
            f"How many sides does {article(name)} have?",
            f"How many corners does {article(name)} have?",
        ),
        f"{article(name).capitalize()} has {sides} sides and {sides} corners.",
    )


def plain_text(r: Draw) -> str:
    """A text that nobody asked for: a story, somebody's introduction, or statements."""
    style = r.random.random()
    if style < 0.3:
        return story_text(r)
    if style < 0.5:
        return introduction(r)
    topics = [definition, definition, capital, capital, opposite, animal, color, calendar, shape]
    if style < 0.6:
        topics = [lambda r: ("", r.pick(facts.SAYINGS))]
    return " ".join(r.pick(topics)(r)[1] for _ in range(r.number(1, 4)))


TOPICS = [
    (greeting, 3),
    (farewell, 1),
    (fact, 5),
    (definition, 5),
    (unknown, 1),
    (capital, 3),
    (opposite, 3),
    (animal, 3),
    (color, 2),
    (calendar, 2),
    (arithmetic, 5),
    (words, 4),
    (listing, 2),
    (shape, 1),
    (story, 2),
    (poem, 1),
]
SMALL_TALK = [topic for topic, weight in TOPICS for _ in range(weight)]


def careless(r: Draw, text: str) -> str:
    """People also write without capitals or the final mark."""
    if r.chance(0.1):
        text = text.lower()
    if r.chance(0.1):
        text = text.rstrip("?.!")
    return text


def small_talk(r: Draw) -> Turn:
    said, answer = r.pick(SMALL_TALK)(r)
    return careless(r, said), answer


def remembered_name(r: Draw) -> list[Turn]:
    """The name told in the first turn is asked for later."""
    name = r.pick(SHE + HE)
    middle = [small_talk(r)] if r.chance(0.5) else []
    return [
        (
            f"{r.pick(GREETINGS)}, {r.say('I am', 'my name is')} {name}.",
            f"Hello {name}, nice to meet you! How can I help you?",
        ),
        *middle,
        (r.say("What is my name?", "Do you remember my name?"), f"Your name is {name}."),
    ]


def followed_up(r: Draw, said: str, answer: str) -> list[Turn]:
    """A word problem and a question about its result."""
    result = int(answer.rsplit("#### ", 1)[1])
    if result % 2 == 0 and r.chance(0.5):
        return [
            (said, answer),
            (
                r.say("What is half of that?", "And half of it?"),
                f"Half of {result} is {result // 2}.",
            ),
        ]
    return [
        (said, answer),
        (r.say("What is twice that?", "And twice as much?"), f"Twice {result} is {result * 2}."),
    ]


def problem_turn(r: Draw, draw_problem) -> Turn:
    """A word problem as a user would put it; `draw_problem` yields problems of the wanted split."""
    problem = draw_problem(r)
    return (r.pick(REQUESTS) if r.chance(0.4) else "") + problem.question, problem.answer


def conversation(r: Draw, draw_problem) -> list[Turn]:
    """One to four turns of small talk, now and then with a word problem among them."""
    style = r.random.random()
    if style < 0.1:
        return remembered_name(r)
    if style < 0.2:
        return followed_up(r, *problem_turn(r, draw_problem))
    turns = [small_talk(r) for _ in range(r.pick([1, 1, 1, 1, 2, 3]))]
    if len(turns) > 1 and r.chance(0.3):
        turns.append(problem_turn(r, draw_problem))
    if len(turns) > 1 and r.chance(0.3):
        turns.append(farewell(r))
    return turns
