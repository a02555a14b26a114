"""Lineage: from an answer or a run back to the documents and the judgements that made it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from headwater import catalogue, lineage
from headwater.feedback.answers import history, is_to_be_judged
from headwater.feedback.store.store import STORE, Store
from headwater.report.material import licences
from headwater.runs import Run
from headwater.serving.pages.runs import run_of
from headwater.serving.pages.signing import Entered, Refused
from headwater.serving.pages.site import OfSite, Whole, page
from headwater.steps import STAGES

router = APIRouter()
From = Annotated[int, Query(alias="from", ge=0, le=10_000_000)]

AT_ONCE = 20
"""Documents or judgements on one page."""


@router.get("/lineage/{name}")
@router.get("/lineage/{name}/{stage}")
def show(request: Request, name: str, site: OfSite, _: Entered, stage: str | None = None) -> Response:
    """The tree of what a run's model is made of."""
    run = run_of(site, name)
    if stage is not None and stage not in STAGES:
        raise Refused(404, "runs.no_such")
    root = lineage.tree(run, stage)
    others = [model for model in catalogue.WITH_MODEL if run.is_finished(model)]
    return page(request, "lineage.html", section="runs", name=name, root=root, stage=stage, others=others)


@router.get("/runs/{name}/documents")
def documents(request: Request, name: str, site: OfSite, _: Entered, first: From = 0) -> Response:
    """What the corpus holds: by source and licence, and every document."""
    run = run_of(site, name)
    path = run.stage("corpus") / "documents.parquet"
    if not path.is_file():
        raise Refused(404, "lineage.no_documents")
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    columns = [column for column in ("text", "source", "licence") if column in file.schema_arrow.names]
    rows: list[dict[str, Any]] = []
    passed = 0
    for batch in file.iter_batches(batch_size=2_000, columns=columns):
        if passed + len(batch) > first:
            rows += batch.slice(max(0, first - passed), AT_ONCE - len(rows)).to_pylist()
        passed += len(batch)
        if len(rows) >= AT_ONCE:
            break
    return page(
        request, "documents.html", section="runs", name=name, sources=licences(path), rows=rows, first=first,
        total=file.metadata.num_rows, step=AT_ONCE,
    )  # fmt: skip


@router.get("/runs/{name}/judgements")
def judgements(request: Request, name: str, site: OfSite, _: Entered, first: From = 0) -> Response:
    """What a run's reward model learnt from: every ranking, and who said it."""
    run = run_of(site, name)
    with _store_of(run) as store:
        counts = store.counts()
        found = list(islice(_rankings(store), first, first + AT_ONCE + 1))
    manifest = run.manifest("feedback") or {"metrics": {}}
    return page(
        request, "judgements.html", section="runs", name=name, by=manifest["metrics"].get("annotators") or {},
        rows=found[:AT_ONCE], first=first, step=AT_ONCE, more=len(found) > AT_ONCE, counts=counts,
    )  # fmt: skip


@router.get("/answers/{response}")
def answer(request: Request, response: Whole, site: OfSite, visitor: Entered) -> Response:
    """An answer of the store: who wrote it, and what was said of it. Not for who has still to judge it."""
    person = visitor.person
    if not visitor.is_admin and person is not None and is_to_be_judged(site.store, person.id, response):
        raise Refused(403, "lineage.judge_first")
    found = history(site.store, response)
    if found is None:
        raise Refused(404, "lineage.no_answer")
    sampling = dict(found.answer["sampling"] or {})
    origin = {key: sampling.pop(key, None) for key in ("run", "stage")}
    known = origin["run"] is not None and any(run.name == origin["run"] for run in catalogue.all_runs(site.root))
    return page(
        request, "answer.html", section="runs", answer=found.answer, prompt=found.prompt,
        said=[_told(judgement, response) for judgement in found.said], sampling=sampling, origin=origin, known=known,
    )  # fmt: skip


def _rankings(store: Store) -> Iterator[dict[str, Any]]:
    """What people said first, then what was derived, each with its texts."""
    for split in ("train", "select", "judge"):
        for ranking in store.rankings(split):
            groups = [[ranking.responses[id_] for id_ in group] for group in ranking.groups]
            yield {
                "split": split, "by": ranking.annotator, "groups": groups, "conversation": ranking.conversation,
                "round": ranking.round,
            }  # fmt: skip


@contextmanager
def _store_of(run: Run) -> Iterator[Store]:
    path = run.stage("feedback") / STORE
    if not path.is_file():
        raise Refused(404, "lineage.no_judgements")
    with Store(path, read_only=True) as store:
        yield store


def _told(judgement: dict[str, Any], response: int) -> dict[str, Any]:
    """A judgement as the page tells it; `place`: that of the answer among the groups, from 1 on."""
    groups = judgement["ranking"] or []
    place = next((number for number, group in enumerate(groups, start=1) if response in group), None)
    return {
        "id": judgement["id"], "kind": judgement["kind"], "by": judgement["name"],
        "place": place, "places": len(groups), "tied": place is not None and len(groups[place - 1]) > 1,
        "axes": judgement["axes"] or {}, "edit": judgement["edit"], "note": judgement["note"],
        "flags": judgement["flags"] or [], "made": judgement["made"], "supersedes": judgement["supersedes"],
    }  # fmt: skip
