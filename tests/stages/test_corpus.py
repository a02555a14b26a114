import json

from headwater.corpus.build import read_corpus
from headwater.recipe import Recipe
from headwater.runs import Stage
from headwater.stages import corpus

SENTENCE = "a film number {} that the whole family of the farmer went to see with {} friends in {} towns"


def test_held_out_sentences_stay_out(tmp_path):
    samples, out = tmp_path / "samples", tmp_path / "out"
    texts = tmp_path / "texts"
    for folder in (samples, out, texts):
        folder.mkdir()
    shares = ["train", "select", "judge", "prompt"]
    reviews = [
        {
            "id": f"film-{i}",
            "text": SENTENCE.format(i, i * 7, i * 13),
            "source": "film-reviews",
            "share": shares[i % 4],
            "ratings": [1],
            "licence": "MIT",
        }
        for i in range(40)
    ]
    (samples / "reviews.jsonl").write_text("".join(json.dumps(review) + "\n" for review in reviews))
    for i in (2, 4):  # a judge's sentence and a training sentence, in the user's own folder
        (texts / f"{i}.txt").write_text("They say: " + reviews[i]["text"] + ".")
    quality = {"minimum_words": 3, "terminal_punctuation": 0.0, "repetition": False}
    recipe = Recipe.model_validate(
        {
            "run": "x",
            "corpus": {
                "deduplicate": {"near": False},
                "sources": [
                    {"samples": "reviews", "kind": "review", "quality": quality},
                    {"folder": str(texts), "quality": quality},
                ],
            },
        }
    )
    metrics = corpus.run(Stage(name="corpus", recipe=recipe, folder=out, parents={"samples": samples}))
    assert metrics["kept_by_source"] == {"film-reviews": 10, "texts": 1}
    assert metrics["dropped"] == {"shares words with held-out text": 1}
    kept = " ".join(document.text for document in read_corpus(out))
    for review in reviews:
        assert (review["text"] in kept) == (review["share"] == "train")
