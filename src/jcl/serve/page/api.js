// What the page asks of its server. Every error has the server's own line as its message.

const csrf = document.querySelector('meta[name="csrf"]').content;
const HEADERS = { "X-JCL-CSRF": csrf };

const failed = async (answer) => {
  let line = `the server answered ${answer.status}`;
  try {
    line = (await answer.json()).error || line;
  } catch {
    // it has said nothing more
  }
  return new Error(line);
};

const ask = async (path, options = {}) => {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...HEADERS, ...options.headers } });
  } catch {
    throw new Error("the server does not answer; is `jcl serve` still running?");
  }
  if (!answer.ok) throw await failed(answer);
  return answer;
};

export const about = async () => (await ask("/api/run")).json();
export const status = async (id) => (await ask(`/api/jobs/${id}`)).json();
export const bytes = async (id, what) => (await ask(`/api/jobs/${id}/${what}`)).arrayBuffer();
export const correct = (id, classes) => ask(`/api/jobs/${id}/classes`, { method: "PUT", body: classes });
export const remove = (id) => ask(`/api/jobs/${id}`, { method: "DELETE", keepalive: true });

export const keep = async (id, name) => {
  const body = JSON.stringify({ name });
  const headers = { "Content-Type": "application/json" };
  return (await ask(`/api/jobs/${id}/keep`, { method: "POST", body, headers })).json();
};

// `told` is called with the share that was sent; aborting `signal` ends it.
export const send = (file, told, signal) => new Promise((resolve, reject) => {
  const request = new XMLHttpRequest(); // fetch does not tell how much was sent
  request.open("POST", `/api/jobs?hold=true&name=${encodeURIComponent(file.name)}`);
  for (const [name, value] of Object.entries(HEADERS)) request.setRequestHeader(name, value);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => told(event.loaded / Math.max(1, event.total)));
  request.addEventListener("load", () => {
    if (request.status === 202) resolve(request.response);
    else reject(new Error(request.response?.error || `the server answered ${request.status}`));
  });
  request.addEventListener("error", () => reject(new Error("the upload broke off; see what `jcl serve` says")));
  request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
  signal.addEventListener("abort", () => request.abort());
  request.send(file);
});
