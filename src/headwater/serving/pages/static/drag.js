// Dragging by mouse, pen or finger: a handle is lifted, a target is lit up, and `drop` is told of it.

const FAR = 6; // pixels before a press becomes a drag

/** Lets `handle` be dragged onto elements that `target` finds below the pointer; `drop` is called with the last of them. */
export function draggable(handle, label, target, drop) {
  handle.addEventListener("pointerdown", (down) => {
    if (down.button !== 0 || down.target.closest("button:not(.chip), a, textarea")) return;
    let ghost = null, over = null;
    const light = (element) => {
      if (over === element) return;
      over?.classList.remove("over");
      (over = element)?.classList.add("over");
    };
    const move = (event) => {
      if (event.pointerId !== down.pointerId) return;
      if (!ghost) {
        if (Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < FAR) return;
        ghost = document.createElement("div");
        ghost.className = "ghost";
        ghost.textContent = label;
        document.body.append(ghost);
        document.body.classList.add("dragging");
      }
      ghost.style.left = `${event.clientX + 10}px`;
      ghost.style.top = `${event.clientY + 10}px`;
      light(target(document.elementFromPoint(event.clientX, event.clientY)));
    };
    const end = (event) => {
      if (event.pointerId !== down.pointerId) return;
      for (const [name, listener] of Object.entries(listeners)) removeEventListener(name, listener);
      if (!ghost) return;
      ghost.remove();
      document.body.classList.remove("dragging");
      const found = event.type === "pointerup" ? over : null;
      light(null);
      const swallow = (click) => (click.stopPropagation(), click.preventDefault());
      addEventListener("click", swallow, { capture: true, once: true }); // a click that ends a drag is none
      setTimeout(() => removeEventListener("click", swallow, { capture: true }));
      if (found) drop(found);
    };
    const listeners = { pointermove: move, pointerup: end, pointercancel: end };
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener);
    down.preventDefault();
  });
}
