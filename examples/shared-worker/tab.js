const { port } = new SharedWorker("worker.js");
port.onmessage = ({ data: { data, lastEventId } }) => console.log(lastEventId, data);
port.postMessage("https://hub.example.com/.well-known/mercure?topic=https://example.com/books/1");
addEventListener("pagehide", () => port.postMessage("bye"));
