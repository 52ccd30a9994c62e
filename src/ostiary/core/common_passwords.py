"""Passwords that guessers try first: words, walks over a keyboard, and both with figures around them."""

from itertools import product

_WORDS = """
abc abcabc abcd abcdef abcdefg abcdefgh abcdefghi access account adidas admin administrator alexander america amanda
andrea andrew angel angels animal anthony apple arsenal asdasd asdf asdfasdf asdfgh asdfghj asdfghjk asdfghjkl ashley
asshole austin awesome azerty azertyuiop backup badboy bailey banana barcelona baseball basketball batman beautiful
bismillah blahblah blink bonjour buster butterfly carlos casper charlie cheese chelsea chicken chocolate chris
christian cocacola coffee computer cookie corvette cowboys dallas daniel database default demo dexter diamond dolphin
dragon eagles elephant eminem estrella everton facebook falcon family ferrari flower fluffy football forever freedom
freddy friends fuckme fuckoff fuckyou gandalf garfield gateway george gfhjkm ginger godzilla golden google guest guitar
hammer handball hannah happy harley heather hello helloworld hockey hunter iceman iloveu iloveyou internet jackson
jasmine jennifer jessica jesus jordan joseph joshua junior justin killer kitten knight ladybug lakers lasvegas legend
letmein lincoln liverpool login london looking louise lovely loveme loveyou maggie manager manchester mario marina
marlboro martin master matrix matthew melissa mercedes merlin michael michelle midnight mickey minecraft monkey monster
morgan mother mustang mynoob naruto nathan newyork nicole nintendo nothing ncc1701 oliver orange ostiary owner panther
parola pass passion passpass passw0rd password passwort pa55word p@ssword p@ssw0rd patrick peanut pepper phoenix
playstation pokemon police porsche princess private purple pussy qazwsx qazwsxedc qq123456 qwe qweasd qweasdzxc qwer
qwert qwerty qwertyu qwertyui qwertyuiop qwertz qwertzui q1w2e3 q1w2e3r4 q1w2e3r4t5 1q2w3e 1q2w3e4r 1q2w3e4r5t
1qaz2wsx 1qaz2wsx3edc zaq12wsx !qaz2wsx rachel raiders rainbow ranger realmadrid rebecca redsox richard robert rocket
root samantha samsung sandra scooter scorpio secret secure security server service shadow silver skywalker slipknot
snoopy soccer sparky spiderman spongebob squirtle starwars startrek steelers stephanie steven success summer sunflower
sunshine superman superstar support sweet system taylor temp temporary tennis test testing testtest thomas thunder
tigger tiger tinkerbell trustno trustnoone twitter user username vanessa victoria vincent walter warrior welcome
whatever william winner winston winter wizard wolverine wordpass yankees yellow zaqwsx zxcvbn zxcvbnm zxcvbnmm changeme
change letmeinnow opensesame swordfish correcthorse sesame
"""
WORDS = frozenset(_WORDS.split())
_RUNS = ("0123456789", "01234567890", "9876543210", "1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "abcdefghijklm")


def _walks() -> set[str]:
    """Pieces of rows of keys, and one or two characters over and over."""
    pieces = {run[start:end] for run in _RUNS for start in range(len(run)) for end in range(start + 4, len(run) + 1)}
    pairs = {first + second for first, second in product("0123456789abcxyzq", repeat=2)}
    return pieces | {(pair * 8)[:length] for pair in pairs for length in range(4, 17)}


MOST_REPEATS = 64
"""Characters up to which one over and over is tried early."""
COMMON = WORDS | _walks()
"""All in lower case."""


def bases(password: str) -> tuple[str, ...]:
    """What is left of a password without the figures and signs that people put around a word; lower case."""
    folded = password.casefold()
    return tuple({folded.strip("0123456789!?.@#$%&*_-+ "), folded.rstrip("0123456789!?.@#$%&*_-+ ")} - {""})


def common(password: str) -> bool:
    """Whether guessers would try `password` early: a common one, with up to 6 figures and signs around it."""
    folded = password.casefold()
    near = {base for base in bases(password) if len(folded) - len(base) <= 6}
    repeats = len(folded) <= MOST_REPEATS and not folded.strip(folded[:1])
    return repeats or folded in COMMON or not WORDS.isdisjoint(near)
