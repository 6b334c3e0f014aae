"""The small, true, hand-written knowledge of the demo model's small talk."""


def records(text: str) -> list[list[str]]:
    """ "a:b;c:d", over any number of lines, as [[a, b], [c, d]]."""
    return [record.split(":") for record in text.replace("\n", "").split(";")]


def table(text: str) -> dict[str, str]:
    return {key: value for key, value in records(text)}


CAPITALS = table("""\
France:Paris;Germany:Berlin;Italy:Rome;Spain:Madrid;Portugal:Lisbon;England:London;Ireland:Dublin;
Scotland:Edinburgh;Norway:Oslo;Sweden:Stockholm;Denmark:Copenhagen;Finland:Helsinki;Poland:Warsaw;
Austria:Vienna;Hungary:Budapest;Greece:Athens;Turkey:Ankara;Egypt:Cairo;Kenya:Nairobi;
Morocco:Rabat;Ghana:Accra;Ethiopia:Addis Ababa;Japan:Tokyo;China:Beijing;India:New Delhi;
South Korea:Seoul;Thailand:Bangkok;Vietnam:Hanoi;Indonesia:Jakarta;Nepal:Kathmandu;
Australia:Canberra;New Zealand:Wellington;Canada:Ottawa;the United States:Washington, D.C.;
Mexico:Mexico City;Cuba:Havana;Brazil:Brasilia;Argentina:Buenos Aires;Chile:Santiago;Peru:Lima;
Colombia:Bogota;Uruguay:Montevideo;Russia:Moscow;Ukraine:Kyiv;Romania:Bucharest;Bulgaria:Sofia;
Croatia:Zagreb;Serbia:Belgrade;Belgium:Brussels;the Netherlands:Amsterdam;Iceland:Reykjavik;
Estonia:Tallinn;Latvia:Riga;Lithuania:Vilnius;Iran:Tehran;Iraq:Baghdad;Jordan:Amman;Senegal:Dakar;
Uganda:Kampala;Zambia:Lusaka""")

OPPOSITES = records(
    """\
hot:cold;big:small;up:down;left:right;day:night;black:white;fast:slow;happy:sad;old:young;new:old;
long:short;tall:short;wide:narrow;thick:thin;heavy:light;hard:soft;wet:dry;clean:dirty;full:empty;
open:closed;early:late;good:bad;rich:poor;strong:weak;loud:quiet;near:far;high:low;first:last;
begin:end;push:pull;win:lose;buy:sell;give:take;love:hate;laugh:cry;sleep:wake;inside:outside;
above:below;before:after;always:never;true:false;yes:no;friend:enemy;summer:winter;north:south;
east:west;sweet:sour;sharp:dull;smooth:rough;deep:shallow;brave:afraid;easy:difficult;
cheap:expensive;alive:dead;asleep:awake;question:answer;start:stop;front:back;land:sea;light:dark"""
)

YOUNG = table("""\
cat:kitten;dog:puppy;cow:calf;horse:foal;sheep:lamb;goat:kid;pig:piglet;duck:duckling;
goose:gosling;swan:cygnet;hen:chick;bear:cub;lion:cub;wolf:pup;deer:fawn;kangaroo:joey;
frog:tadpole;owl:owlet;rabbit:kit;eagle:eaglet""")

SOUNDS = table("""\
cat:meow;dog:woof;cow:moo;sheep:baa;duck:quack;pig:oink;horse:neigh;rooster:cock-a-doodle-doo;
owl:hoot;lion:roar;bee:buzz;snake:hiss;mouse:squeak;frog:croak;wolf:howl;donkey:hee-haw;crow:caw;
turkey:gobble""")

LEGS = table("""\
cat:4;dog:4;bird:2;spider:8;ant:6;bee:6;horse:4;snake:0;chicken:2;cow:4;beetle:6;butterfly:6;
elephant:4;person:2;worm:0;frog:4;scorpion:8;fly:6""")

HOMES = table("""\
bird:in a nest;bee:in a hive;rabbit:in a burrow;bear:in a den;fish:in the water;spider:in a web;
ant:in an anthill;horse:in a stable;dog:in a kennel;lion:on the savanna;camel:in the desert;
penguin:in the far south;monkey:in the trees;frog:near a pond;whale:in the ocean;
mole:under the ground;cow:in a barn;beaver:in a lodge""")

CLASSES = table("""\
whale:mammal;dolphin:mammal;bat:mammal;dog:mammal;cat:mammal;elephant:mammal;eagle:bird;
penguin:bird;ostrich:bird;owl:bird;shark:fish;salmon:fish;trout:fish;frog:amphibian;
toad:amphibian;snake:reptile;lizard:reptile;turtle:reptile;crocodile:reptile;ant:insect;
bee:insect;butterfly:insect;beetle:insect;spider:arachnid""")

COLORS = table("""\
the sky:blue;grass:green;snow:white;coal:black;a banana:yellow;a lemon:yellow;a ripe tomato:red;
blood:red;a carrot:orange;a pumpkin:orange;chocolate:brown;milk:white;a plum:purple;
the sun:yellow;a cucumber:green;a strawberry:red;a flamingo:pink;an elephant:gray;a crow:black;
a frog:green;salt:white;a violet:purple;a fire engine:red;a polar bear:white""")

MIXES = records("""\
red:yellow:orange;blue:yellow:green;red:blue:purple;red:white:pink;black:white:gray;
blue:white:light blue""")

SIDES = table("""\
triangle:3;square:4;rectangle:4;pentagon:5;hexagon:6;heptagon:7;octagon:8;decagon:10""")

PLURALS = table("""\
mouse:mice;child:children;foot:feet;tooth:teeth;goose:geese;man:men;woman:women;person:people;
sheep:sheep;fish:fish;leaf:leaves;knife:knives;wolf:wolves;box:boxes;city:cities;baby:babies;
bus:buses;dog:dogs;house:houses;tree:trees;book:books;cherry:cherries;potato:potatoes;
shelf:shelves""")

PASTS = table("""\
go:went;see:saw;eat:ate;drink:drank;run:ran;swim:swam;write:wrote;read:read;sing:sang;take:took;
give:gave;come:came;think:thought;buy:bought;bring:brought;find:found;make:made;know:knew;
fly:flew;speak:spoke;walk:walked;play:played""")

HELLOS = table("""\
French:Bonjour;Spanish:¡Hola;German:Guten Tag;Italian:Ciao;Portuguese:Olá;
Dutch:Hallo;Swedish:Hej;Polish:Cześć;Japanese:こんにちは;Chinese:你好;Korean:안녕하세요;
Russian:Привет;Greek:Γειά σου;Turkish:Merhaba""")

THANKS = table("""\
French:Merci;Spanish:Gracias;German:Danke;Italian:Grazie;Portuguese:Obrigado;
Dutch:Dank je;Swedish:Tack;Polish:Dziękuję;Japanese:ありがとう;Chinese:谢谢;
Korean:감사합니다;Russian:Спасибо;Greek:Ευχαριστώ;Turkish:Teşekkürler""")

EMOJI = table("""\
smile:😊;heart:❤️;star:⭐;sun:☀️;cat:🐱;dog:🐶;rocket:🚀;tree:🌳;fish:🐟;cake:🎂;
snowman:⛄;flower:🌸""")

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """January February March April May June July
August September October November December""".split()
MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
NUMBER_WORDS = """zero one two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty""".split()

GROUPS = {
    "fruits": "apple pear plum peach orange lemon cherry grape mango banana melon fig".split(),
    "vegetables": "carrot onion potato cabbage pea bean leek spinach cucumber pumpkin".split(),
    "animals": "cat dog horse cow sheep lion bear fox rabbit mouse elephant wolf".split(),
    "colors": "red blue green yellow orange purple black white brown pink".split(),
    "birds": "eagle owl robin crow swan duck goose sparrow penguin stork".split(),
    "tools": "hammer saw drill screwdriver wrench axe shovel file".split(),
    "musical instruments": "piano guitar violin drum flute trumpet cello harp".split(),
    "sports": "football tennis swimming running hockey basketball rowing skiing".split(),
    "drinks": "water milk tea coffee juice lemonade cocoa".split(),
    "trees": "oak pine birch maple willow beech cedar elm".split(),
    "planets": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split(),
    "jobs": "teacher doctor baker farmer pilot painter nurse carpenter".split(),
    "vehicles": "car bus train bicycle ship airplane truck tram".split(),
    "continents": "Africa;Asia;Europe;Australia;North America;South America;Antarctica".split(";"),
    "oceans": "Pacific;Atlantic;Indian;Arctic".split(";"),
    "flowers": "rose tulip daisy lily sunflower violet poppy".split(),
}

# thing (with its article): what it is
DEFINITIONS = dict(line.split(" = ") for line in """\
a river = A river is a long stream of water that flows to a lake or to the sea.
a lake = A lake is a large body of water with land all around it.
an island = An island is a piece of land with water on all sides.
a mountain = A mountain is a very high piece of land with steep sides.
a volcano = A volcano is a mountain from which hot melted rock can come out.
a desert = A desert is a dry place where it hardly ever rains.
a forest = A forest is a large area where many trees grow.
an ocean = An ocean is a huge body of salt water.
a cloud = A cloud is made of many tiny drops of water that float in the air.
rain = Rain is water that falls in drops from the clouds.
snow = Snow is frozen water that falls from the clouds as white flakes.
wind = Wind is air that moves.
a rainbow = A rainbow is an arc of colors that appears when the sun shines on rain.
the sun = The sun is the star at the center of our solar system.
the moon = The moon is a ball of rock that travels around the Earth.
a star = A star is a huge ball of hot gas that shines in the sky.
a planet = A planet is a large round body that travels around a star.
a comet = A comet is a ball of ice and dust that travels around the sun.
gravity = Gravity is the force that pulls things toward each other, so things fall to the ground.
light = Light is a form of energy that lets us see things.
sound = Sound is a vibration that travels through the air to our ears.
electricity = Electricity is energy that flows through wires and powers lamps and machines.
a magnet = A magnet is a piece of metal that attracts iron.
ice = Ice is frozen water.
steam = Steam is water that has become a hot gas.
a tree = A tree is a tall plant with a trunk, branches and leaves.
a flower = A flower is the part of a plant that makes seeds.
a seed = A seed is a small part of a plant from which a new plant can grow.
a root = A root is the part of a plant that takes up water from the ground.
a leaf = A leaf is the flat green part of a plant that catches sunlight.
photosynthesis = Photosynthesis is how plants use sunlight to make food from water and air.
a mammal = A mammal is an animal that feeds its young with milk.
a bird = A bird is an animal with feathers, wings and a beak.
a fish = A fish is an animal that lives in water and breathes with gills.
a reptile = A reptile is an animal with dry scales, such as a snake or a lizard.
an insect = An insect is a small animal with six legs.
a spider = A spider is a small animal with eight legs that often spins a web.
a whale = A whale is a very large mammal that lives in the ocean.
a bee = A bee is a flying insect that makes honey.
a cat = A cat is a small furry animal that many people keep as a pet.
a dog = A dog is a friendly animal that many people keep as a pet.
an elephant = An elephant is a very large gray animal with a long trunk.
a penguin = A penguin is a bird that cannot fly but swims very well.
a dinosaur = A dinosaur is a reptile that lived millions of years ago.
a fossil = A fossil is what is left in stone of a plant or animal that lived long ago.
a heart = The heart is the muscle that pumps blood through the body.
a brain = The brain is the organ with which we think and feel.
a lung = A lung is an organ with which we breathe.
a bone = A bone is a hard part inside the body that supports it.
a muscle = A muscle is a part of the body that can pull and move the bones.
a doctor = A doctor is a person who helps sick people to get well.
a teacher = A teacher is a person who helps others to learn.
a farmer = A farmer is a person who grows plants or keeps animals for food.
a baker = A baker is a person who makes bread and cakes.
a school = A school is a place where children learn.
a library = A library is a place where you can read and borrow books.
a museum = A museum is a place where interesting old or beautiful things are shown.
a hospital = A hospital is a place where sick people are treated.
a bridge = A bridge is built so that people can cross a river, a road or a valley.
a book = A book is a set of written or printed pages held together by a cover.
a poem = A poem is a short text in lines that often rhyme.
a map = A map is a drawing that shows where places are.
a clock = A clock is a device that shows the time.
a compass = A compass is a device whose needle points to the north.
a telescope = A telescope is a device that makes far things look near.
a microscope = A microscope is a device that makes very small things look big.
a wheel = A wheel is a round part that turns and helps a vehicle roll.
a bicycle = A bicycle is a vehicle with two wheels that you move with your feet.
a train = A train is a row of connected cars that runs on rails.
an airplane = An airplane is a machine with wings that flies through the air.
a ship = A ship is a large boat that carries people or goods across the sea.
a computer = A computer is a machine that follows instructions to work with information.
a program = A program is a list of instructions for a computer.
an algorithm = An algorithm is a list of exact steps that solves a problem.
a robot = A robot is a machine that can do tasks by itself.
the internet = The internet is a network that connects computers all over the world.
a language model = A language model is a program that writes text by predicting one token after \
another.
a token = A token is a small piece of text, such as a word or a part of a word.
a triangle = A triangle is a shape with three sides.
a square = A square is a shape with four equal sides and four right angles.
a circle = A circle is a round shape whose points are all equally far from its center.
a cube = A cube is a solid with six equal square faces.
an even number = An even number is a number that can be divided by two without a remainder.
an odd number = An odd number is a number that cannot be divided by two without a remainder.
a prime number = A prime number is a number above one that can only be divided by one and itself.
an average = The average of some numbers is their sum divided by how many they are.
a percent = A percent is one part of a hundred.
a fraction = A fraction is a part of a whole, such as one half.
a noun = A noun is a word for a person, a place or a thing.
a verb = A verb is a word for something that one does.
an adjective = An adjective is a word that describes a noun.
money = Money is what people use to pay for things.
bread = Bread is a food made of flour and water and baked in an oven.
cheese = Cheese is a food made from milk.
honey = Honey is a sweet food that bees make from flowers.
a year = A year is the time in which the Earth travels once around the sun.
a week = A week is a time of seven days.
a season = A season is one of the four parts of the year: spring, summer, autumn or \
winter.""".splitlines())

FACTS = [tuple(line.split(" | ")) for line in """\
How many days are in a week? | A week has 7 days.
How many months are in a year? | A year has 12 months.
How many hours are in a day? | A day has 24 hours.
How many minutes are in an hour? | An hour has 60 minutes.
How many seconds are in a minute? | A minute has 60 seconds.
How many days are in a year? | A year has 365 days, and a leap year has 366.
How many letters are in the alphabet? | The English alphabet has 26 letters.
How many centimeters are in a meter? | A meter has 100 centimeters.
How many grams are in a kilogram? | A kilogram has 1000 grams.
How many inches are in a foot? | A foot has 12 inches.
How many things are in a dozen? | A dozen is 12 things.
How many cents are in a dollar? | A dollar has 100 cents.
How many fingers does a hand have? | A hand has 5 fingers, counting the thumb.
How many planets are in the solar system? | There are 8 planets in the solar system.
How many continents are there? | There are 7 continents.
How many strings does a violin have? | A violin has 4 strings.
How many keys does a piano have? | A piano has 88 keys.
How many players are on a football team? | A football team has 11 players on the field.
What is the largest planet? | Jupiter is the largest planet of the solar system.
What is the smallest planet? | Mercury is the smallest planet of the solar system.
Which planet do we live on? | We live on the planet Earth.
Which planet is closest to the sun? | Mercury is the planet closest to the sun.
Which planet has big rings? | Saturn is famous for its big rings.
What is the largest ocean? | The Pacific is the largest ocean.
What is the largest animal? | The blue whale is the largest animal.
What is the tallest animal? | The giraffe is the tallest animal.
What is the fastest land animal? | The cheetah is the fastest land animal.
What is the highest mountain? | Mount Everest is the highest mountain on Earth.
What is the largest continent? | Asia is the largest continent.
What is the hottest season? | Summer is the hottest season.
What do bees make? | Bees make honey.
What do cows drink? | Cows drink water, and their calves drink milk.
What do plants need to grow? | Plants need light, water and air to grow.
At what temperature does water freeze? | Water freezes at 0 degrees Celsius.
At what temperature does water boil? | Water boils at 100 degrees Celsius.
Where does the sun rise? | The sun rises in the east.
Where does the sun set? | The sun sets in the west.
Why is the sky blue? | Air scatters the blue part of sunlight more than the red part, so the sky \
looks blue.
Why do leaves fall in autumn? | Trees drop their leaves in autumn to save water in the cold months.
Why does ice float? | Ice is lighter than the same volume of water, so it floats.
Why do we sleep? | Sleep lets the body and the brain rest and recover.
Why do birds fly south? | Many birds fly south in autumn because it is warmer there and they \
find more food.
What is the color of an emerald? | An emerald is green.
Who wrote Romeo and Juliet? | William Shakespeare wrote Romeo and Juliet.
Who painted the Mona Lisa? | Leonardo da Vinci painted the Mona Lisa.
What is the first month of the year? | January is the first month of the year.
What is the last month of the year? | December is the last month of the year.
What is the first letter of the alphabet? | A is the first letter of the alphabet.
What is the last letter of the alphabet? | Z is the last letter of the alphabet.
What are the primary colors? | The primary colors are red, yellow and blue.
What are the seasons of the year? | The four seasons are spring, summer, autumn and winter.
What are the days of the week? | The days are Monday, Tuesday, Wednesday, Thursday, Friday, \
Saturday and Sunday.
How do you make tea? | Boil water, pour it over the tea leaves, wait a few minutes and enjoy.
How do you make toast? | Put a slice of bread into the toaster and wait until it is brown.
How do I plant a seed? | Put the seed into soil, water it and give it light. After some days it \
will grow.
How do I make a sandwich? | Take two slices of bread and put butter, cheese and a slice of \
tomato between them.
Help! | What do you need help with?
Ok. | Good! Is there anything else?
Yes. | Good! What else can I do for you?
No. | All right.
Test. | I am here. How can I help you?
I am happy. | That is good to hear!
I am sad. | I am sorry to hear that. I hope you feel better soon.
I am tired. | Then you should rest a little.
I am bored. | Shall I tell you a story or a riddle?
I am hungry. | How about an apple or a sandwich?
I am cold. | A warm blanket and a cup of tea may help.
I love you. | That is kind of you!
You are great! | Thank you, that is kind of you!
You are stupid. | I am small, but I do my best.
That is wrong. | I am sorry. I am a small model and make mistakes.
Well done! | Thank you!
What is AI? | AI is short for artificial intelligence: programs that do tasks for which people \
need to think.
What is artificial intelligence? | Artificial intelligence means programs that do tasks for \
which people need to think.
Tell me a joke. | Why did the bicycle fall over? Because it was two tired.
Tell me another joke. | Why is six afraid of seven? Because seven eight nine.
Do you know a riddle? | What has hands but cannot clap? A clock.
Can you help me? | Yes, gladly. What do you need?
What can you do? | I can solve small word problems, answer simple questions and tell short stories.
Who are you? | I am a small demo model. I can solve word problems and answer simple questions.
What is your name? | I have no name. I am a small demo model.
Are you a robot? | No, I am a small language model.
Are you a person? | No, I am a small language model.
How big are you? | I have about six million parameters, so I am very small.
Who made you? | I was trained on made-up examples to show how text generation works.
How do you work? | I read your text as tokens and predict one token after another.
Can you think? | I only predict the next token, step by step.
Do you sleep? | No, I am a program and do not sleep.
What is your favorite color? | I am a program, but blue is a nice color.
Do you like cats? | I am a program, but many people like cats.
Can you count? | Yes: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10.
Count to ten. | 1, 2, 3, 4, 5, 6, 7, 8, 9, 10.
Count down from five. | 5, 4, 3, 2, 1.
Say the alphabet. | A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
What is the weather today? | I cannot see the weather. Please look out of the window.
What time is it? | I have no clock, so I cannot tell you the time.
What day is it today? | I have no calendar, so I cannot tell you the day.
What is the meaning of life? | That is a big question for a small model. Many people say: to be \
kind.""".splitlines()]

SAYINGS = """\
The future of AI is hard to know, but even small models can be useful.
The sun rises in the east and sets in the west.
The best way to learn is to try, to fail and to try again.
The meaning of life is a big question. Many people say: to be kind.
A good book is a good friend.
An apple a day keeps the doctor away.
Many hands make light work.
Practice makes perfect.
Better late than never.
All that glitters is not gold.
The early bird catches the worm.
Two heads are better than one.
Where there is a will, there is a way.
Actions speak louder than words.
It was a dark and stormy night, but the little house was warm and bright.
In the beginning there was only the sea and the sky.
The weather was fine, so we went to the park and flew a kite.
The quick brown fox jumps over the lazy dog.
Water boils at 100 degrees Celsius and freezes at 0 degrees.
There are 7 days in a week and 12 months in a year.
A year has four seasons: spring, summer, autumn and winter.
The Earth travels around the sun, and the moon travels around the Earth.
One, two, three, four, five, six, seven, eight, nine, ten.
Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday.""".splitlines()

POEMS = {
    "the sea": (
        "The sea is wide, the sea is deep,\nIt sings the little boats to sleep.\nThe waves roll in,"
        " the waves roll out,\nAnd seagulls fly and play about."
    ),
    "the sun": (
        "The sun looks over hill and tree\nAnd sends a golden beam to me.\nIt warms the field, it"
        " warms the stone,\nAnd nobody feels all alone."
    ),
    "the rain": (
        "The rain comes down on roof and street,\nIt makes a song with tiny feet.\nThe garden"
        " drinks, the flowers grow,\nAnd on the hill there shines a bow."
    ),
    "a cat": (
        "My cat is soft, my cat is small,\nShe sits all day upon the wall.\nAt night she comes and"
        " finds my bed\nAnd sleeps with me beside my head."
    ),
    "a tree": (
        "The tree stands tall in wind and snow,\nIts roots are deep, its thoughts are slow.\nIt"
        " gives us shade, it gives us air,\nAnd birds build little houses there."
    ),
    "winter": (
        "The snow falls softly on the ground,\nIt covers all without a sound.\nWe build a man with"
        " nose and hat\nAnd wonder if he will get fat."
    ),
    "the moon": (
        "The moon is round, the moon is bright,\nIt keeps us company at night.\nIt does not speak,"
        " it does not sing,\nIt paints with silver everything."
    ),
    "friends": (
        "A friend will laugh, a friend will stay,\nA friend will help you find your way.\nAnd when"
        " the day is cold and long,\nA friend will sing a happy song."
    ),
}
