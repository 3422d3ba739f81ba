// Loaded before the theme's script. Two things it needs from the page:
// search in a site opened from a folder, and queries that are options of a command line (--symbol).
//
// From file:// a browser starts no Worker. This stands in for one: the worker's script runs in a hidden frame.
// (The theme's plugin `offline` would fetch such a file from the network; its name keeps the plugin from it.)
"use strict";

class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.append(this.frame);
    addEventListener("message", (event) => {
      if (event.source !== this.frame.contentWindow) return;
      const message = new MessageEvent("message", { data: event.data });
      this.dispatchEvent(message);
      if (this.onmessage) this.onmessage(message);
    });
    const inside = this.frame.contentDocument;
    inside.open();
    inside.write(`<!doctype html><body><script>
      window.postMessage = (data) => parent.postMessage(data, "*");
      window.importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done) => {
        const script = document.createElement("script");
        script.src = url;
        script.onload = done;
        document.body.append(script);
      })), Promise.resolve());
    <\/script><script src="${url}"><\/script></body>`);
    inside.close();
    // (Here, because opening a document drops the listeners of its window.)
    this.ready = new Promise((resolve) => this.frame.contentWindow.addEventListener("load", resolve));
  }

  postMessage(data) {
    this.ready.then(() => {
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) }));
    });
  }

  terminate() {
    this.frame.remove();
  }
}

if (location.protocol === "file:") {
  window.Worker = FrameWorker;
  window.IFrameWorker = FrameWorker; // the worker looks for this name, to find the folder of its language files
  // The theme would fetch the sitemap of each language, which a browser refuses here; the switch needs none.
  for (const link of document.querySelectorAll("link[rel=alternate][hreflang]")) link.remove();
}

// A leading hyphen excludes a word; in `--symbol` it is part of the name.
const QUERY = 2;
const post = window.Worker.prototype.postMessage;
window.Worker.prototype.postMessage = function (message, ...rest) {
  if (message && message.type === QUERY && typeof message.data === "string") {
    message = { ...message, data: message.data.replace(/(^|\s)--?(?=\w)/g, "$1") };
  }
  return post.call(this, message, ...rest);
};
