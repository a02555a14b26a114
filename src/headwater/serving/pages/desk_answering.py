"""The served models as the pages use them: answers through the engine, beside those of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from headwater.chat import prompt_ids, stop_tokens
from headwater.errors import UserError
from headwater.models.generate import Answer, Ending, Sampling
from headwater.models.layout import weights_digest
from headwater.models.weights import WEIGHTS
from headwater.rlhf.dialogues import answered_ids
from headwater.serving.desk import Desk, check_length, taken
from headwater.serving.failure import Refusal
from headwater.serving.measures import scored
from headwater.serving.orders import Order
from headwater.serving.pages.answering import AnsweringModel, AnswerPart, Finish, Message, TooLong, Wish
from headwater.serving.served import SCORES, WRITES, Served


class DeskAnswering:
    """`Answering` over a desk; `folders` {name: model folder} says where each comes from."""

    def __init__(self, desk: Desk, folders: Mapping[str, Path]) -> None:
        self.desk = desk
        self._known: dict[str, AnsweringModel] = {}
        for name, each in desk.served.items():
            if each.does == WRITES:
                self._known[name] = describe(name, folders[name].resolve(), desk.line(name).capacity)
        for name, later in desk.unloaded.items():
            capacity = min(desk.engine.limits.capacity, later.context)
            self._known[name] = describe(name, later.folder.resolve(), capacity)

    def serve(self, model: Served, folder: Path) -> None:
        """One more model, or another one of this name; what it says is known as that of these weights from the first word on."""
        capacity = min(self.desk.engine.limits.capacity, model.context)
        self._known[model.name] = describe(model.name, folder.resolve(), capacity)
        self.desk.add(model)

    @property
    def models(self) -> Sequence[AnsweringModel]:
        """In the order of the desk."""
        return [self._known[name] for name in self.desk.offered if name in self._known]

    async def stream(self, model: str, conversation: Sequence[Message], wish: Wish) -> AsyncIterator[AnswerPart]:
        """As `Answering.stream`."""
        served = await self._loaded(model)
        capacity = self.desk.line(model).capacity
        kept = [each for each in conversation[:-1] if each["role"] == "system"] + [conversation[-1]]
        try:
            check_length(served, sum(len(each["content"]) for each in kept), capacity, "conversation")
        except Refusal as refusal:
            raise UserError(refusal.message) from None
        ids = await self.desk.encode(
            lambda: taken(partial(prompt_ids, served.model, served.tokenizer), list(conversation))
        )
        if len(ids) >= capacity:
            raise UserError(
                f"The conversation has {len(ids)} tokens and the model holds {capacity}: shorten it, or begin a new one."
            )
        sampling = Sampling(
            wish.max_new_tokens, wish.temperature, top_p=wish.top_p, stop_tokens=stop_tokens(served.tokenizer)
        )
        order = Order([ids], sampling, [wish.seed], follows=True)
        try:
            self.desk.engine.submit(model, order)
            async for piece in order:
                yield AnswerPart(piece.text, _finish(piece.ending))
        except Refusal as refusal:
            raise UserError(refusal.message) from None
        finally:
            order.leave()

    async def draw(self, model: str, ids: Sequence[int], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        """Several answers to one prompt, given as tokens. Raises TooLong where they leave no room for an answer, UserError
        where the engine takes nothing now.
        """
        served = await self._loaded(model)
        try:
            self.desk.fitting(served, list(ids), "prompt")
        except Refusal as refusal:
            raise TooLong(refusal.message) from None
        order = Order([list(ids)] * len(seeds), sampling, list(seeds))
        try:
            self.desk.engine.submit(model, order)
            async for _ in order:
                pass
        except Refusal as refusal:
            raise UserError(refusal.message) from None
        finally:
            order.leave()
        return order.answers

    async def _loaded(self, model: str) -> Served:
        """A model that writes. Raises UserError where it cannot be loaded."""
        try:
            await self.desk.ready(model)
            return self.desk.model(model, WRITES)
        except Refusal as refusal:
            raise UserError(refusal.message) from None

    async def scores(
        self, run: str, conversation: Sequence[Mapping[str, str]], texts: Sequence[str]
    ) -> list[float] | None:
        """Rewards of whole answers by a run's reward model; None where it is not served, or cannot read one of them."""
        served = self.desk.served.get(f"{run}/reward")
        if served is None or served.does != SCORES:
            return None
        dialogues = [answered_ids(conversation, text, served.tokenizer, served.context) for text in texts]
        try:
            found: list[float] = await self.desk.engine.work(scored(served, dialogues))
        except Refusal:
            return None
        return found


def _finish(ending: Ending | None) -> Finish | None:
    if ending is None:
        return None
    return "length" if ending == "length" else "stop"


def describe(name: str, folder: Path, context: int) -> AnsweringModel:
    """A model with the digest of its weights, and the run and stage that made it, if one did."""
    digest = weights_digest(folder) if (folder / WEIGHTS).is_file() else name
    if folder.name == "model" and (folder.parent.parent / "recipe.yaml").is_file():
        return AnsweringModel(name, digest, context, folder.parent.parent.name, folder.parent.name)
    return AnsweringModel(name, digest, context)
