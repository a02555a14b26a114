import pytest

from headwater.corpus.build import Ledger, write_corpus
from headwater.corpus.documents import Document
from headwater.corpus.shards import Shards
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.models.layout import save_model
from headwater.recipe import Recipe
from headwater.runs import Stage
from headwater.stages import tokenizer as stage_tokenizer
from tiny import tiny_model
from words import small_tokenizer


def recipe(vocabulary=300):
    sources = [{"samples": "wikipedia-leads"}, {"samples": "reviews", "repeat": 3}]
    return Recipe.model_validate({"run": "x", "corpus": {"sources": sources}, "tokenizer": {"vocabulary": vocabulary}})


def corpus_of(folder, documents):
    ledger = Ledger()
    ledger.read["x"] = ledger.kept["x"] = len(documents)
    write_corpus(iter(documents), folder, ledger)
    return folder


def document(name, source, split, text):
    return Document(name, text, source, "web", "MIT", "zh" if text[0] > "z" else "en", split)


@pytest.fixture
def documents():
    return [
        document("w1", "wikipedia-leads", "train", "The old museum of the old town by the old river."),
        document("w2", "wikipedia-leads", "heldout", "HELD OUT the museum."),
        document("r1", "film-reviews", "train", "The film of the town is golden, the museum is not."),
        document("r2", "shop-reviews", "train", "这座博物馆"),
    ]


def test_the_tokenizer_of_a_base_is_taken(tmp_path, documents):
    own, base = small_tokenizer(), tmp_path / "base"
    save_model(tiny_model(vocabulary=own.vocabulary), base, pad=own.pad, eos=own.end_of_text)
    own.save(base, 64)
    for name in ("corpus", "out"):
        (tmp_path / name).mkdir()
    asked = recipe().model_copy(update={"base": str(base)})
    stage = Stage("tokenizer", asked, tmp_path / "out", {"corpus": corpus_of(tmp_path / "corpus", documents)})
    metrics = stage_tokenizer.run(stage)
    assert metrics["vocabulary"] == own.vocabulary != 300
    ids = Shards(tmp_path / "out" / "tokens" / "heldout").document(0).tolist()
    assert ids == [own.end_of_text, *own.encode("HELD OUT the museum."), own.end_of_text]


def test_shards_hold_the_documents_and_their_repeats(tmp_path, documents):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    stage = Stage(name="tokenizer", recipe=recipe(), folder=out, parents={"corpus": corpus_of(corpus, documents)})
    metrics = stage_tokenizer.run(stage)
    tokenizer = Tokenizer.load(out)
    train, heldout = Shards(out / "tokens" / "train"), Shards(out / "tokens" / "heldout")
    train.verify()
    texts = []
    for i in range(len(train)):
        ids = train.document(i).tolist()
        assert ids[0] == ids[-1] == tokenizer.end_of_text
        assert ids.count(tokenizer.end_of_text) == 2
        texts.append(tokenizer.decode(ids))
        assert train.bytes_of(i) == len(texts[-1].encode())
    wiki, film, shop = (documents[i].text for i in (0, 2, 3))
    assert texts == [wiki, film, shop, film, shop, film, shop]
    assert [heldout.source_of(i) for i in range(len(heldout))] == ["wikipedia-leads"]
    assert metrics["vocabulary"] == 300
    assert metrics["tokens_train"] == train.tokens
    assert metrics["tokens_heldout"] == heldout.tokens
    assert set(metrics["bytes_per_token"]) == {"wikipedia-leads", "film-reviews", "shop-reviews", "en", "zh"}
    assert metrics["bytes_per_token"]["shop-reviews"] == len(shop.encode()) / len(tokenizer.encode(shop))


def test_what_is_held_out_does_not_shape_the_tokenizer(tmp_path, documents):
    files = []
    for name, held in (("a", "HELD OUT the museum."), ("b", "Something quite different, again and again and again.")):
        changed = [documents[0], document("w2", "wikipedia-leads", "heldout", held), *documents[2:]]
        corpus, out = tmp_path / f"corpus-{name}", tmp_path / name
        corpus.mkdir()
        out.mkdir()
        stage_tokenizer.run(
            Stage(name="tokenizer", recipe=recipe(), folder=out, parents={"corpus": corpus_of(corpus, changed)})
        )
        files.append((out / "tokenizer.json").read_bytes())
    assert files[0] == files[1]


def test_mistakes_are_one_sentence(tmp_path, documents):
    corpus = corpus_of(tmp_path, documents)
    with pytest.raises(UserError, match="allows only"):
        stage_tokenizer.run(Stage(name="tokenizer", recipe=recipe(5_000), folder=tmp_path, parents={"corpus": corpus}))
    corpus_of(tmp_path, [d for d in documents if d.split == "train"])
    with pytest.raises(UserError, match="no held-out documents"):
        stage_tokenizer.run(Stage(name="tokenizer", recipe=recipe(), folder=tmp_path, parents={"corpus": corpus}))


@pytest.mark.parametrize(("objective", "architecture", "count"), [
    ("causal", "qwen3", 0), ("prefix", "qwen3", 0), ("masked", "encoder", 1), ("denoising", "t5", 64),
])  # fmt: skip
def test_masks_are_reserved_where_the_objective_needs_them(tmp_path, documents, objective, architecture, count):
    given = recipe(300 + count).model_dump()
    given["pretrain"] |= {"objective": objective, "model": {"architecture": architecture}}
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    out.mkdir()
    parents = {
        "corpus": corpus_of(
            corpus, [*documents, document("r3", "film-reviews", "train", "A golden town, an old film.")]
        )
    }
    stage_tokenizer.run(Stage(name="tokenizer", recipe=Recipe.model_validate(given), folder=out, parents=parents))
    assert len(Tokenizer.load(out).sentinels) == count
