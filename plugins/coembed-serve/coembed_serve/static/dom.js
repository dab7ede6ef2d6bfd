// Small helpers: elements made from plain values, never from strings of markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Colours that stay apart for most eyes, in light and dark; an index keeps its own.
const LIGHT = ["#0b6bcb", "#c2410c", "#047857", "#9d174d", "#6d28d9", "#8a6100", "#0e7490", "#b91c1c", "#4d7c0f", "#475569"];
const DARK = ["#6cb4ff", "#ff9a5c", "#4ade9d", "#ff8cc2", "#b79bff", "#f0c24b", "#4fd6ec", "#ff8f8f", "#b3dd5c", "#a8b5c5"];
export const dark = window.matchMedia("(prefers-color-scheme: dark)");
export const colour = (number) => (dark.matches ? DARK : LIGHT)[number % LIGHT.length];
export const counted = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

// An item's content: what the server drew (it escapes what users wrote), or, once seen, what it draws from a file.
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watcher.unobserve(entry.target);
    entry.target.load();
  }
}, { rootMargin: "200px" });

// What does not fit is scrolled, by keys too: so it must be able to take the focus.
const sized = new ResizeObserver((entries) => {
  for (const { target: box } of entries) {
    for (const part of [box, ...box.querySelectorAll(".text, .sequence, pre")]) {
      if (part.scrollHeight > part.clientHeight + 1 || part.scrollWidth > part.clientWidth + 1) part.tabIndex = 0;
    }
  }
});

export function view(hit, fetchText, now = false) {
  const box = make("div", { class: "view" });
  sized.observe(box);
  const put = (html) => {
    box.innerHTML = html;
    for (const img of box.querySelectorAll("img")) {
      img.addEventListener("load", () => img.classList.toggle("small", img.naturalWidth <= 96));
      img.addEventListener("error", () => box.replaceChildren(make("p", { class: "gone" }, "its file can't be shown")));
    }
  };
  if (hit.view) put(hit.view);
  else if (hit.view_at) {
    box.load = () => fetchText(hit.view_at).then(put, (error) => box.replaceChildren(make("p", { class: "gone" }, error.message)));
    if (now) box.load();
    else watcher.observe(box);
  } else if (hit.withheld) box.append(make("p", { class: "gone" }, "its file is not shown: see --media"));
  return box;
}
