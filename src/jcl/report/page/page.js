// Theme, metric, place in the table of contents, printing. The page is whole without any of it.
(() => {
  "use strict";

  const root = document.documentElement;
  const theme = document.querySelector(".theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // one metric for all tables
  for (const radio of document.querySelectorAll(".metrics input")) {
    radio.addEventListener("change", () => {
      const before = radio.getBoundingClientRect().top;
      for (const other of document.querySelectorAll(`.metrics input[value="${radio.value}"]`)) other.checked = true;
      // tables above may have changed in height: what was under the hand stays there
      window.scrollBy({ top: radio.getBoundingClientRect().top - before, behavior: "instant" });
    });
  }

  const contents = document.querySelector("nav details");
  const wide = matchMedia("(min-width: 68rem)");
  const unfold = () => { contents.open = wide.matches; };
  wide.addEventListener("change", unfold);
  unfold();
  contents.addEventListener("click", (event) => {
    if (event.target.closest("a") && !wide.matches) contents.open = false;
  });

  const links = new Map();
  for (const link of contents.querySelectorAll("a")) links.set(document.getElementById(link.hash.slice(1)), link);
  let waiting = false;
  const showPlace = () => {
    waiting = false;
    let here = null;
    for (const part of links.keys()) if (part.getBoundingClientRect().top < innerHeight / 3) here = part;
    for (const [part, link] of links) {
      if (part === here) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(showPlace);
    waiting = true;
  }, { passive: true });
  showPlace();

  // on paper nothing is folded
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("main details:not([open])")];
    for (const each of folded) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of folded) each.open = false; });
})();
