// The page: choose a scan, wait, look, correct, save.

import * as api from "./api.js";
import { Plane } from "./plane.js";
import { Strokes } from "./strokes.js";
import { Volume, colourOf } from "./volume.js";

const find = (id) => document.getElementById(id);
const wait = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

const POLL = 400;
const ALIVE = 60_000; // as long as the page is open the server keeps the scan

history.replaceState(null, "", "/"); // the token stays in no history

let run = { classes: [], keeps: false, max_bytes: Infinity, run: "" };
let job = null;
let desk = null;
let uploading = null;

const say = (line) => { find("said").textContent = line; };

const complain = (line) => {
  find("wrong").textContent = line;
  find("wrong").hidden = !line;
};

const show = (part) => {
  for (const each of ["start", "progress", "viewer"]) find(each).hidden = each !== part;
  find("again").hidden = part !== "viewer";
  document.body.dataset.part = part;
};

// --- a scan comes ---

const forget = () => {
  if (job) api.remove(job.id).catch(() => {});
  job = null;
  for (const plane of desk?.planes ?? []) plane.close();
  desk = null;
  document.title = "jcl: segment a scan";
};

const told = (stage, share) => {
  find("stage-name").textContent = stage;
  if (share === null) find("bar").removeAttribute("value");
  else find("bar").value = share;
};

const follow = async () => {
  for (;;) {
    job = await api.status(job.id);
    if (job.state === "done") return;
    if (job.state === "failed") throw new Error(job.error);
    if (job.state === "cancelled") throw new DOMException("cancelled", "AbortError");
    if (job.state === "running") told(`Segmenting ${job.name}: ${Math.round(100 * job.share)} %`, job.share || null);
    else told(`${job.name} waits: ${job.position} before it`, null);
    await wait(POLL);
  }
};

const open = async (file) => {
  complain("");
  forget();
  if (file.size > run.max_bytes) {
    complain(`${file.name}: larger than the ${Math.round(run.max_bytes / 1e6)} MB that are allowed`);
    return;
  }
  show("progress");
  say(`Sending ${file.name}`);
  told(`Sending ${file.name}`, 0);
  uploading = new AbortController();
  try {
    job = await api.send(file, (share) => told(`Sending ${file.name}`, share), uploading.signal);
    await follow();
    told("Loading the result", null);
    const [image, classes] = await Promise.all([api.bytes(job.id, "image"), api.bytes(job.id, "classes")]);
    view(new Uint16Array(image), new Uint8Array(classes));
  } catch (error) {
    const cancelled = error.name === "AbortError";
    forget();
    show("start");
    say(cancelled ? "Cancelled" : "");
    complain(cancelled ? "" : error.message);
    find("file").focus();
  } finally {
    uploading = null;
    find("file").value = "";
  }
};

// --- looking and correcting ---

const view = (image, classes) => {
  const volume = new Volume(job.view, image, classes);
  desk = {
    volume, strokes: new Strokes(volume), tool: "look", chosen: 1, size: Number(find("size").value),
    opacity: Number(find("opacity").value) / 100, names: ["background", ...run.classes.map(({ name }) => name)],
    drawing: false,
    changed() {
      if (this.drawing) return;
      this.drawing = true;
      requestAnimationFrame(() => {
        this.drawing = false;
        for (const plane of this.planes) plane.draw();
      });
    },
    painted() {
      buttons();
      this.changed();
    },
  };
  show("viewer"); // first, so that there is a size to draw in
  const axes = [0, 1, 2].filter((axis) => axis === 0 || volume.shape[0] > 1);
  desk.planes = axes.map((axis) => new Plane(desk, axis));
  find("planes").append(...desk.planes.map(({ figure }) => figure));
  choosePlanes();
  chooseWindow();
  find("case").textContent = job.name;
  find("notes").replaceChildren(...job.notes.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  find("name").value = job.name;
  find("keeps").textContent = run.keeps
    ? "Image and label go to the folder of --keep, as a labelled case."
    : "Begin jcl serve with --keep FOLDER to keep corrections.";
  find("keep").disabled = find("name").disabled = !run.keeps;
  document.querySelector('input[name="tool"][value="look"]').click();
  document.title = `${job.name} - jcl`;
  say(`${job.name} is segmented`);
  buttons();
  desk.changed();
  find("main").focus({ preventScroll: true });
};

const choosePlanes = () => {
  const radios = desk.planes.map(({ plane }, number) => {
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "plane", value: plane.axis });
    const label = document.createElement("label");
    input.checked = number === 0;
    input.addEventListener("change", () => large(plane.axis));
    label.append(input, Object.assign(document.createElement("span"), { textContent: plane.name }));
    return label;
  });
  find("choice").replaceChildren(find("choice").querySelector("legend"), ...radios);
  find("choice").hidden = desk.planes.length === 1;
  find("planes").classList.toggle("single", desk.planes.length === 1);
  large(0);
};

const large = (axis) => {
  for (const { figure, plane } of desk.planes) figure.classList.toggle("large", plane.axis === axis);
  desk.changed();
};

const chooseWindow = () => {
  const [low, high] = desk.volume.range();
  const [first, last] = desk.volume.view.window;
  Object.assign(find("level"), { min: low, max: high });
  Object.assign(find("width"), { min: Math.max(1e-6, (high - low) / 500), max: high - low });
  find("level").value = (first + last) / 2;
  find("width").value = last - first;
  setWindow();
};

const setWindow = () => {
  const [level, width] = [Number(find("level").value), Number(find("width").value)];
  desk.volume.setWindow(level - width / 2, level + width / 2);
  const digits = desk.volume.view.scale < 1 ? 3 : 0;
  find("level-out").value = level.toFixed(digits);
  find("width-out").value = width.toFixed(digits);
  desk.changed();
};

const buttons = () => {
  find("undo").disabled = !desk.strokes.done.length;
  find("redo").disabled = !desk.strokes.undone.length;
  const volumes = desk.volume.volumes(run.classes.length);
  document.querySelectorAll("#classes output").forEach((out, number) => {
    out.value = `${volumes[number].toFixed(volumes[number] < 10 ? 2 : 1)} ml`;
  });
};

const listClasses = () => {
  const labels = run.classes.map(({ name }, number) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), {
      type: "radio", name: "class", value: number + 1, checked: number === 0,
    });
    const swatch = Object.assign(document.createElement("i"), { className: "swatch" });
    swatch.style.background = colourOf(number + 1);
    const title = Object.assign(document.createElement("span"), { textContent: name });
    label.append(input, swatch, title, document.createElement("output"));
    input.addEventListener("change", () => { if (desk) desk.chosen = number + 1; });
    return label;
  });
  find("classes").append(...labels);
};

const sizes = () => {
  find("size-out").value = `${2 * Number(find("size").value) + 1} voxels`;
  find("opacity-out").value = `${find("opacity").value} %`;
  if (!desk) return;
  desk.size = Number(find("size").value);
  desk.opacity = Number(find("opacity").value) / 100;
  desk.changed();
};

const chooseTool = (name) => {
  document.querySelector(`input[name="tool"][value="${name}"]`).checked = true;
  if (desk) desk.tool = name;
  find("planes").dataset.tool = name;
};

const back = (which) => {
  desk.strokes[which]();
  desk.painted();
};

// --- saving ---

const edited = () => desk.strokes.done.length > 0 || desk.strokes.undone.length > 0;

const sendCorrection = async () => {
  if (edited()) await api.correct(job.id, desk.volume.classes);
};

const saving = async (button, work) => {
  complain("");
  button.disabled = true;
  try {
    await work();
    if (desk) desk.strokes.kept = true;
  } catch (error) {
    complain(error.message);
  } finally {
    button.disabled = false;
  }
};

const download = () => saving(find("download"), async () => {
  await sendCorrection();
  const what = edited() ? "correction" : "result";
  const link = Object.assign(document.createElement("a"), { href: `/api/jobs/${job.id}/${what}`, download: "" });
  link.click();
  say("The segmentation is downloaded");
});

const keep = () => saving(find("keep"), async () => {
  await sendCorrection();
  const kept = await api.keep(job.id, find("name").value);
  say(`Kept as ${kept.name}`);
  find("keeps").textContent = `Kept: ${kept.label}. When there are enough: ${kept.command}`;
});

// --- what listens ---

const take = (files) => {
  if (files.length > 1) complain("One scan at a time: put the files of a series into a .zip");
  else if (files.length && !uploading) open(files[0]);
};

const leave = () => !desk || desk.strokes.kept || window.confirm("What was corrected is not saved. Leave it?");

const shortcuts = (event) => {
  if (!desk || event.target.matches("input[type=text]")) return;
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (command && key === "z") back(event.shiftKey ? "redo" : "undo");
  else if (command || event.altKey) return;
  else if (key in { v: 1, b: 1, e: 1 }) chooseTool({ v: "look", b: "brush", e: "eraser" }[key]);
  else if (key >= "1" && key <= "9") document.querySelector(`input[name="class"][value="${key}"]`)?.click();
  else if (key === "[" || key === "]") {
    find("size").value = Number(find("size").value) + (key === "]" ? 1 : -1);
    sizes();
  } else if (key === "h") {
    desk.opacity = desk.opacity ? 0 : Number(find("opacity").value) / 100;
    desk.changed();
  } else return;
  event.preventDefault();
};

const listen = () => {
  find("file").addEventListener("change", () => take(find("file").files));
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("over", name === "dragover");
      if (name === "drop" && leave()) take(event.dataTransfer.files);
    });
  }
  find("cancel").addEventListener("click", () => {
    uploading?.abort();
    if (job) api.remove(job.id).catch((error) => complain(error.message));
  });
  find("again").addEventListener("click", () => {
    if (!leave()) return;
    forget();
    show("start");
    say("");
    complain("");
    find("file").focus();
  });
  document.querySelectorAll('input[name="tool"]').forEach((input) => {
    input.addEventListener("change", () => chooseTool(input.value));
  });
  for (const name of ["size", "opacity"]) find(name).addEventListener("input", sizes);
  for (const name of ["level", "width"]) find(name).addEventListener("input", setWindow);
  find("reset").addEventListener("click", chooseWindow);
  find("undo").addEventListener("click", () => back("undo"));
  find("redo").addEventListener("click", () => back("redo"));
  find("download").addEventListener("click", download);
  find("keeping").addEventListener("submit", (event) => {
    event.preventDefault();
    keep();
  });
  document.addEventListener("keydown", shortcuts);
  window.addEventListener("beforeunload", (event) => { if (desk && !desk.strokes.kept) event.preventDefault(); });
  window.addEventListener("pagehide", (event) => { if (!event.persisted) forget(); });
  setInterval(() => { if (job && desk) api.status(job.id).catch((error) => complain(error.message)); }, ALIVE);
};

const start = async () => {
  listen();
  sizes();
  show("start");
  try {
    run = await api.about();
  } catch (error) {
    complain(error.message);
    return;
  }
  find("run").textContent = run.run;
  listClasses();
};

start();
