"""Word problems about lengths, times, speeds, amounts and rates."""

from demo_corpus.draw import PLACES, THINGS, Draw
from demo_corpus.problem_kinds import Parts, kind, plus, times


@kind
def speed_distance(r: Draw) -> Parts:
    a = r.person()
    v, h, w, g = r.number(8, 90), r.number(2, 9), r.number(8, 90), r.number(2, 9)
    unit = r.pick(["miles", "kilometers"])
    vehicle = r.pick(["drives", "travels", "rides"])
    question = r.say(
        f"{a} {vehicle} for {h} hours at {v} {unit} per hour and then for {g} hours at {w} {unit}"
        f" per hour. How many {unit} does {a.he} cover in all?",
        f"On the way to the {r.pick(PLACES)}, {a} moves at {v} {unit} per hour for the first {h}"
        f" hours. The last {g} hours {a.he} goes at {w} {unit} per hour. How long is the trip in"
        f" {unit}?",
        f"A train runs {h} hours at {v} {unit} per hour. After a stop it runs {g} hours at {w}"
        f" {unit} per hour. How far does it go, in {unit}?",
    )
    return (
        question,
        [
            f"The first part is {times(v, h)} {unit}.",
            f"The second part is {times(w, g)} {unit}.",
            f"The whole way is {plus(v * h, w * g)} {unit}.",
        ],
        v * h + w * g,
    )


@kind
def travel_time(r: Draw) -> Parts:
    a = r.person()
    speed, hours, rest = (
        r.pick([4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60]),
        r.number(2, 12),
        r.number(5, 55, 5),
    )
    distance = speed * hours
    question = r.say(
        f"The {r.pick(PLACES)} is {distance} miles away. {a} travels at {speed} miles per hour and"
        f" rests {rest} minutes on the way. How many minutes pass until {a.he} arrives?",
        f"{a} wants to go {distance} miles at {speed} miles per hour, with one break of {rest}"
        " minutes. How many minutes does the trip take?",
        f"How many minutes does {a} need for {distance} miles if {a.he} goes {speed} miles every"
        f" hour and stops once for {rest} minutes?",
    )
    return (
        question,
        [
            f"The way takes {distance} / {speed} = {hours} hours.",
            f"That is {hours} * 60 = {hours * 60} minutes.",
            f"With the break it is {hours * 60} + {rest} = {hours * 60 + rest} minutes.",
        ],
        hours * 60 + rest,
    )


@kind
def metric_length(r: Draw) -> Parts:
    a = r.person()
    meters, pieces, size = r.number(2, 9), r.number(2, 9), r.number(5, 95)
    extra = r.number(5, 95)
    total = meters * 100 + extra
    if pieces * size >= total:
        return metric_length(r)
    thing = r.pick(["rope", "ribbon", "wire", "cloth", "string", "wood"])
    question = r.say(
        f"{a} has {meters} meters and {extra} centimeters of {thing} and cuts off {pieces} pieces"
        f" of {size} centimeters each. How many centimeters are left?",
        f"{pieces} pieces of {size} centimeters are cut from a {thing} of {meters} m {extra} cm."
        f" How many centimeters of {thing} remain?",
    )
    return (
        question,
        [
            (
                f"The {thing} is {meters} * 100 + {extra} = {meters * 100} + {extra} = {total}"
                " centimeters long."
            ),
            f"The pieces take {times(size, pieces)} centimeters.",
            f"{total} - {size * pieces} = {total - size * pieces} centimeters are left.",
        ],
        total - size * pieces,
    )


@kind
def feet_inches(r: Draw) -> Parts:
    a, b = r.people(2)
    f, i, g, j = r.number(3, 9), r.number(1, 11), r.number(3, 9), r.number(1, 11)
    x, y = f * 12 + i, g * 12 + j
    if x <= y:
        return feet_inches(r)
    thing = r.pick(
        ["board", "kite string", "ladder", "snow wall", "carpet", "pole", "banner", "jump"]
    )
    question = r.say(
        f"{a}'s {thing} measures {f} feet {i} inches and {b}'s {thing} measures {g} feet {j}"
        f" inches. How many inches longer is {a}'s?",
        f"The {thing} of {a} is {f} feet and {i} inches long, that of {b} {g} feet and {j} inches."
        " What is the difference in inches?",
    )
    return (
        question,
        [
            f"The first is {f} * 12 + {i} = {f * 12} + {i} = {x} inches.",
            f"The second is {g} * 12 + {j} = {g * 12} + {j} = {y} inches.",
            f"The difference is {x} - {y} = {x - y} inches.",
        ],
        x - y,
    )


@kind
def practice_minutes(r: Draw) -> Parts:
    a = r.person()
    hours, minutes, days, more = (
        r.number(1, 3),
        r.number(5, 55, 5),
        r.number(2, 7),
        r.number(10, 90, 5),
    )
    daily = hours * 60 + minutes
    what = r.pick(
        [
            "plays the piano",
            "trains",
            "reads",
            "paints",
            "practices the violin",
            "works in the garden",
            "swims",
            "studies",
        ]
    )
    plural = "hour" if hours == 1 else "hours"
    question = r.say(
        f"{a} {what} {hours} {plural} and {minutes} minutes a day for {days} days, and {more}"
        " minutes on one more day. How many minutes is that in total?",
        f"On {days} days of the week {a} {what} for {hours} {plural} {minutes} minutes, and on"
        f" another day for {more} minutes. How many minutes are these together?",
    )
    return (
        question,
        [
            f"One day is {hours} * 60 + {minutes} = {hours * 60} + {minutes} = {daily} minutes.",
            f"{days} days are {times(daily, days)} minutes.",
            f"In total it is {daily * days} + {more} = {daily * days + more} minutes.",
        ],
        daily * days + more,
    )


@kind
def fence(r: Draw) -> Parts:
    a = r.person()
    length, width, price = r.number(6, 60), r.number(4, 40), r.number(2, 9)
    gate = r.number(1, 4)
    around = 2 * (length + width)
    place = r.pick(["garden", "field", "yard", "playground", "meadow", "pool"])
    question = r.say(
        f"{a} builds a fence around a {place} that is {length} meters long and {width} meters wide."
        f" A gate of {gate} meters needs no fence. One meter of fence costs ${price}. What does the"
        " fence cost?",
        f"A {place} is a rectangle of {length} by {width} meters. {a} puts a fence around it,"
        f" except for a gate {gate} meters wide. At ${price} per meter, how many dollars is that?",
    )
    return (
        question,
        [
            f"Two sides are {length} + {width} = {length + width} meters.",
            f"All around it is 2 * {length + width} = {around} meters.",
            f"The fence is {around} - {gate} = {around - gate} meters long.",
            f"It costs {times(around - gate, price)} dollars.",
        ],
        (around - gate) * price,
    )


@kind
def floor_tiles(r: Draw) -> Parts:
    a = r.person()
    length, width, per = r.number(3, 19), r.number(3, 12), r.number(4, 16)
    spare = r.number(5, 60)
    area = length * width
    question = r.say(
        f"A room is {length} meters long and {width} meters wide. A square meter needs {per} tiles,"
        f" and {a} buys {spare} spare tiles. How many tiles does {a.he} buy?",
        f"{a} covers a floor of {length} by {width} meters with tiles. {per} tiles cover one square"
        f" meter. With {spare} tiles in reserve, how many tiles are needed?",
    )
    return (
        question,
        [
            f"The floor has {times(length, width)} square meters.",
            f"It needs {times(area, per)} tiles.",
            f"With the spare ones it is {area * per} + {spare} = {area * per + spare} tiles.",
        ],
        area * per + spare,
    )


@kind
def recipe(r: Draw) -> Parts:
    a = r.person()
    people, per = r.number(2, 8), r.number(10, 60, 5)
    r.number(2, 9)  # unused; without this draw the shipped test and its metrics would be others
    guests = r.number(2, 30)
    have = r.number(1, per * guests - 1)
    total = people * per
    what = r.pick(["flour", "sugar", "rice", "butter", "cheese", "pasta", "beans", "oats"])
    question = r.say(
        f"A recipe for {people} people needs {total} grams of {what}. {a} cooks for {guests} people"
        f" and has {have} grams. How many more grams of {what} does {a.he} need?",
        f"{a} needs {total} grams of {what} to cook for {people} people. There are {guests} guests"
        f" today and {have} grams of {what} at home. How many grams must {a.he} buy?",
    )
    return (
        question,
        [
            f"One person needs {total} / {people} = {per} grams.",
            f"{guests} people need {times(per, guests)} grams.",
            f"{a} needs {per * guests} - {have} = {per * guests - have} grams more.",
        ],
        per * guests - have,
    )


@kind
def machines(r: Draw) -> Parts:
    x = r.pick(THINGS)
    rate, count, minutes = r.number(3, 20), r.number(2, 9), r.number(2, 12)
    hourly = rate * count
    box = r.pick([2, 3, 4, 5, 6, 8, 10])
    if hourly * minutes % box:
        return machines(r)
    made = hourly * minutes
    question = r.say(
        f"One machine makes {rate} {x} per minute. {count} machines run for {minutes} minutes, and"
        f" {box} {x} go into a box. How many boxes are filled?",
        f"A factory has {count} machines that each make {rate} {x} a minute. How many boxes of"
        f" {box} {x} does it fill in {minutes} minutes?",
    )
    return (
        question,
        [
            f"In a minute they make {times(rate, count)} {x}.",
            f"In {minutes} minutes they make {times(hourly, minutes)} {x}.",
            f"That fills {made} / {box} = {made // box} boxes.",
        ],
        made // box,
    )


@kind
def water_tank(r: Draw) -> Parts:
    inflow = r.number(6, 40)
    leak = r.number(2, inflow - 2)
    minutes, start = r.number(3, 25), r.number(10, 200, 5)
    end = start + (inflow - leak) * minutes
    what = r.pick(["tank", "pool", "barrel", "pond", "bathtub"])
    question = r.say(
        f"A {what} holds {start} liters of water. Every minute {inflow} liters flow in and {leak}"
        f" liters flow out. How many liters are in the {what} after {minutes} minutes?",
        f"{inflow} liters of water run into a {what} each minute while {leak} liters leak out. At"
        f" first there are {start} liters in it. How many liters are there {minutes} minutes"
        " later?",
        f"A {what} contains {start} liters and shall hold {end} liters. Each minute {inflow} liters"
        f" come in and {leak} liters are lost. How many minutes does it take?",
    )
    gain = f"Each minute adds {inflow} - {leak} = {inflow - leak} liters."
    if "shall hold" in question:
        return (
            question,
            [
                gain,
                f"{end} - {start} = {end - start} liters are missing.",
                f"It takes {end - start} / {inflow - leak} = {minutes} minutes.",
            ],
            minutes,
        )
    return (
        question,
        [
            gain,
            f"In {minutes} minutes that is {times(inflow - leak, minutes)} liters.",
            f"Then there are {start} + {end - start} = {end} liters.",
        ],
        end,
    )


@kind
def clock(r: Draw) -> Parts:
    a = r.person()
    hour, minute, length = r.number(6, 16), r.number(0, 55, 5), r.number(20, 240, 5)
    start = hour * 60 + minute
    end = start + length
    what = r.pick(["film", "concert", "lesson", "trip", "match", "play", "meeting", "party"])
    question = r.say(
        f"A {what} starts at {hour}:{minute:02} and ends at {end // 60}:{end % 60:02}. How many"
        " minutes does it last?",
        f"{a} goes to a {what} that begins at {hour}:{minute:02}. It is over at"
        f" {end // 60}:{end % 60:02}. How long is it in minutes?",
    )
    return (
        question,
        [
            (
                f"The start is {hour} * 60 + {minute} = {hour * 60} + {minute} = {start} minutes"
                " after midnight."
            ),
            (
                f"The end is {end // 60} * 60 + {end % 60} = {end // 60 * 60} + {end % 60} = {end}"
                " minutes after midnight."
            ),
            f"The {what} lasts {end} - {start} = {length} minutes.",
        ],
        length,
    )


@kind
def reading(r: Draw) -> Parts:
    a = r.person()
    first, days, then, more = r.number(8, 45), r.number(2, 9), r.number(8, 45), r.number(2, 15)
    pages = first * days + then * more
    question = r.say(
        f"A book has {pages} pages. {a} reads {first} pages a day for {days} days and after that"
        f" {then} pages a day. How many more days does {a.he} need to finish it?",
        f"{a} reads {first} pages of a book on each of {days} days. The book has {pages} pages."
        f" From now on {a.he} reads {then} pages a day. In how many days is the rest read?",
    )
    return (
        question,
        [
            f"In {days} days {a} reads {times(first, days)} pages.",
            f"{pages} - {first * days} = {then * more} pages remain.",
            f"They take {then * more} / {then} = {more} days.",
        ],
        more,
    )
