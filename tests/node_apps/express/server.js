const crypto = require('crypto');
const express = require('express');
const fs = require('fs');
const { WebSocketServer } = require('ws');

const app = express();
const file = (name, then) => {
  if (fs.existsSync(name)) then();
  else setTimeout(file, 5, name, then);
};

app.use(express.static('public'));
app.get('/', (request, response) => response.send('Hello from Express'));
app.get('/pid', (request, response) => response.send(String(process.pid)));
app.get('/products/:id', (request, response) => response.json(request.params));
app.post('/json', express.json(), (request, response) => response.json({ twice: 2 * request.body.number }));
app.post('/form', express.urlencoded(), (request, response) => response.redirect(303, `/thanks?name=${request.body.name}`));
app.post('/upload', (request, response) => {
  const digest = crypto.createHash('md5');
  let size = 0;
  let pieces = 0;
  request.on('data', (piece) => {
    digest.update(piece);
    size += piece.length;
    pieces += 1;
  });
  request.on('end', () => response.json({ size, md5: digest.digest('hex'), streamed: pieces > 1 }));
});
app.get('/stream', (request, response) => {
  response.write('begun');
  file(request.query.until, () => response.end(' done'));
});
app.get('/raise', () => { throw new Error('this went wrong'); });
app.get('/raise-later', async () => { throw new Error('this went wrong later'); });

const server = app.listen(3000, () => {
  console.log(`listens at ${server.address().port}`);
});

new WebSocketServer({ server, path: '/socket' }).on('connection', (socket) => {
  socket.on('message', (text) => socket.send(String(text)));
});
