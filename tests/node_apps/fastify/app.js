'use strict';

const crypto = require('crypto');
const fs = require('fs');
const { Readable } = require('stream');
const fastify = require('fastify')({ logger: true, bodyLimit: 10_000_000 });

async function* pieces(until) {
  yield 'begun';
  while (!fs.existsSync(until)) await new Promise((resolve) => setTimeout(resolve, 5));
  yield ' done';
}

fastify.register(require('@fastify/websocket'));
fastify.register(async (routes) => {
  routes.get('/socket', { websocket: true }, (socket) => {
    socket.on('message', (text) => socket.send(String(text)));
  });
});

// Taken as it comes.
fastify.addContentTypeParser('application/octet-stream', (request, payload, done) => done(null, payload));

fastify.get('/', async () => 'Hello from Fastify');
fastify.get('/pid', async () => String(process.pid));
fastify.get('/products/:id', async (request) => request.params);
fastify.post('/json', {
  schema: { body: { type: 'object', required: ['number'], properties: { number: { type: 'integer' } } } },
}, async (request) => ({ twice: 2 * request.body.number }));
fastify.post('/upload', async (request) => {
  const digest = crypto.createHash('md5');
  let size = 0;
  let pieces = 0;
  for await (const piece of request.body) {
    digest.update(piece);
    size += piece.length;
    pieces += 1;
  }
  return { size, md5: digest.digest('hex'), streamed: pieces > 1 };
});
fastify.get('/stream', async (request, reply) => {
  reply.type('text/plain');
  return Readable.from(pieces(request.query.until));
});
fastify.get('/raise', async () => { throw new Error('this went wrong'); });
fastify.addHook('onClose', async () => fs.writeFileSync(`closed-${process.pid}`, ''));

fastify.listen({ port: 3000 }, (error, address) => {
  if (error) throw error;
  fastify.log.info(`it was told ${address}`);
});

process.on('SIGTERM', () => fastify.close());
