// A page that was opened from a folder may start no worker: the one of the search runs in a hidden frame there.
// Material's search looks for the name IFrameWorker, and then loads its parts from beside the script of the frame.
if (location.protocol === "file:") {
  const load = (document, source) =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      Object.assign(script, { src: source, onload: resolve, onerror: reject });
      document.body.append(script);
    });

  window.IFrameWorker = class extends EventTarget {
    constructor(source) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      Object.assign(frame, { hidden: true, srcdoc: "<!doctype html><title>search</title>" });
      frame.addEventListener("load", () => this.begin(frame.contentWindow, source), { once: true });
      document.body.append(frame);
    }

    async begin(inside, source) {
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = async (...sources) => {
        for (const each of sources) await load(inside.document, each);
      };
      await load(inside.document, source);
      this.inside = inside;
      this.waiting.splice(0).forEach((data) => this.postMessage(data));
    }

    postMessage(data) {
      if (this.inside) this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
      else this.waiting.push(data);
    }
  };
  window.Worker = window.IFrameWorker;
}
