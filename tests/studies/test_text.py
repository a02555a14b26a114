"""Text as bytes: documents stay whole on one side, batches follow from seed and step."""

import torch

from headwater.studies.text import SEPARATOR, byte_text


def documents_of(side):
    return bytes(side.tolist()).split(bytes([SEPARATOR]))[:-1]


def test_every_document_is_on_one_side_always_the_same():
    texts = [f"Document number {number}, 文章." for number in range(400)]
    text = byte_text(texts)
    train, heldout = documents_of(text.train), documents_of(text.heldout)
    assert sorted(train + heldout) == sorted(one.encode() for one in texts)
    assert 5 <= len(heldout) <= 60
    assert set(documents_of(byte_text(texts[::-1]).heldout)) == set(heldout)


def test_batches_follow_from_seed_and_step():
    text = byte_text([f"Document number {number}." for number in range(200)])
    one, same, other = (text.batch(3, step, 4, 16) for step in (7, 7, 8))
    assert torch.equal(one.ids, same.ids)
    assert not torch.equal(one.ids, other.ids)
    assert torch.equal(one.ids[:, 1:], one.per_token["targets"][:, :-1])
    assert one.ids.shape == (4, 16)


def test_held_out_windows_do_not_overlap():
    text = byte_text([f"Document number {number}." for number in range(400)])
    batch = text.heldout_batch(5, 16)
    assert torch.equal(batch.ids.flatten(), text.heldout[:80].long())
