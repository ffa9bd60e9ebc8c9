// Scrolls through the slices of a case, prediction beside truth. Pictures are sprites: all slices of a case in one.
(() => {
  "use strict";

  const startViewer = (viewer, data) => {
    const part = (name) => viewer.querySelector(`[data-part="${name}"]`);
    const [caseChoice, methodChoice, slider, opacity, place] = ["case", "method", "slice", "opacity", "place"].map(part);
    const panes = [part("prediction"), part("truth")];
    const caption = part("caption");
    const pictures = new Map();

    const picture = (address) => {
      if (!pictures.has(address)) {
        const image = new Image();
        image.addEventListener("load", draw);
        image.src = address;
        pictures.set(address, image);
      }
      return pictures.get(address);
    };

    const current = () => data.cases[caseChoice.selectedIndex];
    const prediction = () => current().predictions[methodChoice.selectedIndex];

    const drawLayer = (context, address, shown, number) => {
      const sprite = picture(address);
      if (!sprite.complete) return;
      const left = (number % shown.columns) * shown.width;
      const top = Math.floor(number / shown.columns) * shown.height;
      const { width, height } = context.canvas;
      context.drawImage(sprite, left, top, shown.width, shown.height, 0, 0, width, height);
    };

    const drawPane = (canvas, labels) => {
      const shown = current();
      const number = Number(slider.value);
      const context = canvas.getContext("2d");
      context.globalAlpha = 1;
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "high";
      drawLayer(context, shown.image, shown, number);
      if (labels) {
        context.imageSmoothingEnabled = false;
        context.globalAlpha = Number(opacity.value) / 100;
        drawLayer(context, labels, shown, number);
      }
    };

    const draw = () => {
      const shown = current();
      drawPane(panes[0], prediction().labels);
      drawPane(panes[1], shown.truth);
      place.value = `slice ${Number(slider.value) + 1} of ${shown.slices}`;
      slider.setAttribute("aria-valuetext", place.value);
    };

    const chooseMethod = () => {
      const { row, dice, labels, status } = prediction();
      const score = dice === null ? "" : `, Dice ${dice.toFixed(3)}`;
      caption.textContent = labels ? `${row}${score}` : `${row}: ${status}`;
      draw();
    };

    const chooseCase = () => {
      const shown = current();
      // pixels need not be square
      const scale = Math.max(1, Math.round(512 / Math.max(shown.width, shown.height * shown.aspect)));
      for (const canvas of panes) {
        canvas.width = shown.width * scale;
        canvas.height = Math.round(shown.height * shown.aspect * scale);
      }
      const chosen = methodChoice.value || "JCL";
      methodChoice.replaceChildren(...shown.predictions.map(({ row }) => new Option(row, row)));
      if (shown.predictions.some(({ row }) => row === chosen)) methodChoice.value = chosen;
      slider.max = shown.slices - 1;
      slider.value = shown.first;
      chooseMethod();
    };

    const move = (steps) => {
      slider.value = Number(slider.value) + steps;
      draw();
    };

    const watch = (canvas) => {
      canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        move(Math.sign(event.deltaY));
      }, { passive: false });
      // a slice every few pixels of a finger or mouse that moves sideways
      let from = null;
      canvas.addEventListener("pointerdown", (event) => {
        from = event.clientX;
        canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (from === null) return;
        const steps = Math.trunc((event.clientX - from) / 12);
        if (steps) from += 12 * steps;
        if (steps) move(steps);
      });
      for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { from = null; });
    };

    const keys = { ArrowUp: -1, ArrowDown: 1, PageUp: -5, PageDown: 5 };
    part("stage").addEventListener("keydown", (event) => {
      const steps = { ...keys, ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (steps === undefined) return;
      event.preventDefault();
      move(steps);
    });

    caseChoice.replaceChildren(...data.cases.map((each) => new Option(`${each.case} (${each.column})`)));
    caseChoice.addEventListener("change", chooseCase);
    methodChoice.addEventListener("change", chooseMethod);
    for (const input of [slider, opacity]) input.addEventListener("input", draw);
    panes.forEach(watch);
    chooseCase();
    viewer.hidden = false;
  };

  for (const viewer of document.querySelectorAll(".viewer")) {
    startViewer(viewer, JSON.parse(document.getElementById(viewer.dataset.source).textContent));
  }
})();
