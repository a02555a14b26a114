import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.privacy import is_chinese_id, passes_luhn, placeholder, replace_private


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jane.doe+x@mail.example.co.uk now", "email"),
        ("邮箱：zhang_san@example.com。", "email"),
        ("call +44 20 7946 0958 today", "phone"),
        ("call +1 (415) 555-0132.", "phone"),
        ("电话13812345678，请联系", "phone"),
        ("手机 138-1234-5678", "phone"),
        ("座机 010-62771234", "phone"),
        ("(415) 555-0132", "phone"),
        ("415-555-0132", "phone"),
        ("server 192.168.10.254 is down", "ip"),
        ("host 2001:db8:85a3::8a2e:370:7334 replied", "ip"),
        ("card 4111 1111 1111 1111 please", "card"),
        ("卡号6222021234567890128", "card"),
        ("身份证11010519491231002X。", "id"),
    ],
)
def test_private_data_are_replaced(text, kind):
    clean, found = replace_private(text)
    assert found == {kind: 1}
    assert re.fullmatch(rf"\D*.*<{kind}-[0-9a-f]{{4}}>.*", clean)
    assert sum(c.isdigit() for c in re.sub(r"<.*?>", "", clean)) == 0


@pytest.mark.parametrize(
    "text",
    [
        "from 1939-1945 and 1990–2001",
        "a population of 1,234,567,890 in 2021",
        "pi is 3.14159265358979",
        "version 1.2.3 and 10.0.0.1.2",
        "at 12:30:45 on 2024-05-17",
        "std::vector<int> a::b",
        "ISBN 978-3-16-148410-0",
        "4111 1111 1111 1112 fails the check",
        "300.1.1.1 is no address",
        "user@localhost",
        "123456194912310021",
        "the 2008–09 season, 100–99",
    ],
)
def test_other_numbers_stay(text):
    assert replace_private(text) == (text, {})


def test_a_placeholder_depends_on_the_match_alone():
    first, _ = replace_private("a@b.org wrote to c@d.org")
    second, _ = replace_private("c@d.org answered A@B.org")
    assert first.split()[0] == second.split()[-1]
    assert first.split()[0] != first.split()[-1]
    assert placeholder("phone", "138-1234-5678") == placeholder("phone", "138 1234 5678")
    assert placeholder("card", "4111 1111 1111 1111") == placeholder("card", "4111111111111111")


def test_check_digits():
    assert passes_luhn("4111111111111111")
    assert not passes_luhn("4111111111111112")
    assert not passes_luhn("42")
    assert is_chinese_id("11010519491231002X")
    assert not is_chinese_id("110105194912310021")
    assert not is_chinese_id("11010519491331002X")


@given(st.integers(10**11, 10**14))
def test_exactly_one_check_digit_passes(number):
    assert sum(passes_luhn(f"{number}{digit}") for digit in range(10)) == 1


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("0123456789+-. ()@:abcdef")), max_size=60))
def test_any_text_is_taken_and_a_second_pass_finds_nothing_new_in_placeholders(text):
    clean, _ = replace_private(text)
    for mark in re.findall(r"<(?:email|phone|ip|card|id)-[0-9a-f]{4}>", clean):
        assert replace_private(mark) == (mark, {})
