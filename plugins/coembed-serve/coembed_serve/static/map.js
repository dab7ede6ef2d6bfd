// The map of the space: fetched once, again when a finer layout is done; pan, zoom, hover, keys, and a search from a point.

import { bytes, json, text } from "./api.js";
import { $, colour, counted, dark, make, view } from "./dom.js";
import { Plot } from "./plot.js";

const POLL = 3000;
const RINGS = 3; // hits of each index that are marked
const KEPT = 300; // items whose content is remembered

export class SpaceMap {
  constructor({ search, mark }) {
    this.search = search; // (item): search from an item
    this.mark = mark; // (point or null): its card among the results
    this.canvas = $("canvas");
    this.plot = new Plot(this.canvas, (kind) => colour(this.numbers[kind] ?? 0));
    this.items = new Map();
    this.numbers = []; // of each kind of the map the number of its index, which decides its colour
    this.revision = 0;
    this.edition = 0; // points of another edition have other numbers
    this.last = null; // what was found last
    this.walk = null; // the points that N and P go through
    new ResizeObserver(() => this.plot.resize()).observe(this.canvas);
    dark.addEventListener("change", () => { this.plot.draw(); this.legend(); });
    this.listen();
  }

  async load(indexes) {
    this.indexes = indexes;
    const facts = await json("api/map");
    if (facts.revision !== this.revision && facts.revision > 0) {
      const buffer = await bytes("api/map/points");
      this.numbers = facts.indexes.map((part) => indexes.findIndex((index) => index.name === part.name));
      this.facts = facts;
      this.plot.set(buffer, facts.count);
      this.plot.resize();
      if (facts.edition !== this.edition) {
        this.items.clear();
        this.plot.here = null;
        this.edition = facts.edition;
        this.ring();
      }
      this.revision = facts.revision;
      this.walk = null;
      this.legend();
    }
    this.note(facts);
    clearTimeout(this.poll);
    if (facts.state === "working" || facts.state === "waiting") {
      this.poll = setTimeout(() => this.load(indexes).catch(() => {}), POLL);
    }
  }

  note(facts) {
    const made = facts.method ? `${counted(facts.count, "item")}, laid out by ${facts.method}, each index around its own mean.` : "";
    const out = facts.left_out.length ? ` Not on it: ${facts.left_out.join(", ")}, which give no vectors out.` : "";
    $("map-note").textContent = `${made}${facts.note ? ` ${facts.note}.` : ""}${out}`;
    $("map-empty").hidden = facts.revision > 0 && facts.count > 0;
    $("map-empty").textContent = facts.state === "none" || facts.state === "failed" ? facts.note : "The map is being drawn …";
  }

  legend() {
    if (!this.facts) return;
    $("legend").replaceChildren(...this.facts.indexes.map((part, kind) => {
      const dot = make("span", { class: "dot" });
      dot.style.color = colour(this.numbers[kind]);
      const button = make("button", { type: "button", class: "chip", "aria-pressed": String(!this.plot.hidden.has(kind)) },
        dot, part.name, make("small", {}, part.count.toLocaleString("en")));
      button.addEventListener("click", () => {
        if (!this.plot.hidden.delete(kind)) this.plot.hidden.add(kind);
        button.setAttribute("aria-pressed", String(!this.plot.hidden.has(kind)));
        this.walk = null;
        this.plot.draw();
      });
      return button;
    }));
  }

  // Show where the best hits of a search lie; on the map drawn anew, if items have changed since it was fetched.
  async found(results) {
    this.last = results;
    if (this.edition && results.edition !== this.edition) await this.load(this.indexes).catch(() => {});
    this.ring();
    this.walk = null;
    this.plot.draw();
  }

  ring() {
    const best = this.last?.edition === this.edition ? this.last.found.flatMap((part) => part.hits.slice(0, RINGS)) : [];
    this.plot.rings = best.map((hit) => hit.point).filter((point) => point !== null);
  }

  point(number) {
    this.plot.here = number;
    this.plot.draw();
  }

  async item(number) {
    if (!this.items.has(number)) {
      if (this.items.size >= KEPT) this.items.delete(this.items.keys().next().value);
      const wanted = json(`api/map/items/${number}?edition=${this.edition}`);
      this.items.set(number, wanted);
      wanted.catch((error) => {
        this.items.delete(number);
        if (error.status === 409) this.load(this.indexes).catch(() => {});
      });
    }
    return this.items.get(number);
  }

  async tip(number, touch = false) {
    this.plot.here = number;
    this.plot.draw();
    this.mark(number);
    const box = $("tip");
    if (number === null) return void (box.hidden = true);
    const item = await this.item(number);
    if (this.plot.here !== number) return; // the pointer has gone on
    const parts = [view(item, text, true), make("div", {}, make("strong", {}, item.caption), ` ${item.index}`)];
    if (touch) parts.push(make("button", { type: "button", onclick: () => this.search(item) }, "Search from this"));
    box.replaceChildren(...parts);
    box.classList.toggle("touch", touch);
    box.hidden = false;
    const [x, y] = this.plot.toScreen(number);
    const { offsetWidth: width, offsetHeight: height } = box;
    box.style.left = `${Math.max(4, Math.min(x + 14, this.plot.width - width - 4))}px`;
    box.style.top = `${y + height + 18 > this.plot.height ? Math.max(4, y - height - 14) : y + 14}px`;
  }

  listen() {
    const canvas = this.canvas;
    const down = new Map(); // pointers that are pressed
    let moved = 0;
    let hover = 0;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      down.set(event.pointerId, at(event));
      if (down.size === 1) moved = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      const before = down.get(event.pointerId);
      if (!before) {
        clearTimeout(hover);
        hover = setTimeout(() => this.hover(this.plot.pick(x, y)), 30);
        return;
      }
      const other = [...down].find(([id]) => id !== event.pointerId);
      if (other) {
        const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
        this.plot.zoom(far([x, y], other[1]) / far(before, other[1]), (x + other[1][0]) / 2, (y + other[1][1]) / 2);
        moved = 99;
      } else {
        this.plot.pan(x - before[0], y - before[1]);
        moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
      }
      if (moved > 6) $("tip").hidden = true;
      this.walk = null;
      down.set(event.pointerId, [x, y]);
    });
    const up = (event) => {
      if (!down.delete(event.pointerId) || moved > 6 || event.type === "pointercancel") return;
      const touch = event.pointerType !== "mouse";
      const number = this.plot.pick(...at(event), touch ? 24 : 12);
      if (number === null || touch) return void this.tip(number, touch).catch(() => {});
      this.item(number).then((item) => this.search(item), () => {});
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", (event) => {
      clearTimeout(hover);
      if (event.pointerType === "mouse") this.hover(null);
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.plot.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), ...at(event));
      this.walk = null;
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.keys(event));
    $("zoom-in").addEventListener("click", () => this.plot.zoom(1.6));
    $("zoom-out").addEventListener("click", () => this.plot.zoom(1 / 1.6));
    $("zoom-fit").addEventListener("click", () => this.plot.fit());
  }

  hover(number) {
    this.canvas.style.cursor = number === null ? "grab" : "pointer";
    if (number !== this.plot.here || $("tip").hidden) this.tip(number).catch(() => {});
  }

  keys(event) {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step) this.plot.pan(...step);
    else if (key === "+" || key === "=") this.plot.zoom(1.4);
    else if (key === "-") this.plot.zoom(1 / 1.4);
    else if (key === "0") this.plot.fit();
    else if (key === "n" || key === "p") return void this.next(key === "n" ? 1 : -1, event);
    else if (key === "enter" && this.plot.here !== null) this.item(this.plot.here).then((item) => this.search(item), () => {});
    else if (key === "escape" && !$("tip").hidden) {
      this.tip(null);
      event.stopPropagation();
    } else return;
    event.preventDefault();
    if (key !== "enter") this.walk = null;
  }

  // The next item from the middle outwards, named aloud.
  next(step, event) {
    event.preventDefault();
    if (!this.walk) this.walk = { points: this.plot.nearest(), at: step > 0 ? -1 : 0 };
    const { points } = this.walk;
    if (!points.length) return void ($("map-said").textContent = "No item is in view.");
    this.walk.at = (this.walk.at + step + points.length) % points.length;
    const number = points[this.walk.at];
    this.tip(number).catch(() => {});
    this.item(number).then((item) => {
      $("map-said").textContent = `${item.caption}, ${item.index}, ${this.walk ? this.walk.at + 1 : 1} of ${points.length} in view`;
    }, () => {});
  }
}
