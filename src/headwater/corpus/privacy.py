"""Replaces what identifies a person by stable placeholders: `<email-3f2a>`, `<phone-90c1>`.

The four digits are a hash of the match, so one address gives one placeholder wherever it stands, whatever the order
of the documents, and yet many addresses share each placeholder, so that it cannot be traced back.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Callable

# re.ASCII: a Chinese character is a border of a number just as a space is.
_DIGITS = re.compile(r"\d{3}", re.ASCII)
_EMAIL = re.compile(
    r"(?<![\w.+-])[a-z0-9._%+-]+@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}(?![a-z0-9])", re.ASCII | re.IGNORECASE
)
_CHINESE_ID = re.compile(r"(?<!\w)[1-9]\d{5}(?:18|19|20)\d{9}[\dXx](?!\w)", re.ASCII)
_CARD = re.compile(r"(?<![\w.,-])[3-6]\d{3}(?:[ -]?\d){9,15}(?!\w|[.,-]\d)", re.ASCII)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:]|\.\w)", re.ASCII)
_PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{2,5}){1,4}"  # international, with the plus sign
    r"|(?:0086[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}"  # Chinese mobile
    r"|\(?0\d{2,3}\)?[ -]\d{7,8}"  # Chinese landline
    r"|(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}"  # North America
    r")(?!\w|[-.]\d)",
    re.ASCII,
)


def replace_private(text: str) -> tuple[str, Counter[str]]:
    """(text with placeholders, how many of each kind were replaced)."""
    found: Counter[str] = Counter()
    for kind, sign, pattern, is_one in _KINDS:
        if not sign.search(text):
            continue
        pieces: list[str] = []
        end = 0
        for match in pattern.finditer(text):
            if is_one(match[0]):
                pieces += (text[end : match.start()], placeholder(kind, match[0]))
                end = match.end()
                found[kind] += 1
        text = "".join((*pieces, text[end:]))
    return text, found


def placeholder(kind: str, match: str) -> str:
    """The same for the same number or address, however it is written (case, spaces, hyphens)."""
    canonical = match.casefold() if kind in ("email", "ip") else re.sub(r"[\s().-]", "", match.casefold())
    digest = hashlib.sha256(f"{kind}:{canonical}".encode()).hexdigest()
    return f"<{kind}-{digest[:4]}>"


def passes_luhn(number: str) -> bool:
    """The check digit of bank cards (Luhn 1954; ISO/IEC 7812-1), for a number of 13 to 19 digits."""
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [digit if i % 2 == 0 else sum(divmod(2 * digit, 10)) for i, digit in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0


def is_chinese_id(number: str) -> bool:
    """The check digit of Chinese identity numbers (GB 11643-1999; ISO 7064 MOD 11-2), and a possible month and day."""
    weights = [pow(2, 17 - i, 11) for i in range(17)]
    rest = sum(int(digit) * weight for digit, weight in zip(number[:17], weights, strict=True)) % 11
    is_date = 1 <= int(number[10:12]) <= 12 and 1 <= int(number[12:14]) <= 31
    return is_date and number[17].upper() == "10X98765432"[rest]


def is_ip_address(text: str) -> bool:
    """An IPv4 address, or an IPv6 address with at least three groups written out (`a::b` is more often code)."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return ":" not in text or sum(1 for group in text.split(":") if group) >= 3


def is_phone(text: str) -> bool:
    """At most 15 digits (ITU-T E.164) and no fewer than 7."""
    return 7 <= sum(character.isdigit() for character in text) <= 15


# In this order: an identity number or a card holds what looks like a phone number. The sign is what a text must hold
# for the pattern to be worth trying.
_KINDS: tuple[tuple[str, re.Pattern[str], re.Pattern[str], Callable[[str], bool]], ...] = (
    ("email", re.compile("@"), _EMAIL, lambda match: len(match) <= 254),
    ("id", _DIGITS, _CHINESE_ID, is_chinese_id),
    ("card", _DIGITS, _CARD, passes_luhn),
    ("ip", re.compile(r"\d\.\d"), _IPV4, is_ip_address),
    ("ip", re.compile(r"[0-9A-Fa-f]:[0-9A-Fa-f:]"), _IPV6, is_ip_address),
    ("phone", _DIGITS, _PHONE, is_phone),
)
