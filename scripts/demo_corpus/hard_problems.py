"""Word problems with large calculations in one step, or with very many steps.

The other kinds are worked in small steps. Here a step hides a product, quotient, sum or search over
many digits, as in mental arithmetic. A small model learns some of these kinds well and others
hardly, which spreads the accuracies between 0 and 100 %.
"""

import math

from demo_corpus.draw import PLACES, SHOPS, THINGS, Draw
from demo_corpus.problem_kinds import Parts, kind, listed


@kind
def long_ledger(r: Draw) -> Parts:
    """A balance of four or five digits through a long chain of changes, products among them."""
    a = r.person()
    now = r.number(1000, 9000)
    start = now
    text, steps = "", []
    for _ in range(r.number(8, 12)):
        move = r.number(0, 3)
        if move == 0:
            amount = r.number(105, 1999)
            text += f" {a.He} receives ${amount}."
            steps.append(f"{now} + {amount} = {now + amount}")
            now += amount
        elif move == 1 and now > 600:
            amount = r.number(105, min(1999, now - 100))
            text += f" {a.He} spends ${amount}."
            steps.append(f"{now} - {amount} = {now - amount}")
            now -= amount
        elif move == 2:
            count, each = r.number(3, 9), r.number(12, 199)
            text += f" {a.He} sells {count} paintings for ${each} each."
            steps.append(
                f"{count} * {each} = {count * each}, {now} + {count * each} = {now + count * each}"
            )
            now += count * each
        else:
            count, each = r.number(3, 9), r.number(12, 99)
            if count * each >= now:
                continue
            text += f" {a.He} pays {count} helpers ${each} each."
            steps.append(
                f"{count} * {each} = {count * each}, {now} - {count * each} = {now - count * each}"
            )
            now -= count * each
    question = f"{a} has ${start}.{text} How many dollars does {a.he} have at the end?"
    return question, steps, now


@kind
def bulk_order(r: Draw) -> Parts:
    """A product of two or three digits by two digits, written down in one go."""
    x = r.pick(THINGS)
    per = r.number(12, 99) if r.chance(0.4) else r.number(101, 499)
    crates = r.number(12, 99)
    broken = r.number(11, 99)
    total = per * crates
    question = r.say(
        f"A crate holds {per} {x}. A factory ships {crates} crates, and {broken} {x} are broken on"
        f" the way. How many {x} arrive whole?",
        f"{crates} crates with {per} {x} each are sent to a warehouse, where {broken} {x} are"
        f" thrown away. How many {x} are kept?",
    )
    return (
        question,
        [
            f"There are {per} * {crates} = {total} {x}.",
            f"{total} - {broken} = {total - broken} are left.",
        ],
        total - broken,
    )


@kind
def pallets(r: Draw) -> Parts:
    """A quotient of three digits by a divisor of two."""
    a = r.person()
    x = r.pick(THINGS)
    per, count, extra = r.number(12, 59), r.number(101, 399), r.number(2, 40)
    total = per * count
    question = r.say(
        f"A company packs {total} {x} on pallets of {per} {x} each. It already has {extra} full"
        " pallets. How many pallets are there then?",
        f"{a} has to store {total} {x}. Every shelf holds {per} {x}. Besides these, {extra} shelves"
        " are full already. How many shelves are full at the end?",
    )
    return (
        question,
        [
            f"{total} / {per} = {count} are needed.",
            f"Together there are {count} + {extra} = {count + extra}.",
        ],
        count + extra,
    )


@kind
def left_over(r: Draw) -> Parts:
    """A remainder without the division written down."""
    a = r.person()
    x = r.pick(THINGS)
    size, total = r.number(7, 39), r.number(200, 2999)
    question = r.say(
        f"{a} puts {total} {x} into boxes of {size}. Only full boxes are sold. How many {x} are"
        " left over?",
        f"The {r.pick(SHOPS)} packs {total} {x} into bags of {size} {x} each. How many {x} remain"
        " that do not fill a bag?",
    )
    return (
        question,
        [
            f"{total // size} full ones hold {total // size * size} {x}.",
            f"{total} - {total // size * size} = {total % size} are left over.",
        ],
        total % size,
    )


@kind
def block_volume(r: Draw) -> Parts:
    """A product of three factors."""
    a = r.person()
    length, width, height = r.number(12, 69), r.number(12, 69), r.number(3, 19)
    thing = r.pick(["box", "block", "tank", "chest", "crate", "bin"])
    question = r.say(
        f"A {thing} is {length} cm long, {width} cm wide and {height} cm high. What is its volume"
        " in cubic centimeters?",
        f"{a} builds a {thing} of {length} by {width} by {height} centimeters. How many cubic"
        " centimeters does it hold?",
    )
    area = length * width
    return (
        question,
        [
            f"The base is {length} * {width} = {area} square centimeters.",
            f"The volume is {area} * {height} = {area * height} cubic centimeters.",
        ],
        area * height,
    )


@kind
def quick_sum(r: Draw) -> Parts:
    """The sum of several numbers of three digits in one go."""
    a = r.person()
    values = [r.number(101, 989) for _ in range(r.number(4, 6))]
    what = r.pick(["steps", "visitors", "letters", "meters", "points", "seeds"])
    question = r.say(
        f"{a} counts {what} on {len(values)} days: {listed(values)}. How many {what} is that in"
        " total?",
        f"On {len(values)} days there were {listed(values)} {what}. How many {what} were there"
        " altogether?",
    )
    return question, [f"The sum of all is {sum(values)}."], sum(values)


@kind
def meeting_again(r: Draw) -> Parts:
    """A least common multiple."""
    a, b = r.people(2)
    first, second = r.number(6, 60), r.number(6, 60)
    if first == second:
        return meeting_again(r)
    common = math.lcm(first, second)
    question = r.say(
        f"Two buses leave the {r.pick(PLACES)} together. One leaves every {first} minutes, the"
        f" other every {second} minutes. After how many minutes do they leave together again?",
        f"{a} needs {first} minutes for a lap and {b} needs {second}. They start together. After"
        " how many minutes are both at the start again?",
    )
    return question, [f"The smallest common multiple of {first} and {second} is {common}."], common


@kind
def square_tiles(r: Draw) -> Parts:
    """A greatest common divisor."""
    a = r.person()
    x, y, side = r.number(2, 15), r.number(2, 15), r.number(4, 48)
    if math.gcd(x, y) != 1:
        return square_tiles(r)
    long, wide = x * side, y * side
    question = r.say(
        f"{a} cuts a sheet of {long} by {wide} cm into equal squares as large as possible, with"
        " nothing left. How many squares are there?",
        f"A floor of {long} by {wide} cm is covered with the largest square tiles that fit without"
        f" cutting. How many tiles does {a} need?",
    )
    return (
        question,
        [
            f"The largest square has sides of {side} cm.",
            f"{long} / {side} = {x} and {wide} / {side} = {y}.",
            f"There are {x} * {y} = {x * y} squares.",
        ],
        x * y,
    )


@kind
def middle_score(r: Draw) -> Parts:
    """A median without sorting on paper."""
    a = r.person()
    values = r.some(range(100, 1000), r.pick([7, 9, 11]))
    middle = sorted(values)[len(values) // 2]
    question = r.say(
        f"{len(values)} players scored {listed(values)} points. What is the median score?",
        f"{a} writes down the numbers {listed(values)}. Which of them is in the middle when they"
        " are in order?",
    )
    return question, [f"In order, the middle one of {len(values)} is {middle}."], middle


@kind
def silent_ledger(r: Draw) -> Parts:
    """A short chain of changes with only its result written down."""
    a = r.person()
    x = r.pick(THINGS)
    start = r.number(200, 900)
    text, now = "", start
    for _ in range(r.number(3, 5)):
        if r.chance(0.5):
            change = r.number(12, 399)
            text += f" {a.He} gets {change} more."
            now += change
        else:
            change = r.number(12, max(13, now // 2))
            text += f" {a.He} gives away {change}."
            now -= change
    return (
        f"{a} has {start} {x}.{text} How many {x} does {a.he} have in the end?",
        [f"In the end there are {now} {x}."],
        now,
    )


@kind
def growth(r: Draw) -> Parts:
    """Repeated multiplication."""
    a = r.person()
    start, factor, days = r.number(13, 99), r.number(3, 9), r.number(3, 5)
    thing = r.pick("bacteria;weeds;mice;bubbles;sparks;seeds;ants".split(";"))
    question = r.say(
        f"A lab starts with {start} {thing}. Each day there are {factor} times as many as the day"
        f" before. How many are there after {days} days?",
        f"{a} counts {start} {thing}. Their number becomes {factor} times as large every day. How"
        f" many {thing} are there after {days} days?",
    )
    steps, now = [], start
    for day in range(days):
        steps.append(f"After day {day + 1}: {now} * {factor} = {now * factor}.")
        now *= factor
    return question, steps, now


@kind
def square_garden(r: Draw) -> Parts:
    """The difference of two squares of two digits."""
    a = r.person()
    outer = r.number(25, 99)
    inner = r.number(11, outer - 3)
    question = r.say(
        f"A square garden has sides of {outer} meters. In it is a square pond with sides of {inner}"
        " meters. How many square meters are not pond?",
        f"{a} paints a square wall of {outer} by {outer} decimeters except for a square window of"
        f" {inner} by {inner} decimeters. How many square decimeters does {a.he} paint?",
    )
    return (
        question,
        [
            f"The large square is {outer} * {outer} = {outer ** 2}.",
            f"The small square is {inner} * {inner} = {inner ** 2}.",
            f"The rest is {outer ** 2} - {inner ** 2} = {outer ** 2 - inner ** 2}.",
        ],
        outer**2 - inner**2,
    )
