// One stream for all tabs of this origin; each tab is a port.
const ports = new Set();
let source = null;

onconnect = ({ ports: [port] }) => {
  ports.add(port);
  port.onmessage = ({ data }) => {
    if (data === "bye") ports.delete(port);
    else if (source === null) {
      source = new EventSource(data, { withCredentials: true });
      source.onmessage = ({ data, lastEventId }) => ports.forEach((each) => each.postMessage({ data, lastEventId }));
    }
  };
};
