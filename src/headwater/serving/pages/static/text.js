// Texts of people and models: shown as they are, with ``` fences as blocks and `…` as code. Never as markup.

import { make } from "./page.js";

const FENCE = /^ {0,3}(```+|~~~+)[ \t]*([^\s`]*)[^\n`]*$/;

/** The text cut into {code: false, text} and {code: true, language, text}; a fence that is still open runs to the end. */
export function blocks(text) {
  const found = [];
  let lines = [], fence = null, language = "";
  const close = (code) => {
    if (lines.length) found.push({ code, language, text: lines.join("\n") });
    else if (code) found.push({ code, language, text: "" });
    lines = [];
  };
  for (const line of text.split("\n")) {
    const mark = FENCE.exec(line);
    if (fence === null && mark) {
      close(false);
      [fence, language] = [mark[1], mark[2]];
    } else if (fence !== null && line.trim().startsWith(fence) && line.trim().replaceAll(fence[0], "") === "") {
      close(true);
      [fence, language] = [null, ""];
    } else lines.push(line);
  }
  close(fence !== null);
  return found;
}

/** Fills an element with a text. */
export function show(element, text) {
  element.replaceChildren();
  for (const block of blocks(text)) {
    if (block.code) {
      element.append(make("pre", { tabindex: "0", "data-language": block.language || null }, make("code", {}, block.text)));
      continue;
    }
    for (const [place, part] of block.text.split(/`([^`\n]+)`/).entries()) {
      if (part) element.append(place % 2 ? make("code", {}, part) : part);
    }
  }
  return element;
}

/** A new element with a text in it. `opening`: {length, label} of a beginning that is set apart and called so. */
export function shown(text, opening = null) {
  const element = make("div", { class: "text", dir: "auto" });
  if (!opening?.length) return show(element, text);
  show(element, text.slice(opening.length));
  element.prepend(make("span", { class: "opening", role: "group", "aria-label": opening.label, title: opening.label }, text.slice(0, opening.length)));
  return element;
}

/** Texts that the server wrote into the page. */
export function showAll() {
  for (const element of document.querySelectorAll(".text[data-text]")) show(element, element.textContent);
}
