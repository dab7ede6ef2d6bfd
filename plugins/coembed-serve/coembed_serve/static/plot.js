// A canvas of many points: what is in view is found through a grid, and drawn only as densely as can be seen and paid
// for. Points come in a shuffled order, so that the first few of each cell are an even sample of it.

const CELLS = 96;
const GRID = 65535;
const STILL = 60000; // points drawn at most when nothing moves
const MOVING = 15000;
const ROUNDS = 6;

export class Plot {
  constructor(canvas, colourOf) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.colourOf = colourOf;
    this.count = 0;
    this.hidden = new Set(); // kinds that are not shown
    this.rings = []; // points that a search found
    this.here = null; // the point under the pointer, or named by the keyboard
    this.centre = [0.5, 0.5];
    this.scale = 1; // 1: all of it fits
    this.settle = 0;
  }

  set(buffer, count) {
    const places = new Uint16Array(buffer, 0, 2 * count);
    this.kinds = new Uint8Array(buffer, 4 * count, count);
    this.count = count;
    this.x = new Float32Array(count);
    this.y = new Float32Array(count);
    const cell = new Uint16Array(count);
    const starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < count; i++) {
      this.x[i] = places[2 * i] / GRID;
      this.y[i] = 1 - places[2 * i + 1] / GRID;
      cell[i] = this.cellOf(this.x[i]) + CELLS * this.cellOf(this.y[i]);
      starts[cell[i] + 1]++;
    }
    for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
    const next = starts.slice(0, -1);
    this.order = new Uint32Array(count); // a stable counting sort: within a cell the shuffled order stays
    for (let i = 0; i < count; i++) this.order[next[cell[i]]++] = i;
    this.starts = starts;
    this.draw();
  }

  cellOf(value) {
    return Math.min(CELLS - 1, Math.max(0, Math.floor(value * CELLS)));
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    if (!width || !height) return;
    this.width = width;
    this.height = height;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.draw();
  }

  get unit() { // pixels of the whole width of the map
    return 0.92 * Math.min(this.width, this.height) * this.scale;
  }

  toScreen(i) {
    return [this.width / 2 + (this.x[i] - this.centre[0]) * this.unit, this.height / 2 + (this.y[i] - this.centre[1]) * this.unit];
  }

  toMap(px, py) {
    return [this.centre[0] + (px - this.width / 2) / this.unit, this.centre[1] + (py - this.height / 2) / this.unit];
  }

  // The points of the cells that a rectangle of the screen touches, thinned out to about `most`.
  within(left, top, right, bottom, most = Infinity) {
    if (!this.count || !this.width) return [];
    const [x0, y0] = this.toMap(left, top).map((v) => this.cellOf(v));
    const [x1, y1] = this.toMap(right, bottom).map((v) => this.cellOf(v));
    let total = 0;
    for (let row = y0; row <= y1; row++) total += this.starts[CELLS * row + x1 + 1] - this.starts[CELLS * row + x0];
    const share = Math.min(1, most / Math.max(1, total));
    const found = [];
    for (let row = y0; row <= y1; row++) {
      for (let c = CELLS * row + x0; c <= CELLS * row + x1; c++) {
        const take = Math.ceil((this.starts[c + 1] - this.starts[c]) * share);
        for (let at = this.starts[c]; at < this.starts[c] + take; at++) {
          if (!this.hidden.has(this.kinds[this.order[at]])) found.push(this.order[at]);
        }
      }
    }
    return found;
  }

  // Draw at the next frame: sparsely while things move, in full once they rest.
  draw(moving = false) {
    clearTimeout(this.settle);
    if (moving) this.settle = setTimeout(() => this.draw(), 120);
    if (this.frame) return void (this.pending = moving);
    this.pending = moving;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.paint(this.pending ? MOVING : STILL);
    });
  }

  paint(most) {
    const { context, width, height } = this;
    if (!width) return;
    context.clearRect(0, 0, width, height);
    const visible = this.within(0, 0, width, height, most);
    const crowd = Math.max(1, visible.length) / (width * height);
    const size = Math.min(9, Math.max(2.2, 0.28 / Math.sqrt(crowd) ** 0.9));
    this.size = size;
    const faded = this.rings.length > 0;
    const byKind = new Map();
    for (const i of visible) {
      if (!byKind.has(this.kinds[i])) byKind.set(this.kinds[i], []);
      byKind.get(this.kinds[i]).push(i);
    }
    context.globalAlpha = faded ? 0.38 : 0.72;
    for (let round = 0; round < ROUNDS; round++) for (const [kind, all] of byKind) { // in turn: none covers all others
      const points = all.slice(Math.floor((round * all.length) / ROUNDS), Math.floor(((round + 1) * all.length) / ROUNDS));
      context.fillStyle = this.colourOf(kind);
      if (size < 3.5) {
        for (const i of points) {
          const [x, y] = this.toScreen(i);
          context.fillRect(x - size / 2, y - size / 2, size, size);
        }
        continue;
      }
      context.beginPath();
      for (const i of points) {
        const [x, y] = this.toScreen(i);
        context.moveTo(x + size / 2, y);
        context.arc(x, y, size / 2, 0, 7);
      }
      context.fill();
    }
    context.globalAlpha = 1;
    for (const i of this.rings) this.ring(i, 5, 2);
    if (this.here !== null) this.ring(this.here, 8, 3);
  }

  ring(i, radius, line) {
    if (this.hidden.has(this.kinds[i])) return;
    const { context } = this;
    const [x, y] = this.toScreen(i);
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fillStyle = this.colourOf(this.kinds[i]);
    context.fill();
    context.lineWidth = line;
    context.strokeStyle = getComputedStyle(this.canvas).color;
    context.stroke();
  }

  // The nearest point within reach of a place on the screen, those that a search found first; null if there is none.
  pick(px, py, reach = 12) {
    let best = null;
    let least = reach * reach;
    const look = (points, bonus) => {
      for (const i of points) {
        const [x, y] = this.toScreen(i);
        const far = (x - px) ** 2 + (y - py) ** 2 - bonus;
        if (far < least) [best, least] = [i, far];
      }
    };
    look(this.within(px - reach, py - reach, px + reach, py + reach), 0);
    look(this.rings.filter((i) => !this.hidden.has(this.kinds[i])), 30);
    return best;
  }

  // The points in view, those nearest to its middle first.
  nearest(most = 200) {
    const far = (i) => {
      const [x, y] = this.toScreen(i);
      return (x - this.width / 2) ** 2 + (y - this.height / 2) ** 2;
    };
    return this.within(0, 0, this.width, this.height, 4000).sort((a, b) => far(a) - far(b)).slice(0, most);
  }

  pan(dx, dy) {
    this.centre = [this.centre[0] - dx / this.unit, this.centre[1] - dy / this.unit].map((v) => Math.min(1, Math.max(0, v)));
    this.draw(true);
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const before = this.toMap(px, py);
    this.scale = Math.min(400, Math.max(0.8, this.scale * factor));
    const after = this.toMap(px, py);
    this.centre = this.centre.map((v, axis) => Math.min(1, Math.max(0, v + before[axis] - after[axis])));
    this.draw(true);
  }

  fit() {
    this.centre = [0.5, 0.5];
    this.scale = 1;
    this.draw();
  }
}
