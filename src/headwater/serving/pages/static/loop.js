// The loop's page shows what is new by itself.

const EVERY = 3000; // milliseconds between two looks
const shown = document.getElementById("loop").dataset;

async function look() {
  try {
    const answer = await fetch("/loop/status", { headers: { Accept: "application/json" } });
    const now = await answer.json();
    if (answer.ok && (now.phase !== shown.phase || String(now.judged) !== shown.judged)) {
      location.reload();
      return;
    }
  } catch {
    // The server cannot be reached just now: the next look may find it.
  }
  setTimeout(look, EVERY);
}

setTimeout(look, EVERY);
