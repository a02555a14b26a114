// Lines of JSON from the server while they come.

import { post } from "./page.js";

/** Posts `body` and gives each line of the answer to `take`; aborting `signal` ends it, on the server too. */
export async function stream(path, body, signal, take) {
  const answer = await post(path, body, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) take(JSON.parse(line));
  }
}
