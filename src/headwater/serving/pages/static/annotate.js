// Write a demonstration; rate and correct an answer. Both survive a reload, and are stored once.

import { fields } from "./axes.js";
import { byId, keep, make, newId, recall, say, send, Stopwatch, tell } from "./page.js";
import { shown } from "./text.js";

const person = byId("both").dataset.person;
const name = (part) => `annotate.${part}.${person}`;
const watch = new Stopwatch();

/** What went wrong. Where another window of this browser sent its own version of a draft, this one gets an id of its own. */
function refused(error, renew) {
  if (error.status === 409) renew(newId());
  tell(error.status === 409 ? say("annotate.elsewhere") : error.message, 0);
}

// The demonstration

const fresh = () => ({ request: "", text: "", client: newId() });
let written = recall(name("write"), fresh());
for (const id of ["request", "text"]) {
  byId(id).value = written[id];
  byId(id).addEventListener("input", () => ((written[id] = byId(id).value), keep(name("write"), written)));
}
byId("write").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await send("/annotate/write", { request: written.request, text: written.text, client_id: written.client, milliseconds: watch.now() });
    written = fresh();
    keep(name("write"), null);
    for (const id of ["request", "text"]) byId(id).value = "";
    watch.restart();
    tell(say("annotate.stored"), 3);
    byId("request").focus();
  } catch (error) {
    refused(error, (id) => ((written.client = id), keep(name("write"), written)));
  }
});

// The answer that is rated

let answer = null, word = null;

async function next(before = null) {
  try {
    answer = (await send("/annotate/next", { before })).answer;
  } catch (error) {
    return tell(error.message, 0);
  }
  byId("rated").hidden = !answer;
  byId("none").hidden = Boolean(answer);
  if (!answer) return;
  const draft = recall(name("rate"), null);
  word = draft?.response === answer.id ? draft : { response: answer.id, axes: {}, edit: answer.text, client: newId() };
  byId("asked").replaceChildren(
    ...answer.conversation.map(({ role, content }) => turn(role, content)), turn("assistant", answer.text));
  byId("better").value = word.edit;
  draw();
  watch.restart();
}

const turn = (role, content) => make("div", { class: `turn ${role}` }, make("span", { class: "who" }, say(["user", "assistant", "system"].includes(role) ? `all.role_${role}` : "all.role_user")), shown(content));

function draw() {
  const focused = document.activeElement?.dataset.focus;
  byId("axes").replaceChildren(fields(word.axes, (axes) => change({ axes })));
  if (focused) document.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
}

function change(changes) {
  Object.assign(word, changes);
  keep(name("rate"), word);
  if ("axes" in changes) draw();
}

byId("better").addEventListener("input", () => change({ edit: byId("better").value }));
byId("pass").addEventListener("click", () => next(answer.id));
byId("rate").addEventListener("click", async () => {
  try {
    await send("/annotate/rate", { response: word.response, axes: word.axes, edit: word.edit, client_id: word.client, milliseconds: watch.now() });
    keep(name("rate"), null);
    tell(say("annotate.stored"), 3);
    await next();
  } catch (error) {
    refused(error, (client) => change({ client }));
  }
});

next(recall(name("rate"), null)?.response + 1 || null); // the one that was begun
