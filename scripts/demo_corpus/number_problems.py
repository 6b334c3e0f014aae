"""Word problems about counting, sharing, comparing and averaging."""

from demo_corpus.draw import FRUITS, SHOPS, THINGS, Draw
from demo_corpus.problem_kinds import Parts, kind, listed, plus, times


@kind
def sharing(r: Draw) -> Parts:
    a = r.person()
    x = r.pick(THINGS)
    friends, each, boxes = r.number(3, 9), r.number(4, 30), r.pick([2, 3, 4, 5, 6, 8, 10])
    kept = r.number(0, boxes - 1) + 2
    while (friends * each + kept) % boxes:
        kept += 1
    size = (friends * each + kept) // boxes
    total = boxes * size
    question = r.say(
        f"{a} has {boxes} boxes with {size} {x} in each. {a.He} keeps {kept} {x} and shares the"
        f" rest equally among {friends} friends. How many {x} does each friend get?",
        f"There are {size} {x} in every box and {a} opens {boxes} boxes. After putting {kept}"
        f" aside, {a.he} gives the others in equal parts to {friends} children. How many {x} does"
        " each child get?",
        f"{friends} friends share {boxes} bags of {x} equally. Each bag holds {size} {x}, but {a}"
        f" takes out {kept} first. How many {x} are there for each of the friends?",
    )
    return (
        question,
        [
            f"There are {times(boxes, size)} {x}.",
            f"To share there are {total} - {kept} = {total - kept} {x}.",
            f"Each gets {total - kept} / {friends} = {each} {x}.",
        ],
        each,
    )


@kind
def comparison(r: Draw) -> Parts:
    a, b, c = r.people(3)
    x = r.pick(THINGS)
    n, k = r.number(5, 40), r.number(2, 5)
    d = r.number(2, n * k - 1 if n * k < 60 else 60)
    fewer = r.chance(0.5)
    word = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}[k]
    more = "fewer" if fewer else "more"
    third = n * k - d if fewer else n * k + d
    question = r.say(
        f"{a} has {n} {x}. {b} has {word} as many as {a}, and {c} has {d} {more} than {b}. How many"
        f" {x} do they have together?",
        f"{b} collected {word} as many {x} as {a}. {c} collected {d} {more} than {b}. If {a}"
        f" collected {n} {x}, how many did the three collect in total?",
        f"{c} owns {d} {more} {x} than {b}. {b} owns {word} as many as {a}, who owns {n}. How many"
        f" {x} do all three own?",
    )
    sign = "-" if fewer else "+"
    return (
        question,
        [
            f"{b} has {times(n, k)} {x}.",
            f"{c} has {n * k} {sign} {d} = {third} {x}.",
            f"Together they have {plus(n, n * k, third)} {x}.",
        ],
        n + n * k + third,
    )


@kind
def percent_group(r: Draw) -> Parts:
    percent = r.pick([10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90])
    total = r.number(20, 500, 20)
    left = r.number(1, 9)
    part = total * percent // 100
    rest = total - part
    group, yes = r.pick(
        [
            ("students", "walk to school"),
            ("members", "play chess"),
            ("guests", "drink tea"),
            ("visitors", "are children"),
            ("workers", "come by bus"),
            ("players", "are new"),
            ("children", "like carrots"),
            ("singers", "are adults"),
        ]
    )
    place = r.pick("school;club;hotel;camp;choir;team;town".split(";"))
    question = r.say(
        f"A {place} has {total} {group}. {percent} percent of them {yes}, and {left} of the others"
        " are ill today. How many of the others are not ill?",
        f"Of the {total} {group} of a {place}, {percent} percent {yes}. The others meet in the"
        f" hall, but {left} of them are late. How many are there on time?",
    )
    return (
        question,
        [
            (
                f"{percent} percent of {total} is {total} * {percent} / 100 = {total * percent} /"
                f" 100 = {part}."
            ),
            f"The others are {total} - {part} = {rest}.",
            f"Without the {left} there are {rest} - {left} = {rest - left}.",
        ],
        rest - left,
    )


@kind
def ages(r: Draw) -> Parts:
    a, b, c = r.people(3)
    n, k, d, years = r.number(3, 18), r.number(2, 4), r.number(1, 12), r.number(2, 20)
    word = {2: "twice", 3: "three times", 4: "four times"}[k]
    third = n * k + d
    total = n + n * k + third
    question = r.say(
        f"{a} is {n} years old. {b} is {word} as old as {a}, and {c} is {d} years older than {b}."
        f" What will be the sum of their ages in {years} years?",
        f"{c} is {d} years older than {b}. {b} is {word} as old as {a}, who is {n}. How old will"
        f" the three be together in {years} years?",
    )
    return (
        question,
        [
            f"{b} is {times(n, k)} years old.",
            f"{c} is {n * k} + {d} = {third} years old.",
            f"Today the sum is {plus(n, n * k, third)}.",
            f"In {years} years each is {years} years older, together 3 * {years} = {3 * years}.",
            f"The sum will be {total} + {3 * years} = {total + 3 * years}.",
        ],
        total + 3 * years,
    )


@kind
def average(r: Draw) -> Parts:
    a = r.person()
    count = r.number(3, 5)
    values = [r.number(10, 99) for _ in range(count)]
    values[-1] += (-sum(values)) % count
    what = r.pick(["points", "pages", "laps", "minutes", "letters", "tickets"])
    question = r.say(
        f"In {count} days {a} counts {listed(values)} {what}. What is the average number of {what}"
        " per day?",
        f"{a} notes the number of {what} of {count} days: {listed(values)}. What is the average?",
        f"{a}'s results in {count} rounds were {listed(values)} {what}. How many {what} is that per"
        " round on average?",
    )
    return (
        question,
        [
            f"The sum is {plus(*values)}.",
            f"The average is {sum(values)} / {count} = {sum(values) // count}.",
        ],
        sum(values) // count,
    )


@kind
def average_missing(r: Draw) -> Parts:
    a = r.person()
    count = r.number(3, 5)
    goal = r.number(60, 95)
    values = [min(100, max(40, goal + r.number(-15, 15))) for _ in range(count - 1)]
    last = goal * count - sum(values)
    if not 20 <= last <= 130:
        return average_missing(r)
    question = r.say(
        f"{a} scored {listed(values)} points in the first {count - 1} games. How many points does"
        f" {a.he} need in game {count} for an average of {goal}?",
        f"{a} wants an average of {goal} points over {count} tests. So far {a.he} has"
        f" {listed(values)}. How many points must the last test bring?",
    )
    return (
        question,
        [
            f"For an average of {goal} the sum must be {times(goal, count)}.",
            f"So far the sum is {plus(*values)}.",
            f"{a} needs {goal * count} - {sum(values)} = {last} points.",
        ],
        last,
    )


@kind
def fraction_sold(r: Draw) -> Parts:
    a = r.person()
    x = r.pick(THINGS)
    below = r.number(3, 9)
    above = r.number(1, below - 1)
    unit = r.number(5, 40)
    total = below * unit
    first = above * unit
    later = r.number(1, total - first - 1)
    rest = total - first - later
    question = r.say(
        f"{a} has {total} {x}. {a.He} sells {above}/{below} of them in the morning and {later} in"
        f" the afternoon. How many {x} are left?",
        f"A stall at the {r.pick(SHOPS)} starts with {total} {x}. {above}/{below} of the {x} are"
        f" sold on Saturday and {later} more on Sunday. How many remain?",
        f"From {total} {x}, {a} gives {above}/{below} to the school and then {later} to a friend."
        f" How many {x} does {a.he} still have?",
    )
    return (
        question,
        [
            f"1/{below} of {total} is {total} / {below} = {unit}.",
            f"{above}/{below} of them are {times(unit, above)} {x}.",
            f"Then there are {total} - {first} = {total - first} {x}.",
            f"At the end {total - first} - {later} = {rest} are left.",
        ],
        rest,
    )


@kind
def bus_stops(r: Draw) -> Parts:
    riders = r.number(8, 60)
    vehicle = r.pick(["bus", "tram", "train", "ferry"])
    stops = r.number(2, 4)
    text, steps, now = "", [], riders
    for index in range(stops):
        off, on = r.number(1, max(1, now - 1)), r.number(1, 30)
        text += r.say(
            f" At the next stop {off} get off and {on} get on.",
            f" Then {off} people leave and {on} people enter.",
        )
        steps.append(
            f"After stop {index + 1}: {now} - {off} = {now - off}, {now - off} + {on} ="
            f" {now - off + on}."
        )
        now += on - off
    question = (
        f"A {vehicle} leaves with {riders} people on board.{text} How many people are on the"
        f" {vehicle} now?"
    )
    return question, steps, now


@kind
def farm_legs(r: Draw) -> Parts:
    a = r.person()
    x, y, z = r.number(3, 60), r.number(3, 60), r.number(2, 12)
    four = r.pick(["cows", "sheep", "goats", "horses", "pigs"])
    two = r.pick(["chickens", "ducks", "geese", "turkeys"])
    question = r.say(
        f"{a} has {x} {four}, {y} {two} and {z} spiders in the barn. How many legs do the animals"
        " have altogether?",
        f"On a farm live {x} {four} and {y} {two}, and {z} spiders hide in the straw. How many legs"
        " are there in all?",
    )
    return (
        question,
        [
            f"The {four} have {x} * 4 = {x * 4} legs.",
            f"The {two} have {y} * 2 = {y * 2} legs.",
            f"The spiders have {z} * 8 = {z * 8} legs.",
            f"In all there are {plus(x * 4, y * 2, z * 8)} legs.",
        ],
        x * 4 + y * 2 + z * 8,
    )


@kind
def heads_and_legs(r: Draw) -> Parts:
    four, two = r.pick(["cows", "rabbits", "goats", "horses"]), r.pick(
        ["chickens", "ducks", "geese"]
    )
    x, y = r.number(2, 60), r.number(2, 60)
    heads, legs = x + y, 4 * x + 2 * y
    question = r.say(
        f"A farm has {four} and {two}, {heads} animals in all. Together they have {legs} legs. How"
        f" many {four} are there?",
        f"{heads} heads and {legs} legs: they belong to the {four} and the {two} of a farmer. How"
        f" many are {four}?",
    )
    return (
        question,
        [
            f"If all were {two} there would be {heads} * 2 = {heads * 2} legs.",
            f"There are {legs} - {heads * 2} = {legs - heads * 2} legs more.",
            f"Each of the {four} has 2 more, so there are {legs - heads * 2} / 2 = {x} {four}.",
        ],
        x,
    )


@kind
def ratio(r: Draw) -> Parts:
    a, b = r.people(2)
    x, y, unit = r.number(1, 9), r.number(1, 9), r.number(3, 40)
    if x >= y:
        return ratio(r)
    total = (x + y) * unit
    what = r.pick(["dollars", *THINGS[:20]])
    question = r.say(
        f"{a} and {b} share {total} {what} in the ratio {x} to {y}. How many more {what} does {b}"
        f" get than {a}?",
        f"{total} {what} are divided between {a} and {b}. For every {x} that {a} gets, {b} gets"
        f" {y}. How many more does {b} have at the end?",
    )
    return (
        question,
        [
            f"There are {x} + {y} = {x + y} parts.",
            f"One part is {total} / {x + y} = {unit} {what}.",
            f"{a} gets {times(unit, x)} and {b} gets {times(unit, y)}.",
            f"The difference is {unit * y} - {unit * x} = {unit * (y - x)}.",
        ],
        unit * (y - x),
    )


@kind
def secret_number(r: Draw) -> Parts:
    a = r.person()
    x, m, p, d = r.number(3, 40), r.number(2, 9), r.number(2, 60), r.number(2, 6)
    value = x * m + p
    if value % d:
        return secret_number(r)
    out = value // d
    question = r.say(
        f"{a} thinks of a number, multiplies it by {m}, adds {p} and divides the sum by {d}. The"
        f" result is {out}. What is the number?",
        f"If {a} multiplies {a.his} secret number by {m}, adds {p} and then divides by {d}, {a.he}"
        f" gets {out}. Which number is it?",
    )
    return (
        question,
        [
            f"Before the division it was {times(out, d)}.",
            f"Before the addition it was {value} - {p} = {value - p}.",
            f"The number is {value - p} / {m} = {x}.",
        ],
        x,
    )


@kind
def orchard(r: Draw) -> Parts:
    a = r.person()
    x = r.pick(FRUITS)
    rows, trees, per, spoiled = r.number(2, 9), r.number(2, 12), r.number(5, 40), r.number(2, 90)
    count = rows * trees
    total = count * per
    if spoiled >= total:
        return orchard(r)
    question = r.say(
        f"{a}'s orchard has {rows} rows of {trees} trees. Each tree gives {per} {x}, but {spoiled}"
        f" {x} are spoiled. How many good {x} are there?",
        f"In {rows} rows stand {trees} trees each. {a} picks {per} {x} from every tree and throws"
        f" {spoiled} bad ones away. How many {x} remain?",
    )
    return (
        question,
        [
            f"There are {times(rows, trees)} trees.",
            f"They give {times(count, per)} {x}.",
            f"{total} - {spoiled} = {total - spoiled} are good.",
        ],
        total - spoiled,
    )


@kind
def one_step(r: Draw) -> Parts:
    a, b = r.people(2)
    x = r.pick(THINGS)
    move = r.number(0, 3)
    if move == 0:
        n, m = r.number(2, 99), r.number(2, 99)
        question = r.say(
            f"{a} has {n} {x} and buys {m} more. How many {x} does {a.he} have?",
            f"I have {n} {x} and get {m} more. How many {x} do I have?",
            f"If I have {n} {x} and buy {m} more, how many do I have?",
            f"{a} has {n} {x} and {b} has {m}. How many do they have together?",
        )
        return question, [f"{n} + {m} = {n + m}"], n + m
    if move == 1:
        n = r.number(3, 99)
        m = r.number(1, n - 1)
        question = r.say(
            f"{a} has {n} {x} and gives {m} to {b}. How many {x} are left?",
            f"I have {n} {x} and lose {m}. How many {x} do I have left?",
            f"There are {n} {x} on a table. {a} takes {m} away. How many are left?",
        )
        return question, [f"{n} - {m} = {n - m}"], n - m
    n, m = r.number(2, 20), r.number(2, 20)
    if move == 2:
        question = r.say(
            f"{a} has {n} boxes with {m} {x} each. How many {x} are there?",
            f"There are {n} bags of {m} {x}. How many {x} is that?",
            f"One of the {x} costs {n} dollars. What do {m} of them cost?",
        )
        return question, [times(n, m)], n * m
    question = r.say(
        f"{a} shares {n * m} {x} equally among {n} friends. How many does each get?",
        f"{n * m} {x} are put into {n} boxes. How many are in each?",
    )
    return question, [f"{n * m} / {n} = {m}"], m
