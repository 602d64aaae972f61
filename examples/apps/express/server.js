// `npm install` in this folder, then: hatchery serve examples/apps/express
const express = require('express');

const app = express();

app.use((request, response) => {
  response.type('text').send(`Hello from Express, process ${process.pid}, at ${request.originalUrl}\n`);
});

// Whatever port is asked for: the first server gets the worker's own socket.
app.listen(process.env.PORT || 3000);
