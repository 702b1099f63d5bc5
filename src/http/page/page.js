// What the page does beyond what it is without this: `/` goes to the search, and a request that has not ended shows
// itself anew whenever it has changed.
"use strict";
document.addEventListener("keydown", (event) => {
  const field = document.getElementById("search");
  const types = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && field && !types && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    field.focus();
  }
});
const live = document.querySelector("[data-follow]");
if (live) {
  const events = new EventSource(live.dataset.follow);
  let first = true;
  events.addEventListener("status", async (event) => {
    const status = JSON.parse(event.data);
    if (status.terminal) events.close();
    if (first) {
      first = false;
      if (!status.terminal) return;
    }
    const page = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!page.ok) return;
    const fresh = new DOMParser().parseFromString(await page.text(), "text/html").querySelector("[data-follow], [data-ended]");
    if (fresh) live.replaceChildren(...fresh.childNodes);
  });
}
