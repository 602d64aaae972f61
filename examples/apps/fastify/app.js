// `npm install` in this folder, then: hatchery serve examples/apps/fastify
import Fastify from 'fastify';

const app = Fastify();

app.get('/*', async (request) => `Hello from Fastify, process ${process.pid}, at ${request.url}\n`);

await app.listen({ port: 3000 });
