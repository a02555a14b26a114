"""Runs and lineage: live curves, what a run wrote, and the way back to documents and judgements."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from browsing import Pages, Visitor
from headwater.feedback.judgements import Judgement
from headwater.feedback.store.store import Store
from headwater.runs import Run
from headwater.serving.pages.curves import read_from
from headwater.serving.pages.runs import is_running, stages_of

Visit = Callable[..., Visitor]


def test_curves_grow_while_a_stage_is_at_work(pages: Pages, visit: Visit) -> None:
    with Run(pages.site.root, "growing") as run:
        (run.folder / "recipe.yaml").write_text("run: growing\n", encoding="utf-8")
        run.work("pretrain").mkdir()
        log = run.work("pretrain") / "metrics.jsonl"
        log.write_text('{"step": 1, "loss": 8.25}\n{"step": 2, "loss": 7.5}\n{"step": 3, "lo', encoding="utf-8")
        page = visit().page
        page.goto("/runs")
        page.get_by_text("at work: pretrain").wait_for()
        page.get_by_role("link", name="growing").click()
        now = page.locator("figure", has_text="Training loss").locator(".now")
        now.get_by_text("7.5", exact=True).wait_for()
        with log.open("a", encoding="utf-8") as file:
            file.write('ss": 6.125}\n{"step": 3, "sample": "The river", "bits_per_byte": 2.5}\n')
        now.get_by_text("6.13", exact=True).wait_for()
        page.locator("figure", has_text="bits per byte").locator(".now").get_by_text("2.5", exact=True).wait_for()
        log.write_text('{"step": 1, "loss": 9.0}\n', encoding="utf-8")  # resumed from an earlier checkpoint
        now.get_by_text("9", exact=True).wait_for()
        page.reload()
        page.locator("li.live", has_text="pretrain").wait_for()
        page.goto("/runs")  # it asks no more for what is about to go
    assert not is_running(Run(pages.site.root, "growing"))
    assert {stage.state for stage in stages_of(Run(pages.site.root, "growing"))} == {"stopped", "todo"}
    (run.folder / "recipe.yaml").unlink()


def test_a_growing_file_is_read_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_from(path, 0, "sft") == {"rows": [], "next": 0, "again": False}
    path.write_text(
        '{"step": 1, "loss": 2}\nno json\n[1]\n{"step": 2, "loss": NaN}\n{"step": 3, "loss": 1', encoding="utf-8"
    )
    first = read_from(path, 0, "sft")
    assert first["rows"] == [{"step": 1, "loss": 2}]
    with path.open("a", encoding="utf-8") as file:
        file.write('.5, "other": 7}\n{"iteration": 4, "loss": 1}\n')
    second = read_from(path, first["next"], "sft")
    assert second["rows"] == [{"step": 3, "loss": 1.5}]
    assert read_from(path, second["next"], "sft") == {"rows": [], "next": second["next"], "again": False}
    path.write_text('{"step": 1, "loss": 3}\n', encoding="utf-8")
    assert read_from(path, second["next"], "sft") == {"rows": [{"step": 1, "loss": 3}], "next": 23, "again": True}
    path.write_text('{"step": 16, "iteration": 2, "kl": 0.5}\n{"step": 8, "entropy": 9}\n', encoding="utf-8")
    assert read_from(path, 0, "ppo")["rows"] == [{"step": 2, "kl": 0.5}]


def test_a_finished_run_shows_what_came_of_it(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    page.goto("/runs/made-up")
    page.locator("figure svg").nth(6).wait_for()
    assert page.locator(".pair").count() == 6
    assert page.locator("svg[role=img]").first.get_attribute("aria-label")
    page.get_by_role("link", name="Report").click()
    assert page.locator("h1").inner_text() == "The report"
    assert page.title() != "no"
    visitor.wrong.clear()  # the browser tells that it refused the report's script


def test_lineage_leads_back_to_the_documents(pages: Pages, visit: Visit) -> None:
    page = visit().page
    page.goto("/runs/made-up")
    page.get_by_role("link", name="Where it comes from").click()
    page.get_by_role("link", name="ppo", exact=True).click()
    manifest = json.loads((pages.site.root / "made-up" / "ppo" / "manifest.json").read_text(encoding="utf-8"))
    assert page.locator(".tree .knot .hash").first.inner_text() == manifest["content_hash"][:12]
    for stage, parents in ((manifest["stage"], manifest["parents"]),):
        assert stage == "ppo"
        for parent in parents:
            assert page.locator(".tree ol b", has_text=parent).count() >= 1
    page.goto("/lineage/made-up/corpus")
    page.get_by_role("link", name="Documents").click()
    assert page.locator(".card .text").count() > 0
    assert page.locator("tbody tr").count() >= 1


def test_an_answer_tells_who_wrote_it_and_what_was_said(pages: Pages, visit: Visit) -> None:
    store = pages.store
    prompt = store.add_prompt([{"role": "user", "content": "Say."}], source="chat", split="train")
    sampling = {"run": "made-up", "stage": "ppo", "temperature": 0.5}
    ids = [store.add_response(prompt, text, model="0123456789abcdef", sampling=sampling, seed=7) for text in ("a", "b")]
    ada = store.add_annotator("Ada")
    store.judge(
        Judgement(kind="pair", client_id="c", annotator=ada, prompt=prompt, ranking=[[ids[1]], [ids[0]]], note="clear")
    )
    page = visit().page
    page.goto(f"/answers/{ids[0]}")
    said = page.locator("main").inner_text()
    for part in ("0123456789abcdef", "made-up/ppo", "temperature", "0.5", "Ada", "Place 2 of 2", "clear", "7"):
        assert part in said
    page.get_by_role("link", name="made-up/ppo").click()
    page.get_by_text("Where made-up comes from").wait_for()


def test_the_judgements_of_a_run_are_read(pages: Pages, visit: Visit) -> None:
    place = pages.site.root / "judged"
    (place / "feedback").mkdir(parents=True)
    (place / "recipe.yaml").write_text("run: judged\n", encoding="utf-8")
    with Store(place / "feedback" / "feedback.db") as store:
        prompt = store.add_prompt([{"role": "user", "content": "Which <b>way</b>?"}], source="s", split="train")
        ids = [store.add_response(prompt, text) for text in ("North", "South")]
        ada = store.add_annotator("Ada")
        for number in range(25):
            store.judge(
                Judgement(
                    kind="ranking", client_id=str(number), annotator=ada, prompt=prompt, ranking=[[ids[0]], [ids[1]]]
                )
            )
        store.seal()
    page = visit().page
    page.goto("/runs/judged/judgements")
    assert page.locator("main > .card").count() == 20
    assert "Which <b>way</b>?" in page.locator("main > .card").first.inner_text()
    page.get_by_role("link", name="Further ones").click()
    page.get_by_role("link", name="Earlier ones").wait_for()
    assert page.locator("main > .card").count() == 5
