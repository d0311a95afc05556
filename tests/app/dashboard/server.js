// The dashboard, served as Next.js standalone serves it: `node server.js`.
//
// Trap: it listens on HOSTNAME, which a container runtime sets to the pod's name.
// Unset or 0.0.0.0 is everywhere; a name that does not resolve ends it with 1.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const port = Number.parseInt(process.env.PORT, 10) || 3000;
const hostname = process.env.HOSTNAME || "0.0.0.0";
const page = fs.readFileSync(path.join(__dirname, "page.html"));
const version = fs.readFileSync(path.join(__dirname, "version"), "utf8").trim();

if (version.endsWith("-broken-dashboard")) {
  console.error(`sample: the dashboard of ${version} cannot start`);
  process.exit(1);
}

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://dashboard");
  if (pathname === "/" && ["GET", "HEAD"].includes(request.method)) {
    response.writeHead(200, { "content-type": "text/html; charset=utf-8" });
    response.end(request.method === "GET" ? page : undefined);
    return;
  }
  response.writeHead(404, { "content-type": "text/plain" });
  response.end("404: This page could not be found.");
});

server.on("error", (error) => {
  console.error("Failed to start server");
  console.error(error);
  process.exit(1);
});
server.listen(port, hostname, () => console.log(`Ready on http://${hostname}:${port}`));

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
