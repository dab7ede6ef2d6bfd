// Results: a part for each index, in the order of how far its best stands out; cards that the arrow keys go through.

import { text } from "./api.js";
import { colour, counted, make, view } from "./dom.js";

const FIRST = { image: 6, text: 4 }; // cards of a part that show at once; of other kinds there are two

export class Results {
  constructor(root, { more, mark }) {
    this.root = root;
    this.more = more; // (hit, part): search from a hit
    this.mark = mark; // (point or null): show it on the map
    root.addEventListener("keydown", (event) => this.keys(event));
  }

  show(results, indexes) {
    const parts = results.found.filter((part) => part.hits.length);
    this.root.replaceChildren(...parts.map((part) => this.part(part, indexes.findIndex((i) => i.name === part.index))));
    if (!parts.length) this.root.append(make("p", { class: "empty" }, "Nothing was found: no item passes the filter."));
    this.root.scrollTop = 0;
  }

  part(part, number) {
    const title = `part-${part.index}`;
    const far = part.standout === null ? "" : `the best stands out by ${part.standout.toFixed(1)} σ`;
    const dot = make("span", { class: "dot" });
    dot.style.color = colour(number);
    const list = make("ol", { class: `hits ${part.kind}` });
    const few = FIRST[part.kind] || 2;
    list.append(...part.hits.map((hit, rank) => make("li", { hidden: rank >= few }, this.card(hit, part, number))));
    const rest = part.hits.length - few;
    const all = rest <= 0 ? null : make("button", { type: "button", class: "quiet all" }, `${rest} more of ${part.index}`);
    all?.addEventListener("click", () => {
      const later = [...list.children].filter((item) => item.hidden);
      for (const item of later) item.hidden = false;
      all.remove();
      later[0].firstChild.focus();
    });
    const heading = make("h2", { id: title }, dot, part.index, make("small", {}, far));
    return make("section", { class: "part", "aria-labelledby": title }, heading, list, all);
  }

  card(hit, part, number) {
    const more = () => this.more(hit, part);
    // What a card shows in full needs no title that says it again.
    const said = part.kind === "text" && hit.view && !hit.payload?.name;
    const article = make(
      "article",
      { class: "hit", tabindex: -1, "aria-label": `${hit.caption}, ${part.index}`, "data-point": hit.point },
      view(hit, text),
      said ? null : make("h3", { title: hit.id }, hit.caption),
      make("div", { class: "foot" }, make("span", { title: "similarity" }, hit.score.toFixed(3)),
        make("button", { type: "button", onclick: more, "aria-label": `More like ${hit.caption}`, title: "More like this" }, "More")),
    );
    article.style.setProperty("--own", colour(number));
    article.more = more;
    for (const [on, off] of [["pointerenter", "pointerleave"], ["focusin", "focusout"]]) {
      article.addEventListener(on, () => this.mark(hit.point));
      article.addEventListener(off, () => this.mark(null));
    }
    return article;
  }

  cards() {
    return [...this.root.querySelectorAll("li:not([hidden]) > .hit")];
  }

  first() {
    const card = this.cards()[0];
    if (card) card.focus();
    return Boolean(card);
  }

  keys(event) {
    const card = event.target.closest(".hit");
    if (event.target.closest("audio, pre, .view, input") && event.target !== card) return; // their own keys
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const cards = this.cards();
    if (step) {
      event.preventDefault();
      const at = cards.indexOf(card);
      const next = cards[Math.min(cards.length - 1, Math.max(0, at < 0 ? 0 : at + step))];
      if (next) next.focus();
    } else if (event.key === "Enter" && card && event.target === card) {
      event.preventDefault();
      card.more();
    }
  }

  // The card of a point, to show which one the map means.
  point(number) {
    for (const card of this.cards()) card.classList.toggle("marked", number !== null && card.dataset.point === String(number));
  }

  said(results) {
    const count = results.found.reduce((sum, part) => sum + part.hits.length, 0);
    const best = results.found.find((part) => part.hits.length);
    const many = results.items > 1 ? ` The file has ${counted(results.items, "item")}; the first was searched with.` : "";
    const top = best ? ` Best: ${best.hits[0].caption} (${best.index}).` : "";
    return `${counted(count, "result")} in ${Math.round(results.milliseconds)} ms.${top}${many}`;
  }
}
