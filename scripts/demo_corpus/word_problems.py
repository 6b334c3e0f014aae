"""Grade-school word problems in GSM8K's format, one function a kind.

A kind takes a Draw and returns (question, steps, result). The steps are the lines of the worked answer; each shows its
calculation, so that a small model can learn to do it one operation at a time. All results are whole numbers.
Two kinds are meant to be hard: `bulk_order` (a product of many digits in one go) and `long_ledger` (a long chain).
"""

from typing import Callable, NamedTuple

from demo_corpus.draw import FRUITS, PLACES, SHOPS, THINGS, Draw

Parts = tuple[str, list[str], int]


class Problem(NamedTuple):
    kind: str
    question: str
    answer: str  # worked steps, one a line, then "#### N"


KINDS: dict[str, Callable[[Draw], Parts]] = {}


def kind(function: Callable[[Draw], Parts]) -> Callable[[Draw], Parts]:
    KINDS[function.__name__] = function
    return function


def make_problem(name: str, draw: Draw) -> Problem:
    question, steps, result = KINDS[name](draw)
    return Problem(name, question, "\n".join([*steps, f"#### {result}"]))


def times(a: int, b: int) -> str:
    """"24 * 13 = 240 + 72 = 312": two factors above ten are multiplied by tens and ones."""
    tens, ones = b // 10 * 10, b % 10
    if a > 10 and tens and ones:
        return f"{a} * {b} = {a * tens} + {a * ones} = {a * b}"
    return f"{a} * {b} = {a * b}"


def plus(*terms: int) -> str:
    """"5 + 6 + 7 = 11 + 7 = 18": one addition at a time."""
    left = " + ".join(map(str, terms))
    total = terms[0]
    for index in range(1, len(terms)):
        total += terms[index]
        left += " = " + " + ".join(map(str, [total, *terms[index + 1:]]))
    return left


@kind
def purchase_change(r: Draw) -> Parts:
    a = r.person()
    x, y = r.some(THINGS, 2)
    m, p, n, q = r.number(2, 9), r.number(2, 15), r.number(2, 9), r.number(2, 15)
    cost = m * p + n * q
    paid = r.pick([bill for bill in (50, 100, 150, 200, 300) if bill > cost])
    question = r.say(
        f"{a} buys {m} {x} at ${p} each and {n} {y} at ${q} each. {a.He} pays with ${paid}. How much change does {a.he} get?",
        f"At the {r.pick(SHOPS)}, {x} cost ${p} each and {y} cost ${q} each. {a} takes {m} {x} and {n} {y} and gives the "
        f"cashier ${paid}. How many dollars of change should {a.he} receive?",
        f"{a} has ${paid}. {a.He} buys {m} {x} for ${p} each. Then {a.he} buys {n} {y} for ${q} each. "
        f"How many dollars does {a.he} have left?")
    return question, [
        f"The {x} cost {times(m, p)} dollars.", f"The {y} cost {times(n, q)} dollars.",
        f"Together that is {plus(m * p, n * q)} dollars.", f"{a} has {paid} - {cost} = {paid - cost} dollars left."], paid - cost


@kind
def purchase_total(r: Draw) -> Parts:
    a = r.person()
    x, y, z = r.some(THINGS, 3)
    m, n, k = r.number(2, 9), r.number(2, 9), r.number(2, 9)
    p, q, s = r.number(2, 12), r.number(2, 12), r.number(2, 12)
    question = r.say(
        f"{a} buys {m} {x} for ${p} each, {n} {y} for ${q} each and {k} {z} for ${s} each. How much does {a.he} pay in total?",
        f"The {r.pick(SHOPS)} sells {x} for ${p}, {y} for ${q} and {z} for ${s}. How many dollars do {m} {x}, {n} {y} and {k} {z} "
        f"cost together?",
        f"For a party {a} orders {m} {x}, {n} {y} and {k} {z}. One of the {x} costs ${p}, one of the {y} ${q} and one of the {z} "
        f"${s}. What is the total cost in dollars?")
    return question, [
        f"The {x} cost {times(m, p)} dollars.", f"The {y} cost {times(n, q)} dollars.", f"The {z} cost {times(k, s)} dollars.",
        f"The total is {plus(m * p, n * q, k * s)} dollars."], m * p + n * q + k * s


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
        f"{a} has {boxes} boxes with {size} {x} in each. {a.He} keeps {kept} {x} and shares the rest equally among {friends} "
        f"friends. How many {x} does each friend get?",
        f"There are {size} {x} in every box and {a} opens {boxes} boxes. After putting {kept} aside, {a.he} gives the others in equal "
        f"parts to {friends} children. How many {x} does each child get?",
        f"{friends} friends share {boxes} bags of {x} equally. Each bag holds {size} {x}, but {a} takes out {kept} first. "
        f"How many {x} are there for each of the friends?")
    return question, [
        f"There are {times(boxes, size)} {x}.", f"To share there are {total} - {kept} = {total - kept} {x}.",
        f"Each gets {total - kept} / {friends} = {each} {x}."], each


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
        f"{a} has {n} {x}. {b} has {word} as many as {a}, and {c} has {d} {more} than {b}. How many {x} do they have together?",
        f"{b} collected {word} as many {x} as {a}. {c} collected {d} {more} than {b}. If {a} collected {n} {x}, how many did the "
        f"three collect in total?",
        f"{c} owns {d} {more} {x} than {b}. {b} owns {word} as many as {a}, who owns {n}. How many {x} do all three own?")
    sign = "-" if fewer else "+"
    return question, [
        f"{b} has {times(n, k)} {x}.", f"{c} has {n * k} {sign} {d} = {third} {x}.",
        f"Together they have {plus(n, n * k, third)} {x}."], n + n * k + third


@kind
def discount(r: Draw) -> Parts:
    a = r.person()
    percent, price = r.pick([5, 10, 20, 25, 30, 40, 50, 60, 75]), r.number(20, 400, 20)
    n = r.number(2, 9)
    thing = r.pick("jacket;bicycle;tent;lamp;chair;watch;backpack;guitar;radio;blanket;camera;table".split(";"))
    off = price * percent // 100
    question = r.say(
        f"A {thing} costs ${price}. It is sold with a discount of {percent} percent. {a} buys {n} of them. How much does {a.he} pay?",
        f"{a} buys {n} {thing}s at the sale. The usual price of one is ${price}, but everything is {percent} percent off. "
        f"How many dollars does {a.he} spend?",
        f"The {r.pick(SHOPS)} takes {percent} percent off the price of a {thing}, which is normally ${price}. What do {n} of them "
        f"cost in dollars?")
    return question, [
        f"The discount is {price} * {percent} / 100 = {price * percent} / 100 = {off} dollars.",
        f"One {thing} costs {price} - {off} = {price - off} dollars.", f"The total is {times(price - off, n)} dollars."], (price - off) * n


@kind
def percent_group(r: Draw) -> Parts:
    percent = r.pick([10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90])
    total = r.number(20, 500, 20)
    left = r.number(1, 9)
    part = total * percent // 100
    rest = total - part
    group, yes = r.pick([("students", "walk to school"), ("members", "play chess"), ("guests", "drink tea"), ("visitors", "are children"),
                         ("workers", "come by bus"), ("players", "are new"), ("children", "like carrots"), ("singers", "are adults")])
    place = r.pick("school;club;hotel;camp;choir;team;town".split(";"))
    question = r.say(
        f"A {place} has {total} {group}. {percent} percent of them {yes}, and {left} of the others are ill today. "
        f"How many of the others are not ill?",
        f"Of the {total} {group} of a {place}, {percent} percent {yes}. The others meet in the hall, but {left} of them are late. "
        f"How many are there on time?")
    return question, [
        f"{percent} percent of {total} is {total} * {percent} / 100 = {total * percent} / 100 = {part}.",
        f"The others are {total} - {part} = {rest}.", f"Without the {left} there are {rest} - {left} = {rest - left}."], rest - left


@kind
def speed_distance(r: Draw) -> Parts:
    a = r.person()
    v, h, w, g = r.number(8, 90), r.number(2, 9), r.number(8, 90), r.number(2, 9)
    unit = r.pick(["miles", "kilometers"])
    vehicle = r.pick(["drives", "travels", "rides"])
    question = r.say(
        f"{a} {vehicle} for {h} hours at {v} {unit} per hour and then for {g} hours at {w} {unit} per hour. "
        f"How many {unit} does {a.he} cover in all?",
        f"On the way to the {r.pick(PLACES)}, {a} moves at {v} {unit} per hour for the first {h} hours. The last {g} hours {a.he} goes "
        f"at {w} {unit} per hour. How long is the trip in {unit}?",
        f"A train runs {h} hours at {v} {unit} per hour. After a stop it runs {g} hours at {w} {unit} per hour. "
        f"How far does it go, in {unit}?")
    return question, [
        f"The first part is {times(v, h)} {unit}.", f"The second part is {times(w, g)} {unit}.",
        f"The whole way is {plus(v * h, w * g)} {unit}."], v * h + w * g


@kind
def travel_time(r: Draw) -> Parts:
    a = r.person()
    speed, hours, rest = r.pick([4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60]), r.number(2, 12), r.number(5, 55, 5)
    distance = speed * hours
    question = r.say(
        f"The {r.pick(PLACES)} is {distance} miles away. {a} travels at {speed} miles per hour and rests {rest} minutes on the way. "
        f"How many minutes pass until {a.he} arrives?",
        f"{a} wants to go {distance} miles at {speed} miles per hour, with one break of {rest} minutes. How many minutes does the trip take?",
        f"How many minutes does {a} need for {distance} miles if {a.he} goes {speed} miles every hour and stops once for {rest} minutes?")
    return question, [
        f"The way takes {distance} / {speed} = {hours} hours.", f"That is {hours} * 60 = {hours * 60} minutes.",
        f"With the break it is {hours * 60} + {rest} = {hours * 60 + rest} minutes."], hours * 60 + rest


@kind
def ages(r: Draw) -> Parts:
    a, b, c = r.people(3)
    n, k, d, years = r.number(3, 18), r.number(2, 4), r.number(1, 12), r.number(2, 20)
    word = {2: "twice", 3: "three times", 4: "four times"}[k]
    third = n * k + d
    total = n + n * k + third
    question = r.say(
        f"{a} is {n} years old. {b} is {word} as old as {a}, and {c} is {d} years older than {b}. What will be the sum of their ages "
        f"in {years} years?",
        f"{c} is {d} years older than {b}. {b} is {word} as old as {a}, who is {n}. How old will the three be together in {years} years?")
    return question, [
        f"{b} is {times(n, k)} years old.", f"{c} is {n * k} + {d} = {third} years old.", f"Today the sum is {plus(n, n * k, third)}.",
        f"In {years} years each is {years} years older, together 3 * {years} = {3 * years}.",
        f"The sum will be {total} + {3 * years} = {total + 3 * years}."], total + 3 * years


@kind
def average(r: Draw) -> Parts:
    a = r.person()
    count = r.number(3, 5)
    values = [r.number(10, 99) for _ in range(count)]
    values[-1] += (-sum(values)) % count
    what = r.pick(["points", "pages", "laps", "minutes", "letters", "tickets"])
    listed = ", ".join(map(str, values[:-1])) + f" and {values[-1]}"
    question = r.say(
        f"In {count} days {a} counts {listed} {what}. What is the average number of {what} per day?",
        f"{a} notes the number of {what} of {count} days: {listed}. What is the average?",
        f"{a}'s results in {count} rounds were {listed} {what}. How many {what} is that per round on average?")
    return question, [
        f"The sum is {plus(*values)}.", f"The average is {sum(values)} / {count} = {sum(values) // count}."], sum(values) // count


@kind
def average_missing(r: Draw) -> Parts:
    a = r.person()
    count = r.number(3, 5)
    goal = r.number(60, 95)
    values = [min(100, max(40, goal + r.number(-15, 15))) for _ in range(count - 1)]
    last = goal * count - sum(values)
    if not 20 <= last <= 130:
        return average_missing(r)
    listed = ", ".join(map(str, values[:-1])) + f" and {values[-1]}"
    question = r.say(
        f"{a} scored {listed} points in the first {count - 1} games. How many points does {a.he} need in game {count} for an average of {goal}?",
        f"{a} wants an average of {goal} points over {count} tests. So far {a.he} has {listed}. How many points must the last test bring?")
    return question, [
        f"For an average of {goal} the sum must be {times(goal, count)}.", f"So far the sum is {plus(*values)}.",
        f"{a} needs {goal * count} - {sum(values)} = {last} points."], last


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
        f"{a} has {total} {x}. {a.He} sells {above}/{below} of them in the morning and {later} in the afternoon. How many {x} are left?",
        f"A stall at the {r.pick(SHOPS)} starts with {total} {x}. {above}/{below} of the {x} are sold on Saturday and {later} more on "
        f"Sunday. How many remain?",
        f"From {total} {x}, {a} gives {above}/{below} to the school and then {later} to a friend. How many {x} does {a.he} still have?")
    return question, [
        f"1/{below} of {total} is {total} / {below} = {unit}.", f"{above}/{below} of them are {times(unit, above)} {x}.",
        f"Then there are {total} - {first} = {total - first} {x}.", f"At the end {total - first} - {later} = {rest} are left."], rest


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
        f"{a} has {meters} meters and {extra} centimeters of {thing} and cuts off {pieces} pieces of {size} centimeters each. "
        f"How many centimeters are left?",
        f"{pieces} pieces of {size} centimeters are cut from a {thing} of {meters} m {extra} cm. How many centimeters of {thing} remain?")
    return question, [
        f"The {thing} is {meters} * 100 + {extra} = {meters * 100} + {extra} = {total} centimeters long.",
        f"The pieces take {times(size, pieces)} centimeters.", f"{total} - {size * pieces} = {total - size * pieces} centimeters are left."], \
        total - size * pieces


@kind
def feet_inches(r: Draw) -> Parts:
    a, b = r.people(2)
    f, i, g, j = r.number(3, 9), r.number(1, 11), r.number(3, 9), r.number(1, 11)
    x, y = f * 12 + i, g * 12 + j
    if x <= y:
        return feet_inches(r)
    thing = r.pick(["board", "kite string", "ladder", "snow wall", "carpet", "pole", "banner", "jump"])
    question = r.say(
        f"{a}'s {thing} measures {f} feet {i} inches and {b}'s {thing} measures {g} feet {j} inches. How many inches longer is {a}'s?",
        f"The {thing} of {a} is {f} feet and {i} inches long, that of {b} {g} feet and {j} inches. What is the difference in inches?")
    return question, [
        f"The first is {f} * 12 + {i} = {f * 12} + {i} = {x} inches.", f"The second is {g} * 12 + {j} = {g * 12} + {j} = {y} inches.",
        f"The difference is {x} - {y} = {x - y} inches."], x - y


@kind
def practice_minutes(r: Draw) -> Parts:
    a = r.person()
    hours, minutes, days, more = r.number(1, 3), r.number(5, 55, 5), r.number(2, 7), r.number(10, 90, 5)
    daily = hours * 60 + minutes
    what = r.pick(["plays the piano", "trains", "reads", "paints", "practices the violin", "works in the garden", "swims", "studies"])
    plural = "hour" if hours == 1 else "hours"
    question = r.say(
        f"{a} {what} {hours} {plural} and {minutes} minutes a day for {days} days, and {more} minutes on one more day. "
        f"How many minutes is that in total?",
        f"On {days} days of the week {a} {what} for {hours} {plural} {minutes} minutes, and on another day for {more} minutes. "
        f"How many minutes are these together?")
    return question, [
        f"One day is {hours} * 60 + {minutes} = {hours * 60} + {minutes} = {daily} minutes.", f"{days} days are {times(daily, days)} minutes.",
        f"In total it is {daily * days} + {more} = {daily * days + more} minutes."], daily * days + more


@kind
def weekly_pay(r: Draw) -> Parts:
    a = r.person()
    rate, hours, days, weeks = r.number(8, 25), r.number(2, 8), r.number(2, 6), r.number(2, 8)
    spent = r.number(10, 90, 5)
    daily = rate * hours
    weekly = daily * days
    question = r.say(
        f"{a} earns ${rate} per hour. {a.He} works {hours} hours a day, {days} days a week. After {weeks} weeks {a.he} pays ${spent} for new "
        f"shoes. How many dollars are left?",
        f"At the {r.pick(SHOPS)} {a} gets ${rate} an hour and works {days} days a week for {hours} hours a day. How much does {a.he} have "
        f"after {weeks} weeks if {a.he} spends ${spent} in that time?")
    return question, [
        f"A day brings {times(rate, hours)} dollars.", f"A week brings {times(daily, days)} dollars.",
        f"{weeks} weeks bring {times(weekly, weeks)} dollars.", f"{weekly * weeks} - {spent} = {weekly * weeks - spent} dollars are left."], \
        weekly * weeks - spent


@kind
def savings_goal(r: Draw) -> Parts:
    a = r.person()
    pocket, job, weeks, have = r.number(3, 15), r.number(5, 25), r.number(3, 20), r.number(5, 95)
    weekly = pocket + job
    price = have + weekly * weeks
    thing = r.pick("bicycle;telescope;guitar;phone;camera;skateboard;drum;tent;game console;desk".split(";"))
    question = r.say(
        f"{a} wants a {thing} for ${price} and already has ${have}. Every week {a.he} gets ${pocket} of pocket money and earns ${job} with a job. "
        f"After how many weeks can {a.he} buy it?",
        f"A {thing} costs ${price}. {a} has saved ${have}. {a.He} saves ${pocket} of {a.his} allowance and ${job} from walking dogs each week. "
        f"How many weeks does {a.he} need?")
    return question, [
        f"{a} still needs {price} - {have} = {weekly * weeks} dollars.", f"Each week brings {pocket} + {job} = {weekly} dollars.",
        f"It takes {weekly * weeks} / {weekly} = {weeks} weeks."], weeks


@kind
def fence(r: Draw) -> Parts:
    a = r.person()
    length, width, price = r.number(6, 60), r.number(4, 40), r.number(2, 9)
    gate = r.number(1, 4)
    around = 2 * (length + width)
    place = r.pick(["garden", "field", "yard", "playground", "meadow", "pool"])
    question = r.say(
        f"{a} builds a fence around a {place} that is {length} meters long and {width} meters wide. A gate of {gate} meters needs no fence. "
        f"One meter of fence costs ${price}. What does the fence cost?",
        f"A {place} is a rectangle of {length} by {width} meters. {a} puts a fence around it, except for a gate {gate} meters wide. "
        f"At ${price} per meter, how many dollars is that?")
    return question, [
        f"Two sides are {length} + {width} = {length + width} meters.", f"All around it is 2 * {length + width} = {around} meters.",
        f"The fence is {around} - {gate} = {around - gate} meters long.", f"It costs {times(around - gate, price)} dollars."], \
        (around - gate) * price


@kind
def floor_tiles(r: Draw) -> Parts:
    a = r.person()
    length, width, per = r.number(3, 19), r.number(3, 12), r.number(4, 16)
    spare = r.number(5, 60)
    area = length * width
    question = r.say(
        f"A room is {length} meters long and {width} meters wide. A square meter needs {per} tiles, and {a} buys {spare} spare tiles. "
        f"How many tiles does {a.he} buy?",
        f"{a} covers a floor of {length} by {width} meters with tiles. {per} tiles cover one square meter. With {spare} tiles in reserve, "
        f"how many tiles are needed?")
    return question, [
        f"The floor has {times(length, width)} square meters.", f"It needs {times(area, per)} tiles.",
        f"With the spare ones it is {area * per} + {spare} = {area * per + spare} tiles."], area * per + spare


@kind
def recipe(r: Draw) -> Parts:
    a = r.person()
    people, per, factor = r.number(2, 8), r.number(10, 60, 5), r.number(2, 9)
    guests = r.number(2, 30)
    have = r.number(1, per * guests - 1)
    total = people * per
    what = r.pick(["flour", "sugar", "rice", "butter", "cheese", "pasta", "beans", "oats"])
    question = r.say(
        f"A recipe for {people} people needs {total} grams of {what}. {a} cooks for {guests} people and has {have} grams. "
        f"How many more grams of {what} does {a.he} need?",
        f"{a} needs {total} grams of {what} to cook for {people} people. There are {guests} guests today and {have} grams of {what} at home. "
        f"How many grams must {a.he} buy?")
    return question, [
        f"One person needs {total} / {people} = {per} grams.", f"{guests} people need {times(per, guests)} grams.",
        f"{a} needs {per * guests} - {have} = {per * guests - have} grams more."], per * guests - have


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
        f"One machine makes {rate} {x} per minute. {count} machines run for {minutes} minutes, and {box} {x} go into a box. "
        f"How many boxes are filled?",
        f"A factory has {count} machines that each make {rate} {x} a minute. How many boxes of {box} {x} does it fill in {minutes} minutes?")
    return question, [
        f"In a minute they make {times(rate, count)} {x}.", f"In {minutes} minutes they make {times(hourly, minutes)} {x}.",
        f"That fills {made} / {box} = {made // box} boxes."], made // box


@kind
def water_tank(r: Draw) -> Parts:
    inflow = r.number(6, 40)
    leak = r.number(2, inflow - 2)
    minutes, start = r.number(3, 25), r.number(10, 200, 5)
    end = start + (inflow - leak) * minutes
    what = r.pick(["tank", "pool", "barrel", "pond", "bathtub"])
    question = r.say(
        f"A {what} holds {start} liters of water. Every minute {inflow} liters flow in and {leak} liters flow out. "
        f"How many liters are in the {what} after {minutes} minutes?",
        f"{inflow} liters of water run into a {what} each minute while {leak} liters leak out. At first there are {start} liters in it. "
        f"How many liters are there {minutes} minutes later?",
        f"A {what} contains {start} liters and shall hold {end} liters. Each minute {inflow} liters come in and {leak} liters are lost. "
        f"How many minutes does it take?")
    gain = f"Each minute adds {inflow} - {leak} = {inflow - leak} liters."
    if "shall hold" in question:
        return question, [gain, f"{end} - {start} = {end - start} liters are missing.",
                          f"It takes {end - start} / {inflow - leak} = {minutes} minutes."], minutes
    return question, [gain, f"In {minutes} minutes that is {times(inflow - leak, minutes)} liters.",
                      f"Then there are {start} + {end - start} = {end} liters."], end


@kind
def clock(r: Draw) -> Parts:
    a = r.person()
    hour, minute, length = r.number(6, 16), r.number(0, 55, 5), r.number(20, 240, 5)
    start = hour * 60 + minute
    end = start + length
    what = r.pick(["film", "concert", "lesson", "trip", "match", "play", "meeting", "party"])
    question = r.say(
        f"A {what} starts at {hour}:{minute:02} and ends at {end // 60}:{end % 60:02}. How many minutes does it last?",
        f"{a} goes to a {what} that begins at {hour}:{minute:02}. It is over at {end // 60}:{end % 60:02}. How long is it in minutes?")
    return question, [
        f"The start is {hour} * 60 + {minute} = {hour * 60} + {minute} = {start} minutes after midnight.",
        f"The end is {end // 60} * 60 + {end % 60} = {end // 60 * 60} + {end % 60} = {end} minutes after midnight.",
        f"The {what} lasts {end} - {start} = {length} minutes."], length


@kind
def reading(r: Draw) -> Parts:
    a = r.person()
    first, days, then, more = r.number(8, 45), r.number(2, 9), r.number(8, 45), r.number(2, 15)
    pages = first * days + then * more
    question = r.say(
        f"A book has {pages} pages. {a} reads {first} pages a day for {days} days and after that {then} pages a day. "
        f"How many more days does {a.he} need to finish it?",
        f"{a} reads {first} pages of a book on each of {days} days. The book has {pages} pages. From now on {a.he} reads {then} pages a day. "
        f"In how many days is the rest read?")
    return question, [
        f"In {days} days {a} reads {times(first, days)} pages.", f"{pages} - {first * days} = {then * more} pages remain.",
        f"They take {then * more} / {then} = {more} days."], more


@kind
def egg_farm(r: Draw) -> Parts:
    a = r.person()
    hens, per, price = r.number(4, 24), r.number(2, 7), r.number(2, 9)
    weekly = hens * per
    eaten = weekly % 12 + 12 * r.number(0, 1)
    dozens = (weekly - eaten) // 12
    if dozens < 1 or eaten < 1:
        return egg_farm(r)
    question = r.say(
        f"{a} has {hens} hens. Each lays {per} eggs a week. {a} eats {eaten} eggs a week and sells the others at ${price} a dozen. "
        f"How many dollars does {a.he} earn a week?",
        f"Each of {a}'s {hens} hens lays {per} eggs every week. The family uses {eaten} of the eggs, and {a} sells the rest for ${price} per "
        f"dozen. What does {a.he} get each week, in dollars?")
    return question, [
        f"The hens lay {times(hens, per)} eggs.", f"For sale there are {weekly} - {eaten} = {weekly - eaten} eggs.",
        f"That is {weekly - eaten} / 12 = {dozens} dozen.", f"{a} earns {times(dozens, price)} dollars."], dozens * price


@kind
def bus_stops(r: Draw) -> Parts:
    riders = r.number(8, 60)
    vehicle = r.pick(["bus", "tram", "train", "ferry"])
    stops = r.number(2, 4)
    text, steps, now = "", [], riders
    for index in range(stops):
        off, on = r.number(1, max(1, now - 1)), r.number(1, 30)
        text += r.say(f" At the next stop {off} get off and {on} get on.", f" Then {off} people leave and {on} people enter.")
        steps.append(f"After stop {index + 1}: {now} - {off} = {now - off}, {now - off} + {on} = {now - off + on}.")
        now += on - off
    question = f"A {vehicle} leaves with {riders} people on board.{text} How many people are on the {vehicle} now?"
    return question, steps, now


@kind
def farm_legs(r: Draw) -> Parts:
    a = r.person()
    x, y, z = r.number(3, 60), r.number(3, 60), r.number(2, 12)
    four = r.pick(["cows", "sheep", "goats", "horses", "pigs"])
    two = r.pick(["chickens", "ducks", "geese", "turkeys"])
    question = r.say(
        f"{a} has {x} {four}, {y} {two} and {z} spiders in the barn. How many legs do the animals have altogether?",
        f"On a farm live {x} {four} and {y} {two}, and {z} spiders hide in the straw. How many legs are there in all?")
    return question, [
        f"The {four} have {x} * 4 = {x * 4} legs.", f"The {two} have {y} * 2 = {y * 2} legs.", f"The spiders have {z} * 8 = {z * 8} legs.",
        f"In all there are {plus(x * 4, y * 2, z * 8)} legs."], x * 4 + y * 2 + z * 8


@kind
def heads_and_legs(r: Draw) -> Parts:
    four, two = r.pick(["cows", "rabbits", "goats", "horses"]), r.pick(["chickens", "ducks", "geese"])
    x, y = r.number(2, 60), r.number(2, 60)
    heads, legs = x + y, 4 * x + 2 * y
    question = r.say(
        f"A farm has {four} and {two}, {heads} animals in all. Together they have {legs} legs. How many {four} are there?",
        f"{heads} heads and {legs} legs: they belong to the {four} and the {two} of a farmer. How many are {four}?")
    return question, [
        f"If all were {two} there would be {heads} * 2 = {heads * 2} legs.", f"There are {legs} - {heads * 2} = {legs - heads * 2} legs more.",
        f"Each of the {four} has 2 more, so there are {legs - heads * 2} / 2 = {x} {four}."], x


@kind
def ratio(r: Draw) -> Parts:
    a, b = r.people(2)
    x, y, unit = r.number(1, 9), r.number(1, 9), r.number(3, 40)
    if x >= y:
        return ratio(r)
    total = (x + y) * unit
    what = r.pick(["dollars", *THINGS[:20]])
    question = r.say(
        f"{a} and {b} share {total} {what} in the ratio {x} to {y}. How many more {what} does {b} get than {a}?",
        f"{total} {what} are divided between {a} and {b}. For every {x} that {a} gets, {b} gets {y}. How many more does {b} have at the end?")
    return question, [
        f"There are {x} + {y} = {x + y} parts.", f"One part is {total} / {x + y} = {unit} {what}.",
        f"{a} gets {times(unit, x)} and {b} gets {times(unit, y)}.", f"The difference is {unit * y} - {unit * x} = {unit * (y - x)}."], unit * (y - x)


@kind
def secret_number(r: Draw) -> Parts:
    a = r.person()
    x, m, p, d = r.number(3, 40), r.number(2, 9), r.number(2, 60), r.number(2, 6)
    value = x * m + p
    if value % d:
        return secret_number(r)
    out = value // d
    question = r.say(
        f"{a} thinks of a number, multiplies it by {m}, adds {p} and divides the sum by {d}. The result is {out}. What is the number?",
        f"If {a} multiplies {a.his} secret number by {m}, adds {p} and then divides by {d}, {a.he} gets {out}. Which number is it?")
    return question, [
        f"Before the division it was {times(out, d)}.", f"Before the addition it was {value} - {p} = {value - p}.",
        f"The number is {value - p} / {m} = {x}."], x


@kind
def profit(r: Draw) -> Parts:
    a = r.person()
    x = r.pick(THINGS)
    n, cost, gain, fee = r.number(5, 60), r.number(2, 15), r.number(2, 12), r.number(5, 40)
    price = cost + gain
    result = n * gain - fee
    if result < 1:
        return profit(r)
    question = r.say(
        f"{a} buys {n} {x} at ${cost} each and sells all of them at ${price} each. The stall costs ${fee}. What is {a.his} profit in dollars?",
        f"To raise money, {a} sells {n} {x} for ${price} each. {a.He} paid ${cost} for each and ${fee} for the table. "
        f"How many dollars does {a.he} gain?")
    return question, [
        f"Each brings {price} - {cost} = {gain} dollars.", f"All bring {times(n, gain)} dollars.",
        f"After the fee it is {n * gain} - {fee} = {result} dollars."], result


@kind
def interest(r: Draw) -> Parts:
    a = r.person()
    money, rate, years = r.number(100, 2000, 100), r.number(2, 12), r.number(2, 9)
    yearly = money * rate // 100
    question = r.say(
        f"{a} puts ${money} in a bank that pays {rate} percent simple interest a year. How many dollars does {a.he} have after {years} years?",
        f"A loan of ${money} has simple interest of {rate} percent per year. How much must {a} pay back after {years} years?")
    return question, [
        f"A year's interest is {money} / 100 * {rate} = {money // 100} * {rate} = {yearly} dollars.",
        f"{years} years bring {times(yearly, years)} dollars.", f"The sum is {money} + {yearly * years} = {money + yearly * years} dollars."], \
        money + yearly * years


@kind
def tickets(r: Draw) -> Parts:
    adults, children, price, half = r.number(2, 30), r.number(2, 40), r.number(8, 20, 2), r.chance(0.5)
    cut = r.number(2, 5)
    child = price // 2 if half else price - cut
    place = r.pick(["zoo", "museum", "circus", "theater", "pool", "fair", "castle"])
    how = "half as much" if half else f"${cut} less"
    question = r.say(
        f"A ticket for the {place} costs ${price} for adults and {how} for children. What do {adults} adults and {children} children pay?",
        f"{adults} adults and {children} children visit the {place}. Adults pay ${price}, children pay {how}. How many dollars is that together?")
    first = f"{price} / 2 = {child}" if half else f"{price} - {cut} = {child}"
    return question, [
        f"A child pays {first} dollars.", f"The adults pay {times(adults, price)} dollars.", f"The children pay {times(children, child)} dollars.",
        f"Together they pay {plus(adults * price, children * child)} dollars."], adults * price + children * child


@kind
def coin_jar(r: Draw) -> Parts:
    a = r.person()
    q, d, n = r.number(2, 20), r.number(2, 20), r.number(2, 20)
    question = r.say(
        f"{a}'s jar holds {q} quarters, {d} dimes and {n} nickels. How many cents is that?",
        f"{a} finds {d} dimes, {n} nickels and {q} quarters in a drawer. How many cents are these worth together?")
    return question, [
        f"The quarters are {times(q, 25)} cents.", f"The dimes are {d} * 10 = {d * 10} cents.", f"The nickels are {n} * 5 = {n * 5} cents.",
        f"Together they are {plus(q * 25, d * 10, n * 5)} cents."], q * 25 + d * 10 + n * 5


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
        f"{a}'s orchard has {rows} rows of {trees} trees. Each tree gives {per} {x}, but {spoiled} {x} are spoiled. How many good {x} are there?",
        f"In {rows} rows stand {trees} trees each. {a} picks {per} {x} from every tree and throws {spoiled} bad ones away. How many {x} remain?")
    return question, [
        f"There are {times(rows, trees)} trees.", f"They give {times(count, per)} {x}.", f"{total} - {spoiled} = {total - spoiled} are good."], \
        total - spoiled


@kind
def shopping_trip(r: Draw) -> Parts:
    """Multi-step: two purchases, a percentage off the sum, the rest shared."""
    a, b = r.people(2)
    x, y = r.some(THINGS, 2)
    percent = r.pick([10, 20, 25, 50])
    m, p, n, q = r.number(2, 12), r.number(2, 20), r.number(2, 12), r.number(2, 20)
    total = m * p + n * q
    if total * percent % 100:
        return shopping_trip(r)
    off = total * percent // 100
    left = total - off
    coupon = r.number(1, 9)
    if (left - coupon) % 2 or left - coupon < 2:
        return shopping_trip(r)
    question = r.say(
        f"{a} and {b} buy {m} {x} at ${p} each and {n} {y} at ${q} each. The shop takes {percent} percent off the sum, and a coupon takes off "
        f"another ${coupon}. They split the bill equally. How many dollars does each pay?",
        f"In the {r.pick(SHOPS)} {a} and {b} take {n} {y} for ${q} each and {m} {x} for ${p} each. They get {percent} percent off everything and "
        f"then use a coupon of ${coupon}. Both pay the same amount. How many dollars does {b} pay?")
    return question, [
        f"The {x} cost {times(m, p)} dollars.", f"The {y} cost {times(n, q)} dollars.", f"The sum is {plus(m * p, n * q)} dollars.",
        f"The discount is {total} * {percent} / 100 = {total * percent} / 100 = {off} dollars.", f"Then it is {total} - {off} = {left} dollars.",
        f"With the coupon it is {left} - {coupon} = {left - coupon} dollars.",
        f"Each pays {left - coupon} / 2 = {(left - coupon) // 2} dollars."], (left - coupon) // 2


@kind
def long_ledger(r: Draw) -> Parts:
    """Hard: a balance of four or five digits through a long chain of changes, products among them."""
    a = r.person()
    now = r.number(1000, 9000)
    start = now
    text, steps = "", []
    for _ in range(r.number(7, 10)):
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
            steps.append(f"{count} * {each} = {count * each}, {now} + {count * each} = {now + count * each}")
            now += count * each
        else:
            count, each = r.number(3, 9), r.number(12, 99)
            if count * each >= now:
                continue
            text += f" {a.He} pays {count} helpers ${each} each."
            steps.append(f"{count} * {each} = {count * each}, {now} - {count * each} = {now - count * each}")
            now -= count * each
    question = f"{a} has ${start}.{text} How many dollars does {a.he} have at the end?"
    return question, steps, now


@kind
def bulk_order(r: Draw) -> Parts:
    """Hard: a product of two or three digits by two digits, written down in one go."""
    x = r.pick(THINGS)
    per = r.number(12, 99) if r.chance(0.5) else r.number(101, 499)
    crates = r.number(12, 99)
    broken = r.number(11, 99)
    total = per * crates
    question = r.say(
        f"A crate holds {per} {x}. A factory ships {crates} crates, and {broken} {x} are broken on the way. How many {x} arrive whole?",
        f"{crates} crates with {per} {x} each are sent to a warehouse, where {broken} {x} are thrown away. How many {x} are kept?")
    return question, [f"There are {per} * {crates} = {total} {x}.", f"{total} - {broken} = {total - broken} are left."], total - broken
