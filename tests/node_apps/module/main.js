import express from 'express';
import { readFile } from 'node:fs/promises';
import { greeting } from './greeting.js';

// At the top level, before anything listens.
const { name } = JSON.parse(await readFile(new URL('name.json', import.meta.url)));

const app = express();
app.get('/', (request, response) => response.send(greeting(name)));
app.listen(process.env.PORT || 3000);
