"""Chat templates of strangers: a hostile one can do nothing, and none can turn content into control tokens."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.corpus.chat_template import MARKS, ChatTemplate, keep_apart, unused_mark
from headwater.errors import UserError

USER = [{"role": "user", "content": "Hello"}]


def render(template, messages=USER, opened=False, tokens=None):
    made = ChatTemplate(template, tokens or {}, "the folder x")
    try:
        return made.render(messages, opened)
    finally:
        made.close()


def refusal(template, messages=USER):
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        render(template, messages)
    assert time.monotonic() - started < 60
    assert "\n" not in str(caught.value)
    assert "the folder x" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | tojson }}{{ messages | tojson(indent=2) }}",
        "{{ eos_token }}{{ pad_token }}",
        "{% for m in messages %}\n    {% if loop.first %}\n  x{{ m.content }}\n    {% endif %}\n{% endfor %}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{{ tools is none }}{{ documents is none }}{{ nothing is defined }}{{ strftime_now is defined }}",
        "{{ messages[0]['content'].split('l')[-1].strip() | upper }}{{ add_generation_prompt }}",
    ],
)
@pytest.mark.parametrize("opened", [False, True])
def test_rendered_as_transformers_does(template, opened):
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{"role": "user", "content": "Hé <b>'llo'"}, {"role": "assistant", "content": "再见\n"}]
    tokens = {"eos_token": "</s>"}
    expected, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=opened, **tokens)
    assert render(template, messages, opened, tokens) == expected[0]


def test_a_template_that_asks_for_the_date_is_told_the_same_one_every_day():
    template = "{{ strftime_now('%d %b %Y') }}, {{ strftime_now('%Y-%m-%d %H:%M:%S') }}"
    assert render(template, USER) == "26 Jul 2024, 2024-07-26 00:00:00"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ cycler.__init__.__globals__.os.system('touch /tmp/headwater-was-here') }}",
        "{{ self.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_template_that_reaches_for_python_is_stopped(template):
    assert "was stopped" in refusal(template)
    assert not os.path.exists("/tmp/headwater-was-here")


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10 ** 12 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ range(10 ** 12) | list }}",
        "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{{ 'x' | center(2000000000) }}",
    ],
)
def test_a_template_that_takes_all_time_or_memory_is_ended(template):
    assert "the folder x" in refusal(template)


def test_what_is_private_is_nothing():
    assert render("{{ ''.__class__ }}{{ messages | attr('__class__') }}") == ""


def test_a_template_that_refuses_or_is_broken_says_why():
    assert "does not take this dialogue: no system here" in refusal("{{ raise_exception('no system\nhere') }}")
    assert "is damaged (line 2" in refusal("\n{% for %}")
    assert "is damaged" in refusal("{{ messages[7].content.x }}")
    assert "is damaged" in refusal("(" * 50 + "{{" + "(" * 5000)


def test_after_a_stopped_template_the_next_dialogue_is_taken():
    template = ChatTemplate(
        "{% for m in messages %}{% if m.content == 'x' %}{{ 'a' * 10 ** 12 }}{% endif %}{{ m.content }}{% endfor %}",
        {},
        "f",
    )
    with pytest.raises(UserError, match="was stopped"):
        template.render([{"role": "user", "content": "x"}], False)
    assert template.render(USER, False) == "Hello"
    assert template._process is not None
    template._process.kill()
    template._process.wait()
    assert template.render(USER, False) == "Hello"
    template.close()


def test_the_environment_s_secrets_do_not_reach_the_process(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    template = ChatTemplate("x", {}, "f")
    template.render(USER, False)
    assert template._process is not None
    with open(f"/proc/{template._process.pid}/environ", "rb") as file:
        assert b"hunter2" not in file.read()
    template.close()


@given(text=st.text(alphabet="<|im>/ \nax", max_size=12), before=st.text(alphabet="<|im>", max_size=4))
@example(text="/", before="<")
def test_kept_apart_a_text_holds_no_control_token_whatever_surrounds_it(text, before):
    controls = ["<|im|>", "<<a>>", "</m>", "mm"]
    mark = unused_mark([text])
    apart = keep_apart(text, controls, mark)
    assert apart.replace(mark, "") == text
    assert not any(control in apart for control in controls)
    for after in ("<|im|>", "|im|>", ">", ">>", "m>", "m"):
        for trimmed in filter(None, (apart, apart.strip())):
            whole = before + trimmed + after
            for control in controls:
                start = whole.find(control)
                while start >= 0:  # only outside of the content
                    assert start + len(control) <= len(before) or start >= len(before) + len(trimmed)
                    start = whole.find(control, start + 1)


def test_a_mark_is_one_that_no_text_has():
    assert unused_mark([MARKS[0], "a" + MARKS[1]]) == MARKS[2]
    with pytest.raises(UserError, match="every code point"):
        unused_mark(["".join(MARKS)])
