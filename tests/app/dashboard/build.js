// `node build.js VERSION`: writes the static page, with NEXT_PUBLIC_API_URL in it.
// After this step nothing reads that variable: it is in the browser's bundle.
"use strict";

const fs = require("node:fs");

const version = process.argv[2];
const bundle = JSON.stringify({ apiUrl: process.env.NEXT_PUBLIC_API_URL, version }).replace(/</g, "\\u003c");
fs.writeFileSync("version", `${version}\n`);
fs.writeFileSync("page.html", `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Odoo AI Dashboard</title></head>
<body>
<h1>Odoo AI Dashboard</h1>
<p>API: <code id="api"></code>, rules: <span id="rules">…</span>, live: <span id="live">…</span></p>
<script>
const bundle = ${bundle};
const show = (id, text) => { document.getElementById(id).textContent = text; };
show("api", bundle.apiUrl);
// As shipped: no X-API-Key, so the API answers 401.
fetch(bundle.apiUrl + "/api/rules").then((r) => show("rules", r.status), (e) => show("rules", e));
const socket = new WebSocket(bundle.apiUrl.replace(/^http/, "ws") + "/ws/dashboard?role=cfo");
socket.onopen = () => show("live", "connected");
socket.onerror = () => show("live", "failed");
</script>
</body>
</html>
`);
