"""The expressions of path variables, read by our own small parser into a tree of sets of characters.

One reading only: what engines read differently (look-arounds, back references, POSIX and nested classes, inline flags
but a leading `(?i)`) is refused, and both engines get a text written from the tree, never the operator's. Sets are
128-bit masks over ASCII, cut to the characters of canonical paths.
"""

from msgspec import Struct

from ostiary.core.refusal import Invalid
from ostiary.core.routing.path import ALPHABET

PATH = sum(1 << byte for byte in ALPHABET)
SLASH = 1 << ord("/")
SEGMENT = PATH & ~SLASH
MOST_REPEATS = 1000
MOST_DEPTH = 50

_ALL = (1 << 128) - 1


def _mask(characters: str) -> int:
    return sum(1 << ord(character) for character in characters)


_DIGITS = _mask("0123456789")
_LETTERS = _mask("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _DIGITS | _LETTERS | _mask("_")
_BLANK = _mask(" \t\n\r\f\v")
_CLASSES = {
    "d": _DIGITS, "D": _ALL & ~_DIGITS, "w": _WORD, "W": _ALL & ~_WORD, "s": _BLANK, "S": _ALL & ~_BLANK,
}  # fmt: skip
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}


class Symbol(Struct, frozen=True):
    """One character of a set."""

    mask: int


class Sequence(Struct, frozen=True):
    items: tuple["Node", ...]


class Choice(Struct, frozen=True):
    items: tuple["Node", ...]


class Repeat(Struct, frozen=True):
    """`low` to `high` times (-1: without end)."""

    body: "Node"
    low: int
    high: int
    lazy: bool = False


class Capture(Struct, frozen=True):
    """What the body matches is wanted. No expression has one: they are put around variables when a route is joined."""

    body: "Node"


Node = Symbol | Sequence | Choice | Repeat | Capture


def literal(text: bytes) -> Node:
    """The tree that matches exactly `text` (ASCII)."""
    return Sequence(tuple(Symbol(1 << byte) for byte in text))


def parse(text: str) -> Node:
    """Read an expression. A leading `^` and a final `$` are dropped: an expression always matches whole.

    Raises Invalid (`route.expression`) with a message that says what is wrong and where.
    """
    return _Reader(text).whole()


class _Reader:
    """A recursive descent over one expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.fold = False

    def whole(self) -> Node:
        self.fold = self._skip("(?i)")
        self._skip("^")
        node = self._choice()
        if self._peek():
            raise self._wrong("an unmatched )")
        return node

    def _wrong(self, what: str, back: int = 0) -> Invalid:
        return Invalid("route.expression", f"{what} at character {self.at + 1 - back}")

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _skip(self, text: str) -> bool:
        found = self.text.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def _next(self, missing: str) -> str:
        character = self._peek()
        if not character:
            raise self._wrong(missing)
        self.at += 1
        return character

    def _choice(self) -> Node:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise self._wrong(f"groups nested more than {MOST_DEPTH} deep")
        branches = [self._sequence()]
        while self._skip("|"):
            branches.append(self._sequence())
        self.depth -= 1
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def _sequence(self) -> Node:
        items: list[Node] = []
        while (character := self._peek()) and character not in "|)":
            if character == "$" and self.text[self.at + 1 :].strip(")") == "":
                self.at += 1
            else:
                items.append(self._repeated())
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _repeated(self) -> Node:
        node = self._atom()
        count = self._count()
        if count is None:
            return node
        lazy = self._skip("?")
        if self._peek() in ("*", "+", "?", "{"):
            raise self._wrong("a repeat of a repeat (possessive repeats are not known)")
        return Repeat(node, *count, lazy)

    def _count(self) -> tuple[int, int] | None:
        for sign, count in (("*", (0, -1)), ("+", (1, -1)), ("?", (0, 1))):
            if self._skip(sign):
                return count
        if self._peek() != "{":
            return None
        return self._bounds()

    def _bounds(self) -> tuple[int, int]:
        end = self.text.find("}", self.at)
        low, comma, high = self.text[self.at + 1 : end].partition(",")
        if end < 0 or not _number(low) or not (_number(high) or not high):
            raise self._wrong("a { that begins no count such as {3}, {1,} or {1,3}")
        least, most = int(low), int(high) if high else (-1 if comma else int(low))
        if max(least, most) > MOST_REPEATS or -1 < most < least:
            raise self._wrong(f"a count that is above {MOST_REPEATS} or runs backwards")
        self.at = end + 1
        return least, most

    def _atom(self) -> Node:
        character = self._next("an end")
        if character == "(":
            return self._group()
        if character == "[":
            return Symbol(self._class() & PATH)
        if character == ".":
            return Symbol(PATH)
        if character == "\\":
            return self._letter(self._escape())
        if character in "*+?{":
            raise self._wrong(f"a {character} that has nothing to repeat", 1)
        if character in "^$":
            raise self._wrong("an anchor inside the expression", 1)
        return self._letter(self._one(character))

    def _letter(self, mask: int) -> Node:
        mask = self._folded(mask)
        if not mask & PATH:
            raise self._wrong("a character that no canonical path holds (write it percent-encoded)", 1)
        return Symbol(mask & PATH)

    def _one(self, character: str) -> int:
        if not character.isascii():
            raise self._wrong("a character that is not ASCII (write it percent-encoded)", 1)
        return 1 << ord(character)

    def _folded(self, mask: int) -> int:
        if not self.fold:
            return mask
        letters = mask & _LETTERS
        return mask | (letters << 32 | letters >> 32) & _LETTERS

    def _group(self) -> Node:
        if self._skip("?"):
            self._kind()
        node = self._choice()
        if not self._skip(")"):
            raise self._wrong("an end where a ) was expected")
        return node

    def _kind(self) -> None:
        """What follows `(?`: a colon or a name; neither matters, as groups of an expression do not capture."""
        if self._skip(":"):
            return
        self._skip("P")
        end = self.text.find(">", self.at)
        if self._peek() != "<" or not self.text[self.at + 1 : end].isidentifier():
            raise self._wrong("a (? group of a kind that is not known")
        self.at = end + 1

    def _escape(self) -> int:
        character = self._next("an end after \\")
        if character in _CLASSES:
            return _CLASSES[character]
        if character in _CONTROLS:
            return _mask(_CONTROLS[character])
        if character == "x":
            return self._coded()
        if character.isalnum():
            raise self._wrong(f"\\{character}, which is not known here,", 2)
        return self._one(character)

    def _coded(self) -> int:
        digits = self.text[self.at : self.at + 2]
        if len(digits) != 2 or not all(digit in "0123456789abcdefABCDEF" for digit in digits) or int(digits, 16) > 127:
            raise self._wrong("\\x without two hexadecimal digits below 80")
        self.at += 2
        return 1 << int(digits, 16)

    def _class(self) -> int:
        negated = self._skip("^")
        mask = 0
        first = True
        while first or self._peek() != "]":
            mask |= self._members()
            first = False
        self.at += 1
        mask = self._folded(mask)
        return _ALL & ~mask if negated else mask

    def _members(self) -> int:
        """One member of a class, or a range of them."""
        low = self._member()
        if self._peek() != "-" or self.text[self.at + 1 : self.at + 2] in ("]", ""):
            return low
        self.at += 1
        high = self._member()
        if low.bit_count() != 1 or high.bit_count() != 1 or high < low:
            raise self._wrong("a range that runs backwards or whose ends are classes", 1)
        return (high << 1) - low

    def _member(self) -> int:
        if self.text[self.at : self.at + 2] in ("&&", "--", "~~", "||"):
            raise self._wrong("a set operation in a class, which engines read differently,")
        character = self._next("an end in a class")
        if character == "\\":
            return self._escape()
        if character == "[" or (character == "]" and self.text[self.at - 2 : self.at - 1] in "[^"):
            raise self._wrong(f"a {character} in a class, which engines read differently (write \\{character}),", 1)
        return self._one(character)


def _number(text: str) -> bool:
    return len(text) <= 6 and text.isascii() and text.isdigit()


def render(node: Node) -> str:
    """The tree as text that `re` and RE2 read alike; only Capture nodes capture."""
    match node:
        case Symbol(mask):
            return _class_text(mask)
        case Sequence(items):
            return "".join(map(render, items))
        case Choice(items):
            return f"(?:{'|'.join(map(render, items))})"
        case Capture(body):
            return f"({render(body)})"
        case Repeat(body, low, high, lazy):
            return f"(?:{render(body)}){{{low},{'' if high < 0 else high}}}{'?' * lazy}"


def _class_text(mask: int) -> str:
    if mask == PATH:
        return "."
    if mask == SEGMENT:
        return "[^/]"
    if not mask:
        return r"[^\x00-\xff]"
    texts = [f"\\x{low:02x}-\\x{high:02x}" for low, high in _runs(mask)]
    return f"\\x{mask.bit_length() - 1:02x}" if mask.bit_count() == 1 else f"[{''.join(texts)}]"


def _runs(mask: int) -> list[tuple[int, int]]:
    members = [byte for byte in range(128) if mask >> byte & 1]
    starts = [byte for byte in members if byte == 0 or not mask >> (byte - 1) & 1]
    ends = [byte for byte in members if not mask >> (byte + 1) & 1]
    return list(zip(starts, ends, strict=True))
