"""Word problems about buying, earning and saving."""

from demo_corpus.draw import SHOPS, THINGS, Draw
from demo_corpus.problem_kinds import Parts, kind, plus, times


@kind
def purchase_change(r: Draw) -> Parts:
    a = r.person()
    x, y = r.some(THINGS, 2)
    m, p, n, q = r.number(2, 9), r.number(2, 15), r.number(2, 9), r.number(2, 15)
    cost = m * p + n * q
    paid = r.pick([bill for bill in (50, 100, 150, 200, 300) if bill > cost])
    question = r.say(
        f"{a} buys {m} {x} at ${p} each and {n} {y} at ${q} each. {a.He} pays with ${paid}. How"
        f" much change does {a.he} get?",
        f"At the {r.pick(SHOPS)}, {x} cost ${p} each and {y} cost ${q} each. {a} takes {m} {x} and"
        f" {n} {y} and gives the cashier ${paid}. How many dollars of change should {a.he}"
        " receive?",
        f"{a} has ${paid}. {a.He} buys {m} {x} for ${p} each. Then {a.he} buys {n} {y} for ${q}"
        f" each. How many dollars does {a.he} have left?",
    )
    return (
        question,
        [
            f"The {x} cost {times(m, p)} dollars.",
            f"The {y} cost {times(n, q)} dollars.",
            f"Together that is {plus(m * p, n * q)} dollars.",
            f"{a} has {paid} - {cost} = {paid - cost} dollars left.",
        ],
        paid - cost,
    )


@kind
def purchase_total(r: Draw) -> Parts:
    a = r.person()
    x, y, z = r.some(THINGS, 3)
    m, n, k = r.number(2, 9), r.number(2, 9), r.number(2, 9)
    p, q, s = r.number(2, 12), r.number(2, 12), r.number(2, 12)
    question = r.say(
        f"{a} buys {m} {x} for ${p} each, {n} {y} for ${q} each and {k} {z} for ${s} each. How much"
        f" does {a.he} pay in total?",
        f"The {r.pick(SHOPS)} sells {x} for ${p}, {y} for ${q} and {z} for ${s}. How many dollars"
        f" do {m} {x}, {n} {y} and {k} {z} cost together?",
        f"For a party {a} orders {m} {x}, {n} {y} and {k} {z}. One of the {x} costs ${p}, one of"
        f" the {y} ${q} and one of the {z} ${s}. What is the total cost in dollars?",
    )
    return (
        question,
        [
            f"The {x} cost {times(m, p)} dollars.",
            f"The {y} cost {times(n, q)} dollars.",
            f"The {z} cost {times(k, s)} dollars.",
            f"The total is {plus(m * p, n * q, k * s)} dollars.",
        ],
        m * p + n * q + k * s,
    )


@kind
def discount(r: Draw) -> Parts:
    a = r.person()
    percent, price = r.pick([5, 10, 20, 25, 30, 40, 50, 60, 75]), r.number(20, 400, 20)
    n = r.number(2, 9)
    thing = r.pick(
        "jacket;bicycle;tent;lamp;chair;clock;backpack;guitar;radio;blanket;camera;table".split(";")
    )
    off = price * percent // 100
    question = r.say(
        f"A {thing} costs ${price}. It is sold with a discount of {percent} percent. {a} buys {n}"
        f" of them. How much does {a.he} pay?",
        f"{a} buys {n} {thing}s at the sale. The usual price of one is ${price}, but everything is"
        f" {percent} percent off. How many dollars does {a.he} spend?",
        f"The {r.pick(SHOPS)} takes {percent} percent off the price of a {thing}, which is normally"
        f" ${price}. What do {n} of them cost in dollars?",
    )
    return (
        question,
        [
            f"The discount is {price} * {percent} / 100 = {price * percent} / 100 = {off} dollars.",
            f"One {thing} costs {price} - {off} = {price - off} dollars.",
            f"The total is {times(price - off, n)} dollars.",
        ],
        (price - off) * n,
    )


@kind
def weekly_pay(r: Draw) -> Parts:
    a = r.person()
    rate, hours, days, weeks = r.number(8, 25), r.number(2, 8), r.number(2, 6), r.number(2, 8)
    spent = r.number(10, 90, 5)
    daily = rate * hours
    weekly = daily * days
    question = r.say(
        f"{a} earns ${rate} per hour. {a.He} works {hours} hours a day, {days} days a week. After"
        f" {weeks} weeks {a.he} pays ${spent} for new shoes. How many dollars are left?",
        f"At the {r.pick(SHOPS)} {a} gets ${rate} an hour and works {days} days a week for {hours}"
        f" hours a day. How much does {a.he} have after {weeks} weeks if {a.he} spends ${spent} in"
        " that time?",
    )
    return (
        question,
        [
            f"A day brings {times(rate, hours)} dollars.",
            f"A week brings {times(daily, days)} dollars.",
            f"{weeks} weeks bring {times(weekly, weeks)} dollars.",
            f"{weekly * weeks} - {spent} = {weekly * weeks - spent} dollars are left.",
        ],
        weekly * weeks - spent,
    )


@kind
def savings_goal(r: Draw) -> Parts:
    a = r.person()
    pocket, job, weeks, have = r.number(3, 15), r.number(5, 25), r.number(3, 20), r.number(5, 95)
    weekly = pocket + job
    price = have + weekly * weeks
    thing = r.pick(
        "bicycle;telescope;guitar;phone;camera;skateboard;drum;tent;game console;desk".split(";")
    )
    question = r.say(
        f"{a} wants a {thing} for ${price} and already has ${have}. Every week {a.he} gets"
        f" ${pocket} of pocket money and earns ${job} with a job. After how many weeks can {a.he}"
        " buy it?",
        f"A {thing} costs ${price}. {a} has saved ${have}. {a.He} saves ${pocket} of {a.his}"
        f" allowance and ${job} from walking dogs each week. How many weeks does {a.he} need?",
    )
    return (
        question,
        [
            f"{a} still needs {price} - {have} = {weekly * weeks} dollars.",
            f"Each week brings {pocket} + {job} = {weekly} dollars.",
            f"It takes {weekly * weeks} / {weekly} = {weeks} weeks.",
        ],
        weeks,
    )


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
        f"{a} buys {n} {x} at ${cost} each and sells all of them at ${price} each. The stall costs"
        f" ${fee}. What is {a.his} profit in dollars?",
        f"To raise money, {a} sells {n} {x} for ${price} each. {a.He} paid ${cost} for each and"
        f" ${fee} for the table. How many dollars does {a.he} gain?",
    )
    return (
        question,
        [
            f"Each brings {price} - {cost} = {gain} dollars.",
            f"All bring {times(n, gain)} dollars.",
            f"After the fee it is {n * gain} - {fee} = {result} dollars.",
        ],
        result,
    )


@kind
def interest(r: Draw) -> Parts:
    a = r.person()
    money, rate, years = r.number(100, 2000, 100), r.number(2, 12), r.number(2, 9)
    yearly = money * rate // 100
    question = r.say(
        f"{a} puts ${money} in a bank that pays {rate} percent simple interest a year. How many"
        f" dollars does {a.he} have after {years} years?",
        f"A loan of ${money} has simple interest of {rate} percent per year. How much must {a} pay"
        f" back after {years} years?",
    )
    return (
        question,
        [
            (
                f"A year's interest is {money} / 100 * {rate} = {money // 100} * {rate} = {yearly}"
                " dollars."
            ),
            f"{years} years bring {times(yearly, years)} dollars.",
            f"The sum is {money} + {yearly * years} = {money + yearly * years} dollars.",
        ],
        money + yearly * years,
    )


@kind
def tickets(r: Draw) -> Parts:
    adults, children, price, half = (
        r.number(2, 30),
        r.number(2, 40),
        r.number(8, 20, 2),
        r.chance(0.5),
    )
    cut = r.number(2, 5)
    child = price // 2 if half else price - cut
    place = r.pick(["zoo", "museum", "circus", "theater", "pool", "fair", "castle"])
    how = "half as much" if half else f"${cut} less"
    question = r.say(
        f"A ticket for the {place} costs ${price} for adults and {how} for children. What do"
        f" {adults} adults and {children} children pay?",
        f"{adults} adults and {children} children visit the {place}. Adults pay ${price}, children"
        f" pay {how}. How many dollars is that together?",
    )
    first = f"{price} / 2 = {child}" if half else f"{price} - {cut} = {child}"
    return (
        question,
        [
            f"A child pays {first} dollars.",
            f"The adults pay {times(adults, price)} dollars.",
            f"The children pay {times(children, child)} dollars.",
            f"Together they pay {plus(adults * price, children * child)} dollars.",
        ],
        adults * price + children * child,
    )


@kind
def coin_jar(r: Draw) -> Parts:
    a = r.person()
    q, d, n = r.number(2, 20), r.number(2, 20), r.number(2, 20)
    question = r.say(
        f"{a}'s jar holds {q} quarters, {d} dimes and {n} nickels. How many cents is that?",
        f"{a} finds {d} dimes, {n} nickels and {q} quarters in a drawer. How many cents are these"
        " worth together?",
    )
    return (
        question,
        [
            f"The quarters are {times(q, 25)} cents.",
            f"The dimes are {d} * 10 = {d * 10} cents.",
            f"The nickels are {n} * 5 = {n * 5} cents.",
            f"Together they are {plus(q * 25, d * 10, n * 5)} cents.",
        ],
        q * 25 + d * 10 + n * 5,
    )


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
        f"{a} and {b} buy {m} {x} at ${p} each and {n} {y} at ${q} each. The shop takes {percent}"
        f" percent off the sum, and a coupon takes off another ${coupon}. They split the bill"
        " equally. How many dollars does each pay?",
        f"In the {r.pick(SHOPS)} {a} and {b} take {n} {y} for ${q} each and {m} {x} for ${p} each."
        f" They get {percent} percent off everything and then use a coupon of ${coupon}. Both pay"
        f" the same amount. How many dollars does {b} pay?",
    )
    return (
        question,
        [
            f"The {x} cost {times(m, p)} dollars.",
            f"The {y} cost {times(n, q)} dollars.",
            f"The sum is {plus(m * p, n * q)} dollars.",
            f"The discount is {total} * {percent} / 100 = {total * percent} / 100 = {off} dollars.",
            f"Then it is {total} - {off} = {left} dollars.",
            f"With the coupon it is {left} - {coupon} = {left - coupon} dollars.",
            f"Each pays {left - coupon} / 2 = {(left - coupon) // 2} dollars.",
        ],
        (left - coupon) // 2,
    )


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
        f"{a} has {hens} hens. Each lays {per} eggs a week. {a} eats {eaten} eggs a week and sells"
        f" the others at ${price} a dozen. How many dollars does {a.he} earn a week?",
        f"Each of {a}'s {hens} hens lays {per} eggs every week. The family uses {eaten} of the"
        f" eggs, and {a} sells the rest for ${price} per dozen. What does {a.he} get each week, in"
        " dollars?",
    )
    return (
        question,
        [
            f"The hens lay {times(hens, per)} eggs.",
            f"For sale there are {weekly} - {eaten} = {weekly - eaten} eggs.",
            f"That is {weekly - eaten} / 12 = {dozens} dozen.",
            f"{a} earns {times(dozens, price)} dollars.",
        ],
        dozens * price,
    )
