// An application in Node: the standard library's web server, on descriptor 3.

const http = require("node:http");

if (process.env.LISTEN_PID !== String(process.pid)) {
  console.error("nothing listens here; try `hatchery serve` on this folder");
  process.exit(1);
}

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "text/plain; charset=utf-8");
  response.end(`Hello from Node, process ${process.pid}, at ${request.url}\n`);
});

// Longer than any pool keeps a connection for the next request: who closes first should be the one who asks.
server.keepAliveTimeout = 60_000;
server.listen({ fd: 3 });

process.on("SIGTERM", () => {
  server.close();
  server.closeIdleConnections();
});
