"""Whatever a person at the pages is refused, they are told in the language of the pages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import headwater
from browsing import Pages, Visit, add_task
from headwater.serving.pages import words

SOURCE = Path(headwater.__file__).parent

REFUSALS = {"UserError": 0, "TooLong": 0, "Refusal": 1}
"""{exception: the place of its sentence among the arguments}"""

NOT_FROM_PAGES = {
    "feedback/agreement/agreement.py": "what is measured of nothing; the page of people asks before",
    "feedback/agreement/concordance.py": "the same",
    "feedback/store/database.py": "what keeps a store from being opened, before there are pages",
    "feedback/ratings.py": "files of ratings",
}

BEYOND = {
    "serving/failure.py": (),
    "serving/desk.py": ("check_length", "fitting", "model"),
    "models/decoding.py": ("first_tokens", "too_long"),
    "loop/cycle.py": ("accept", "decline", "roll_back", "retry", "_offer"),
}
"""{other files whose functions the pages lead to: these functions; none named: all}"""

NEVER = ("Nothing that is served", "⟨0⟩ ⟨2⟩.")
"""Beginnings of what `Desk.model` says to others: the pages name a model, and one that writes."""


def reached() -> list[Path]:
    """The modules of the pages, and of the feedback store those that they import, and those that these import."""
    found: set[Path] = set()
    waiting = list((SOURCE / "serving" / "pages").glob("*.py"))
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headwater.feedback"):
                module = SOURCE.parent.joinpath(*str(node.module).split("."))
                named = [module.with_suffix(".py"), *(module / f"{each.name}.py" for each in node.names)]
                waiting += [each for each in named if each.is_file()]
    return sorted(path for path in found if path.relative_to(SOURCE).as_posix() not in NOT_FROM_PAGES)


def sentences(tree: ast.AST) -> Iterator[str]:
    """Every sentence that is refused with; what is filled in is "⟨0⟩", "⟨1⟩", …"""
    named = {
        ast.unparse(node.targets[0]): node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)
    }  # a sentence that has a name before it is refused with
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self.problem" and _is_text(node.value):
            yield written(node.value)
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in REFUSALS and len(node.args) > REFUSALS[called.id]:
                argument = node.args[REFUSALS[called.id]]
                yield written(named.get(ast.unparse(argument), argument))
            elif ast.unparse(called) == "super().__init__" and node.args:
                yield written(node.args[0])


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def written(node: ast.AST) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else f"⟨{place}⟩" for place, part in enumerate(parts)
    )


def all_sentences() -> dict[str, str]:
    """{sentence: where it stands}"""
    found = {}
    for path in reached():
        found |= dict.fromkeys(sentences(ast.parse(path.read_text(encoding="utf-8"))), path.name)
    for name, functions in BEYOND.items():
        for node in ast.walk(ast.parse((SOURCE / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (not functions or node.name in functions):
                found |= dict.fromkeys(sentences(node), name)
        for function in functions:
            assert f"def {function}(" in (SOURCE / name).read_text(encoding="utf-8"), f"{name} has no {function}"
    found = {sentence: place for sentence, place in found.items() if not sentence.startswith(NEVER)}
    return {sentence: place for sentence, place in found.items() if re.search(r"\w", re.sub("⟨.*?⟩", "", sentence))}


def test_every_sentence_that_pages_can_lead_to_is_there_in_chinese() -> None:
    found = all_sentences()
    assert len(found) > 70
    assert {"queue.py", "people.py", "gold.py", "checks.py", "judgements.py", "exports.py", "store.py"} <= set(
        found.values()
    )
    lacking = {
        sentence: place
        for sentence, place in found.items()
        if words.translated(sentence, "zh") == words.sayer("zh")("all.not_translated", sentence=sentence)
    }
    assert not lacking, "give these words in the section `error` of words.yaml"
    assert all(words.translated(sentence, "en") == sentence for sentence in found)


def test_no_translation_is_left_of_a_sentence_that_is_gone() -> None:
    found = all_sentences()
    mends = {"error.mend_damaged", "error.mend_locked", "error.mend_space"}  # parts of others
    for key, said in words.every().items():
        if key.startswith("error.") and key not in mends:
            pattern = re.compile(".*".join(re.escape(part) for part in re.split(r"\{\w+\}", said["en"])), re.DOTALL)
            assert any(pattern.fullmatch(sentence) for sentence in found), key


def test_what_fills_a_sentence_fills_its_translation() -> None:
    sentence = "There is an annotator `王 {小} 明` or one with this token already: choose another."
    assert words.translated(sentence, "zh") == "已有名为“王 {小} 明”的人员：请换一个名字。"
    sentence = (
        "Nothing was written to a.db (database is locked): another program is writing; wait for it and try again."
    )
    assert words.translated(sentence, "zh") == "未能写入 a.db（database is locked）：另一个程序正在写入；请稍候再试。"
    assert words.translated("Something new.", "zh").endswith("Something new.")
    assert "未能完成" in words.translated("Something new.", "zh")
    assert words.translated("Something new.", "en") == "Something new."


ASKED = [
    ("/judge/say", {"task": 99, "client_id": "a client"}),
    ("/judge/say", {"task": 1, "client_id": "a client", "ranking": []}),
    ("/judge/say", {"task": 1, "client_id": "a client", "ranking": [[99]]}),
    ("/judge/say", {"task": 1, "client_id": "a client", "ranking": [[1], [2]], "note": "x" * 20_000}),
    ("/judge/say", {"task": 1, "client_id": "a"}),
    ("/judge/say", {"task": 1, "client_id": "a client", "strange": 1}),
    ("/judge/hold", {"task": 1}),
    ("/annotate/rate", {"response": 99, "client_id": "a client"}),
    ("/annotate/rate", {"response": 1, "client_id": "a client"}),
    ("/annotate/write", {"request": " ", "text": " ", "client_id": "a client"}),
    ("/chat/answer", {"models": ["none"], "conversation": [{"role": "user", "content": "Hi"}]}),
    ("/chat/answer", {"models": ["tiny/ppo"], "conversation": [{"role": "assistant", "content": "Hi"}]}),
    ("/chat/answer", {"models": ["tiny/ppo"], "conversation": [{"role": "user", "content": "x" * 90_000}]}),
    ("/chat/judge", {"kind": "thumb", "answers": ["gone"], "client_id": "a client"}),
]


def test_what_a_script_is_refused_is_in_chinese(pages: Pages, visit: Visit) -> None:
    add_task(pages.store, "ranking", ["a", "b"])
    visitor = visit(locale="zh-CN").named("Ada")
    headers = {"Accept": "application/json", "Accept-Language": "zh-CN", "Origin": pages.url}
    for path, sent in ASKED:
        answer = visitor.context.request.post(path, data=sent, headers=headers)
        told = answer.json() if answer.status != 200 else answer.text().splitlines()[-1]
        text = told["error"] if isinstance(told, dict) else told
        assert re.search("[\u4e00-\u9fff]", text), (path, sent, text)
        assert "英文" not in text, (path, sent, text)


@pytest.mark.parametrize(("locale", "said"), [("en-US", "Nobody said anything"), ("zh-CN", "还没有可按")])
def test_what_a_person_is_refused_is_a_page_in_their_language(
    pages: Pages, visit: Visit, locale: str, said: str
) -> None:
    add_task(pages.store, "ranking", ["a", "b"])
    visitor = visit(locale=locale).named("Ada")
    page = visitor.page
    page.goto("/people/export/sft/train.jsonl")
    page.get_by_text(said).wait_for()
    page.goto("/people")
    page.fill("#name", "Ada")
    page.locator("form[action='/people/add'] button").click()
    page.locator(".told.wrong", has_text={"en-US": "choose another", "zh-CN": "请换一个名字"}[locale]).wait_for()
    assert page.locator("#name").is_visible()
    visitor.wrong.clear()  # the browser tells what was refused
