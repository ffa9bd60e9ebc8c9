// What was painted, stroke by stroke, so that each can be taken back.

const MOST = 200;

export class Strokes {
  constructor(volume) {
    this.volume = volume;
    this.done = [];
    this.undone = [];
    this.changes = null;
    this.kept = true; // whether what was painted is saved somewhere
  }

  begin() {
    this.changes = new Map();
  }

  // A disc around a pixel of a plane; the eraser (`paint` 0) takes away `chosen` alone.
  dab(plane, x, y, radius, chosen, paint) {
    const { classes } = this.volume;
    const [wide, high] = plane.pixel;
    const reach = (radius + 0.01) * Math.min(wide, high);
    const [right, low] = [Math.floor(reach / wide), Math.floor(reach / high)];
    for (let dy = -low; dy <= low; dy += 1) {
      for (let dx = -right; dx <= right; dx += 1) {
        const [px, py] = [x + dx, y + dy];
        if (px < 0 || py < 0 || px >= plane.width || py >= plane.height) continue;
        if ((dx * wide) ** 2 + (dy * high) ** 2 > reach ** 2) continue;
        const at = this.volume.index(plane, px, py);
        if (classes[at] === paint || (paint === 0 && classes[at] !== chosen)) continue;
        if (!this.changes.has(at)) this.changes.set(at, classes[at]);
        classes[at] = paint;
      }
    }
  }

  // A straight course of discs, without gaps.
  line(plane, from, to, radius, chosen, paint) {
    const steps = Math.max(Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]), 1);
    for (let step = 0; step <= steps; step += 1) {
      const [x, y] = [0, 1].map((side) => Math.round(from[side] + ((to[side] - from[side]) * step) / steps));
      this.dab(plane, x, y, radius, chosen, paint);
    }
  }

  end() {
    if (this.changes?.size) {
      const places = Uint32Array.from(this.changes.keys());
      const before = Uint8Array.from(this.changes.values());
      const after = Uint8Array.from(places, (at) => this.volume.classes[at]);
      this.done.push({ places, before, after });
      if (this.done.length > MOST) this.done.shift();
      this.undone = [];
      this.kept = false;
    }
    this.changes = null;
  }

  undo() {
    this.exchange(this.done, this.undone, "before");
  }

  redo() {
    this.exchange(this.undone, this.done, "after");
  }

  exchange(from, to, which) {
    const stroke = from.pop();
    if (!stroke) return;
    stroke.places.forEach((at, number) => { this.volume.classes[at] = stroke[which][number]; });
    to.push(stroke);
    this.kept = false;
  }
}
