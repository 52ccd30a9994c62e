"""Masks that operators choose users and addresses by: `test*`, `10.0.0.0/24`."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from ostiary.core.refusal import Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MOST_MASK = 1024
"""Characters of a user mask."""
MOST_ADDRESS = 64
"""Characters: an IPv6 address has 45 at most, its zone comes on top."""
_BITS = re.compile(r"[0-9]{1,3}", re.ASCII)
_NUMBER = re.compile(r"(0x[0-9a-f]{1,8})|(0[0-7]{0,11})|([1-9][0-9]{0,9})", re.ASCII | re.IGNORECASE)
_BASES = (16, 8, 10)
"""Of the groups of `_NUMBER`."""


def user_mask(mask: str) -> re.Pattern[str]:
    """The expression that fully matches the names that `mask` means; `*` is any text, `?` any character.

    Letter case is ignored. What a `*` has found is not looked for again (an atomic group: the first place that fits is
    as good as any later one), so that no mask costs more than its length times the name's.
    """
    first, *rest = (".".join(map(re.escape, piece.split("?"))) for piece in re.split(r"\*+", mask))
    inner = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    return re.compile(f"{first}{inner}.*{rest[-1]}" if rest else first, re.IGNORECASE | re.DOTALL)


def read_network(text: str, *, short: bool = False) -> Network | None:
    """`ip[/bits]` as a network, or None where it is none. Bits of the address beyond `/bits` do not matter.

    An IPv4 network mapped into IPv6 is the IPv4 one. `short`: the short forms of IPv4 too (`inet_aton`).
    """
    written, slash, bits = text.partition("/")
    address = _unzoned(written) or (inet_aton(written) if short else None)
    if address is None or (slash and not _BITS.fullmatch(bits)):
        return None
    length = int(bits) if slash else address.max_prefixlen
    if length > address.max_prefixlen:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None and length >= 96:
        address, length = address.ipv4_mapped, length - 96
    if isinstance(address, IPv4Address):
        return IPv4Network((address, length), strict=False)
    return IPv6Network((address, length), strict=False)


def asked_network(text: str, *, short: bool = False) -> Network | None:
    """A network that is asked for, None for an empty text. Refuses Invalid `network.invalid`."""
    network = read_network(text, short=short)
    if text and network is None:
        raise Invalid("network.invalid", "The network must be an address, or an address and bits: 10.0.0.0/8")
    return network


def _unzoned(text: str) -> Address | None:
    """An address as it is written, without a zone."""
    try:
        return ip_address(text) if len(text) <= MOST_ADDRESS and "%" not in text else None
    except ValueError:
        return None


def inet_aton(text: str) -> IPv4Address | None:
    """An IPv4 address of one to four numbers, the last of which fills what is left: `127.24` is 127.0.0.24, `10` is
    0.0.0.10. A number that begins with `0x` is hexadecimal, with `0` octal (inet_aton(3)). None: it is no such one.
    """
    numbers = [_number(part) for part in text.split(".", 4)]
    *leading, last = numbers
    if len(numbers) > 4 or any(each is None or each > 255 for each in leading):
        return None
    if last is None or last >= 256 ** (4 - len(leading)):
        return None
    high = sum((each or 0) << (24 - 8 * place) for place, each in enumerate(leading))
    return IPv4Address(high | last)


def _number(text: str) -> int | None:
    match = _NUMBER.fullmatch(text)
    return None if match is None else int(text, _BASES[(match.lastindex or 1) - 1])


def parse_address(text: str) -> Address | None:
    """An address without port; an IPv4 one mapped into IPv6 becomes itself."""
    return _address(text) if len(text) <= MOST_ADDRESS else None


@lru_cache(1024)
def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def address_order(text: str) -> tuple[int, int, str]:
    """Sorts addresses by their value, IPv4 before IPv6, and whatever is none after them."""
    address = parse_address(text)
    return (9, 0, text) if address is None else (address.version, int(address), text)
