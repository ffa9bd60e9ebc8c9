// One plane: its canvas, its slider, and what mouse, finger and keys do there.

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

export class Plane {
  // `desk` has the volume, the strokes, the chosen tool, and `changed`, which draws all planes anew.
  constructor(desk, axis) {
    this.desk = desk;
    this.plane = desk.volume.plane(axis);
    const { name, width, height, edges } = this.plane;
    this.canvas = element("canvas", { tabIndex: 0 });
    this.canvas.setAttribute("role", "img");
    this.slider = element("input", { type: "range", min: 0, max: desk.volume.shape[axis] - 1, step: 1 });
    this.slider.setAttribute("aria-label", `${name}: slice`);
    this.place = element("output");
    const marks = Object.entries(edges).map(([side, letter]) => {
      const mark = element("span", { className: `edge ${side}`, textContent: letter });
      mark.setAttribute("aria-hidden", "true");
      return mark;
    });
    const caption = element("figcaption", {}, element("b", { textContent: name }), this.place);
    this.box = element("div", { className: "box" }, this.canvas, ...marks);
    this.figure = element("figure", { className: "plane" }, caption, this.box, this.slider);
    this.figure.dataset.axis = axis;
    [this.greys, this.colours] = [0, 1].map(() => {
      const canvas = element("canvas", { width, height });
      const context = canvas.getContext("2d");
      return { canvas, context, data: context.createImageData(width, height) };
    });
    this.listen();
    this.watching = new ResizeObserver(() => this.draw());
    this.watching.observe(this.box);
  }

  close() {
    this.watching.disconnect();
    this.figure.remove();
  }

  listen() {
    const { canvas, desk } = this;
    const { axis } = this.plane;
    this.slider.addEventListener("input", () => {
      desk.volume.moveSlice(axis, Number(this.slider.value));
      desk.changed();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.step(Math.sign(event.deltaY));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.release());
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  step(steps) {
    const { volume } = this.desk;
    volume.moveSlice(this.plane.axis, volume.at[this.plane.axis] + steps);
    this.desk.changed();
  }

  press(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.from = this.pixel(event);
    if (this.desk.tool === "look") {
      this.desk.volume.moveTo(this.plane, ...this.from);
    } else {
      this.desk.strokes.begin();
      this.brush(this.from, this.from);
    }
    this.desk.changed();
  }

  drag(event) {
    if (!this.from) return;
    const to = this.pixel(event);
    if (this.desk.tool === "look") this.desk.volume.moveTo(this.plane, ...to);
    else this.brush(this.from, to);
    this.from = to;
    this.desk.changed();
  }

  release() {
    if (!this.from) return;
    this.from = null;
    if (this.desk.tool !== "look") this.desk.strokes.end();
    this.desk.painted();
  }

  brush(from, to) {
    const { strokes, size, chosen, tool } = this.desk;
    strokes.line(this.plane, from, to, size, chosen, tool === "brush" ? chosen : 0);
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const steps = { PageUp: -1, PageDown: 1 };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) {
      const [x, y] = this.desk.volume.cross(this.plane);
      this.desk.volume.moveTo(this.plane, x + moves[event.key][0], y + moves[event.key][1]);
      this.desk.changed();
    } else if (event.key in steps) {
      this.step(steps[event.key]);
    } else if (event.key === " " && this.desk.tool !== "look") {
      const cross = this.desk.volume.cross(this.plane);
      this.desk.strokes.begin();
      this.brush(cross, cross);
      this.desk.strokes.end();
      this.desk.painted();
    } else {
      return;
    }
    event.preventDefault();
  }

  // Where the plane lies in the canvas: pixels of the canvas for a pixel of the plane, and its corner.
  fit() {
    const { width, height, pixel } = this.plane;
    const scale = Math.min(this.canvas.width / (width * pixel[0]), this.canvas.height / (height * pixel[1]));
    const sides = [width * pixel[0] * scale, height * pixel[1] * scale];
    return { sides, corner: [(this.canvas.width - sides[0]) / 2, (this.canvas.height - sides[1]) / 2] };
  }

  pixel(event) {
    const { sides, corner } = this.fit();
    const box = this.canvas.getBoundingClientRect();
    const place = [
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    ];
    const count = [this.plane.width, this.plane.height];
    return [0, 1].map((side) => Math.floor(((place[side] - corner[side]) / sides[side]) * count[side]));
  }

  draw() {
    const { desk, canvas, plane } = this;
    const box = this.box.getBoundingClientRect();
    if (!box.width) return; // not shown
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const [wide, high] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    desk.volume.paint(plane, this.greys.data, this.colours.data);
    for (const each of [this.greys, this.colours]) each.context.putImageData(each.data, 0, 0);
    const { sides, corner } = this.fit();
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, wide, high);
    context.globalAlpha = 1;
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.greys.canvas, ...corner, ...sides);
    context.imageSmoothingEnabled = false;
    context.globalAlpha = desk.opacity;
    context.drawImage(this.colours.canvas, ...corner, ...sides);
    this.drawCross(context, sides, corner, ratio);
    this.tell();
  }

  drawCross(context, sides, corner, ratio) {
    const [x, y] = this.desk.volume.cross(this.plane);
    const [across, down] = [
      corner[0] + ((x + 0.5) / this.plane.width) * sides[0], corner[1] + ((y + 0.5) / this.plane.height) * sides[1],
    ];
    context.globalAlpha = 0.55;
    context.strokeStyle = "#7fc1ea";
    context.lineWidth = ratio;
    context.beginPath();
    for (const [from, to] of [
      [[corner[0], down], [across - 6 * ratio, down]], [[across + 6 * ratio, down], [corner[0] + sides[0], down]],
      [[across, corner[1]], [across, down - 6 * ratio]], [[across, down + 6 * ratio], [across, corner[1] + sides[1]]],
    ]) {
      context.moveTo(...from);
      context.lineTo(...to);
    }
    context.stroke();
  }

  tell() {
    const { volume, names } = this.desk;
    const { axis, name } = this.plane;
    const shown = `${volume.at[axis] + 1} of ${volume.shape[axis]}`;
    this.slider.value = volume.at[axis];
    this.slider.setAttribute("aria-valuetext", shown);
    this.place.value = shown;
    const under = volume.classes[volume.at.reduce((sum, at, side) => sum + at * volume.strides[side], 0)];
    this.canvas.setAttribute("aria-label", `${name}, slice ${shown}; at the cross: ${names[under] ?? under}`);
  }
}
