// The page: what is asked, and with what; results and map follow.

import { ask, json, post, search } from "./api.js";
import { $, colour, counted, dark, make } from "./dom.js";
import { SpaceMap } from "./map.js";
import { Results } from "./results.js";

// Endings whose modality is common knowledge; a tower is chosen by them only where no other could be meant.
const ENDINGS = {
  image: /\.(png|jpe?g|webp|gif|bmp|tiff?)$/i,
  audio: /\.(wav|mp3|flac|ogg|opus|m4a|aiff?)$/i,
  dna: /\.(fa|fasta|fna|fastq|fq|gb|gbk)(\.gz)?$/i,
  protein: /\.(fa|fasta|faa)(\.gz)?$/i,
  graph: /\.(graphml|gml|json)$/i,
  code: /\.(py|js|ts|java|go|rb|php|c|h|cpp|rs|cs)$/i,
  text: /\.(txt|md)$/i,
};

const page = { towers: [], indexes: [], asked: null, running: null, file: null };
const results = new Results($("results"), { more: (hit, part) => like(part.index, hit), mark: (point) => map.point(met(point)) });
const map = new SpaceMap({ search: (item) => like(item.index, item), mark: (point) => results.point(met(point)) });
const met = (point) => (page.edition === map.edition ? point : null); // results and map of one edition mean the same points

async function start() {
  const about = await json("api/towers");
  page.towers = about.towers;
  page.indexes = about.indexes;
  page.limits = about.limits;
  $("tower").replaceChildren(...about.towers.map((tower) => make("option", { value: tower.name }, tower.name)));
  const typed = about.towers.filter((tower) => tower.strings);
  $("tower").value = (typed.find((tower) => tower.name === "text") || typed[0] || about.towers[0]).name;
  $("k").max = about.limits.hits;
  chips();
  map.load(about.indexes).catch((error) => trouble(error));
  restore();
}

function chips() {
  const kept = new Set(chosen());
  const legend = $("to").querySelector("legend");
  $("to").replaceChildren(legend, ...page.indexes.map((index, number) => {
    const dot = make("span", { class: "dot" });
    dot.style.color = colour(number);
    const box = make("input", { type: "checkbox", name: "to", value: index.name, checked: kept.has(index.name) });
    box.addEventListener("change", () => page.asked && run(page.asked));
    return make("label", { class: "chip" }, box, dot, index.name, make("small", {}, index.items.toLocaleString("en")));
  }));
}

// None ticked is all of them.
const chosen = () => [...$("to").querySelectorAll("input:checked")].map((box) => box.value);
const tower = (name) => page.towers.find((each) => each.name === name);
const status = (words) => ($("status").textContent = words);

function trouble(error) {
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? error.message : "";
  if (error && error.retry) $("trouble").textContent += ` Try again in ${counted(error.retry, "second")}.`;
}

async function run(asked, remember = true) {
  const to = chosen();
  trouble(null);
  $("choose").hidden = true;
  if (page.running) page.running.abort();
  const running = (page.running = new AbortController());
  page.asked = asked;
  if (remember) note(asked);
  document.body.classList.add("busy");
  $("results").setAttribute("aria-busy", "true");
  status(asked.like ? `Searching for more like ${asked.caption} …` : "Searching …");
  try {
    const found = await search(asked, { to, k: Number($("k").value) || 8, where: $("where").value.trim(), signal: running.signal });
    page.edition = found.edition;
    results.show(found, page.indexes);
    map.found(found);
    status((asked.like ? `Like ${asked.caption} (${asked.like.index}): ` : "") + results.said(found));
  } catch (error) {
    if (error.name === "AbortError") return;
    status("");
    trouble(error);
  } finally {
    if (page.running === running) {
      document.body.classList.remove("busy");
      $("results").removeAttribute("aria-busy");
    }
  }
}

function submit(event) {
  event?.preventDefault();
  const name = $("tower").value;
  if (page.file) return void run({ file: page.file, tower: name });
  const text = $("text").value;
  if (!text.trim()) return void $("text").focus();
  if (!tower(name).strings) {
    return trouble(new Error(`${name} reads files: drop one, or choose another kind under “read as”.`));
  }
  run({ text, tower: name });
}

const like = (index, item) => {
  show("results");
  return run({ like: { index, id: item.id }, caption: item.caption });
};

// A file is read as what it can only be; where several towers might, the person says.
function attach(file) {
  if (!file) return;
  detach();
  page.before = $("tower").value; // what typed text is read as, once the file is gone again
  page.file = file;
  $("attached").hidden = false;
  $("attached-name").textContent = file.name;
  $("text").hidden = true;
  if (file.type.startsWith("image/")) {
    const img = make("img", { alt: "" });
    img.src = URL.createObjectURL(file);
    img.addEventListener("load", () => URL.revokeObjectURL(img.src));
    $("preview").replaceChildren(img);
  }
  if (page.limits && file.size > page.limits.bytes) {
    return trouble(new Error(`${file.name} is too large: at most ${Math.round(page.limits.bytes / 2 ** 20)} MB are taken.`));
  }
  const reads = page.towers.filter((each) => each.files);
  const kind = (each) => (ENDINGS[each.name] ? each.name : each.modality);
  const may = reads.filter((each) => ENDINGS[kind(each)]?.test(file.name) || file.type.startsWith(`${kind(each)}/`));
  // Every text is a text/…: an ending says more than the browser does.
  const sure = may.filter((each) => ENDINGS[kind(each)]?.test(file.name));
  const left = sure.length ? sure : may;
  if (left.length === 1) {
    $("tower").value = left[0].name;
    return void run({ file, tower: left[0].name });
  }
  const offered = left.length ? left : reads;
  trouble(null);
  $("choose").hidden = false;
  $("choose").replaceChildren(`Read ${file.name} as`, ...offered.map((each) => make("button", {
    type: "button",
    onclick: () => {
      $("tower").value = each.name;
      run({ file, tower: each.name });
    },
  }, each.name)));
  $("choose").querySelector("button")?.focus();
}

function detach() {
  if (page.file) $("tower").value = page.before;
  page.file = null;
  $("attached").hidden = true;
  $("preview").replaceChildren();
  $("text").hidden = false;
  $("file").value = "";
  $("choose").hidden = true;
}

// Typed searches and those from an item stand in the address: back and forward work, and it can be passed on.
function note(asked) {
  const words = asked.like
    ? { like: asked.like.id, in: asked.like.index, name: asked.caption }
    : asked.text ? { q: asked.text, as: asked.tower } : {};
  const query = new URLSearchParams(words).toString();
  const address = query ? `?${query}` : location.pathname;
  if (address.length < 2000 && address !== location.search) history.pushState(null, "", address);
}

function restore() {
  const words = new URLSearchParams(location.search);
  if (words.get("q")) {
    detach();
    $("text").value = words.get("q");
    if (tower(words.get("as"))) $("tower").value = words.get("as");
    run({ text: words.get("q"), tower: $("tower").value }, false);
  } else if (words.get("like") && words.get("in")) {
    run({ like: { index: words.get("in"), id: words.get("like") }, caption: words.get("name") || words.get("like") }, false);
  }
}

function show(what) {
  document.querySelector("main").dataset.shown = what;
  $("show-results").setAttribute("aria-pressed", String(what === "results"));
  $("show-map").setAttribute("aria-pressed", String(what === "map"));
}

function listen() {
  const text = $("text");
  $("ask").addEventListener("submit", submit);
  text.addEventListener("input", () => {
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
    if (event.key === "ArrowDown" && !text.value.slice(text.selectionEnd).includes("\n") && results.first()) event.preventDefault();
  });
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => attach($("file").files[0]));
  $("detach").addEventListener("click", () => { detach(); trouble(null); text.focus(); });
  $("show-results").addEventListener("click", () => show("results"));
  $("show-map").addEventListener("click", () => show("map"));
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || $("login").open) return;
    if (event.key === "/" && !event.target.matches("input, textarea, select")) {
      event.preventDefault();
      text.hidden ? $("detach").focus() : text.focus();
      text.select();
    } else if (event.key === "Escape") {
      trouble(null);
      if (document.activeElement === text && text.value) text.value = "";
      text.hidden ? $("detach").focus() : text.focus();
    }
  });
  let depth = 0; // dragenter and dragleave come for every element under the pointer
  const files = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  document.addEventListener("dragenter", (event) => { if (files(event)) { depth++; $("dropping").hidden = false; } });
  document.addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); $("dropping").hidden = depth === 0; });
  document.addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    depth = 0;
    $("dropping").hidden = true;
    if (!files(event)) return;
    event.preventDefault();
    attach(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (file) { event.preventDefault(); attach(file); }
  });
  window.addEventListener("popstate", restore);
  dark.addEventListener("change", chips);
  window.addEventListener("token-needed", () => { if (!$("login").open) $("login").showModal(); });
  $("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await login($("token").value);
      $("login").close();
      await start();
    } catch (error) {
      $("login-trouble").textContent = error.message;
    }
  });
}

const login = (token) => post("api/login", { token });

async function begin() {
  listen();
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname + location.search); // a token does not belong in the history
    try {
      await login(given);
    } catch (error) {
      trouble(error);
    }
  }
  await ask("health");
  await start();
  if (!matchMedia("(pointer: coarse)").matches) $("text").focus();
}

begin().catch((error) => { if (error.status !== 401) trouble(error); });
