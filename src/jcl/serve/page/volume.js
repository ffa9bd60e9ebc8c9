// Voxels and their classes, and how the three planes lie in them. Axis 0 is slices, 1 rows, 2 columns.

const NAMES = { S: "Axial", I: "Axial", A: "Coronal", P: "Coronal", L: "Sagittal", R: "Sagittal" };
const OPPOSITE = { L: "R", R: "L", P: "A", A: "P", S: "I", I: "S" };

// Hues that people with colour-blindness can tell apart (Okabe and Ito), then others.
const PALETTE = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#aa88ff"];

const toRgb = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));

export const colourOf = (number) => {
  if (number <= PALETTE.length) return PALETTE[number - 1];
  const hue = (number * 137.5) % 360;
  const part = (shift) => {
    const k = (shift + hue / 30) % 12;
    return Math.round(255 * (0.6 - 0.35 * Math.max(-1, Math.min(k - 3, 9 - k, 1)))).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
};

export class Volume {
  constructor(view, image, classes) {
    Object.assign(this, { view, image, classes, shape: view.shape, spacing: view.spacing });
    this.strides = [view.shape[1] * view.shape[2], view.shape[2], 1];
    this.at = view.shape.map((side) => Math.floor(side / 2));
    this.grey = new Uint8Array(65536);
    this.setWindow(...view.window);
  }

  // Values from `low` to `high` are shown from black to white.
  setWindow(low, high) {
    const { offset, scale } = this.view;
    const factor = 255 / Math.max(1e-12, high - low);
    for (let stored = 0; stored < 65536; stored += 1) {
      this.grey[stored] = Math.max(0, Math.min(255, (offset + scale * stored - low) * factor));
    }
  }

  range() {
    let high = 0;
    for (const stored of this.image) if (stored > high) high = stored;
    return [this.view.offset, this.view.offset + this.view.scale * high];
  }

  // How the plane that cuts `axis` is shown: which axes run across and down, and whether from their end.
  plane(axis) {
    const [down, across] = [[1, 2], [0, 2], [0, 1]][axis];
    const letters = this.view.axes;
    const flipDown = "SA".includes(letters[down]);
    const flipAcross = "RA".includes(letters[across]);
    const names = letters.map((letter) => NAMES[letter]);
    const plain = new Set(names).size === 3;
    const right = flipAcross ? OPPOSITE[letters[across]] : letters[across];
    const bottom = flipDown ? OPPOSITE[letters[down]] : letters[down];
    return {
      axis, down, across, flipDown, flipAcross,
      name: plain ? names[axis] : ["Slices", "Rows", "Columns"][axis],
      width: this.shape[across], height: this.shape[down],
      pixel: [this.spacing[across], this.spacing[down]],
      edges: { left: OPPOSITE[right], right, top: OPPOSITE[bottom], bottom },
    };
  }

  // Index of the voxel at a pixel of a plane; and the other way, the pixel of where the cross is.
  index(plane, x, y) {
    const across = plane.flipAcross ? plane.width - 1 - x : x;
    const down = plane.flipDown ? plane.height - 1 - y : y;
    return this.at[plane.axis] * this.strides[plane.axis] + down * this.strides[plane.down]
      + across * this.strides[plane.across];
  }

  cross(plane) {
    const [across, down] = [this.at[plane.across], this.at[plane.down]];
    return [plane.flipAcross ? plane.width - 1 - across : across, plane.flipDown ? plane.height - 1 - down : down];
  }

  moveTo(plane, x, y) {
    const inside = (value, most) => Math.max(0, Math.min(most - 1, value));
    const [px, py] = [inside(x, plane.width), inside(y, plane.height)];
    this.at[plane.across] = plane.flipAcross ? plane.width - 1 - px : px;
    this.at[plane.down] = plane.flipDown ? plane.height - 1 - py : py;
  }

  moveSlice(axis, number) {
    this.at[axis] = Math.max(0, Math.min(this.shape[axis] - 1, number));
  }

  // Two pictures of a plane: grey, and the classes in colour.
  paint(plane, greys, colours) {
    const { width, height } = plane;
    const stepAcross = this.strides[plane.across] * (plane.flipAcross ? -1 : 1);
    const stepDown = this.strides[plane.down] * (plane.flipDown ? -1 : 1);
    const grey = new Uint32Array(greys.data.buffer);
    const colour = new Uint32Array(colours.data.buffer);
    const table = this.table ??= this.makeTable();
    let row = this.index(plane, 0, 0);
    for (let y = 0, out = 0; y < height; y += 1, row += stepDown) {
      for (let x = 0, from = row; x < width; x += 1, from += stepAcross, out += 1) {
        const value = this.grey[this.image[from]];
        grey[out] = 0xff000000 | (value << 16) | (value << 8) | value;
        colour[out] = table[this.classes[from]];
      }
    }
  }

  makeTable() {
    const table = new Uint32Array(256);
    for (let number = 1; number < 256; number += 1) {
      const [red, green, blue] = toRgb(colourOf(number));
      table[number] = (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
    }
    return table;
  }

  // Millilitres of each class.
  volumes(count) {
    const voxels = new Float64Array(256);
    for (const each of this.classes) voxels[each] += 1;
    const millilitres = this.spacing.reduce((product, side) => product * side, 1) / 1000;
    return Array.from(voxels.subarray(1, count + 1), (number) => number * millilitres);
  }
}
